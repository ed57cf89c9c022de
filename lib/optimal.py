"""Globally optimal centers by dynamic programming over weighted bins of the weights."""

import numpy as np
from numba import njit, prange

from .density import adaptive_density, power_quantiles

N_BINS = 8192
MAX_CLUSTERS = 4096  # the table of cuts grows with their square


def optimal_centers(weights, n_clusters, sample_weight=None):
    """Centers of the partition into contiguous cells of least inertia.

    In one dimension optimal cells are intervals, so the best partition of the first j bins into m
    cells extends the best partition of the first i < j into m - 1 (Wang and Song 2011). The best i
    grows with j, which leaves O(k b log b) steps for b bins (Grønlund et al. 2017, section 2).

    Exact when there are at most `N_BINS` distinct weights. Above, half of the bins follow
    the quantiles of density ** (1/3), which are fine in the tails too; the result is the optimum
    among partitions that do not split a bin, and Lloyd's algorithm on all weights finishes it.

    Parameters
    ----------
    weights : array of shape (n,)
        Ascending, finite.
    n_clusters : int
        At most the number of distinct weights.
    sample_weight : float64 array of shape (n,), optional
        Positive, in the order of `weights`.

    Returns
    -------
    float64 array of shape (n_clusters,)
        Ascending.
    """
    starts = _bin_starts(weights, max(N_BINS, 4 * n_clusters))
    origin = float(weights[len(weights) // 2])
    sums = _bin_sums(weights, sample_weight, starts, origin)
    # Summed outward from the middle: one huge outlier does not drown the sums of all others.
    below, above = np.split(sums, [sums.shape[1] // 2], axis=1)
    prefix = np.hstack(
        [-np.cumsum(below[:, ::-1], axis=1)[:, ::-1], np.zeros((3, 1)), np.cumsum(above, axis=1)]
    )
    bounds = _best_bounds(prefix, n_clusters)
    mass, total = np.diff(prefix[:2, bounds], axis=1)
    return origin + total / mass


def _bin_starts(weights, n_bins):
    """Index of the first weight of each bin; equal weights share a bin."""
    starts = np.concatenate([[0], np.flatnonzero(weights[1:] != weights[:-1]) + 1])
    if len(starts) <= n_bins:
        return starts
    # Half the bins by density, half evenly over the distinct values: one huge outlier would
    # otherwise draw nearly all edges into the gap beside it.
    probabilities = np.linspace(0, 1, n_bins // 2, endpoint=False)
    edges = power_quantiles(adaptive_density(weights), 1 / 3, probabilities)
    by_density = np.searchsorted(weights, edges.astype(weights.dtype))
    evenly = starts[np.linspace(0, len(starts) - 1, n_bins // 2).astype(np.int64)]
    return np.unique(np.concatenate([by_density, evenly]))


@njit(cache=True, parallel=True)
def _bin_sums(weights, sample_weight, starts, origin):
    """Mass, first and second moment about `origin` of each bin; float64 of shape (3, n_bins)."""
    sums = np.zeros((3, len(starts)))
    for b in prange(len(starts)):
        stop = starts[b + 1] if b + 1 < len(starts) else len(weights)
        mass = total = square = 0.0
        for i in range(starts[b], stop):
            m = 1.0 if sample_weight is None else sample_weight[i]
            value = np.float64(weights[i]) - origin
            mass += m
            total += m * value
            square += m * value * value
        sums[0, b], sums[1, b], sums[2, b] = mass, total, square
    return sums


@njit(cache=True)
def _cost(prefix, i, j):
    """Inertia of the bins i to j - 1 about their mean."""
    total = prefix[1, j] - prefix[1, i]
    return prefix[2, j] - prefix[2, i] - total * total / (prefix[0, j] - prefix[0, i])


@njit(cache=True)
def _best_bounds(prefix, n_clusters):
    """First bin of each cell and the end; int64 of shape (n_clusters + 1,)."""
    n_bins = prefix.shape[1] - 1
    best = np.empty(n_bins + 1)
    for j in range(1, n_bins + 1):
        best[j] = _cost(prefix, 0, j)
    cut = np.zeros((n_clusters, n_bins + 1), np.int32)
    for m in range(1, n_clusters):
        longer = np.full(n_bins + 1, np.inf)
        step = 1
        while 2 * step <= n_bins:
            step *= 2
        # Coarse to fine: the neighbours' best cuts bracket the cut between them.
        while step >= 1:
            for j in range(step, n_bins + 1, 2 * step):
                if j <= m:
                    cut[m, j] = m
                    continue
                low = max(m, cut[m, j - step])
                high = cut[m, j + step] if j + step <= n_bins else j - 1
                for i in range(low, min(high, j - 1) + 1):
                    value = best[i] + _cost(prefix, i, j)
                    if value < longer[j]:
                        longer[j], cut[m, j] = value, i
            step //= 2
        best = longer
    bounds = np.empty(n_clusters + 1, np.int64)
    bounds[n_clusters] = n_bins
    for m in range(n_clusters - 1, -1, -1):
        bounds[m] = cut[m, bounds[m + 1]]
    return bounds
