"""The accuracy of any model on any images, before and after its weights are shared.

A model's predictions are cached, so an interrupted run resumes where it stopped.
"""

import dataclasses
import hashlib
import tempfile
import time
from pathlib import Path

import torch
from PIL import Image
from torch.utils.data import DataLoader, Subset

from ...compression import describe, save
from ...compression.compressing import compress
from ...evaluation import paired_interval, wilson_interval
from ...images import ImagesError, LabelledImages, open_images
from ...models import CHECKPOINTS, resolve
from ...preprocessing import preprocessing
from ...sharing import share_weights
from ..paths import located
from ..tables import TABLES
from .data import load_images
from .evaluation import cached, top1_columns
from .network import MEAN, SIZE, STD, device
from .progress import progress
from .words import bits_of, lost

METHODS = ("k-means", "k-means by channel", "compress")
DROP = ("top1_drop", "drop_low", "drop_high")
BESIDE = ("beside", "beside_low", "beside_high")
PUBLISHED_CLASSES = 1000  # of ImageNet, whose accuracies torchvision publishes
MOST_OFF = 0.5  # points by which decoders and resizing may shift top-1 from the published one
SAMPLE = 8  # images; their scores distinguish models with the same tensors but other code


@dataclasses.dataclass(frozen=True)
class Pictures:
    """The images that models are judged by, and how they are read.

    Attributes
    ----------
    source : str
        As of `lib.images.open_images`, or "embedded", the committed test images.
    root : path-like, optional
        Folder of the images, or the list of them.
    label_map : dict, optional
        From names of classes to the model's outputs.
    n_images : int, optional
        Read only the first ones, round-robin over classes.
    batch_size : int
    workers : int
        Number of processes that read images.
    n_calibration : int
        Images, their labels unused, that `compress` learns from: those that follow the judged ones
        where there are as many, and else the first judged ones.
    """

    source: str
    root: str | Path | None = None
    label_map: dict | None = None
    n_images: int | None = None
    batch_size: int = 64
    workers: int = 0
    n_calibration: int = 256


@dataclasses.dataclass(frozen=True)
class Architecture:
    """What the name of a model leaves open.

    Attributes
    ----------
    arch : str, optional
        The architecture of a state dict.
    weights : str
        Weights of torchvision's models and of `arch`; preprocessing and categories are theirs.
    size, crop, mean, std, interpolation, transform : optional
        The preprocessing, where it is not what the model says; as of `preprocessing`.
    expected_top1 : float or dict of str to float, optional
        Top-1 of the float model on these images, in percent, or that of each model by name.
    """

    arch: str | None = None
    weights: str = "DEFAULT"
    size: int | None = None
    crop: int | None = None
    mean: float | list[float] | None = None
    std: float | list[float] | None = None
    interpolation: str | None = None
    transform: str | None = None
    expected_top1: float | dict[str, float] | None = None

    def steps(self):
        """The given steps of the preprocessing."""
        names = ("size", "crop", "mean", "std", "interpolation", "transform")
        given = {name: getattr(self, name) for name in names}
        return {name: value for name, value in given.items() if value is not None}

    def expected(self, name):
        """The expected top-1 of a model; None if none is."""
        top1 = self.expected_top1
        top1 = top1.get(name) if isinstance(top1, dict) else top1
        number = isinstance(top1, int | float) and not isinstance(top1, bool)
        if top1 is not None and not (number and 0 <= top1 <= 100):
            raise ImagesError(f"expected_top1={top1!r} must be in percent, from 0 to 100.")
        return top1


def model_rows(models, pictures, architecture, grid, **options):
    """Rows of the table `models`.

    Parameters
    ----------
    models : dict of str to torch.nn.Module or None
        By name; None is resolved from the name.
    pictures : Pictures
    architecture : Architecture
    grid : sequence of lib.study.experiment.evaluation.Setting
    **options
        Of `AnyModel.rows`.
    """
    expected = architecture.expected_top1
    named = expected if isinstance(expected, dict) else ()
    if unknown := [name for name in named if name not in models]:
        raise ImagesError(f"expected_top1 names {unknown}; the models are {', '.join(models)}.")
    rows = []
    for name, network in models.items():
        model = AnyModel(name, pictures, architecture, network=network)
        print(f"{name}: {model.check_published()}", flush=True)
        for row in model.rows(grid, **options):
            print(_summary(row), flush=True)
            rows.append(row)
    return rows


def _summary(row):
    how = "float32"
    if row["method"] != "float":
        start = "" if row["init"] is None else f" from {row['init']}"
        how = f"{row['method']}{start}, {row['bytes']:,} bytes as of {bits_of(row['bits'])}"
    return f"{row['model']}, {how}: top-1 {row['top1']:.2f} %, {lost(row['top1_drop'])}"


class AnyModel:
    """A model with the images that it is judged by.

    Parameters
    ----------
    name : str
        As of `lib.models.resolve`, or any name for `network`.
    pictures : Pictures
    architecture : Architecture
    network : nn.Module, optional
        The model itself, which takes its pictures as the network of the study does.
    """

    def __init__(self, name, pictures, architecture=Architecture(), *, network=None):
        arch, weights, steps = architecture.arch, architecture.weights, architecture.steps()
        self.name = name
        if network is None:
            path = str(located(name)) if name.endswith(CHECKPOINTS) else name
            network = resolve(path, arch=arch, weights=weights)
        else:
            steps = steps or {"size": SIZE, "mean": MEAN, "std": STD}
        self.model = network
        self.preprocessing = preprocessing(arch or name, network, weights=weights, **steps)
        self.expected = architecture.expected(name)
        # Round-robin even if all are read: the first batches, which `reestimate` uses, then hold
        # all classes.
        images = _open(pictures, self.preprocessing).first(None)
        n, n_calibration = pictures.n_images or len(images), pictures.n_calibration
        self.images = images.first(pictures.n_images)
        following = range(n, min(n + n_calibration, len(images)))
        self.others = len(following) == n_calibration  # whether they are others than those judged
        chosen = following if self.others else range(min(n_calibration, len(self.images)))
        self.calibration = Subset(images if self.others else self.images, chosen)
        self.batch_size = pictures.batch_size
        n_classes = len(self.images.labels.unique())
        comparable = pictures.source == "imagenet" and n_classes == PUBLISHED_CLASSES
        comparable = comparable and arch is None
        self.published = self.preprocessing.published if comparable else None
        self.loader = DataLoader(self.images, pictures.batch_size, num_workers=pictures.workers)
        self.sample = torch.stack([inputs for inputs, _ in self.images.first(SAMPLE)])
        self.digest = self.images.digest()
        self.right = self.top(self.model)

    def check_published(self):
        """Compare the top-1 of the float model with the expected one, or else the published one.

        Otherwise wrong preprocessing could pass for a loss from compression.

        Returns
        -------
        str
            Both figures and the preprocessing, in a sentence.

        Raises
        ------
        ImagesError
            If that figure is more than half a point outside the 99.9 % interval of the measured
            one.
        """
        n = len(self.images)
        measured = 100 * self.right["top1"].double().mean().item()
        how = f"preprocessing: {self.preprocessing}"
        kind, top1 = "published", self.published
        if self.expected is not None:
            kind, top1 = "expected", self.expected
        if top1 is None:
            return f"top-1 {measured:.2f} %, not checked: none is published for these images; {how}"
        low, high = wilson_interval(int(self.right["top1"].sum()), n, level=0.999)
        if not low - MOST_OFF <= top1 <= high + MOST_OFF:
            raise ImagesError(
                f"{self.name}: top-1 is {measured:.2f} % on {n} images, {kind} are {top1:.2f} %: "
                f"the images, their labels or the preprocessing are not those of the model; {how}."
            )
        return f"top-1 {measured:.2f} % on {n} images; {kind} {top1:.2f} %; {how}"

    def rows(self, grid, *, methods=METHODS, layers=None, compress_inits=(), reestimated=0):
        """Rows of the table `models`: the float model, then at each number of bits every method.

        Parameters
        ----------
        grid : sequence of lib.study.experiment.evaluation.Setting
            Of k-means. Their bytes in a file, of the first setting at each number of bits, are what
            the other methods have, too.
        methods : sequence of str
            Of `METHODS`.
        layers : sequence of str, optional
            Those that are compressed; by default all convolutions and linear layers.
        compress_inits : sequence of str
            What `compress` starts from, beside its own start.
        reestimated : int
            Number of first batches, without labels, on which the means and variances of batch
            normalization are estimated again after sharing; 0 keeps them.

        Yields
        ------
        dict
        """
        if unknown := [name for name in methods if name not in METHODS]:
            raise ValueError(f"methods {unknown} are unknown: choose from {', '.join(METHODS)}.")
        self.layers, self.reestimated = layers, reestimated
        yield self._row(self.right, {"method": "float"})
        for bits in dict.fromkeys(setting.bits for setting in grid):
            first, *others = (setting for setting in grid if setting.bits == bits)
            shared, row = self._k_means(first)
            beside, wanted = self._judged(shared.model), row["bytes"]
            if METHODS[0] in methods:
                yield self._row(beside, row, beside)
                for setting in others:
                    made, row = self._k_means(setting)
                    yield self._row(self._judged(made.model), row, beside)
            if METHODS[1] in methods:
                yield self._by_channel(first, wanted, beside)
            for init in (None, *compress_inits) if METHODS[2] in methods else ():
                given = {"layers": [layer.name for layer in shared.layers], "init": init}
                yield self._compressed(bits, wanted, given, beside)

    def _k_means(self, setting, **options):
        """Shared weights, and what their row says of them."""
        start = time.perf_counter()
        given = setting.options() | {"layers": self.layers} | options
        shared = share_weights(self.model, **given)
        seconds = time.perf_counter() - start
        row = {name: getattr(setting, name) for name in ("init", "bits", "max_iter", "seed")}
        row |= {"method": METHODS[0], "seconds": seconds} | _sizes(shared)
        return shared, row

    def _by_channel(self, setting, wanted, beside):
        """A codebook for each output channel, of as many centers as `wanted` bytes hold."""
        low, high, best = 1, 2**setting.bits, None
        while low < high:  # the largest number of centers whose bytes are no more
            middle = (low + high + 1) // 2
            made = self._k_means(setting, n_clusters=middle, granularity="per_channel")
            if made[1]["bytes"] <= wanted:
                low, best = middle, made
            else:
                high = middle - 1
        shared, row = best or self._k_means(setting, n_clusters=low, granularity="per_channel")
        return self._row(self._judged(shared.model), row | {"method": METHODS[1]}, beside)

    def _compressed(self, bits, wanted, given, beside):
        loader = DataLoader(self.calibration, self.batch_size)
        batches = [inputs.to(device()) for inputs, _ in loader]
        start = time.perf_counter()
        made = compress(self.model, batches, n_bytes=wanted, **given)
        row = {"method": METHODS[2], "init": given["init"], "bits": bits} | _sizes(made)
        row["seconds"] = time.perf_counter() - start
        row["calibrated_on"] = "others" if self.others else "the same"
        return self._row(self._judged(made.model), row, beside)

    def _judged(self, model):
        """Which images a model gets right, its batch normalization taken again if asked for."""
        if self.reestimated:
            reestimate(model, self.loader, self.reestimated)
        return self.top(model)

    def _row(self, right, given, beside=None):
        n, own = len(self.images), self.right["top1"]
        row = dict.fromkeys(TABLES["models"].columns)
        row |= {"model": self.name, "images": self.images.name, "n_images": n}
        row |= top1_columns(int(right["top1"].sum()), n)
        row["top5"] = 100 * right["top5"].double().mean().item()
        row |= dict(zip(DROP, paired_interval(own, right["top1"]), strict=True))
        if given["method"] != "float":
            row["reestimated"] = self.reestimated
        if beside is not None:
            row |= dict(zip(BESIDE, paired_interval(right["top1"], beside["top1"]), strict=True))
        return row | given

    def top(self, model):
        """For each image, whether top-1 and whether top-5 has the correct class; cached."""
        model = model.eval().to(device())
        return cached(self._key(model), lambda: self._judge(model))

    @torch.inference_mode()
    def _key(self, model):
        """Digest of the images, the model's tensors, and its scores of a few images.

        The scores change with the model's code.
        """
        digest = hashlib.sha256(self.digest)
        for tensor in (model(self.sample.to(device())), *model.state_dict().values()):
            digest.update(tensor.cpu().reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()[:32]

    @torch.inference_mode()
    def _judge(self, model):
        top1, top5 = [], []
        for inputs, labels in progress(self.loader, "images"):
            scores = model(inputs.to(device())).cpu()
            if int(labels.max()) >= scores.shape[1]:
                raise ImagesError(
                    f"{self.name} has {scores.shape[1]} outputs, an image the label "
                    f"{int(labels.max())}: give label_map."
                )
            best = scores.topk(min(5, scores.shape[1])).indices == labels[:, None]
            top1.append(best[:, 0])
            top5.append(best.any(1))
        return {"top1": torch.cat(top1), "top5": torch.cat(top5)}


def _open(pictures, prepared):
    """All images, prepared for a model."""
    source, root, transform = pictures.source, pictures.root, prepared.transform
    if source != "embedded":
        return open_images(
            source,
            root and located(root),
            transform=transform,
            categories=prepared.categories,
            label_map=pictures.label_map,
        )
    images = load_images("test")
    items = [Image.fromarray(pixels) for pixels in images.pixels.numpy()]
    return LabelledImages(source, items, images.labels, transform)


def _sizes(made):
    """Bytes of the layers in a file, and times smaller."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model")
        save(made.model, path)
        layers = next(row for row in describe(path) if row["layer"] == "all layers")
    return {"bytes": layers["bytes"], "ratio": layers["ratio"]}


def reestimate(model, loader, n_batches):
    """Estimate batch normalization's means and variances again, on the first batches; in place."""
    batches = (inputs for _, (inputs, _) in zip(range(n_batches), loader, strict=False))
    torch.optim.swa_utils.update_bn(batches, model, device=device())
