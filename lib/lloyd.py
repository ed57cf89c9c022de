"""Lloyd's algorithm in one dimension, and the automatic revision of its centers.

Twice: `lloyd` as in the textbook, comparing every weight with every center, and `lloyd_in_order`,
where an iteration is k binary searches. Both apply the same rule, so both take the same path: a
weight belongs to the nearest center, and to the lower one of two equally near. Of equal centers
only the first is ever nearest.
"""

from typing import NamedTuple

import numpy as np
from numba import njit, prange

from .engine.keys import nearer
from .engine.loop import iterate

CHUNKS = 64  # partial sums of a parallel pass: fixed, so that the result never depends on threads


class Path(NamedTuple):
    """What the iterations did.

    Attributes
    ----------
    centers : float64 array of shape (n_clusters,)
        Ascending.
    counts : int64 array of shape (n_clusters,)
        Number of weights of each.
    history : float64 array of shape (n_iter + 1,)
        Inertia of the initial centers and after each iteration.
    converged : bool
        False only when `max_iter` ended the iteration.
    splits_tried : int64 array of shape (n_iter + 1,)
        Number of passes over the weights that revision took.
    """

    centers: np.ndarray
    counts: np.ndarray
    history: np.ndarray
    converged: bool
    splits_tried: np.ndarray

    @property
    def n_iter(self):
        """Number of times that the centers were moved."""
        return len(self.history) - 1


def lloyd_in_order(weights, centers, *, revise=False, max_iter=None, tol=0.0):
    """As `lloyd`, over weights in order: SortedWeights or BinnedWeights of `lib.engine`.

    O(k log n) an iteration.
    """
    options = (bool(revise), -1 if max_iter is None else max_iter, float(tol))
    while True:
        found = iterate(weights.order, weights.masses, centers, *options)
        if not weights.look_up():  # the path asked for nothing that was not known
            centers, bounds, log, converged = found
            return Path(centers, np.diff(bounds), log[:, 0], converged, log[:, 1].astype(np.int64))


def lloyd(cells, centers, *, revise=False, max_iter=None, tol=0.0):
    """Iterate assignment and means from the given centers.

    Parameters
    ----------
    cells : TextbookCells
    centers : float64 array of shape (n_clusters,)
        Ascending; not modified.
    revise : bool
        Revise the centers at each iteration (`revised`) while the inertia falls. Otherwise an
        emptied center stays where it is.
    max_iter : int, optional
        By default until convergence.
    tol : float
        Stop, too, when an iteration lowers the inertia by no more than `tol` times its value.

    Returns
    -------
    Path

    Notes
    -----
    Lloyd (1982), Least squares quantization in PCM, method I.
    """
    cells.assign(centers)
    history, tried = [cells.inertia(centers)], [0]
    cells.n_splits_tried = 0
    converged = False
    while not converged and len(history) - 1 != max_iter:
        centers = np.sort(revised(cells, centers) if revise else cells.means(centers))
        moved = cells.assign(centers)
        history.append(cells.inertia(centers))
        tried.append(cells.n_splits_tried)
        # Weights a few units in the last place apart could be revised in a circle.
        revise = revise and history[-1] < history[-2]
        converged = not moved or (tol > 0 and history[-2] - history[-1] <= tol * history[-2])
    return Path(centers, cells.counts(len(centers)), np.array(history), converged, np.array(tried))


def revised(cells, centers):
    """Means of the cells, after freeing one center where another cell needs it more.

    The pair of neighbours that is cheapest to merge frees a center, an emptied center costs
    nothing, and the cell that gains most from a second center is split at its mean, if that gain
    exceeds the cost. Inertia falls by the difference.

    This is our reading of the paper's "automatically ... revises the centers".
    """
    means = cells.means(centers)
    mass, total = cells.mass, cells.total
    if (mass == 0).any():
        freed, cost = np.argmin(mass), 0.0
    elif len(means) > 2:
        costs = _between(mass[:-1], means[:-1], mass[1:], means[1:])
        freed, cost = np.argmin(costs) + 1, costs.min()
    else:
        return means
    if cells.inertias(means).max() <= cost:
        return means  # a split saves at most the inertia of its cell: no need to try one

    low_mass, low_total = cells.lower_parts(means)
    low_mean = cells.mean_of(low_mass, low_total, means)
    high_mean = cells.mean_of(mass - low_mass, total - low_total, means)
    gain = _between(low_mass, low_mean, mass - low_mass, high_mean)
    if cost > 0:
        gain[[freed - 1, freed]] = 0.0
    split = np.argmax(gain)
    # A margin above rounding, so that a revision is never undone and done again.
    if gain[split] <= cost + 1e-12 * gain.sum():
        return means
    if cost > 0:
        pair = slice(freed - 1, freed + 1)
        means[freed - 1] = np.average(means[pair], weights=mass[pair])
    means[[split, freed]] = low_mean[split], high_mean[split]
    return means


def _between(mass_a, mean_a, mass_b, mean_b):
    """Inertia that merging two cells adds, and parting them saves (Ward 1963)."""
    mass = mass_a + mass_b
    return _ratio(mass_a * mass_b, mass, np.zeros_like(mass)) * (mean_a - mean_b) ** 2


def _ratio(numerator, denominator, otherwise):
    """Quotient where the denominator is positive, `otherwise` elsewhere."""
    return np.divide(numerator, denominator, out=otherwise.copy(), where=denominator > 0)


class TextbookCells:
    """Cells by comparing every weight with every center, O(n k), as the paper's baseline does.

    Parameters
    ----------
    weights : array of shape (n,)
        Finite, in any order, float32 or float64.
    sample_weight : float64 array of shape (n,), optional
        Positive.

    Attributes
    ----------
    mass, total, square : float64 arrays of shape (k,)
        Sums over each cell, of values about the `origin`.
    labels : int32 array of shape (n,)
    """

    def __init__(self, weights, sample_weight=None):
        self.weights, self.sample_weight = weights, sample_weight
        self.origin = float(np.partition(weights, len(weights) // 2)[len(weights) // 2])
        self.labels = np.full(len(weights), -1, np.int32)
        self.n_splits_tried = 0

    def assign(self, centers):
        """Assign every weight to its nearest center; True if any label changed. O(n k)."""
        distinct, first = np.unique(centers, return_index=True)
        sums, moved = _textbook_pass(
            self.weights, self.sample_weight, self.origin, distinct, first, self.labels
        )
        self.mass, self.total, self.square = np.zeros((3, len(centers)))
        self.mass[first], self.total[first], self.square[first] = sums.T
        return moved

    def counts(self, n_clusters):
        """Number of weights of each label; int64 of shape (n_clusters,)."""
        # By parts: bincount makes a copy of 8 bytes a label, and fresh memory is slow to get.
        parts = np.array_split(self.labels, 1 + len(self.labels) // 2**18)
        return np.sum([np.bincount(part, minlength=n_clusters) for part in parts], axis=0)

    def lower_parts(self, means):
        """Mass and total of the weights at or below the mean of their cell."""
        self.n_splits_tried += 1
        return _textbook_lower(self.weights, self.sample_weight, self.origin, means, self.labels)

    def means(self, centers):
        """Mean of each cell; the given center where the cell is empty."""
        return self.mean_of(self.mass, self.total, centers)

    def mean_of(self, mass, total, otherwise):
        """Mean of parts of the weights; `otherwise` where a part is empty."""
        means = np.array(otherwise)
        np.divide(total, mass, out=means, where=mass > 0)
        return np.add(means, self.origin, out=means, where=mass > 0)

    def inertia(self, centers):
        """Sum of squared distances of the weights to their centers."""
        return float(self.inertias(centers).sum())

    def inertias(self, centers):
        """The same of each cell, float64 of shape (k,)."""
        offset = centers - self.origin
        return np.maximum(0.0, self.square + offset * (offset * self.mass - 2 * self.total))


@njit(cache=True, parallel=True)
def _textbook_pass(weights, sample_weight, origin, centers, first, labels):
    """Update `labels`; sums of each cell, float64 of shape (k, 3), and whether any changed."""
    n, k = len(weights), len(centers)
    partial = np.zeros((CHUNKS, k, 3))
    changed = np.zeros(CHUNKS, np.int64)
    for chunk in prange(CHUNKS):
        for i in range(chunk * n // CHUNKS, (chunk + 1) * n // CHUNKS):
            weight = np.float64(weights[i])
            label = 0
            for j in range(1, k):
                label += nearer(weight, centers[j - 1], centers[j])
            mass = 1.0 if sample_weight is None else sample_weight[i]
            partial[chunk, label, 0] += mass
            partial[chunk, label, 1] += mass * (weight - origin)
            partial[chunk, label, 2] += mass * (weight - origin) ** 2
            changed[chunk] += labels[i] != first[label]
            labels[i] = first[label]
    return partial.sum(axis=0), changed.sum() > 0


@njit(cache=True, parallel=True)
def _textbook_lower(weights, sample_weight, origin, means, labels):
    """Mass and total, each float64 of shape (k,), of the weights at or below their cell's mean."""
    n, k = len(weights), len(means)
    partial = np.zeros((CHUNKS, 2, k))
    for chunk in prange(CHUNKS):
        for i in range(chunk * n // CHUNKS, (chunk + 1) * n // CHUNKS):
            if weights[i] <= means[labels[i]]:
                mass = 1.0 if sample_weight is None else sample_weight[i]
                partial[chunk, 0, labels[i]] += mass
                partial[chunk, 1, labels[i]] += mass * (np.float64(weights[i]) - origin)
    sums = partial.sum(axis=0)
    return sums[0], sums[1]
