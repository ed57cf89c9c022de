"""The packages that the clustering is compared with, each called as its documentation says.

`make bench` installs them; `requirements-bench.txt` lists them.
"""

import functools
import importlib
import logging
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ...clustering import cluster, initial_centers, ordered
from ...engine import FEW, threads
from ...rows import cluster_rows

LIMIT = 4.0  # seconds that one call may take
HEAVY_TAILED, NORMAL = "heavy-tailed", "normal"


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
    np.copyto(touched(len(weights)), weights)


@functools.lru_cache(maxsize=1)
def touched(n):
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


def normal(n, seed=0):
    """Normal, of standard deviation 0.01; float32, shape (n,)."""
    return (np.random.default_rng(seed).standard_normal(n) * 0.01).astype(np.float32)


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


# ---------------------------------------------------------- a codebook for each row of a matrix


def _ours_by_rows(init):
    def run(weights, k, importance):
        found = cluster_rows(weights, k, init=init, sample_weight=importance)
        return found.centers, found.labels

    return run


def _flash1dkmeans_by_rows(weights, k, importance):
    """flash1dkmeans' function for one row, in a parallel loop that sorts and labels too."""
    return _by_flash_loop(weights, None, importance, k)


def _flash1dkmeans_sorted_by_numpy(weights, k, importance):
    """The same after NumPy has sorted the rows, which is faster than sorting in the loop."""
    if importance is None:
        return _by_flash_loop(weights, _by_slabs(np.sort, weights), None, k)
    order = _by_slabs(np.argsort, weights)
    in_order = [np.take_along_axis(array, order, axis=1) for array in (weights, importance)]
    return _by_flash_loop(weights, *in_order, k)


def _by_flash_loop(weights, in_order, masses, k):
    centers, labels = np.empty((len(weights), k)), np.empty(weights.shape, np.uint8)
    _flash_loop()(weights, in_order, masses, centers, labels)
    return centers, labels


def _by_slabs(function, weights):
    """A function of each row, as NumPy has it, on all cores."""
    slabs = [weights[part] for part in threads.parts(len(weights), at_least=1)]
    return np.concatenate(threads.run(function, slabs))


@functools.cache
def _flash_loop():
    """Compiled when it is first asked for: the package is an option."""
    from flash1dkmeans import numba_kmeans_1d_k_cluster, numba_kmeans_1d_k_cluster_unweighted
    from numba import njit, prange

    @njit(parallel=True)
    def loop(weights, in_order, masses, centers, labels):
        k = centers.shape[1]
        for row in prange(len(weights)):
            if in_order is None:
                order = np.argsort(weights[row])
                values = weights[row][order]
            else:
                values = in_order[row]
            wide = values.astype(np.float64)
            if masses is None:
                found, borders = numba_kmeans_1d_k_cluster_unweighted(
                    values, k, 300, np.cumsum(wide), np.cumsum(wide**2), 0, len(values), 0
                )
            else:
                mass = masses[row] if in_order is not None else masses[row][order]
                found, borders = numba_kmeans_1d_k_cluster(
                    values,
                    k,
                    300,
                    np.cumsum(mass),
                    np.cumsum(wide * mass),
                    np.cumsum(wide**2 * mass),
                    0,
                    len(values),
                    0,
                )
            centers[row] = found
            labels[row] = 0
            for j in range(1, k):
                if borders[j] < len(values):
                    labels[row] += weights[row] >= values[borders[j]]

    return loop


FLASH, FLASH_SORTED = "flash1dkmeans", "flash1dkmeans, sorted by NumPy"
ROW_PEERS = {
    OURS: _ours_by_rows("weight-distribution"),
    OPTIMAL: _ours_by_rows("optimal"),
    FLASH: _flash1dkmeans_by_rows,
    FLASH_SORTED: _flash1dkmeans_sorted_by_numpy,
}
