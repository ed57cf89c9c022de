"""Pictures of every kind: 16 bits, floats, turned, transparent, damaged."""

import struct

import numpy as np
import pytest
from PIL import Image

from lib.images import ImagesError, open_images
from lib.pictures import PictureError, open_picture

WIDE = np.array([[0, 257 * 3, 65535], [32768, 100, 200]], np.uint16)
BYTES = [[0, 3, 255], [128, 0, 1]]  # of 257 levels each


def channels(path):
    picture = open_picture(path)
    assert picture.mode == "RGB"
    return np.moveaxis(np.asarray(picture), 2, 0)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_gray_of_16_bits(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    Image.fromarray(WIDE).save(path)
    assert [channel.tolist() for channel in channels(path)] == [BYTES] * 3


def test_floats_from_0_to_1(tmp_path):
    path = tmp_path / "a.tif"
    Image.fromarray(np.array([[0, 0.25, 0.5, 1]], np.float32)).save(path)
    assert channels(path)[0].tolist() == [[0, 64, 128, 255]]


def tiff(path, pixels, bits, *, white_is_zero=False, sample_format=1, width=2):
    """Write a TIFF of one line, of which Pillow writes no such kind."""
    at = 8 + len(pixels) + len(pixels) % 2
    tags = {256: width, 257: 1, 258: bits, 259: 1, 262: 1 - white_is_zero, 273: 8, 277: 1}
    tags |= {278: 1, 279: len(pixels), 339: sample_format}
    entries = [
        struct.pack("<HHII", tag, 4 if tag in (273, 279) else 3, 1, v) for tag, v in tags.items()
    ]
    head = b"II*\0" + struct.pack("<I", at) + pixels.ljust(at - 8, b"\0")
    path.write_bytes(head + struct.pack("<H", len(tags)) + b"".join(entries) + b"\0" * 4)
    return path


@pytest.mark.parametrize(
    ("pixels", "options", "expected"),
    [
        (struct.pack("<HH", 0, 65535), {"bits": 16}, [0, 255]),
        (struct.pack("<HH", 0, 65535), {"bits": 16, "white_is_zero": True}, [255, 0]),
        (
            struct.pack("<ff", 0, 1),
            {"bits": 32, "sample_format": 3, "white_is_zero": True},
            [255, 0],
        ),
        (bytes([0xFF, 0xF0, 0x00]), {"bits": 12}, [255, 0]),
        (bytes([0, 255]), {"bits": 8, "white_is_zero": True}, [255, 0]),
    ],
)
def test_the_levels_of_black_and_white_in_tiff(tmp_path, pixels, options, expected):
    assert channels(tiff(tmp_path / "a.tif", pixels, **options))[0].tolist() == [expected]


@pytest.mark.parametrize(
    ("pixels", "options", "message"),
    [
        (
            struct.pack("<hh", -3, 3),
            {"bits": 16, "sample_format": 2},
            "32-bit or signed integers, whose",
        ),
        (struct.pack("<II", 0, 2**32 - 1), {"bits": 32}, "32-bit or signed integers"),
        (struct.pack("<ff", 0, 200), {"bits": 32, "sample_format": 3}, "floats from 0 to 200; exp"),
        (struct.pack("<ff", -1, 1), {"bits": 32, "sample_format": 3}, "floats from -1 to 1; exp"),
        (struct.pack("<ff", 0, np.nan), {"bits": 32, "sample_format": 3}, "floats from nan to nan"),
    ],
)
def test_pixels_without_an_agreed_white_are_refused(tmp_path, pixels, options, message):
    with pytest.raises(PictureError, match=rf"a\.tif has {message}"):
        open_picture(tiff(tmp_path / "a.tif", pixels, **options))


TURNED = {
    1: "ab cd",
    2: "ba dc",
    3: "dc ba",
    4: "cd ab",
    5: "ac bd",
    6: "ca db",
    7: "db ca",
    8: "bd ac",
}


@pytest.mark.parametrize("mode", ["RGB", "L", "I;16"])
@pytest.mark.parametrize("orientation", TURNED)
def test_exifs_orientation_is_applied(tmp_path, mode, orientation):
    levels = {"a": 10, "b": 20, "c": 30, "d": 40}
    pixels = np.array([[10, 20], [30, 40]], np.uint8)
    stored = Image.fromarray(pixels.astype(np.uint16) * 257) if mode == "I;16" else None
    exif = Image.Exif()
    exif[0x0112] = orientation
    (stored or Image.fromarray(pixels).convert(mode)).save(tmp_path / "a.png", exif=exif)
    expected = [[levels[letter] for letter in row] for row in TURNED[orientation].split()]
    assert channels(tmp_path / "a.png")[0].tolist() == expected


def test_what_is_transparent_shows_white(tmp_path):
    Image.new("RGBA", (2, 1), (255, 0, 0, 0)).save(tmp_path / "a.png")
    assert channels(tmp_path / "a.png").tolist() == [[[255, 255]]] * 3
    Image.new("LA", (1, 1), (0, 255)).save(tmp_path / "a.png")
    assert channels(tmp_path / "a.png").tolist() == [[[0]]] * 3
    palette = Image.new("P", (1, 1), 0)
    palette.putpalette([0, 0, 255] * 256)
    palette.save(tmp_path / "a.png", transparency=0)
    assert channels(tmp_path / "a.png").tolist() == [[[255]]] * 3


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK"])
def test_a_gray_of_every_mode_stays_it(tmp_path, mode):
    gray = Image.new("L", (3, 2), 255).convert("RGB").convert(mode)
    gray.save(tmp_path / ("a.tif" if mode == "CMYK" else "a.png"))
    (path,) = tmp_path.iterdir()
    assert (channels(path) == 255).all()


def test_several_frames_are_refused(tmp_path):
    frames = [Image.new("RGB", (4, 4), (level, 0, 0)) for level in (0, 9)]
    for suffix in ("tif", "webp", "png"):
        path = tmp_path / f"a.{suffix}"
        frames[0].save(path, save_all=True, append_images=frames[1:])
        with pytest.raises(PictureError, match=rf"a\.{suffix} has 2 frames: save the one"):
            open_picture(path)


def test_a_phones_previews_are_no_frames(tmp_path):
    path = tmp_path / "a.jpg"
    picture = Image.new("RGB", (16, 16), (0, 200, 0))
    picture.save(path, format="MPO", save_all=True, append_images=[picture.resize((8, 8))])
    assert open_picture(path).size == (16, 16)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp", "bmp", "ppm"])
def test_damaged_pictures_are_named(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    whole = path.read_bytes()
    for length in range(0, len(whole) - 30, 61):
        path.write_bytes(whole[:length])
        with pytest.raises(PictureError, match=rf"a\.{suffix} cannot be read as an image"):
            open_picture(path)


def test_a_picture_too_large_to_be_one(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(PictureError, match=r"a\.png cannot be read as an image: .*bomb"):
        open_picture(tmp_path / "a.png")


def test_images_tell_the_same(tmp_path):
    (tmp_path / "0").mkdir()
    (tmp_path / "0/a.png").write_bytes(b"no picture")
    images = open_images("folder", tmp_path, transform=np.asarray)
    with pytest.raises(ImagesError, match=r"a\.png cannot be read as an image"):
        images[0]
    Image.fromarray(WIDE).save(tmp_path / "0/a.png")
    assert images[0][0][..., 1].tolist() == BYTES
