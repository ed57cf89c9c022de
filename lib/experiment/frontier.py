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
from .training import CACHE

BATCH = 100
ABOUT = "lib.experiment.network:alexnet"  # into what the files are loaded
CELLS = ("k-means", "uniform", "entropy-constrained")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A way to compress without retraining.

    Attributes
    ----------
    cells : {"k-means", "uniform", "entropy-constrained"}
        "k-means" has 2 ** bits centers; the others as many as their labels' entropy allows.
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
    """

    def __init__(self, network, experiment, n_calibration, n_images):
        self.network, self.folder = network, results_folder(experiment) / "files"
        self.images = load_images("test", n_images)
        pixels = load_images("train", n_calibration).pixels
        self.batches = [prepare(batch) for batch in pixels.split(BATCH)]
        weights = {name: network.get_submodule(path).weight for name, path in LAYERS.items()}
        self.prepared = {name: Prepared(weight) for name, weight in weights.items()}
        self.n_weights = {name: weight.numel() for name, weight in weights.items()}
        self._features = (None, None)
        self.float_top1 = self.top1(self.predictions(network))

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

    def cells(self, name, kind, bits):
        """Cells of a layer's weights at so many bits."""
        prepared = self.prepared[name]
        if kind == "k-means":
            found = prepared.cluster(2 ** int(bits), labels=False)
            return cells_of_centers(prepared, found.centers)
        return cells_at_bits(prepared, self.n_weights[name], kind, bits)

    def row(self, model, scope, method, seconds, *, retrained=False, pruned=False):
        """Save a shared network, load it back, evaluate that: a row of the table `frontier`."""
        name = f"{scope}-{method}-{{}}.safetensors".replace(", ", "-").replace(" ", "-")
        path = self.folder / "new.safetensors"
        compression.save(model, path, about=ABOUT)
        loaded = compression.load(path, alexnet())
        size = sum(
            row["bytes"]
            for row in compression.describe(path)
            if row["layer"] in [LAYERS[layer] for layer in SCOPES[scope]]
        )
        path = path.rename(self.folder / name.format(size))
        predictions = self.predictions(loaded)
        right = int((predictions == self.images.labels).sum())
        low, high = wilson_interval(right, len(self.images))
        before = sum(self.n_weights[layer] for layer in SCOPES[scope])
        return {
            "scope": scope,
            "method": method,
            "retrained": retrained,
            "pruned": pruned,
            "bytes": size,
            "ratio": 4 * before / size,
            "bits_per_weight": 8 * size / before,
            "top1": 100 * right / len(self.images),
            "low": low,
            "high": high,
            "top1_drop": self.float_top1 - 100 * right / len(self.images),
            "seconds": seconds,
            "file": path.name,
        }

    def float_row(self, scope):
        """The float network as a row."""
        before = sum(self.n_weights[layer] for layer in SCOPES[scope])
        right = round(self.float_top1 * len(self.images) / 100)
        low, high = wilson_interval(right, len(self.images))
        return {
            "scope": scope,
            "method": "float",
            "retrained": False,
            "pruned": False,
            "bytes": 4 * before,
            "ratio": 1.0,
            "bits_per_weight": 32.0,
            "top1": self.float_top1,
            "low": low,
            "high": high,
            "top1_drop": 0.0,
            "seconds": None,
            "file": None,
        }

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

    def top1(self, predictions):
        """Percent of the test images that are right."""
        return 100 * (predictions == self.images.labels).double().mean().item()


def cells_at_bits(prepared, n_weights, kind, bits):
    """Cells whose labels have at most so many bits of entropy."""
    if kind == "uniform":
        return _uniform_at_bits(prepared, bits)

    def cells_at(multiplier):
        return [compression.entropy_constrained_cells(prepared, multiplier)]

    multiplier = multiplier_for_bits([n_weights], bits, cells_at, tol=0.01)
    return compression.entropy_constrained_cells(prepared, multiplier)


def _uniform_at_bits(prepared, bits):
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
