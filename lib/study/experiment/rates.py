"""Size against distortion: of single layers, and of allocations of centers to layers."""

import copy
import functools

import numpy as np

from ... import compression
from ...clustering import Prepared
from ...compression.coding import encode
from ...compression.entropy import cells_of_centers
from .network import LAYERS, SCOPES
from .progress import progress

CENTER_BYTES = 2  # the file stores centers as float16
CRITERIA = ("squared error", "fisher")


def rate_rows(compressor, layers, bits):
    """Rows of the table `rates`: real bytes and squared error of three kinds of cells.

    Parameters
    ----------
    compressor : lib.study.experiment.frontier.Compressor
    layers : sequence of str
    bits : sequence of int
        k-means has 2 ** bits centers. The other cells get the entropy of its labels, so that all
        three kinds need the same bits after entropy coding.

    Returns
    -------
    list of dict
    """
    return [
        row for layer in progress(layers, "layers") for row in _layer_rates(compressor, layer, bits)
    ]


def _layer_rates(compressor, layer, bits):
    prepared, rows = compressor.prepared[layer], []
    variance = prepared.weights.double().var(correction=0).item()
    for b in bits:
        means = compressor.cells(layer, "k-means", b)
        cells = {"k-means": means} | {
            kind: compressor.cells(layer, kind, means.entropy)
            for kind in ("uniform", "entropy-constrained")
        }
        rows += [_rate_row(layer, kind, prepared, c, variance) for kind, c in cells.items()]
    return rows


def _rate_row(layer, kind, prepared, cells, variance):
    k, labels = len(cells.centers), np.asarray(cells.labels(prepared)).reshape(-1)
    size = encode(labels, k).n_bytes + CENTER_BYTES * k
    return {
        "layer": layer,
        "cells": kind,
        "n_clusters": k,
        "entropy": cells.entropy,
        "bytes": size,
        "bits_per_weight": 8 * size / len(labels),
        "relative_distortion": cells.inertia / (len(labels) * variance),
    }


def allocation_rows(compressor, criteria, scopes, bits, max_clusters, lost):
    """Rows of the table `allocation`.

    For each criterion, scope and number of bits: the uniform allocation, and the best one of at
    most its bytes. For each criterion and scope: the smallest allocation that is accurate enough on
    held-out images.

    Parameters
    ----------
    compressor : lib.study.experiment.frontier.Compressor
    criteria : sequence of {"squared error", "fisher"}
    scopes : sequence of {"conv", "all"}
    bits : sequence of int
    max_clusters : int
    lost : float
        Points of held-out top-1 that the smallest allocation may lose.
    """
    rows = []
    for criterion in criteria:
        allocator = Allocator(compressor, criterion, max_clusters)
        for scope in scopes:
            rows += allocator.within_uniform(scope, bits) + allocator.smallest(scope, lost)
    return rows


class Allocator:
    """Chooses the number of centers of each layer of one network, by one criterion.

    Parameters
    ----------
    compressor : lib.study.experiment.frontier.Compressor
    criterion : {"squared error", "fisher"}
        What allocation and centers minimize: the sum of the squared errors of all weights, or the
        same with each weight's error times its diagonal Fisher information. That is estimated on
        the compressor's calibration images, without their labels.
    max_clusters : int
        Most centers that a layer can get.
    """

    def __init__(self, compressor, criterion, max_clusters=256):
        if criterion not in CRITERIA:
            raise ValueError(
                f"criterion={criterion!r} is unknown: choose from {', '.join(CRITERIA)}."
            )
        self.compressor, self.criterion = compressor, criterion
        self.prepared = compressor.prepared
        if criterion == "fisher":
            self.prepared = prepared_by_fisher(compressor)
        self.offers = functools.cache(
            lambda name: compression.offers(self.prepared[name], max_clusters=max_clusters)
        )
        self.frontier = functools.cache(self._frontier)

    def _frontier(self, scope):
        """The Pareto-optimal allocations of a scope's layers."""
        return compression.frontier({name: self.offers(name) for name in SCOPES[scope]})

    def within_uniform(self, scope, bits):
        """Rows of uniform allocations, and of the best ones of at most their bytes."""
        frontier, rows = self.frontier(scope), []
        for b in bits:
            uniform = self.uniform(scope, b)
            rows += self.rows(scope, b, "uniform", uniform)
            rows += self.rows(scope, b, "allocated", frontier.within(self.size(uniform)))
        return rows

    def smallest(self, scope, lost):
        """Rows of the smallest allocation that loses at most `lost` points on held-out images.

        Found by bisection to 1 % of its size.
        """
        allocation = self.frontier(scope).smallest(
            lambda numbers: self.lost_on_held_out(numbers) <= lost, tol=0.01
        )
        return self.rows(scope, None, "smallest", allocation)

    def uniform(self, scope, bits):
        """2 ** bits centers in each layer."""
        return dict.fromkeys(SCOPES[scope], 2**bits)

    def size(self, numbers):
        """Bytes of an allocation, with packed labels and float32 centers."""
        return sum(int(self._offer(name, k)[0]) for name, k in numbers.items())

    def model(self, numbers):
        """The network with these numbers of centers; layers that are not named stay in float32."""
        return with_optimal_centers(self.compressor.network, self.prepared, numbers)

    def lost_on_held_out(self, numbers):
        """Points of held-out top-1 that an allocation loses."""
        return self.compressor.judged(self.model(numbers), ["held-out"])["held_out_drop"]

    def rows(self, scope, bits, allocation, numbers):
        """Rows of the table `allocation`, one a layer, after evaluation on the test images."""
        print(f"{self.criterion}, {scope}, {allocation}: {numbers}", flush=True)
        of_network = {"total_bytes": self.size(numbers)}
        of_network |= self.compressor.judged(self.model(numbers), ["test"])
        rows = []
        for name, k in numbers.items():
            size, distortion = self._offer(name, k)
            of_layer = {
                "layer": name,
                "n_weights": self.compressor.n_weights[name],
                "n_clusters": k,
                "bytes": int(size),
                "distortion": float(distortion),
            }
            where = {"scope": scope, "criterion": self.criterion, "bits": bits}
            rows.append(where | {"allocation": allocation} | of_layer | of_network)
        return rows

    def _offer(self, name, k):
        """Size and distortion of a layer with k centers."""
        offer = self.offers(name)
        index = int(np.searchsorted(offer.n_clusters, k))
        return offer.sizes[index], offer.distortions[index]


def with_optimal_centers(network, prepared, numbers, paths=LAYERS):
    """A copy of a network with these numbers of optimal centers in the layers that are named.

    `paths` are those of the layers in the network.
    """
    model = copy.deepcopy(network)
    for name, k in numbers.items():
        centers = prepared[name].cluster(k, init="optimal", labels=False).centers
        cells = cells_of_centers(prepared[name], centers)
        compression.install_cells(model, paths[name], prepared[name], cells)
    return model


def prepared_by_fisher(compressor):
    """Each layer's weights prepared with their diagonal Fisher information."""
    network, paths = compressor.network, list(LAYERS.values())
    information = compression.fisher(
        network, paths, compressor.batches, progress=lambda batches: progress(batches, "Fisher")
    )
    return _prepared_with(network, information, LAYERS)


def prepared_by_inputs(network, batches, paths=LAYERS):
    """The weights of a network's layers prepared with the mean squares of their inputs."""
    importance = compression.input_moments(network, list(paths.values()), batches)
    return _prepared_with(network, importance, paths)


def _prepared_with(network, importance, paths):
    return {
        name: Prepared(network.get_submodule(path).weight, importance[path])
        for name, path in paths.items()
    }
