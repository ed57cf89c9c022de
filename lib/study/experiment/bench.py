"""The clustering against other packages: seconds, memory and inertia on the same arrays.

Each package is called as its documentation says, from a flat float32 array to centers and labels.
`make bench` installs the packages, which `requirements-bench.txt` lists.
"""

import ctypes
import gc
import time
from pathlib import Path

import numpy as np
import torch

from ...clustering import Prepared, cluster, flat_array
from ...lloyd import lloyd_in_order
from ...optimal import inertia_bound
from ...sharing import share_weights
from .network import LAYERS
from .peers import (
    COPY,
    HEAVY_TAILED,
    NORMAL,
    OPTIMAL,
    PEERS,
    ROW_PEERS,
    heavy_tailed,
    normal,
    touched,
)
from .progress import progress

TARGET = 1.0  # seconds of a call on fewer weights, where one on all would exceed the limit
PROBES = (10_000, 100_000)  # weights of the calls from which the time for all is extrapolated
SAFETY = 2.0  # factor of that time, since it grows faster than the number of weights
SHORT, BURST = 0.005, 0.05  # seconds: a shorter call is timed by the mean of a burst of so long
TABLES = 4 << 30  # bytes that a dynamic program's tables may take


class Race:
    """Peers on one array.

    Parameters
    ----------
    name : str
        Of the array.
    weights : float32 array of shape (n,)
        In any order: peers that cannot take all of them get the first ones of a shuffle.
    peers : sequence of str
    """

    def __init__(self, name, weights, peers):
        self.name, self.peers, self.weights = name, peers, weights
        self.shuffled = np.random.default_rng(0).permutation(weights)
        self._prepared = {}

    def rows(self, n_clusters, repeats):
        """Rows of the table `bench`; repeats are interleaved over the peers."""
        arrays = {peer: self._array(peer, n_clusters) for peer in self.peers}
        if COPY in arrays:
            touched(len(arrays[COPY]))
        rows = []
        for repeat in range(repeats):
            for peer in progress(self.peers, f"{self.name}, {n_clusters} centers"):
                weights = arrays[peer]
                centers, seconds, peak = measured(PEERS[peer].run, weights, n_clusters)
                rows.append(
                    {
                        "array": self.name,
                        "n_array": len(self.weights),
                        "n_weights": len(weights),
                        "peer": peer,
                        "n_clusters": n_clusters,
                        "repeat": repeat,
                        "seconds": seconds,
                        "peak_mib": peak / 2**20,
                        "relative_inertia": self._relative_inertia(weights, centers, n_clusters),
                    }
                )
        return rows

    def _array(self, peer, n_clusters):
        """All weights, or as many as the peer can cluster within the limits."""
        n, each = len(self.weights), PEERS[peer].bytes_per_cell * n_clusters
        most = TABLES // each if each else n
        for size in PROBES:
            if n <= size:
                break
            _, seconds, _ = measured(PEERS[peer].run, self.shuffled[:size], n_clusters)
            if seconds > 0.1:  # long enough to tell
                break
        if n > size and seconds * SAFETY * n / size > PEERS[peer].limit:
            most = min(most, size * TARGET / seconds)
        return self.weights if most >= n else self.shuffled[: _rounded(most)]

    def _relative_inertia(self, weights, centers, n_clusters):
        """Inertia over a proven lower bound on the same weights."""
        if centers is None:
            return np.nan
        if len(weights) not in self._prepared:
            self._prepared[len(weights)] = Prepared(weights), {}
        prepared, bounds = self._prepared[len(weights)]
        if n_clusters not in bounds:
            bounds[n_clusters] = inertia_bound(prepared.ordered, n_clusters)
        centers = np.sort(np.float64(centers))
        return lloyd_in_order(prepared.ordered, centers, max_iter=0).history[0] / bounds[n_clusters]


def _rounded(number):
    """The largest number that is 1, 2 or 5 times a power of ten and at most `number`."""
    power = 10 ** int(np.log10(number))
    return max(step * power for step in (1, 2, 5) if step * power <= number)


def arrays_of(network, n_heavy_tailed):
    """Function from a name to a flat float32 array: of a layer, or of heavy-tailed draws."""

    def array(name):
        if name == HEAVY_TAILED:
            return heavy_tailed(n_heavy_tailed)
        return flat_array(network.get_submodule(LAYERS[name]).weight)

    return array


def race_rows(array, names, peers, n_clusters, repeats):
    """Rows of the table `bench` for each array and number of clusters.

    Parameters
    ----------
    array : callable
        As of `arrays_of`; one array is in memory at a time.
    names, peers : sequences of str
    n_clusters : sequence of int
    repeats : int
    """
    rows = []
    for name in names:
        race = Race(name, array(name), peers)
        for k in n_clusters:
            rows += race.rows(k, repeats)
    return rows


def growth_rows(sizes, peers, n_clusters, repeats):
    """Rows of the table `bench` for the first heavy-tailed weights, of each size in turn.

    `n_clusters` is a sequence of int; numbers that are not below the size are left out.
    """
    weights, rows = heavy_tailed(max(sizes)), []
    for size in sizes:  # one race is in memory at a time
        race = Race(f"{HEAVY_TAILED}, growth", weights[:size], peers)
        for k in n_clusters:
            rows += race.rows(k, repeats) if k < size else []
    return rows


def measured(function, *arguments):
    """Result of a call, its wall time in seconds, and the peak rise of memory in bytes.

    Memory is that of this process, as Linux counts it; NaN on other systems.
    """
    before = _reset_peak()
    start = time.perf_counter()
    result = function(*arguments)
    seconds, peak = time.perf_counter() - start, _status("VmHWM") - before
    if seconds < SHORT:
        calls = int(BURST / max(seconds, 1e-6))
        start = time.perf_counter()
        for _ in range(calls):
            function(*arguments)
        seconds = (time.perf_counter() - start) / calls
    return result, seconds, peak


def _reset_peak():
    """Memory now, after free memory is returned to the system; kept, it would hide a rise."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)  # of glibc
        Path("/proc/self/clear_refs").write_text("5")
    except (AttributeError, OSError, TypeError):
        return np.nan
    return _status("VmRSS")


def _status(field):
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return np.nan
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field))


def layer_weights(network, names):
    """Weights of layers by name: float32 arrays in their shapes."""
    return {name: network.get_submodule(LAYERS[name]).weight.numpy() for name in names}


class RowsRace:
    """Peers on a matrix each of whose rows gets a codebook of its own.

    Parameters
    ----------
    kind : {"normal", "heavy-tailed"}
        Distribution of the weights.
    shape : sequence of two int
    weighted : bool
        Whether each weight has an importance, uniform from 0.5 to 1.5.
    """

    def __init__(self, kind, shape, weighted=False):
        draw = {NORMAL: normal, HEAVY_TAILED: heavy_tailed}[kind]
        rows, columns = shape
        self.name = f"{kind}, {rows} rows of {columns}" + (", weighted" if weighted else "")
        self.weights = draw(rows * columns).reshape(rows, columns)
        self.importance = None
        if weighted:
            self.importance = np.random.default_rng(0).uniform(0.5, 1.5, self.weights.shape)

    def rows(self, n_clusters, repeats):
        """Rows of the table `bench`; inertia is over that of the rows' exact optima."""
        given = (self.weights, n_clusters, self.importance)
        for run in ROW_PEERS.values():
            run(self.weights[:4], n_clusters, None if self.importance is None else given[2][:4])
        best, rows = self._inertia(*ROW_PEERS[OPTIMAL](*given)), []
        for repeat in range(repeats):
            for peer, run in progress(ROW_PEERS.items(), f"{self.name}, {n_clusters} centers"):
                found, seconds, peak = measured(run, *given)
                rows.append(
                    {
                        "array": self.name,
                        "n_array": self.weights.size,
                        "n_weights": self.weights.size,
                        "peer": peer,
                        "n_clusters": n_clusters,
                        "repeat": repeat,
                        "seconds": seconds,
                        "peak_mib": peak / 2**20,
                        "relative_inertia": self._inertia(*found) / best,
                    }
                )
        return rows

    def _inertia(self, centers, labels):
        values = np.take_along_axis(np.float64(centers), np.int64(labels), axis=1)
        squares = np.square(self.weights - values)
        return float(np.sum(squares if self.importance is None else squares * self.importance))


def matrix_rows(kinds, cases, repeats):
    """Rows of the table `bench` for matrices each of whose rows gets a codebook of its own.

    Parameters
    ----------
    kinds : sequence of {"normal", "heavy-tailed"}
    cases : sequence of three int each
        Rows, weights in a row, centers. Each case runs with equal and with unequal sample weights.
    repeats : int
    """
    rows = []
    for kind in kinds:
        for *shape, n_clusters in cases:
            for weighted in (False, True):
                rows += RowsRace(kind, shape, weighted).rows(n_clusters, repeats)
    return rows


def ratio_rows(weights, n_clusters, repeats):
    """Rows of the table `ratios`: seconds of clusterings beside those of something simpler.

    Parameters
    ----------
    weights : dict of str to float32 array
        Layers by name, in their shapes. The last layer with more than two dimensions gets a
        codebook for each channel.
    n_clusters, repeats : int
    """
    rows = []
    for case, (run, against, simpler, n_weights) in _cases(weights, n_clusters).items():
        run(), simpler()  # the first calls compile and write to new memory
        for repeat in progress(range(repeats), case):
            _, seconds, _ = measured(run)
            _, beside, _ = measured(simpler)
            rows.append(
                {
                    "case": case,
                    "n_weights": n_weights,
                    "n_clusters": n_clusters,
                    "against": against,
                    "repeat": repeat,
                    "seconds": seconds,
                    "against_seconds": beside,
                    "ratio": seconds / beside,
                }
            )
    return rows


def _cases(weights, k):
    """By name: a clustering, the name of something simpler, that, and the number of weights."""
    layers = list(weights.values())
    copies = [np.ones_like(layer) for layer in layers]
    n_all, name = sum(layer.size for layer in layers), max(weights, key=lambda n: weights[n].size)
    large = weights[name]
    importance = np.random.default_rng(0).uniform(0.5, 1.5, large.shape)
    channels, kernels = next((n, w) for n, w in reversed(weights.items()) if w.ndim > 2)
    layer = torch.nn.Conv2d(kernels.shape[1], len(kernels), kernels.shape[2:], bias=False)
    layer.weight.data = torch.from_numpy(kernels)

    def all_copied():
        for copy, layer in zip(copies, layers, strict=True):
            np.copyto(copy, layer)

    def all_by(init):
        return lambda: [cluster(layer, k, init=init) for layer in layers]

    def shared(granularity):
        return lambda: share_weights(layer, k, granularity=granularity)

    return {
        "all layers": (all_by("weight-distribution"), "a copy", all_copied, n_all),
        "all layers, optimal": (all_by("optimal"), "a copy", all_copied, n_all),
        f"{name}, weighted": (
            lambda: cluster(large, k, sample_weight=importance),
            "not weighted",
            lambda: cluster(large, k),
            large.size,
        ),
        f"{channels}, a codebook a channel": (
            shared("per_channel"),
            "one codebook",
            shared("per_tensor"),
            kernels.size,
        ),
    }


def gap_rows(weights, n_clusters):
    """Rows of the table `gaps`: how far the optimal centers can be from the best possible.

    Parameters
    ----------
    weights : dict of str to float32 array
        Layers by name.
    n_clusters : sequence of int
    """
    return [row for layer in weights for row in _layer_gaps(layer, weights[layer], n_clusters)]


def _layer_gaps(layer, weights, n_clusters):
    prepared, rows = Prepared(weights), []
    for k in progress(n_clusters, f"{layer}, bounds"):
        inertia = prepared.cluster(k, init="optimal", labels=False).inertia
        bound = inertia_bound(prepared.ordered, k)
        rows.append(
            {
                "layer": layer,
                "n_weights": len(prepared.ordered),
                "n_clusters": k,
                "inertia": inertia,
                "bound": bound,
                "gap": inertia / bound - 1,
            }
        )
    return rows
