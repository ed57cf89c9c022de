"""Globally optimal centers: the best partition of sorted weights, by a penalty for each center."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .density import adaptive_density, power_quantiles
from .engine import OrderedWeights, in_order
from .engine.partition import (
    best_partition,
    cell_means,
    is_accurate,
    penalized_partition,
    points_of,
    whole_partition,
)

N_EXACT = 1 << 14  # so many distinct weights are not binned
N_BINS = 8192  # at least, and
BINS_A_CENTER = 128  # so that what is lost to bins does not grow with the number of centers
FINER = 8  # bins of the bound, in which a split costs more


class Points(NamedTuple):
    """Weighted points, and the sums over their prefixes.

    Attributes
    ----------
    origin, scale : float
        A point x stands for the weight origin + scale * x.
    unit : float
        An inertia of the points, times this, is one of the weights.
    prefix : float64 array of shape (n + 1, 8)
        Before each point the sums of m, m x and m x ** 2 for masses m, in two parts: their leading
        digits, and what these lack. One more column is for the search.
    penalty : float
        Divided by (k + 1) ** 3, about that at which k cells are best.
    offset : float
        Inertia of the weights about their points.
    """

    origin: float
    scale: float
    unit: float
    prefix: np.ndarray
    penalty: float
    offset: float


def optimal_centers(
    weights: np.ndarray | OrderedWeights, n_clusters: int, sample_weight: np.ndarray | None = None
) -> np.ndarray:
    """Centers of the partition into contiguous cells of least inertia.

    In one dimension optimal cells are intervals (Fisher 1958). Where every cell costs a penalty
    besides its inertia, the best partition is found in one pass of dynamic programming over the
    sorted weights (Galil and Park 1990), and the least inertia is convex in the number of cells, so
    that some penalty gives any number (Aggarwal, Schieber and Tokuyama 1994).

    Exact when there are at most `N_EXACT` distinct weights. Above, the weights are binned: half of
    the bins follow the quantiles of density ** (1/3), which are fine in the tails too; the result
    is the optimum among partitions that do not split a bin, and Lloyd's algorithm on all weights
    finishes it.

    Parameters
    ----------
    weights : array of shape (n,), or OrderedWeights
        Ascending, finite.
    n_clusters : int
        At most the number of distinct weights.
    sample_weight : float64 array of shape (n,), optional
        Positive, in the order of `weights`.

    Returns
    -------
    float64 array of shape (n_clusters,)
        Ascending.

    Raises
    ------
    ValueError
        If there are fewer distinct weights.

    Notes
    -----
    A few passes over b points or bins, each of O(b log b) steps at most and about 20 in practice.
    """
    points = _points(in_order(weights, sample_weight), n_clusters)
    n_points = len(points.prefix) - 1
    if n_clusters > n_points:
        raise ValueError(f"n_clusters={n_clusters}, but only {n_points} weights are distinct.")
    bounds = best_partition(points.prefix, points.penalty, n_clusters).bounds
    return points.origin + points.scale * cell_means(points.prefix, bounds)


def inertia_curve(
    weights: np.ndarray | OrderedWeights, max_clusters: int, sample_weight: np.ndarray | None = None
) -> np.ndarray:
    """Least inertia at every number of centers, of partitions that do not split a bin.

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
    points = _points(in_order(weights, sample_weight), max_clusters)
    n_points = len(points.prefix) - 1
    few, many = (
        whole_partition(points.prefix),
        best_partition(points.prefix, points.penalty, min(max_clusters, n_points)),
    )
    exact = not is_accurate(points.prefix, many.n_cells, many.inertia)
    curve = np.empty(many.n_cells)
    intervals = [(few, many)]
    while intervals:  # each interval's chord finds a number of cells within it, or is the curve
        few, many = intervals.pop()
        counts = np.arange(few.n_cells, many.n_cells + 1)
        curve[counts - 1] = np.interp(counts, counts[[0, -1]], [few.inertia, many.inertia])
        if len(counts) > 2:
            slope = max(0.0, few.inertia - many.inertia) / (many.n_cells - few.n_cells)
            found = penalized_partition(points.prefix, slope, exact)
            if few.n_cells < found.n_cells < many.n_cells:
                intervals += [(few, found), (found, many)]
    curve = points.unit * np.maximum(0.0, curve) + points.offset
    return np.minimum.accumulate(curve)


def inertia_bound(
    weights: np.ndarray | OrderedWeights,
    n_clusters: int,
    sample_weight: np.ndarray | None = None,
    n_bins: int | None = None,
) -> float:
    """A lower bound on the inertia of any `n_clusters` centers.

    For given centers c, a weight x costs f(x) = min (x - c)^2 = x^2 - g(x), where g(x) =
    max (2 x c - c^2) is convex. In a bin from a to b therefore g(x) <= ((b - x) g(a) +
    (x - a) g(b)) / (b - a), and

        f(x) >= ((b - x) f(a) + (x - a) f(b)) / (b - a) - (x - a) (b - x),

    whether or not a boundary between cells splits the bin; if none does, both sides are equal.
    Summed over the weights, the right side is the cost of the same centers for weighted points at
    the edges of the bins, less a constant. Of that problem the exact optimum is known, since points
    need not be split. So no centers are better than its optimum less the constant, and only the
    n_clusters - 1 bins that optimal boundaries split lose anything.

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
    ordered = in_order(weights, sample_weight)
    starts = bin_starts(ordered, n_bins or FINER * _n_bins(n_clusters), ordered.rank)
    edges = ordered[np.append(starts, len(ordered) - 1)] - ordered.origin
    mass, total, square = ordered.ranges(starts, np.append(starts[1:], len(ordered))).T
    width = np.diff(edges)
    offset = np.maximum(0.0, total - mass * edges[:-1])  # sum of x - a
    spread = np.maximum(0.0, square - edges[:-1] * (2 * total - mass * edges[:-1]))
    upper = np.divide(offset, width, out=np.zeros_like(width), where=width > 0)
    at_edges = np.append(mass - upper, 0.0) + np.append(0.0, upper)
    held = at_edges > 0
    points = _weighted(edges[held], at_edges[held], ordered.origin)
    cost = (
        points.unit
        * best_partition(points.prefix, points.penalty, min(n_clusters, held.sum())).inertia
    )
    constant = np.sum(width * offset - spread)
    # of adding one by one
    margin = np.finfo(np.float64).eps * held.sum() * np.sum(at_edges * edges**2)
    return max(0.0, float(cost - constant - margin))


# -------------------------------------------------------------------------- weights as points


def _points(weights, n_clusters):
    """Distinct weights or, of too many, the means of bins."""
    n_bins = _n_bins(n_clusters)
    values = weights.distinct(max(N_EXACT, n_bins)) if len(weights) > N_EXACT else None
    if values is not None:
        starts = weights.rank(values)
        mass = weights.ranges(starts, np.append(starts[1:], len(weights)))[:, 0]
        return _weighted(values - weights.origin, mass, weights.origin)
    if len(weights) <= N_EXACT:
        values = np.asarray(weights, np.float64) - weights.origin
        return _weighted(values, weights.sample_weight, weights.origin)
    starts = bin_starts(weights, n_bins, weights.rank_near)
    mass, total, square = weights.ranges(starts, np.append(starts[1:], len(weights))).T
    first = weights[starts] - weights.origin
    means = np.divide(total, mass, out=first, where=mass > 0)
    inertia = np.maximum(0.0, square - means * total).sum()
    return _weighted(means, mass, weights.origin, inertia)


def _n_bins(n_clusters):
    if n_clusters < 1:
        raise ValueError(f"n_clusters={n_clusters} must be at least 1.")
    return max(N_BINS, BINS_A_CENTER * n_clusters)


def bin_starts(
    weights: OrderedWeights, n_bins: int, rank: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
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
    starts = np.sort(np.concatenate([rank(by_density), evenly]), kind="stable")  # np.unique hashes
    return starts[np.append(True, starts[1:] > starts[:-1])]


def _weighted(values, mass, origin, offset=0.0):
    """`Points` of ascending values about an origin."""
    prefix, scale, heaviest, penalty = points_of(values, mass)
    return Points(origin, scale, scale**2 * heaviest, prefix, penalty, offset)
