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
from ..results import results_folder, write_atomically
from .data import load_images
from .evaluation import wilson_interval
from .network import (
    LAYERS,
    LINEARS,
    SCOPES,
    alexnet,
    extract_features,
    logits,
    numerics_key,
    prepare,
)
from .progress import progress
from .training import CACHE

BATCH = 100
ABOUT = "lib.experiment.network:alexnet"  # into what the files are loaded
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
        First test images.
    n_train : int, optional
        First training images, which retraining sees; all by default.
    """

    def __init__(self, network, experiment, n_calibration, n_images, n_train=None):
        self.network, self.folder = network, results_folder(experiment) / "files"
        self.images, self.n_train = load_images("test", n_images), n_train
        pixels = load_images("train", n_calibration).pixels
        self.batches = [prepare(batch) for batch in pixels.split(BATCH)]
        weights = {name: network.get_submodule(path).weight for name, path in LAYERS.items()}
        self.prepared = {name: Prepared(weight) for name, weight in weights.items()}
        self.n_weights = {name: weight.numel() for name, weight in weights.items()}
        self._features = (None, None)
        self.float_right = self.right(network)

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

    def retrained(self, conv_bits, linear_bits, epochs):
        """The network with its classifier trained through, and the seconds that took.

        Entropy-constrained cells everywhere. The convolutions are corrected and stay; the
        classifier learns on what they compute of the training images. What a bit is worth is what
        gives `linear_bits` before training. The zero of fc6 and fc7 is exact: they are pruned.
        """
        start = time.perf_counter()
        recipe = Recipe("entropy-constrained", conv_bits, linear_bits, corrected=True)
        model, _ = self.compressed(recipe, "conv")
        images = load_images("train", self.n_train)
        features = self.features(model.features, images).half()
        multipliers = {
            LINEARS[name].removeprefix("classifier."): self.multiplier(name, recipe.bits(name))
            for name in LINEARS
        }

        def cells_of(name, prepared):
            if name not in multipliers:
                return None
            return compression.entropy_constrained_cells(prepared, multipliers[name]).with_zero()

        compression.train_through(
            model.classifier,
            cells_of,
            features,
            images.labels,
            epochs=epochs,
            progress=lambda steps: progress(steps, "retraining"),
        )
        return model, time.perf_counter() - start

    def multiplier(self, name, bits):
        """What a bit of a layer's labels is worth, so that they have so many."""

        def cells_at(multiplier):
            return [compression.entropy_constrained_cells(self.prepared[name], multiplier)]

        return multiplier_for_bits([self.n_weights[name]], bits, cells_at, tol=0.01)

    def cells(self, name, kind, bits):
        """Cells of a layer's weights at so many bits."""
        prepared = self.prepared[name]
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
        name = f"{scope}-{method}-{{}}.safetensors".replace(", ", "-").replace(" ", "-")
        path = self.folder / "new.safetensors"
        compression.save(model, path, about=ABOUT)
        loaded = compression.load(path, alexnet())
        names = [LAYERS[layer] for layer in SCOPES[scope]]
        rows = [row for row in compression.describe(path) if row["layer"] in names]
        assert len(rows) == len(names)  # every layer of the scope is shared
        size = sum(row["bytes"] for row in rows)
        path = path.rename(self.folder / name.format(size))
        how = {"retrained": retrained, "pruned": pruned, "seconds": seconds, "file": path.name}
        return self._row(scope, method, size, self.right(loaded)) | how

    def float_row(self, scope):
        """The float network as a row."""
        how = {"retrained": False, "pruned": False, "seconds": None, "file": None}
        return self._row(scope, "float", 4 * self._n_weights_of(scope), self.float_right) | how

    def _row(self, scope, method, size, right):
        n_weights, n_images = self._n_weights_of(scope), len(self.images)
        low, high = wilson_interval(right, n_images)
        return {
            "scope": scope,
            "method": method,
            "bytes": size,
            "ratio": 4 * n_weights / size,
            "bits_per_weight": 8 * size / n_weights,
            "top1": 100 * right / n_images,
            "low": low,
            "high": high,
            "top1_drop": 100 * (self.float_right - right) / n_images,
        }

    def _n_weights_of(self, scope):
        return sum(self.n_weights[layer] for layer in SCOPES[scope])

    def right(self, network):
        """Number of test images that a network classifies rightly."""
        return int((self.predictions(network) == self.images.labels).sum())

    def predictions(self, network):
        """Top-1 class of each test image, int64; cached under what it is computed from."""
        key = _digest(network, numerics_key())
        path = CACHE / "predictions" / f"{key}-{len(self.images)}-top1.safetensors"
        if not path.exists():
            features = self.features(network.features, self.images)
            with parametrize.cached():
                top = logits(network.classifier, features).argmax(1)
            write_atomically(path, to_bytes({"top": top.to(torch.uint8)}))
        return load_file(path)["top"].long()

    def features(self, convolutions, images):
        """Features of images; those of the last convolutions asked for are kept."""
        key = _digest(convolutions, images.name, len(images))
        if self._features[0] != key:
            with parametrize.cached():
                found = extract_features(convolutions, images.pixels, f"features of {images.name}")
            self._features = key, found
        return self._features[1]


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
