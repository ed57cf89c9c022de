"""Pictures of every kind as what models are fed: three channels of 8 bits, the right way up."""

import os
import struct
import zlib

import numpy as np
from PIL import Image, ImageOps

WIDE = ("I;16", "I;16L", "I;16B", "I;16N")  # gray, 16 bits
WIDE_FORMATS = ("PNG", "PPM")  # whose pixels of mode "I" have 16 bits too
BITS_PER_SAMPLE, PHOTOMETRIC, WHITE_IS_ZERO = 258, 262, 0  # of TIFF
UNREADABLE = (  # what Pillow's readers raise for damaged files
    OSError,
    SyntaxError,
    EOFError,
    LookupError,
    TypeError,
    ValueError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


class PictureError(ValueError):
    """A file that is no picture, is damaged, or whose pixels have no agreed meaning."""


def open_picture(path: str | os.PathLike[str]) -> Image.Image:
    """Read a picture.

    16-bit gray values and floats of 0 to 1 are scaled to 8 bits, and gray becomes color. EXIF's
    orientation is applied; what is transparent shows white.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    PIL.Image.Image
        Of mode "RGB".

    Raises
    ------
    PictureError
        If the file cannot be read, has several frames, or pixels whose white is not known: 32-bit
        integers, and floats beyond 0 to 1.
    """
    try:
        with Image.open(path) as image:
            frames = getattr(image, "n_frames", 1)
            if frames > 1 and image.format != "MPO":  # of phones, whose others are previews
                raise PictureError(f"{path} has {frames} frames: save the one that is meant.")
            image.load()
            levels = _levels(image, path)
            upright = ImageOps.exif_transpose(image)
            return _colored(upright if levels is None else _of_8_bits(upright, *levels))
    except PictureError:
        raise
    except UNREADABLE as error:
        raise PictureError(f"{path} cannot be read as an image: {error}") from error


def _levels(image, path):
    """The values of black and white where they are not those of 8 bits."""
    tags = getattr(image, "tag_v2", {})  # of TIFF
    if image.mode in WIDE or (image.mode == "I" and image.format in WIDE_FORMATS):
        levels = 0, 2 ** tags.get(BITS_PER_SAMPLE, (16,))[0] - 1
    elif image.mode == "F":
        low, high = np.min(image), np.max(image)
        if not (low >= 0 and high <= 1):  # nor NaN
            raise PictureError(
                f"{path} has floats from {low:g} to {high:g}; expected 0 (black) to 1 (white). "
                "Scale them, or save 8 or 16 bits."
            )
        levels = 0, 1
    elif image.mode == "I":
        raise PictureError(
            f"{path} has 32-bit or signed integers, whose white is not known: save 8 or 16 bits."
        )
    else:
        return None
    # Of these pixels alone Pillow leaves this to its callers.
    return levels[::-1] if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO else levels


def _of_8_bits(image, black, white):
    pixels = (np.asarray(image).astype(np.float64) - black) / (white - black)
    return Image.fromarray(np.rint(255 * pixels).astype(np.uint8))


def _colored(image):
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")
