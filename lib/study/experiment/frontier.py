"""The frontier of size and accuracy: ways to compress, as real files that are loaded back.

Fits see training images, choices held-out images; test images only judge.
"""

import copy
import hashlib
import time

import torch
from torch.nn.utils import parametrize

from ... import compression
from ...clustering import Prepared
from ...compression.compressing import compress
from ...compression.entropy import cells_of_centers, multiplier_for_bits
from ...evaluation import paired_interval
from ...files import write_atomically
from ...shared import plain_weights
from ..paths import results_folder
from .data import load_images
from .evaluation import cached, top1_columns
from .network import (
    CONVOLUTIONS,
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
from .rates import prepared_by_inputs, with_optimal_centers
from .recipes import CALIBRATED, LOSSES
from .words import lost

BATCH = 100
ABOUT = "lib.study.experiment.network:alexnet"  # makes the network that a file is loaded into
SPARSITY = 0.9  # share of fc6's and fc7's weights that "pruned" cells set to 0


def recipe_rows(compressor, recipes, scopes):
    """Rows of the float network and of the file of every recipe.

    Recipes that make the same file of a scope, as those that differ in the classifier's bits do of
    "conv", have one row.

    Parameters
    ----------
    compressor : Compressor
    recipes : sequence of Recipe
    scopes : sequence of {"conv", "all"}
    """
    rows = [compressor.float_row(scope) for scope in scopes]
    made = {}  # by the file that comes of it, so that each is made once
    for recipe in recipes:
        for scope in scopes:
            made.setdefault(recipe.file_key(scope), (recipe, scope))
    for recipe, scope in progress(made.values(), "recipes"):
        model, seconds = compressor.compressed(recipe, scope)
        pruned = recipe.cells == "pruned"
        rows.append(_shown(compressor.row(model, scope, recipe.method, seconds, pruned=pruned)))
    return rows


def retrained_rows(compressor, retrainings, scopes):
    """Rows of the files with training.

    After the first of a scope whose layers are all trained through together follows the float
    network, trained for as many epochs and at the same rate.

    Parameters
    ----------
    compressor : Compressor
    retrainings : sequence of Retraining
    scopes : sequence of {"conv", "all"}
        That get such a float network.
    """
    rows, without_float = [], set(scopes)
    for retraining in retrainings:
        model, seconds = compressor.retrained(retraining)
        how = {"retrained": True, "pruned": retraining.prunes}
        row = compressor.row(model, retraining.scope, retraining.method, seconds, **how)
        rows.append(_shown(row))
        together = not (retraining.in_classifier or retraining.trains_centers)
        if together and retraining.trained in without_float:
            without_float.remove(retraining.trained)
            model, seconds = compressor.trained_float(retraining)
            rows.append(compressor.float_row(retraining.scope, model, seconds))
    return rows


def keep_headline(experiment, name):
    """Copy a file to the experiment's folder `headline`; rows of the table `sizes`."""
    folder = results_folder(experiment)
    path = folder / "files" / name
    write_atomically(folder / "headline" / "alexnet.safetensors", path.read_bytes())
    return [row | {"file": name} for row in compression.describe(path)]


def _shown(row):
    """The row, after what matters of it is printed."""
    ratio = f"{row['ratio']:.1f} times smaller"
    print(f"{row['scope']}, {row['method']}: {ratio}, {lost(row['top1_drop'])}", flush=True)
    return row


class Compressor:
    """Compresses one network, each layer prepared once, and evaluates the results.

    Parameters
    ----------
    network : torchvision.models.AlexNet
    experiment : str
        Its folder receives the files.
    n_calibration : int
        Number of first training images on which corrections are fitted, without their labels.
    n_images : int
        Number of first test images, by which nothing is chosen.
    n_train : int, optional
        Number of first training images for retraining, and for calibrating the classifier; all by
        default.
    n_held_out : int, optional
        Number of first held-out images, by which files are chosen; all by default.
    """

    def __init__(self, network, experiment, n_calibration, n_images, n_train=None, n_held_out=None):
        self.network, self.folder = network, results_folder(experiment) / "files"
        self.images = {
            "train": load_images("train", n_train),
            "held-out": load_images("held-out", n_held_out),
            "test": load_images("test", n_images),
        }
        pixels = load_images("train", n_calibration).pixels
        self.batches = [prepare(batch) for batch in pixels.split(BATCH)]
        weights = {name: network.get_submodule(path).weight for name, path in LAYERS.items()}
        self.prepared = {name: Prepared(weight) for name, weight in weights.items()}
        self.n_weights = {name: weight.numel() for name, weight in weights.items()}
        self._features, self._made = {}, {}
        self.float_correct = {split: self.correct(network, split) for split in LOSSES}

    def compressed(self, recipe, scope):
        """The network with the layers of a scope shared, and the seconds it took."""
        if recipe.cells in CALIBRATED:
            return self._calibrated(recipe, scope)
        start = time.perf_counter()
        model = copy.deepcopy(self.network)
        for name in SCOPES[scope]:
            cells = self.cells(name, recipe.cells, recipe.bits(name))
            compression.install_cells(model, LAYERS[name], self.prepared[name], cells)
        if recipe.corrected:
            compression.correct(model, self.network, self.batches)
        return model, time.perf_counter() - start

    def _calibrated(self, recipe, scope):
        """The network with a scope compressed by its inputs, and the seconds it took.

        The classifier is calibrated on the features that the compressed convolutions make of all
        training images: they cost one pass.
        """
        model, seconds = self._kept(
            recipe.file_key("conv"),
            lambda: _by_inputs(self.network, CONVOLUTIONS, recipe, self.batches),
        )
        if scope == "conv":
            return model, seconds
        self.features(model.features, self.images["train"])  # not part of the seconds
        whole, more = self._kept(
            recipe.file_key("all"), lambda: self._with_classifier(recipe, model)
        )
        return whole, seconds + more

    def _kept(self, key, make):
        """What `make` made, and its seconds; the last of each kind, a key's first part, is kept."""
        kind, *_ = key
        if self._made.get(kind, [None])[0] != key:
            start = time.perf_counter()
            self._made[kind] = key, make(), time.perf_counter() - start
        return self._made[kind][1:]

    def _with_classifier(self, recipe, model):
        """A network whose convolutions are compressed, with its classifier compressed, too."""
        batches = self.features(model.features, self.images["train"]).split(BATCH)
        whole = copy.deepcopy(model)
        paths = {name: path.removeprefix("classifier.") for name, path in LINEARS.items()}
        whole.classifier = _by_inputs(model.classifier, paths, recipe, batches)
        return whole

    def retrained(self, retraining):
        """The network with weights or centers trained, and the seconds it took."""
        before, seconds = self._before(retraining)
        if retraining.trains_centers:  # kept, for classifiers of several bits behind convolutions
            key = ("trained", retraining)
            model, more = self._kept(key, lambda: self._centers_trained(retraining, before))
            return model, seconds + more
        model, start = copy.deepcopy(before), time.perf_counter()
        trained, *data = self._to_train(model, retraining)
        cells_of = self._followed(retraining, trained, model)
        compression.train_through(trained, cells_of, *data, **self._training(retraining))
        return model, seconds + time.perf_counter() - start

    def _before(self, retraining):
        """The network as it is before training, and the seconds it took."""
        if retraining.trains_centers:
            return self.compressed(retraining.recipe, retraining.scope)
        if not retraining.in_classifier:
            return self.network, 0.0
        first = retraining.convolutions
        return (
            self.retrained(first) if retraining.trained == "all" else self.compressed(first, "conv")
        )

    def _centers_trained(self, retraining, before):
        model = copy.deepcopy(before)
        trained, *data = self._to_train(model, retraining)
        compression.train_centers(trained, *data, **self._training(retraining))
        return model

    def trained_float(self, retraining):
        """The float network with the same layers trained alike, and the seconds it took."""
        start = time.perf_counter()
        model = copy.deepcopy(self.network)
        layers = [model.get_submodule(LAYERS[name]) for name in retraining.layers]
        parameters = [p for layer in layers for p in (layer.weight, layer.bias)]
        trained, *data = self._to_train(model, retraining)
        compression.train_plain(trained, parameters, *data, **self._training(retraining))
        return model, time.perf_counter() - start

    def _to_train(self, model, retraining):
        """The part of a model that trains, its inputs and their labels."""
        images = self.images["train"]
        if retraining.in_classifier:
            features = self.features(model.features, images).half()
            return model.classifier, features, images.labels
        return OnPixels(model), images.pixels, images.labels

    def _training(self, retraining):
        """Options of training, in the precision that features are computed in."""
        return {
            "epochs": retraining.epochs,
            "rate": retraining.rate,
            "dtype": precision(),
            "progress": lambda steps: progress(steps, retraining.method),
        }

    def _followed(self, retraining, trained, model):
        """Function from a layer's path and its current weights to cells; None for other layers."""
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
        """The price of a bit (lambda) at which a layer's labels have so many bits of entropy."""

        def cells_at(multiplier):
            return [compression.entropy_constrained_cells(self.prepared[name], multiplier)]

        return multiplier_for_bits([self.n_weights[name]], bits, cells_at, tol=0.01)

    def cells(self, name, kind, bits, prepared=None):
        """Cells of a layer at so many bits; of its weights, or of `prepared` in their place."""
        prepared = prepared or self.prepared[name]
        if kind == "pruned" and name in ("fc6", "fc7"):
            return compression.pruned_cells(prepared, SPARSITY, 2 ** int(bits))
        if kind in ("k-means", "pruned"):
            clustering = prepared.cluster(2 ** int(bits), labels=False)
            return cells_of_centers(prepared, clustering.centers)
        if kind == "uniform":
            return uniform_at_bits(prepared, bits)
        return compression.entropy_constrained_cells(prepared, self.multiplier(name, bits))

    def row(self, model, scope, method, seconds, *, retrained=False, pruned=False):
        """Save a shared network, load it back and evaluate it: a row of the table `frontier`."""
        path, size = self.saved(model, scope)
        loaded = compression.load(path, alexnet())
        name = f"{scope}-{method}-{size}.safetensors".replace(", ", "-").replace(" ", "-")
        path = path.rename(self.folder / name)
        how = {"retrained": retrained, "pruned": pruned, "seconds": seconds, "file": path.name}
        return self.evaluated(scope, method, size, loaded) | how

    def saved(self, model, scope):
        """Path of a shared network's file, and the bytes of the scope's layers in it."""
        path = self.folder / "new.safetensors"
        compression.save(model, path, about=ABOUT)
        names = [LAYERS[layer] for layer in SCOPES[scope]]
        rows = [row for row in compression.describe(path) if row["layer"] in names]
        assert len(rows) == len(names)  # every layer of the scope is shared
        return path, sum(row["bytes"] for row in rows)

    def float_row(self, scope, model=None, seconds=None):
        """Row of the float network, or of `model`, which is that network trained further."""
        retrained = model is not None
        method = "float, trained" if retrained else "float"
        how = {"retrained": retrained, "pruned": False, "seconds": seconds, "file": None}
        size = 4 * self._n_weights_of(scope)
        return self.evaluated(scope, method, size, model or self.network) | how

    def evaluated(self, scope, method, size, model):
        """Columns of size and accuracy of a model whose scope has so many bytes."""
        n_weights = self._n_weights_of(scope)
        return {
            "scope": scope,
            "method": method,
            "bytes": size,
            "ratio": 4 * n_weights / size,
            "bits_per_weight": 8 * size / n_weights,
        } | self.judged(model, LOSSES, intervals=True)

    def judged(self, model, splits, *, intervals=False):
        """Columns of accuracy: top-1 in percent on test images, points lost on each split.

        With `intervals` the ends of the 95 % intervals of what is lost, too, paired by image.
        """
        columns = {}
        for split in splits:
            correct = self.correct(model, split)
            if split == "test":
                columns |= top1_columns(int(correct.sum()), len(correct))
            names = LOSSES[split] if intervals else LOSSES[split][:1]
            found = paired_interval(self.float_correct[split], correct)
            columns |= dict(zip(names, found, strict=False))
        return columns

    def _n_weights_of(self, scope):
        return sum(self.n_weights[layer] for layer in SCOPES[scope])

    def correct(self, network, split="test"):
        """Whether each image of a split is classified correctly; bool array."""
        return (self.predictions(network, split) == self.images[split].labels).numpy()

    def predictions(self, network, split="test"):
        """Top-1 class of each image, int64; cached by weights and images."""
        images = self.images[split]
        key = _digest(network, split, len(images), numerics_key())

        def compute():
            features = self.features(network.features, images)
            with parametrize.cached():
                top = logits(network.classifier, features).argmax(1)
            return {"top": top.to(torch.uint8)}

        return cached(f"{key}-top1", compute)["top"].long()

    def features(self, convolutions, images):
        """Features of images; those of the last convolutions are kept."""
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
    """A network with the preparation of pixels in front, so that it trains on pixels."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, pixels):
        """Class scores."""
        return self.network(prepare(pixels))


def _by_inputs(model, paths, recipe, batches):
    """A copy of a model with layers compressed by a calibrated recipe.

    Parameters
    ----------
    model : torch.nn.Module
    paths : dict of str to str
        From a layer's name to its path in the model; all of the convolutions or of the classifier.
    recipe : Recipe
        Of "compress" or "compensated" cells.
    batches : sequence of tensors
        Inputs of the model.
    """
    if recipe.cells == "compress":
        options = {"multiplier": recipe.price(next(iter(paths))), "init": recipe.init}
        return compress(model, batches, layers=list(paths.values()), **options).model
    numbers = {name: 2 ** recipe.bits(name) for name in paths}
    prepared = prepared_by_inputs(model, batches, paths)
    made = with_optimal_centers(model, prepared, numbers, paths)
    compression.compensate(made, model, batches)
    return compression.correct(made, model, batches)


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
    """Digest of the weights and biases that a module computes with."""
    digest = hashlib.sha256(repr(texts).encode())
    with torch.no_grad():
        for name, layer in module.named_modules():
            for attribute in ("weight", "bias"):
                if isinstance(value := getattr(layer, attribute, None), torch.Tensor):
                    digest.update(f"{name}.{attribute}".encode())
                    digest.update(value.contiguous().numpy())
    return digest.hexdigest()[:32]
