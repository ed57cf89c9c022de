"""The committed data: AlexNet's ImageNet convolutions and a subset of Fashion-MNIST.

Every load verifies the file's SHA-256 against `data/SHA256SUMS`. `data/README.md` states sources,
licenses and the fixed role of each split: train on "train", make every choice on "held-out", and
report on "test".
"""

import functools
import hashlib
import lzma
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch

from ..paths import DATA

CONVOLUTIONS_FILE = "alexnet-imagenet-features.safetensors"
IMAGES_FILE = "fashion-mnist.safetensors.xz"
MORE_FILE = "fashion-mnist-held-out.safetensors.xz"  # more of the split held-out
CHECKSUMS_FILE = "SHA256SUMS"

CONVOLUTIONS = tuple(
    f"features.{index}.{kind}" for index in (0, 3, 6, 8, 10) for kind in ("weight", "bias")
)
SPLITS = {"train": 10_000, "held-out": 5_000, "test": 10_000}  # images in each
CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


class DataError(RuntimeError):
    """A committed data file is missing or damaged; the message says how to get it back."""


@dataclass(frozen=True)
class Images:
    """Labelled images of one split.

    Attributes
    ----------
    pixels : torch.Tensor of shape (n, 28, 28) and dtype uint8
        0 (background) to 255.
    labels : torch.Tensor of shape (n,) and dtype int64
        Positions in `CLASSES`.
    name : str
        The split they come from.
    """

    pixels: torch.Tensor
    labels: torch.Tensor
    name: str

    def __len__(self):
        return len(self.labels)


def load_convolutions(*, folder: Path = DATA) -> dict[str, torch.Tensor]:
    """Load the five ImageNet convolutions under the names of torchvision's AlexNet.

    Parameters
    ----------
    folder : Path
        Holds the file and SHA256SUMS.

    Returns
    -------
    dict of str to torch.Tensor of float32
        `features.N.weight` of shape (out, in, height, width) and `features.N.bias` of shape
        (out,), for N in 0, 3, 6, 8, 10, in this order.

    Raises
    ------
    DataError
        If the file is missing or damaged.
    """
    tensors = safetensors.torch.load(read_verified(CONVOLUTIONS_FILE, folder))
    # Safetensors returns the names in no fixed order.
    return {name: tensors[name] for name in CONVOLUTIONS}


def load_images(split: str, n_images: int | None = None, *, folder: Path = DATA) -> Images:
    """Load a split of Fashion-MNIST, or its first images.

    A prefix of 10 n images holds exactly n of each class.

    Parameters
    ----------
    split : {"train", "held-out", "test"}
        10,000, 5,000 and 10,000 images.
    n_images : int, optional
        Load only this many, from the start; all by default.
    folder : Path
        Holds the file and SHA256SUMS.

    Raises
    ------
    ValueError
        If there is no such split, or it has fewer than `n_images` images.
    DataError
        If the file is missing or damaged.
    """
    if split not in SPLITS:
        raise ValueError(f"split={split!r} should be one of {', '.join(SPLITS)}.")
    if n_images is None:
        n_images = SPLITS[split]
    if not 1 <= n_images <= SPLITS[split]:
        raise ValueError(f"n_images={n_images} should be in 1 to {SPLITS[split]} for {split}.")
    tensors = _decompressed(read_verified(IMAGES_FILE, folder))
    pixels, labels = tensors[f"{split}.pixels"], tensors[f"{split}.labels"]
    if n_images > len(pixels):
        more = _decompressed(read_verified(MORE_FILE, folder))
        pixels = torch.cat([pixels, more["more.pixels"]])
        labels = torch.cat([labels, more["more.labels"]])
    return Images(pixels[:n_images].clone(), labels[:n_images].long(), split)


@functools.lru_cache(maxsize=2)  # for a second split: it takes half a second
def _decompressed(content):
    return safetensors.torch.load(lzma.decompress(content))


def test_images() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of the test images as the network takes them, and their labels.

    For ``python -m lib evaluate FILE --images lib.study.experiment.data:test_images``.
    """
    from .network import BATCH, prepare  # which imports this module

    images = load_images("test")
    for pixels, labels in zip(images.pixels.split(BATCH), images.labels.split(BATCH), strict=True):
        yield prepare(pixels), labels


def read_verified(name: str, folder: Path) -> bytes:
    """Read a data file and compare its SHA-256 with the recorded one.

    Raises
    ------
    DataError
        If the file or its record is missing, or they disagree.
    """
    expected = recorded_sha256(name, folder)
    content = read(name, folder)
    digest = hashlib.sha256(content).hexdigest()
    if digest != expected:
        raise DataError(
            f"{Path(folder, name)} is damaged: SHA-256 is {digest}, expected {expected}. "
            f"{remedy(name)}"
        )
    return content


def recorded_sha256(name: str, folder: Path) -> str:
    """Return the digest that SHA256SUMS records for a file, or raise `DataError`."""
    for line in read(CHECKSUMS_FILE, folder).decode(errors="replace").splitlines():
        digest, _, listed = line.partition("  ")
        if listed == name:
            return digest
    raise DataError(
        f"{Path(folder, CHECKSUMS_FILE)} is damaged: it does not list {name}. "
        f"{remedy(CHECKSUMS_FILE)}"
    )


def read(name: str, folder: Path) -> bytes:
    """Return a data file's bytes, or raise `DataError` if there is no such file."""
    try:
        return Path(folder, name).read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{Path(folder, name)} is missing. {remedy(name)}") from error


def remedy(name: str) -> str:
    """Say how to get a data file back."""
    return f"Get it back with `git checkout -- data/{name}`, or `python data/make_data.py`."
