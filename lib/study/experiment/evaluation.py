"""Accuracy of the network with shared weights: settings, codebooks, predictions.

A setting is one way to cluster every layer. One pass of the convolutions serves both scopes and
all networks, since their convolutions are the same. Predictions are cached under a hash of the
weights, the images and the code that computes them: an interrupted experiment resumes where it
stopped, and two settings that reach the same codebooks are evaluated once.
"""

import dataclasses
import functools
import hashlib
import json

import numpy as np
import torch
from safetensors.torch import load_file, save

from ...clustering import Prepared, label
from ...engine.labels import reconstruct
from ...evaluation import wilson_interval
from ...files import write_atomically
from ...initialization import INITIALIZATIONS, named
from ...vision import torchvision
from .data import CLASSES, load_images
from .network import (
    BATCH,
    CONVOLUTIONS,
    LAYERS,
    LINEARS,
    SCOPES,
    alexnet,
    device,
    extract_features,
    logits,
    numerics_key,
    prepare,
)
from .progress import progress
from .training import CACHE

TOP = 5


@dataclasses.dataclass(frozen=True)
class Setting:
    """One way to cluster a layer; `max_iter` None runs to convergence."""

    init: str
    bits: int
    revise: bool
    max_iter: int | None
    seed: int = 0
    gamma: float = 1 / 3

    def row(self):
        """The setting as columns of the tables; gamma is None where it has no effect."""
        row = dataclasses.asdict(self)
        return row | {"gamma": self.gamma if named(self.init).reads_gamma else None}

    def options(self):
        """The setting as arguments of `lib.cluster`."""
        options = dataclasses.asdict(self) | {"n_clusters": 2**self.bits}
        del options["bits"]
        return options


def settings(inits, bits, budgets, seeds=(0,), revisions=None, gamma=1 / 3):
    """The grid of settings; only the seeded initializations run with every seed.

    Parameters
    ----------
    inits : sequence of str, optional
        By default every initialization.
    bits : sequence of int
    budgets : sequence of int or None
        Values of `max_iter`.
    seeds : sequence of int
    revisions : sequence of bool, optional
        By default each initialization's `revised`.
    gamma : float
    """
    return [
        Setting(init, b, revise, budget, seed, gamma)
        for b in bits
        for init in (INITIALIZATIONS if inits is None else inits)
        for revise in revisions or [named(init).revised]
        for seed in (seeds if named(init).seeded else seeds[:1])
        for budget in budgets
    ]


class Codebooks:
    """The clusterings of one network's layers; each layer is prepared once."""

    def __init__(self, network, layers=tuple(LAYERS)):
        paths = {name: LAYERS[name] for name in layers}
        self.weights = {name: network.get_submodule(path).weight for name, path in paths.items()}
        self.prepared = {name: Prepared(weight) for name, weight in self.weights.items()}

    def centers(self, layer, setting):
        """Centers and inertia of one layer under a setting."""
        clustering = self.prepared[layer].cluster(**setting.options(), labels=False)
        return clustering.centers.cpu().numpy(), clustering.inertia

    def shared(self, layer, centers):
        """The layer's weights, each replaced by its nearest center."""
        weight = self.weights[layer]
        labels = label(self.prepared[layer].ordered, centers)
        return torch.from_numpy(reconstruct(centers.astype(np.float32), labels)).view_as(weight)


class Evaluation:
    """Top-5 predictions of networks on the first `n_images` test images.

    Parameters
    ----------
    networks : dict of str to torch.nn.Module
        By name; their convolutions are the same.
    n_images : int
    """

    def __init__(self, networks, n_images):
        self.images = load_images("test", n_images)
        self.networks = networks
        self.codebooks = {name: Codebooks(net, LINEARS) for name, net in networks.items()}
        self.convolutions = Codebooks(next(iter(networks.values())), CONVOLUTIONS)
        self.scratch = alexnet()
        self.state = {name: _digest(net.state_dict()) for name, net in networks.items()}

    def run(self, setting, scopes=tuple(SCOPES), networks=None):
        """Rows of predictions under a setting: one a network and scope.

        Parameters
        ----------
        setting : Setting or None
            None is the float network.
        scopes : sequence of str
        networks : sequence of str, optional
            By default all.

        Yields
        ------
        tuple of (network, scope, predictions, inertia)
            `predictions` int64 (n_images, 5), best class first; `inertia` summed over the scope.
        """
        convolutions, inertia = self._centers(self.convolutions, setting)
        features = functools.cache(lambda: self._features(convolutions))  # not all are needed
        for name in networks or self.networks:
            for scope in scopes:
                linears, more = {}, 0.0
                if scope == "all":
                    linears, more = self._centers(self.codebooks[name], setting)
                key = _digest(convolutions | linears, self.state[name], numerics_key())
                predict = functools.partial(self._predict, name, linears, features)
                predictions = cached(f"{key}-{len(self.images)}", predict)["top"].long()
                yield name, scope, predictions, inertia + more

    def _centers(self, codebooks, setting):
        if setting is None:
            return {}, 0.0
        clustered = {layer: codebooks.centers(layer, setting) for layer in codebooks.weights}
        centers = {layer: torch.from_numpy(values) for layer, (values, _) in clustered.items()}
        return centers, sum(inertia for _, inertia in clustered.values())

    def _features(self, centers):
        self._load(self.scratch, self.convolutions, centers)
        return extract_features(self.scratch.features, self.images.pixels)

    def _predict(self, name, centers, features):
        self._load(self.scratch, self.codebooks[name], centers)
        for layer, path in LINEARS.items():
            bias = self.networks[name].get_submodule(path).bias
            self.scratch.get_submodule(LINEARS[layer]).bias.copy_(bias)
        scores = logits(self.scratch.classifier, features())
        return {"top": scores.topk(TOP).indices.to(torch.uint8)}

    def _load(self, network, codebooks, centers):
        """Copy the codebooks' layers into a network, shared where there are centers."""
        for layer, weight in codebooks.weights.items():
            shared = codebooks.shared(layer, centers[layer].numpy()) if centers else weight
            network.get_submodule(LAYERS[layer]).weight.copy_(shared)


def cached(key, compute):
    """Tensors by name from the cache of predictions, which `compute` fills if they are missing."""
    path = CACHE / "predictions" / f"{key}.safetensors"
    if not path.exists():
        write_atomically(path, save(compute()))
    return load_file(path)


def _digest(tensors, *texts):
    digest = hashlib.sha256(json.dumps(texts).encode())
    for name in sorted(tensors):
        digest.update(name.encode() + tensors[name].contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]


def shared_bytes(scope, bits):
    """Bytes of a scope's weights as packed labels and float32 codebooks."""
    sizes = layer_sizes()
    return sum(-(-sizes[layer] * bits // 8) + 4 * 2**bits for layer in SCOPES[scope])


@functools.cache
def layer_sizes():
    """Number of weights of each layer."""
    network = alexnet()
    return {name: network.get_submodule(path).weight.numel() for name, path in LAYERS.items()}


def accuracy_rows(evaluation, grid):
    """Rows of the table `accuracy`: the float networks, then every setting.

    Parameters
    ----------
    evaluation : Evaluation
    grid : sequence of Setting
    """
    labels = evaluation.images.labels
    floats = {(name, scope): top for name, scope, top, _ in evaluation.run(None)}
    return [
        accuracy_row(name, scope, setting, top, labels, floats[name, scope], inertia)
        for setting in progress([None, *grid], "settings")
        for name, scope, top, inertia in evaluation.run(setting)
    ]


def float_top1(networks, n_images):
    """Top-1 of float networks by name, in percent, on the first test images."""
    evaluation = Evaluation(networks, n_images)
    labels = evaluation.images.labels
    return {
        name: 100 * (top[:, 0] == labels).double().mean().item()
        for name, _, top, _ in evaluation.run(None, ["all"])
    }


def accuracy_row(network, scope, setting, predictions, labels, float_predictions, inertia):
    """One row of the table `accuracy`; accuracies in percent, with Wilson's 95 % interval."""
    correct = predictions[:, 0] == labels
    before = float_predictions[:, 0] == labels
    size = 4 * sum(layer_sizes()[layer] for layer in SCOPES[scope])
    stored = shared_bytes(scope, setting.bits) if setting else size
    blank = dict.fromkeys(["init", "gamma", "revise", "bits", "seed", "max_iter"])
    return {
        "network": network,
        "scope": scope,
        **(setting.row() if setting else blank | {"init": "float"}),
        **top1_columns(int(correct.sum()), len(labels)),
        "top5": 100 * (predictions == labels[:, None]).any(1).double().mean().item(),
        "n_images": len(labels),
        "top1_drop": 100 * (before.double().mean() - correct.double().mean()).item(),
        "inertia": inertia,
        "bytes": stored,
        "ratio": size / stored,
    }


def evaluate_network(network, n_images):
    """Top-1 of a network of ten classes on the first test images, with Wilson's 95 % interval.

    Parameters
    ----------
    network : nn.Module
        From images as of `prepare` to scores of shape (n, 10); AlexNet takes the fast way.
    n_images : int

    Returns
    -------
    top1, low, high : float
        Percent.
    """
    images = load_images("test", n_images)
    if isinstance(network, torchvision.models.AlexNet):
        scores = logits(network.classifier, extract_features(network.features, images.pixels))
    else:
        network = network.to(device())
        with torch.inference_mode():
            scores = torch.cat(
                [
                    network(prepare(batch.to(device()))).cpu()
                    for batch in progress(images.pixels.split(BATCH), "images")
                ]
            )
    if scores.shape[1] != len(CLASSES):
        raise ValueError(f"a network of {scores.shape[1]} classes: the test images have 10.")
    right = int((scores.argmax(1) == images.labels).sum())
    return 100 * right / n_images, *wilson_interval(right, n_images)


def top1_columns(right, n):
    """Columns `top1`, `low` and `high` in percent, of `right` images of n."""
    low, high = wilson_interval(right, n)
    return {"top1": 100 * right / n, "low": low, "high": high}
