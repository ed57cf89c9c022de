"""Size against distortion: of single layers, and of allocations of centers to all of them."""

import copy
import functools

import numpy as np

from ... import compression
from ...clustering import Prepared
from ...compression.coding import encode
from ...compression.entropy import cells_of_centers
from .network import LAYERS, SCOPES

CENTER_BYTES = 2  # float16, as the file has them
CRITERIA = ("squared error", "fisher")


def rate_rows(compressor, layer, bits):
    """Rows of the table `rates`: cells of one layer at their real bytes, and the error they leave.

    Parameters
    ----------
    compressor : lib.study.experiment.frontier.Compressor
    layer : str
    bits : sequence of int
        k-means has 2 ** bits centers; the other cells get the entropy of its labels, so that all
        three cost an entropy coder the same.

    Returns
    -------
    list of dict
    """
    prepared, rows = compressor.prepared[layer], []
    variance = prepared.weights.double().var(correction=0).item()
    for b in bits:
        means = compressor.cells(layer, "k-means", b)
        found = {"k-means": means} | {
            kind: compressor.cells(layer, kind, means.entropy)
            for kind in ("uniform", "entropy-constrained")
        }
        rows += [_rate_row(layer, kind, prepared, c, variance) for kind, c in found.items()]
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


class Allocator:
    """Gives the layers of one network their numbers of centers, by one criterion.

    Parameters
    ----------
    compressor : lib.study.experiment.frontier.Compressor
    criterion : {"squared error", "fisher"}
        What is minimized: the sum of the layers' squared errors, or each weighted by the diagonal
        Fisher information, which tells layers apart too. The centers minimize the same.
    max_clusters : int
        Centers that a layer can get at most.
    progress : callable
        Wraps the images of the latter, those of the corrections; their labels are not used.
    """

    def __init__(self, compressor, criterion, max_clusters=256, progress=iter):
        if criterion not in CRITERIA:
            raise ValueError(
                f"criterion={criterion!r} is unknown: choose from {', '.join(CRITERIA)}."
            )
        self.compressor, self.criterion = compressor, criterion
        self.prepared = compressor.prepared
        if criterion == "fisher":
            self.prepared = prepared_by_fisher(compressor, progress)
        self.offers = functools.cache(
            lambda name: compression.offers(self.prepared[name], max_clusters=max_clusters)
        )

    def frontier(self, scope):
        """Every allocation of a scope's layers that no smaller one equals."""
        return compression.frontier({name: self.offers(name) for name in SCOPES[scope]})

    def uniform(self, scope, bits):
        """As many bits in each layer."""
        return dict.fromkeys(SCOPES[scope], 2**bits)

    def size(self, numbers):
        """Bytes of an allocation, with packed labels and float32 centers."""
        return sum(int(self._offer(name, k)[0]) for name, k in numbers.items())

    def model(self, numbers):
        """The network with so many centers in each layer that is named."""
        return with_optimal_centers(self.compressor.network, self.prepared, numbers)

    def lost_on_held_out(self, numbers):
        """Points of held-out top-1 that an allocation loses."""
        return self.compressor.judged(self.model(numbers), ["held-out"])["held_out_drop"]

    def rows(self, scope, bits, allocation, numbers):
        """Rows of the table `allocation`: one a layer, evaluated on the test images."""
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
        offer = self.offers(name)
        place = int(np.searchsorted(offer.n_clusters, k))
        return offer.sizes[place], offer.distortions[place]


def with_optimal_centers(network, prepared, numbers):
    """A copy of a network with so many optimal centers in each layer that is named."""
    model = copy.deepcopy(network)
    for name, k in numbers.items():
        centers = prepared[name].cluster(k, init="optimal", labels=False).centers
        cells = cells_of_centers(prepared[name], centers)
        compression.install_cells(model, LAYERS[name], prepared[name], cells)
    return model


def prepared_by_fisher(compressor, progress=iter):
    """Each layer's weights prepared with their diagonal Fisher information."""
    network, paths = compressor.network, list(LAYERS.values())
    found = compression.fisher(network, paths, compressor.batches, progress=progress)
    return _prepared_with(network, found)


def prepared_by_inputs(compressor):
    """Each layer's weights prepared with the mean squares of their inputs."""
    network, paths = compressor.network, list(LAYERS.values())
    return _prepared_with(network, compression.input_moments(network, paths, compressor.batches))


def _prepared_with(network, importance):
    return {
        name: Prepared(network.get_submodule(path).weight, importance[path])
        for name, path in LAYERS.items()
    }
