"""The frontier of size and accuracy: ways to compress, as real files that are loaded back.

Everything that is chosen or fitted sees training images only; test images only judge.
"""

import copy
import dataclasses
import hashlib
import time

import torch
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch.nn.utils import parametrize

from .. import compression
from ..clustering import Prepared
from ..compression.entropy import cells_of_centers, multiplier_for_bits
from ..results import COLUMNS, results_folder, write_atomically
from ..sharing import plain_weights
from .data import load_images
from .evaluation import top1_columns
from .network import (
    LAYERS,
    LINEARS,
    SCOPES,
    alexnet,
    extract_features,
    logits,
    numerics_key,
    precision,
    prepare,
)
from .progress import progress
from .training import CACHE

BATCH = 100
MOST_LOST = 0.5  # points of held-out top-1, of a file that is chosen
ABOUT = "lib.experiment.network:alexnet"  # into what the files are loaded
JUDGED = ("held-out", "test")  # splits on which files are evaluated: to choose, and to report
CELLS = ("k-means", "pruned", "uniform", "entropy-constrained")
SPARSITY = 0.9  # of the classifier's layers but the last, where cells are "pruned"


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A way to compress without retraining.

    Attributes
    ----------
    cells : {"k-means", "pruned", "uniform", "entropy-constrained"}
        "k-means" has 2 ** bits centers, "pruned" too, nine in ten weights of fc6 and fc7 at 0; the
        others have as many as their labels' entropy allows.
    conv_bits, linear_bits : float
        A weight, of the convolutions and of the classifier; fc8 always gets 4 at least, since it
        has 0.1 % of the weights.
    corrected : bool
        Whether channels get a factor and a bias (`lib.compression.correct`).
    """

    cells: str
    conv_bits: float
    linear_bits: float
    corrected: bool

    def __post_init__(self):
        if self.cells not in CELLS:
            raise ValueError(f"cells={self.cells!r} is unknown: choose from {', '.join(CELLS)}.")

    @property
    def method(self):
        """Its name in tables."""
        return self.cells + (", corrected" if self.corrected else "")

    def of(self, scope):
        """What it makes of a scope's layers: equal for recipes that make the same file."""
        kind = "k-means" if self.cells == "pruned" and scope == "conv" else self.cells
        return scope, kind, self.corrected, *(self.bits(layer) for layer in SCOPES[scope])

    def bits(self, layer):
        """Bits a weight of a layer."""
        if layer == "fc8":
            return max(4, self.linear_bits)
        return self.linear_bits if layer in LINEARS else self.conv_bits


@dataclasses.dataclass(frozen=True)
class Retraining:
    """A way to compress while training goes on behind the shared weights.

    Attributes
    ----------
    cells : {"entropy-constrained", "pruned"}
    conv_bits, linear_bits : float
        As of `Recipe`. What a bit is worth is what gives them before training.
    epochs : int
    trained : {"classifier", "conv", "all"}
        Layers that train. Of "classifier" the convolutions are compressed as a corrected `Recipe`
        would, and stay; of "conv" the classifier stays as it is, in float32.
    """

    cells: str
    conv_bits: float
    linear_bits: float
    epochs: int
    trained: str

    def __post_init__(self):
        for name, value, known in (
            ("cells", self.cells, ("entropy-constrained", "pruned")),
            ("trained", self.trained, ("classifier", *SCOPES)),
        ):
            if value not in known:
                raise ValueError(f"{name}={value!r} is unknown: choose from {', '.join(known)}.")

    @property
    def recipe(self):
        """The same without training."""
        return Recipe(self.cells, self.conv_bits, self.linear_bits, corrected=True)

    @property
    def scope(self):
        """Of the layers that share weights."""
        return "conv" if self.trained == "conv" else "all"

    @property
    def method(self):
        """Its name in tables."""
        what = "trained through" if self.trained == "classifier" else "all trained through"
        return "pruned, " * (self.cells == "pruned") + what

    @property
    def layers(self):
        """Those that train."""
        return LINEARS if self.trained == "classifier" else SCOPES[self.trained]


class Compressor:
    """Compresses one network, each layer prepared once, and evaluates what it made.

    Parameters
    ----------
    network : torchvision.models.AlexNet
    experiment : str
        Receives the files.
    n_calibration : int
        First training images, which corrections are fitted on; their labels are not used.
    n_images : int
        First test images, which nothing is chosen by.
    n_train : int, optional
        First training images, which retraining sees; all by default.
    """

    def __init__(self, network, experiment, n_calibration, n_images, n_train=None):
        self.network, self.folder = network, results_folder(experiment) / "files"
        self.images = {
            "train": load_images("train", n_train),
            "held-out": load_images("held-out"),
            "test": load_images("test", n_images),
        }
        pixels = load_images("train", n_calibration).pixels
        self.batches = [prepare(batch) for batch in pixels.split(BATCH)]
        weights = {name: network.get_submodule(path).weight for name, path in LAYERS.items()}
        self.prepared = {name: Prepared(weight) for name, weight in weights.items()}
        self.n_weights = {name: weight.numel() for name, weight in weights.items()}
        self._features = {}
        self.float_right = {split: self.right(network, split) for split in JUDGED}

    def compressed(self, recipe, scope):
        """The network with the layers of a scope shared, and the seconds that took."""
        start = time.perf_counter()
        model = copy.deepcopy(self.network)
        for name in SCOPES[scope]:
            cells = self.cells(name, recipe.cells, recipe.bits(name))
            compression.install_cells(model, LAYERS[name], self.prepared[name], cells)
        if recipe.corrected:
            compression.correct(model, self.network, self.batches)
        return model, time.perf_counter() - start

    def retrained(self, retraining):
        """The network with weights trained through, and the seconds that took."""
        start = time.perf_counter()
        if retraining.trained == "classifier":
            model, _ = self.compressed(retraining.recipe, "conv")
        else:
            model = copy.deepcopy(self.network)
        trained, *data = self._to_train(model, retraining)
        cells_of = self._followed(retraining, trained, model)
        compression.train_through(trained, cells_of, *data, **self._training(retraining))
        return model, time.perf_counter() - start

    def trained_float(self, retraining):
        """The float network with the same layers trained alike, and the seconds that took."""
        start = time.perf_counter()
        model = copy.deepcopy(self.network)
        layers = [model.get_submodule(LAYERS[name]) for name in retraining.layers]
        parameters = [p for layer in layers for p in (layer.weight, layer.bias)]
        trained, *data = self._to_train(model, retraining)
        compression.train_plain(trained, parameters, *data, **self._training(retraining))
        return model, time.perf_counter() - start

    def _to_train(self, model, retraining):
        """The part of a model that trains, what it is given, and the labels."""
        images = self.images["train"]
        if retraining.trained == "classifier":
            features = self.features(model.features, images).half()
            return model.classifier, features, images.labels
        return OnPixels(model), images.pixels, images.labels

    def _training(self, retraining):
        """Options of training, in the precision that features are computed in."""
        return {
            "epochs": retraining.epochs,
            "dtype": precision(),
            "progress": lambda steps: progress(steps, retraining.method),
        }

    def _followed(self, retraining, trained, model):
        """Cells of the layers that train, as their weights move."""
        recipe = retraining.recipe
        wanted = {model.get_submodule(LAYERS[name]): name for name in retraining.layers}
        names = {path: wanted[layer] for path, layer in trained.named_modules() if layer in wanted}
        multipliers = {}
        if recipe.cells == "entropy-constrained":
            multipliers = {
                name: self.multiplier(name, recipe.bits(name)) for name in names.values()
            }

        def cells_of(path, prepared):
            if (name := names.get(path)) is None:
                return None
            if name not in multipliers:
                return self.cells(name, recipe.cells, recipe.bits(name), prepared)
            cells = compression.entropy_constrained_cells(prepared, multipliers[name])
            return cells.with_zero() if name in LINEARS else cells

        return cells_of

    def multiplier(self, name, bits):
        """What a bit of a layer's labels is worth, so that they have so many."""

        def cells_at(multiplier):
            return [compression.entropy_constrained_cells(self.prepared[name], multiplier)]

        return multiplier_for_bits([self.n_weights[name]], bits, cells_at, tol=0.01)

    def cells(self, name, kind, bits, prepared=None):
        """Cells of a layer's weights, or of others in their place, at so many bits."""
        prepared = prepared or self.prepared[name]
        if kind == "pruned" and name in ("fc6", "fc7"):
            return compression.pruned_cells(prepared, SPARSITY, 2 ** int(bits))
        if kind in ("k-means", "pruned"):
            found = prepared.cluster(2 ** int(bits), labels=False)
            return cells_of_centers(prepared, found.centers)
        if kind == "uniform":
            return uniform_at_bits(prepared, bits)
        return compression.entropy_constrained_cells(prepared, self.multiplier(name, bits))

    def row(self, model, scope, method, seconds, *, retrained=False, pruned=False):
        """Save a shared network, load it back, evaluate that: a row of the table `frontier`."""
        path, size = self.saved(model, scope)
        loaded = compression.load(path, alexnet())
        name = f"{scope}-{method}-{size}.safetensors".replace(", ", "-").replace(" ", "-")
        path = path.rename(self.folder / name)
        how = {"retrained": retrained, "pruned": pruned, "seconds": seconds, "file": path.name}
        return self._row(scope, method, size, loaded) | how

    def saved(self, model, scope):
        """A file of a shared network, and bytes of the scope's layers in it."""
        path = self.folder / "new.safetensors"
        compression.save(model, path, about=ABOUT)
        names = [LAYERS[layer] for layer in SCOPES[scope]]
        rows = [row for row in compression.describe(path) if row["layer"] in names]
        assert len(rows) == len(names)  # every layer of the scope is shared
        return path, sum(row["bytes"] for row in rows)

    def float_row(self, scope, model=None, seconds=None):
        """The float network, or that trained further, as a row."""
        retrained = model is not None
        method = "float, trained" if retrained else "float"
        how = {"retrained": retrained, "pruned": False, "seconds": seconds, "file": None}
        return self._row(scope, method, 4 * self._n_weights_of(scope), model or self.network) | how

    def _row(self, scope, method, size, model):
        n_weights = self._n_weights_of(scope)
        return {
            "scope": scope,
            "method": method,
            "bytes": size,
            "ratio": 4 * n_weights / size,
            "bits_per_weight": 8 * size / n_weights,
        } | self.judged(model)

    def judged(self, model, splits=JUDGED):
        """Columns of accuracy in percent: on test images, and what is lost on held-out ones."""
        found = {}
        for split in splits:
            n, right = len(self.images[split]), self.right(model, split)
            lost = 100 * (self.float_right[split] - right) / n
            if split == "test":
                found |= top1_columns(right, n) | {"top1_drop": lost}
            else:
                found["held_out_drop"] = lost
        return found

    def _n_weights_of(self, scope):
        return sum(self.n_weights[layer] for layer in SCOPES[scope])

    def right(self, network, split):
        """Number of a split's images that a network classifies rightly."""
        return int((self.predictions(network, split) == self.images[split].labels).sum())

    def predictions(self, network, split="test"):
        """Top-1 class of each image, int64; cached under what it is computed from."""
        images = self.images[split]
        key = _digest(network, split, len(images), numerics_key())
        path = CACHE / "predictions" / f"{key}-top1.safetensors"
        if not path.exists():
            features = self.features(network.features, images)
            with parametrize.cached():
                top = logits(network.classifier, features).argmax(1)
            write_atomically(path, to_bytes({"top": top.to(torch.uint8)}))
        return load_file(path)["top"].long()

    def features(self, convolutions, images):
        """Features of images; those of the last convolutions asked for are kept."""
        key = _digest(convolutions)
        if key not in self._features:
            self._features = {key: {}}
        kept = self._features[key]
        if images.name not in kept:
            plain = plain_weights(copy.deepcopy(convolutions))
            title = f"features of {images.name}"
            kept[images.name] = extract_features(plain, images.pixels, title)
        return kept[images.name]


class OnPixels(torch.nn.Module):
    """A network as a function of pixels, to be trained on them."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, pixels):
        """Class scores."""
        return self.network(prepare(pixels))


def choose(rows):
    """The table `chosen`: the smallest files that may be used, by held-out images.

    Parameters
    ----------
    rows : pandas.DataFrame
        Rows of files as `Compressor.row` gives them.

    Returns
    -------
    pandas.DataFrame
        `chosen` is true of one row at most of each scope, with and without retraining: the smallest
        file that loses at most half a point of held-out top-1.
    """
    files = rows[rows["file"].notna()]
    good = files[files["held_out_drop"] <= MOST_LOST]
    smallest = good.sort_values("bytes").groupby(["scope", "retrained"]).head(1)
    found = files.assign(chosen=files.index.isin(smallest.index))
    return found[list(COLUMNS["chosen"])]


def headline(frontier, chosen, scope):
    """Name of the smallest chosen file of a scope, or of the most accurate on held-out images."""
    files = frontier[frontier["scope"] == scope].merge(chosen, on=["scope", "retrained", "file"])
    good = files[files["chosen"].astype(bool)]
    best = good.nsmallest(1, "bytes") if len(good) else files.nsmallest(1, "held_out_drop")
    return best["file"].iloc[0]


def uniform_at_bits(prepared, bits):
    """The finest equal steps within the bits, by bisection to 1 %."""
    low, high = None, float(abs(prepared.ordered[[0, len(prepared.ordered) - 1]]).max())
    while low is None or high / low > 1.01:
        step = high / 2 if low is None else (low * high) ** 0.5
        if compression.uniform_cells(prepared, step).entropy <= bits:
            high = step
        else:
            low = step
    return compression.uniform_cells(prepared, high)


def _digest(module, *texts):
    """Digest of a module's weights, as they compute."""
    digest = hashlib.sha256(repr(texts).encode())
    with torch.no_grad():
        for name, layer in module.named_modules():
            for attribute in ("weight", "bias"):
                if isinstance(value := getattr(layer, attribute, None), torch.Tensor):
                    digest.update(f"{name}.{attribute}".encode())
                    digest.update(value.contiguous().numpy())
    return digest.hexdigest()[:32]
