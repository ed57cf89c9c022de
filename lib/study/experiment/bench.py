"""The clustering against other packages: seconds, memory and inertia on the same arrays.

Each package is called as its documentation says, from a flat float32 array to centers and labels.
`make bench` installs the packages, which `requirements-bench.txt` lists.
"""

import ctypes
import functools
import gc
import importlib
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ...clustering import Prepared, cluster, flat_array, initial_centers, ordered
from ...engine import FEW
from ...lloyd import lloyd_in_order
from ...optimal import inertia_bound
from ...sharing import share_weights
from .network import LAYERS
from .progress import progress

LIMIT = 10.0  # seconds that one call may take
TARGET = 1.0  # seconds of a call on fewer weights, where one on all would exceed the limit
PROBES = (10_000, 100_000)  # weights of the calls from which the time for all is extrapolated
SAFETY = 2.0  # factor of that time, since it grows faster than the number of weights
TABLES = 4 << 30  # bytes that a dynamic program's tables may take
HEAVY_TAILED = "heavy-tailed"


class Peer(NamedTuple):
    """A way to cluster.

    Attributes
    ----------
    package : str
        Imported before anything is timed.
    run : callable
        From flat float32 weights and a number of clusters to the centers.
    bytes_per_cell : int
        Memory that it needs for each weight and cluster.
    limit : float
        Seconds that one call may take.
    """

    package: str
    run: Callable
    bytes_per_cell: int = 0
    limit: float = LIMIT


def _ours(init):
    return Peer("lib", lambda weights, k: cluster(weights, k, init=init).centers, limit=np.inf)


def _flash1dkmeans(weights, k):
    from flash1dkmeans import kmeans_1d

    return kmeans_1d(weights, k, random_state=0)[0]


def _kmeans1d(weights, k):
    import kmeans1d

    return kmeans1d.cluster(weights, k).centroids


def _ckwrap(weights, k):
    import ckwrap

    return ckwrap.ckmeans(weights.astype(np.float64), k).centers


def _scikit_learn(weights, k):
    from sklearn.cluster import KMeans

    return KMeans(k, random_state=0).fit(weights[:, None]).cluster_centers_[:, 0]


def _scikit_learn_from_ours(weights, k):
    from sklearn.cluster import KMeans

    start = initial_centers(ordered(weights), k, "weight-distribution")[:, None]
    model = KMeans(k, init=start, n_init=1, max_iter=10_000, tol=0)
    return model.fit(weights[:, None].astype(np.float64)).cluster_centers_[:, 0]


def _coremltools(weights, k):
    from coremltools._deps import _kmeans1d

    values, counts = np.unique(weights, return_counts=True)  # as its palettizer calls it
    return _kmeans1d.cluster(values, k, weights=counts).centroids


def _faiss(weights, k):
    import faiss

    model = faiss.Kmeans(1, k, seed=0, max_points_per_centroid=len(weights))
    model.train(weights[:, None])
    model.index.search(weights[:, None], 1)
    return model.centroids[:, 0]


def _copy(weights, k):
    np.copyto(_touched(len(weights)), weights)


@functools.lru_cache(maxsize=1)
def _touched(n):
    """Memory that has been written to: a copy into new memory takes ten times as long."""
    return np.ones(n, np.float32)


COPY = "copy"
OURS = "ours, weight-distribution"
OPTIMAL = "ours, optimal"
PEERS = {
    COPY: Peer("numpy", _copy, limit=np.inf),
    OURS: _ours("weight-distribution"),
    OPTIMAL: _ours("optimal"),
    "flash1dkmeans": Peer("flash1dkmeans", _flash1dkmeans, limit=90.0),  # the fastest of the others
    "kmeans1d": Peer("kmeans1d", _kmeans1d, bytes_per_cell=16),
    "ckwrap": Peer("ckwrap", _ckwrap, bytes_per_cell=16),
    "coremltools": Peer("coremltools", _coremltools, bytes_per_cell=16),
    "scikit-learn": Peer("sklearn", _scikit_learn),
    "scikit-learn, our start": Peer("sklearn", _scikit_learn_from_ours),
    "faiss": Peer("faiss", _faiss),
}


def heavy_tailed(n, seed=0):
    """Student's t with 3 degrees of freedom, of standard deviation 0.01; float32, shape (n,)."""
    draws = np.random.default_rng(seed).standard_t(3, n)
    return (draws * (0.01 / np.sqrt(3))).astype(np.float32)


def require(names):
    """Import the packages of the named peers, and call each once so that it compiles its code.

    Raises
    ------
    ValueError
        For an unknown peer.
    ModuleNotFoundError
        For a package that is not installed, saying how to install it.
    """
    for name in names:
        if name not in PEERS:
            raise ValueError(f"peer {name!r} is unknown: choose from {', '.join(PEERS)}.")
        # coremltools warns of parts that only a Mac has, and of newer versions of other packages.
        logging.getLogger("coremltools").setLevel(logging.CRITICAL)
        try:
            importlib.import_module(PEERS[name].package)
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"{name} needs the package {PEERS[name].package!r}: "
                "`pip install -r requirements-bench.txt` installs it."
            ) from error
        for n in (1000, FEW + 1) if PEERS[name].package == "lib" else (1000,):
            PEERS[name].run(heavy_tailed(n), 2)


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
            _touched(len(arrays[COPY]))
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
    """Rows of the table `bench` for the first heavy-tailed weights, of each size in turn."""
    weights, rows = heavy_tailed(max(sizes)), []
    for size in sizes:  # one race is in memory at a time
        race = Race(f"{HEAVY_TAILED}, growth", weights[:size], peers)
        rows += race.rows(n_clusters, repeats)
    return rows


def measured(function, *arguments):
    """Result of a call, its wall time in seconds, and the peak rise of memory in bytes.

    Memory is that of this process, as Linux counts it; NaN on other systems.
    """
    before = _reset_peak()
    start = time.perf_counter()
    result = function(*arguments)
    seconds = time.perf_counter() - start
    return result, seconds, _status("VmHWM") - before


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
