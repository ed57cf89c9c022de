"""Anyone's labelled images: ImageNet, Imagenette, CIFAR-10, folders and lists.

Labels are positions in what a model computes. Names of classes, such as folders', are looked up
among the model's categories, since their alphabetical order says nothing about a model's outputs.
"""

import csv
import dataclasses
import hashlib
import mimetypes
import os
import re
import urllib.error
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from .files import folder_lock
from .lists import ListError, read_list
from .pictures import PictureError, open_picture

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
WNID = re.compile(r"n\d{8}")
VALIDATION = re.compile(r"ILSVRC2012_val_(\d{8})\.jpe?g", re.IGNORECASE)
IMAGENET_CLASSES_FILE = Path(__file__).with_name("imagenet-classes.csv")
IMAGENETTE_IMAGES = 3925  # of its validation set

# From names of classes, text or as YAML reads them, to outputs of a model or their names.
LabelMap = Mapping[Any, int | str]


class ImagesError(ValueError):
    """Images that are not there, cannot be read, or whose classes are not the model's."""


@dataclasses.dataclass(frozen=True)
class LabelledImages(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    """Images, read when they are asked for.

    Attributes
    ----------
    name : str
        The source.
    items : sequence
        Of paths, or PIL images.
    labels : int64 tensor of shape (n,)
        Positions in the model's output.
    transform : callable
        From an RGB PIL image to the model's input.
    """

    name: str
    items: list[Any]
    labels: torch.Tensor
    transform: Callable[[Image.Image], torch.Tensor]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """Input and label of one image."""
        item = self.items[index]
        try:
            image = item.convert("RGB") if isinstance(item, Image.Image) else open_picture(item)
        except PictureError as error:
            raise ImagesError(str(error)) from error
        return self.transform(image), int(self.labels[index])

    def digest(self) -> bytes:
        """SHA-256 of labels and images: of their pixels, or their files' names, sizes and times."""
        found = hashlib.sha256(self.labels.numpy().tobytes())
        for item in self.items:
            if isinstance(item, Image.Image):
                found.update(item.tobytes())
            else:
                about = item.stat()
                found.update(f"{item} {about.st_size} {about.st_mtime_ns}\n".encode())
        return found.digest()

    def first(self, n_images: int | None) -> "LabelledImages":
        """The first `n_images`, round-robin over the classes; None or more than there are: all.

        Raises
        ------
        ImagesError
            If `n_images` is no positive whole number.
        """
        whole = isinstance(n_images, int) and not isinstance(n_images, bool)
        if n_images is not None and not (whole and n_images >= 1):
            raise ImagesError(f"n_images={n_images!r} must be a positive whole number, or None.")
        order = torch.argsort(_places(self.labels), stable=True)[:n_images].tolist()
        items = [self.items[i] for i in order]
        return dataclasses.replace(self, items=items, labels=self.labels[order])


def open_images(
    source: str,
    root: str | os.PathLike[str] | None = None,
    *,
    transform: Callable[[Image.Image], torch.Tensor],
    categories: Sequence[str] | None = None,
    label_map: LabelMap | None = None,
) -> LabelledImages:
    """Labelled images of a source.

    Parameters
    ----------
    source : str
        "imagenet": the ILSVRC2012 validation images, in folders of WordNet ids, or all in one
        folder with the development kit's ground truth or Kaggle's ``LOC_val_solution.csv`` there or
        above; "imagenette" and "cifar10": downloaded by torchvision; "folder": a folder for each
        class; "csv": a list with the columns ``path`` (relative to it) and ``label``, read by
        `lists.read_list`.
    root : path-like, optional
        Where they are, or are put.
    transform : callable
        From an RGB PIL image to the model's input.
    categories : sequence of str, optional
        Names of the model's outputs.
    label_map : dict of str to int or str, optional
        From names of classes to positions or names of the model's outputs, before all else; a
        number is the name of the class written so.

    Returns
    -------
    LabelledImages

    Raises
    ------
    ImagesError
        Naming what is missing and where to get it.
    """
    if source not in READERS:
        raise ImagesError(f"source={source!r} is unknown: choose from {', '.join(READERS)}.")
    if root is None:
        raise ImagesError(f"source={source!r} needs root=, the folder (or list) of the images.")
    items, names = READERS[source](Path(root).expanduser())
    if not items:
        raise ImagesError(f"no images in {root}: expected files {', '.join(SUFFIXES)}.")
    found = labels_of(sorted(set(names)), categories, label_map)
    labels = torch.tensor([found[name] for name in names])
    return LabelledImages(source, items, labels, transform)


def open_pictures(
    folder: str | os.PathLike[str], *, transform: Callable[[Image.Image], torch.Tensor]
) -> LabelledImages:
    """Pictures of a folder and of the folders in it, for what needs no labels: all have label 0.

    They are in an order in which a prefix has some of each folder.

    Raises
    ------
    ImagesError
        If there are none.
    """
    root = Path(folder).expanduser()
    items = _pictures(root) if root.is_dir() else []
    if not items:
        raise ImagesError(f"no images in {root}: expected files {', '.join(SUFFIXES)}.")
    places = {parent: i for i, parent in enumerate(dict.fromkeys(item.parent for item in items))}
    labels = torch.tensor([places[item.parent] for item in items])
    ordered = LabelledImages("folder", items, labels, transform).first(None)
    return dataclasses.replace(ordered, labels=torch.zeros(len(items), dtype=torch.int64))


def labels_of(
    names: Sequence[str],
    categories: Sequence[str] | None = None,
    label_map: LabelMap | None = None,
) -> dict[str, int]:
    """Position of each class in a model's output.

    In this order: the map, WordNet ids of ImageNet (where the model has a thousand outputs), names
    of categories, whole numbers. Only if none of the names is known and the model has as many
    outputs as there are names, their alphabetical order counts.

    Parameters
    ----------
    names : sequence of str
        Ascending.
    categories : sequence of str, optional
    label_map : dict of str to int or str, optional

    Returns
    -------
    dict of str to int

    Raises
    ------
    ImagesError
        Naming the classes that cannot be told, or what the map names that is no class.

    Examples
    --------
    >>> labels_of(["golf-ball", "moggy"], ["tabby", "golf ball"], {"moggy": "tabby"})
    {'golf-ball': 1, 'moggy': 0}
    """
    categories = list(categories or ())
    label_map = _checked_map(label_map)
    if strange := [name for name in label_map if name not in names]:
        raise ImagesError(
            f"label_map names {strange[:5]}, none of the {len(names)} classes of the images: they "
            f"are {', '.join(names[:20])}{', ...' if len(names) > 20 else ''}."
        )
    places = {_plain(name): place for place, name in enumerate(categories)}
    wnids = {}
    if len(categories) in (0, 1000):
        wnids = {wnid: place for place, (wnid, _) in enumerate(imagenet_classes())}
    found = {}
    for name in names:
        wanted = label_map.get(name, name)
        if isinstance(wanted, int):
            found[name] = wanted
        elif wanted in wnids:
            found[name] = wnids[wanted]
        elif _plain(wanted) in places:
            found[name] = places[_plain(wanted)]
        elif wanted.isdecimal():
            found[name] = int(wanted)
    unknown = [name for name in names if name not in found]
    if not found and len(names) == len(categories):
        return {name: place for place, name in enumerate(names)}
    if unknown:
        raise ImagesError(
            f"classes {unknown[:5]} of {len(unknown)} are none of the model's "
            f"{len(categories)} categories: give label_map, from their names to its outputs."
        )
    if bad := {n: p for n, p in found.items() if not 0 <= p < (len(categories) or p + 1)}:
        raise ImagesError(f"labels {bad} are beyond the model's {len(categories)} outputs.")
    return found


def _checked_map(label_map):
    """A map's names as text, its outputs as they are."""
    checked = {}
    for name, wanted in (label_map or {}).items():
        if isinstance(wanted, bool) or not isinstance(wanted, int | str):
            raise ImagesError(
                f"label_map: {name!r} is mapped to {wanted!r}; expected the number or the name of "
                "an output."
            )
        if str(name) in checked:
            raise ImagesError(f"label_map names the class {str(name)!r} twice.")
        checked[str(name)] = wanted
    return checked


def imagenet_classes() -> list[tuple[str, int]]:
    """WordNet id and number in the development kit of each class, by position in the output."""
    with open(IMAGENET_CLASSES_FILE, newline="") as file:
        return [(row["wnid"], int(row["ilsvrc2012_id"])) for row in csv.DictReader(file)]


def _plain(name):
    return re.sub(r"[\W_]+", " ", name).strip().lower()


def _places(labels):
    """Of each image, how many of its class come before it."""
    places, seen = torch.empty_like(labels), {}
    for i, label in enumerate(labels.tolist()):
        places[i] = seen[label] = seen.get(label, -1) + 1
    return places


# ------------------------------------------------------------------- sources: items and names


def _folder(root):
    if not root.is_dir():
        raise ImagesError(f"{root} is not a folder.")
    items, names = [], []
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        files = _pictures(folder)
        if not files:
            raise ImagesError(f"{folder} has no images: take it away, or fill it.")
        items += files
        names += [folder.name] * len(files)
    if loose := [path for path in sorted(root.iterdir()) if path.suffix.lower() in SUFFIXES]:
        raise ImagesError(f"{loose[0]} is in no folder of a class: take it away, or put it there.")
    return items, names


def _pictures(folder):
    """Files of a folder and of those in it, in order."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    known = [path for path in files if path.suffix.lower() in SUFFIXES]
    others = {*files}.difference(known)
    for path in sorted(others):
        kind, _ = mimetypes.guess_type(path.name)
        if kind and kind.startswith("image/"):
            raise ImagesError(
                f"{path} is of a kind that is not read: convert it to one of "
                f"{', '.join(SUFFIXES)}, or take it away."
            )
    return known


def _csv(path):
    if not path.is_file():
        raise ImagesError(f"{path} is not there: a list with the columns path,label.")
    items, labels, first = [], [], {}
    try:
        for line, (name, label) in read_list(path, ("path", "label")):
            item = path.parent / Path(name).expanduser()
            if not item.is_file():
                raise ImagesError(f"{path}, line {line}: {item} is not there, or is no file.")
            before, of_line = first.setdefault(item, (label, line))
            if before != label:
                raise ImagesError(
                    f"{path}, line {line}: {name} is {label!r}, but {before!r} in line {of_line}."
                )
            items.append(item)
            labels.append(label)
    except ListError as error:
        raise ImagesError(str(error)) from error
    return items, labels


def _imagenet(root):
    for folder in (root / "val", root / "ILSVRC/Data/CLS-LOC/val", root):
        if not folder.is_dir():
            continue
        if any(WNID.fullmatch(path.name) for path in folder.iterdir() if path.is_dir()):
            return _folder(folder)
        if files := sorted(p for p in folder.iterdir() if VALIDATION.fullmatch(p.name)):
            truth = _ground_truth(root, folder)
            return files, [truth[int(VALIDATION.fullmatch(p.name)[1])] for p in files]
    raise ImagesError(
        f"no ILSVRC2012 validation images in {root}: get ILSVRC2012_img_val.tar and the "
        "development kit ILSVRC2012_devkit_t12.tar.gz from image-net.org (an account is needed), "
        f"and unpack both into {root}."
    )


def _ground_truth(*folders):
    """WordNet id of each validation image by its number, from 1."""
    for folder in folders:
        for path in sorted(folder.rglob("LOC_val_solution.csv")):
            with open(path, newline="") as file:
                rows = list(csv.DictReader(file))
            return {int(r["ImageId"][-8:]): r["PredictionString"].split()[0] for r in rows}
        for path in sorted(folder.rglob("ILSVRC2012_validation_ground_truth.txt")):
            by_id = {number: wnid for wnid, number in imagenet_classes()}
            numbers = map(int, path.read_text().split())
            return {i: by_id[number] for i, number in enumerate(numbers, start=1)}
    raise ImagesError(
        f"the validation images in {folders[-1]} have no labels: put the development kit's "
        "ILSVRC2012_validation_ground_truth.txt, or Kaggle's LOC_val_solution.csv, beside them."
    )


def _imagenette(root):
    from .vision import torchvision

    kind = torchvision.datasets.Imagenette
    folder = root / "imagenette2-320"
    if _n_imagenette(folder) < IMAGENETTE_IMAGES:
        _downloaded(
            # Another process may have unpacked it meanwhile.
            lambda: folder.is_dir() or kind(root, split="val", size="320px", download=True),
            "imagenette2-320.tgz, of the project fastai/imagenette",
            root,
        )
    if (found := _n_imagenette(folder)) != IMAGENETTE_IMAGES:
        raise ImagesError(
            f"{folder / 'val'} has {found} of Imagenette's {IMAGENETTE_IMAGES} images: remove "
            f"{folder}, and it is unpacked again."
        )
    return _folder(folder / "val")


def _n_imagenette(folder):
    return sum(1 for _ in folder.glob("val/*/*.JPEG"))


def _cifar10(root):
    from .vision import torchvision

    kind = torchvision.datasets.CIFAR10
    try:
        data = kind(root, train=False)  # whole, or it is an error
    except (OSError, RuntimeError):
        data = _downloaded(
            lambda: kind(root, train=False, download=True),
            "cifar-10-python.tar.gz, of www.cs.toronto.edu/~kriz/cifar.html",
            root,
        )
    items = [Image.fromarray(pixels) for pixels in data.data]
    return items, [data.classes[target] for target in data.targets]


def _downloaded(make, what, root):
    try:
        with folder_lock(root, wait=True):  # another process may be at it
            return make()
    except (urllib.error.URLError, OSError, RuntimeError) as error:
        raise ImagesError(
            f"{what}, is not in {root} and cannot be downloaded ({error}): put it there by hand."
        ) from error


READERS = {
    "imagenet": _imagenet,
    "imagenette": _imagenette,
    "cifar10": _cifar10,
    "folder": _folder,
    "csv": _csv,
}
