import importlib.util
import pickle
import shutil

import numpy as np
import pytest
import torch

from lib.study.experiment import data


@pytest.fixture(scope="module")
def images():
    return {split: data.load_images(split) for split in data.SPLITS}


@pytest.fixture(scope="module")
def convolutions():
    return data.load_convolutions()


@pytest.fixture(scope="module")
def make_data():
    spec = importlib.util.spec_from_file_location("make_data", data.DATA / "make_data.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folder(tmp_path):
    """Return a copy of the committed files, free to be spoilt."""
    for name in (data.CONVOLUTIONS_FILE, data.IMAGES_FILE, data.MORE_FILE, data.CHECKSUMS_FILE):
        shutil.copy(data.DATA / name, tmp_path)
    return tmp_path


def distinct(images):
    return {image.numpy().tobytes() for image in images.pixels}


@pytest.mark.parametrize("split", data.SPLITS)
def test_split_has_documented_size_and_types(images, split):
    of_split = images[split]
    assert of_split.name == split
    assert len(of_split) == data.SPLITS[split]
    assert of_split.pixels.shape == (data.SPLITS[split], 28, 28)
    assert of_split.pixels.dtype == torch.uint8
    assert of_split.labels.shape == (data.SPLITS[split],)
    assert of_split.labels.dtype == torch.int64
    assert (of_split.pixels.min(), of_split.pixels.max()) == (0, 255)


@pytest.mark.parametrize("split", data.SPLITS)
def test_every_block_of_ten_holds_each_class_once(images, split):
    blocks = images[split].labels.reshape(-1, len(data.CLASSES))
    assert torch.equal(blocks.sort(dim=1).values, torch.arange(10).expand_as(blocks))
    assert len(blocks.unique(dim=0)) > len(blocks) / 2  # shuffled, not periodic


def test_first_2000_test_images_are_200_a_class_and_a_prefix(images):
    first = data.load_images("test", 2000)
    assert first.labels.bincount().tolist() == [200] * 10
    assert torch.equal(first.pixels, images["test"].pixels[:2000])
    assert torch.equal(first.labels, images["test"].labels[:2000])


def test_more_held_out_images_follow_the_first(images):
    first = data.load_images("held-out", 1000)
    assert torch.equal(first.pixels, images["held-out"].pixels[:1000])
    assert torch.equal(first.labels, images["held-out"].labels[:1000])
    some = data.load_images("held-out", 1010)
    assert torch.equal(some.pixels, images["held-out"].pixels[:1010])


def test_splits_share_no_image(images):
    train, held_out, test = (distinct(images[split]) for split in data.SPLITS)
    assert not train & held_out
    assert not train & test
    assert not held_out & test


def test_only_the_official_test_images_repeat_and_only_once(images):
    repeats = {split: len(images[split]) - len(distinct(images[split])) for split in data.SPLITS}
    assert repeats == {"train": 0, "held-out": 0, "test": 1}


@pytest.mark.parametrize(
    ("split", "official"), [("train", 72.94035), ("held-out", 72.94035), ("test", 73.14656)]
)
def test_mean_pixel_is_near_the_official_one(images, split, official):
    means = images[split].pixels.double().mean(dim=(1, 2))
    standard_error = means.std().item() / len(means) ** 0.5
    # The test images are the official ones, so there is nothing to sample.
    tolerance = 3e-4 * official if split == "test" else 3 * standard_error
    assert means.mean().item() == pytest.approx(official, abs=tolerance)


def test_images_and_labels_belong_together(images):
    # A wrong pairing would leave the nearest class mean of the training images at 10 %.
    train, test = images["train"], images["test"]
    means = torch.stack([train.pixels[train.labels == c].float().mean(0) for c in range(10)])
    nearest = torch.cdist(test.pixels.flatten(1).float(), means.flatten(1)).argmin(1)
    assert (nearest == test.labels).float().mean() > 0.65


def test_classes_are_named_in_label_order(images):
    # Trousers, sandals and boots differ in shape: a boot's shaft rises over its heel, on the
    # right; a trouser leaves both edges empty; a sandal has the least ink.
    pixels, labels = images["train"].pixels.float(), images["train"].labels
    means = {name: pixels[labels == c].mean(0) for c, name in enumerate(data.CLASSES)}
    boot, trouser = means["Ankle boot"], means["Trouser"]
    assert boot[:10, 14:].mean() > 2 * boot[:10, :14].mean()
    assert max(trouser[:, :6].mean(), trouser[:, -6:].mean()) < 1
    assert min(means, key=lambda name: means[name].mean()) == "Sandal"


@pytest.mark.parametrize("n_images", [0, -1, 5001])
def test_n_images_out_of_range_is_refused(n_images):
    with pytest.raises(ValueError, match=f"n_images={n_images} should be in 1 to 5000"):
        data.load_images("held-out", n_images)


def test_unknown_split_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="'validation' should be one of train, held-out, test"):
        data.load_images("validation")


def test_convolutions_have_alexnets_names_and_shapes(convolutions):
    out_in_size = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3)}
    out_in_size[10] = (256, 256, 3)
    expected = {}
    for index, (n_out, n_in, size) in out_in_size.items():
        expected[f"features.{index}.weight"] = (n_out, n_in, size, size)
        expected[f"features.{index}.bias"] = (n_out,)
    assert {name: tuple(tensor.shape) for name, tensor in convolutions.items()} == expected
    assert list(convolutions) == list(expected)
    assert {tensor.dtype for tensor in convolutions.values()} == {torch.float32}


def test_convolutions_are_torchvisions(convolutions):
    # The first values that PyTorch prints of the published IMAGENET1K_V1 weights.
    row = convolutions["features.0.weight"][0, 0, 0]
    published = [0.11864, 0.094069, 0.095435, 0.055822, 0.021575, 0.049963]
    assert row[[0, 1, 2, -3, -2, -1]].tolist() == pytest.approx(published, rel=1e-4)


def test_conv2_has_a_far_tail(convolutions):
    conv2 = convolutions["features.3.weight"].flatten()
    assert conv2.max().item() == pytest.approx(2.227, abs=1e-3)
    assert conv2.std() < 0.06
    assert (conv2.abs() > 1).sum() == 2  # the next is at 0.85


@pytest.mark.parametrize(
    ("name", "load"),
    [
        (data.CONVOLUTIONS_FILE, data.load_convolutions),
        (data.IMAGES_FILE, lambda **options: data.load_images("test", **options)),
        (data.MORE_FILE, lambda **options: data.load_images("held-out", **options)),
    ],
)
class TestSpoiltFolder:
    def test_intact_copy_loads(self, folder, name, load):
        assert len(load(folder=folder)) > 0

    def test_one_flipped_bit_is_reported(self, folder, name, load):
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)
        with pytest.raises(data.DataError) as caught:
            load(folder=folder)
        message = str(caught.value)
        assert f"{name} is damaged" in message
        assert data.recorded_sha256(name, folder) in message
        assert f"git checkout -- data/{name}" in message
        assert "python data/make_data.py" in message

    def test_missing_file_is_reported(self, folder, name, load):
        (folder / name).unlink()
        with pytest.raises(data.DataError, match=f"{name} is missing.*git checkout -- data/{name}"):
            load(folder=folder)

    def test_missing_checksums_are_reported(self, folder, name, load):
        (folder / data.CHECKSUMS_FILE).unlink()
        with pytest.raises(data.DataError, match="SHA256SUMS is missing"):
            load(folder=folder)

    def test_unlisted_file_is_reported(self, folder, name, load):
        path = folder / data.CHECKSUMS_FILE
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(line for line in lines if not line.endswith(f"  {name}\n")))
        with pytest.raises(data.DataError, match=f"SHA256SUMS is damaged: it does not list {name}"):
            load(folder=folder)


def test_unpickler_admits_arrays_only(make_data, tmp_path):
    hostile = tmp_path / "hostile"
    hostile.write_bytes(pickle.dumps(print))
    with (
        hostile.open("rb") as file,
        pytest.raises(pickle.UnpicklingError, match=r"builtins\.print"),
    ):
        make_data.ArrayUnpickler(file).load()


def test_maker_refuses_another_archive(make_data, tmp_path):
    with pytest.raises(make_data.SourceError, match="is missing"):
        make_data.verified(tmp_path / make_data.ALEXNET_ARCHIVE)
    (tmp_path / make_data.ALEXNET_ARCHIVE).write_bytes(b"another")
    with pytest.raises(make_data.SourceError, match="SHA-256 is"):
        make_data.verified(tmp_path / make_data.ALEXNET_ARCHIVE)


def test_maker_interleaves_classes_and_keeps_pairs(make_data):
    images = np.repeat(np.arange(10, dtype=np.uint8), 3)[:, None].repeat(784, 1).reshape(10, 3, 784)
    split = make_data.interleave("toy", images, np.random.RandomState(0))
    assert np.array_equal(split["toy.pixels"][:, 0, 0], split["toy.labels"])
    assert np.array_equal(np.sort(split["toy.labels"].reshape(3, 10), axis=1), [range(10)] * 3)
