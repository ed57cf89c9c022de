"""Textbook k-means, the baseline: every iteration compares every weight with every center.

`lib.lloyd.lloyd` iterates over these cells.
"""

import numpy as np
from numba import njit, prange

from ...engine.keys import nearer

CHUNKS = 64  # partial sums of a parallel pass: fixed, so that the result never depends on threads


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
