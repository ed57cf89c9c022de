"""Globally optimal centers by dynamic programming over weighted bins of the weights."""

from itertools import pairwise

import numpy as np
from numba import njit

from .density import adaptive_density, power_quantiles
from .engine import in_order

N_BINS = 8192  # at least, and
BINS_A_CENTER = 128  # so that what is lost to bins does not grow with the number of centers
FINER = 8  # bins of the bound, in which a split costs more
MAX_CLUSTERS = 1024  # the table of cuts grows with their square


def optimal_centers(weights, n_clusters, sample_weight=None):
    """Centers of the partition into contiguous cells of least inertia.

    In one dimension optimal cells are intervals, so the best partition of the first j bins into m
    cells extends the best partition of the first i < j into m - 1 (Wang and Song 2011). The best i
    grows with j, which leaves O(k b log b) steps for b bins (Grønlund et al. 2017, section 2).

    Exact when there are at most `N_BINS` distinct weights (more beyond 64 centers). Above, half of
    the bins follow the quantiles of density ** (1/3), which are fine in the tails too; the result
    is the optimum among partitions that do not split a bin, and Lloyd's algorithm on all weights
    finishes it.

    Parameters
    ----------
    weights : array of shape (n,), or OrderedWeights
        Ascending, finite.
    n_clusters : int
        At most 1024, and the number of distinct weights.
    sample_weight : float64 array of shape (n,), optional
        Positive, in the order of `weights`.

    Returns
    -------
    float64 array of shape (n_clusters,)
        Ascending.
    """
    weights = in_order(weights, sample_weight)
    starts, prefix = _binned(weights, n_clusters)
    if n_clusters > len(starts):
        raise ValueError(f"n_clusters={n_clusters}, but only {len(starts)} weights are distinct.")
    bounds, _ = _best_bounds(prefix, n_clusters)
    mass, total = np.diff(prefix[:2, bounds], axis=1)
    first = np.asarray(weights[starts[bounds[:-1]]], dtype=np.float64) - weights.origin
    return weights.origin + np.divide(total, mass, out=first, where=mass > 0)


def inertia_curve(weights, max_clusters, sample_weight=None):
    """Least inertia at every number of centers, of partitions that do not split a bin.

    The dynamic program of the largest number holds those of all smaller ones.

    Parameters
    ----------
    weights, sample_weight
        As of `optimal_centers`.
    max_clusters : int

    Returns
    -------
    float64 array of shape (m,)
        Of 1 to m centers, descending; m is `max_clusters`, or the number of distinct weights if
        that is smaller.
    """
    weights = in_order(weights, sample_weight)
    starts, prefix = _binned(weights, max_clusters)
    _, curve = _best_bounds(prefix, min(max_clusters, len(starts)))
    return np.minimum.accumulate(np.maximum(0.0, curve))


def _n_bins(n_clusters):
    if not 1 <= n_clusters <= MAX_CLUSTERS:
        raise ValueError(f"n_clusters={n_clusters} must be 1 to {MAX_CLUSTERS} to be optimal.")
    return max(N_BINS, BINS_A_CENTER * n_clusters)


def _binned(weights, n_clusters):
    """First rank of each bin, and the sums before it."""
    starts = bin_starts(weights, _n_bins(n_clusters), weights.rank_near)
    return starts, _prefix_sums(weights.ranges(starts, np.append(starts[1:], len(weights))).T)


def inertia_bound(weights, n_clusters, sample_weight=None, n_bins=None):
    """A lower bound on the inertia of any `n_clusters` centers.

    For given centers c, a weight x costs f(x) = min (x - c)^2 = x^2 - g(x), where g(x) =
    max (2 x c - c^2) is convex. In a bin from a to b therefore g(x) <= ((b - x) g(a) +
    (x - a) g(b)) / (b - a), and

        f(x) >= ((b - x) f(a) + (x - a) f(b)) / (b - a) - (x - a) (b - x),

    whether or not a boundary between cells splits the bin; if none does, both sides are equal.
    Summed over the weights, the right side is the cost of the same centers for weighted points at
    the edges of the bins, less a constant. Of that problem the dynamic program finds the exact
    optimum, since points need not be split. So no centers are better than its optimum less the
    constant, and only the n_clusters - 1 bins that optimal boundaries split lose anything.

    Parameters
    ----------
    weights, n_clusters, sample_weight
        As of `optimal_centers`.
    n_bins : int, optional
        The loss falls with the square of their number.

    Returns
    -------
    float
        Less a margin above the rounding of its sums; at least 0.
    """
    weights = in_order(weights, sample_weight)
    n_bins = n_bins or FINER * min(_n_bins(n_clusters), 4 * N_BINS)  # a gigabyte at most
    starts = bin_starts(weights, n_bins, weights.rank)
    edges = weights[np.append(starts, len(weights) - 1)] - weights.origin
    mass, total, square = weights.ranges(starts, np.append(starts[1:], len(weights))).T
    width = np.diff(edges)
    offset = np.maximum(0.0, total - mass * edges[:-1])  # sum of x - a
    spread = np.maximum(0.0, square - edges[:-1] * (2 * total - mass * edges[:-1]))
    upper = np.divide(offset, width, out=np.zeros_like(width), where=width > 0)
    points = np.append(mass - upper, 0.0) + np.append(0.0, upper)
    sums = np.stack([points, points * edges, points * edges**2])
    sums = sums[:, points > 0]
    prefix = _prefix_sums(sums)
    bounds, _ = _best_bounds(prefix, min(n_clusters, sums.shape[1]))
    cost = sum(_cost(prefix, i, j) for i, j in pairwise(bounds))
    constant = np.sum(width * offset - spread)
    margin = np.finfo(np.float64).eps * sums.shape[1] * sums[2].sum()  # of adding one by one
    return max(0.0, float(cost - constant - margin))


def _prefix_sums(sums):
    """Sums before each bin; float64 of shape (3, n_bins + 1).

    Summed outward from the middle: one huge outlier does not drown the sums of all others.
    """
    below, above = np.split(sums, [sums.shape[1] // 2], axis=1)
    return np.hstack(
        [-np.cumsum(below[:, ::-1], axis=1)[:, ::-1], np.zeros((3, 1)), np.cumsum(above, axis=1)]
    )


def bin_starts(weights, n_bins, rank):
    """Rank of the first weight of each bin; equal weights share a bin.

    `rank` finds that of a threshold, or one near it.
    """
    distinct = weights.distinct(n_bins)
    if distinct is not None:
        return weights.rank(distinct)
    # Half the bins by density, half evenly over the distinct weights: one huge outlier would
    # otherwise draw nearly all edges into the gap beside it.
    probabilities = np.linspace(0, 1, n_bins // 2, endpoint=False)
    by_density = power_quantiles(adaptive_density(weights), 1 / 3, probabilities)
    evenly = weights.starts_of_distinct(n_bins // 2)
    return np.unique(np.concatenate([rank(by_density), evenly]))


@njit(cache=True)
def _cost(prefix, i, j):
    """Inertia of the bins i to j - 1 about their mean; too light for the sums, they have none."""
    mass, total = prefix[0, j] - prefix[0, i], prefix[1, j] - prefix[1, i]
    return prefix[2, j] - prefix[2, i] - (total * total / mass if mass > 0 else 0.0)


@njit(cache=True)
def _best_bounds(prefix, n_clusters):
    """First bin of each cell and the end, int64 of shape (n_clusters + 1,); costs of fewer cells.

    The costs are of 1 to n_clusters cells, float64 of shape (n_clusters,).
    """
    n_bins = prefix.shape[1] - 1
    best = np.empty(n_bins + 1)
    for j in range(1, n_bins + 1):
        best[j] = _cost(prefix, 0, j)
    cut = np.zeros((n_clusters, n_bins + 1), np.int32)
    costs = np.empty(n_clusters)
    costs[0] = best[n_bins]
    for m in range(1, n_clusters):
        longer = np.full(n_bins + 1, np.inf)
        step = 1
        while 2 * step <= n_bins:
            step *= 2
        # Coarse to fine: the neighbours' best cuts bracket the cut between them, and one cell less
        # does not end later.
        while step >= 1:
            for j in range(step, n_bins + 1, 2 * step):
                if j <= m:
                    cut[m, j] = m
                    continue
                low = max(m, cut[m, j - step], cut[m - 1, j])
                high = cut[m, j + step] if j + step <= n_bins else j - 1
                for i in range(low, min(high, j - 1) + 1):
                    value = best[i] + _cost(prefix, i, j)
                    if value < longer[j]:
                        longer[j], cut[m, j] = value, i
            step //= 2
        best = longer
        costs[m] = best[n_bins]
    bounds = np.empty(n_clusters + 1, np.int64)
    bounds[n_clusters] = n_bins
    for m in range(n_clusters - 1, -1, -1):
        bounds[m] = cut[m, bounds[m + 1]]
    return bounds, costs
