"""`SortedWeights`: ordered weights by a sorted copy."""

import math

import numpy as np

from . import threads
from .labels import label_floats, label_nearest
from .sorting import stable_order
from .tables import (
    BLOCK,
    SortedTables,
    distinct_weights,
    fill,
    inertia,
    range_sums,
    sum_blocks,
    sum_tree,
)

A_THREAD = 1 << 13  # blocks that are worth a thread


class SortedWeights:
    """`OrderedWeights` that are sorted once.

    Parameters
    ----------
    values : float32 or float64 array of shape (n,)
        In any order. Kept, not modified.
    sample_weight : float64 array of shape (n,), optional

    Raises
    ------
    ValueError
        If a weight is not finite.
    """

    def __init__(self, values, sample_weight=None):
        self.values, self.dtype, self.n_labels = values, values.dtype, len(values)
        if sample_weight is None:
            self.weights, self.sample_weight = np.sort(values), None
        else:
            order = stable_order(values)
            self.weights, self.sample_weight = values[order], sample_weight[order]
        for extreme in (float(self.weights[0]), float(self.weights[-1])):
            if not math.isfinite(extreme):
                raise ValueError(f"weights hold {extreme}: remove or replace what is not finite.")
        if sample_weight is not None and not self.sample_weight.all():
            used = self.sample_weight > 0
            self.weights, self.sample_weight = self.weights[used], self.sample_weight[used]
        self.origin = float(self.weights[len(self.weights) // 2])
        self.tree = self._sum()

    def _sum(self):
        n_blocks = -(-len(self.weights) // BLOCK)
        known = (self.weights, self.sample_weight, self.origin)
        if n_blocks < 2 * A_THREAD:
            return sum_tree(*known)
        tree = np.empty((2 * n_blocks, 3))
        threads.run(
            lambda part: sum_blocks(*known, part.start, part.stop, tree),
            threads.parts(n_blocks, at_least=A_THREAD),
        )
        fill(tree)
        return tree

    def __len__(self):
        return len(self.weights)

    def __getitem__(self, ranks):
        return self.weights[ranks].astype(np.float64)

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.weights, dtype)

    @property
    def tables(self):
        """All weights and their tree of sums."""
        return SortedTables(self.weights, self.origin, self.tree)

    @property
    def known_sample_weight(self):
        """Those of all weights."""
        return self.sample_weight

    def look_up(self):
        """Always False: nothing is left to load."""
        return False

    def value_bounds(self, ranks):
        """The weights of the given ranks themselves, twice."""
        found = self[ranks]
        return found, found

    def distinct(self, at_most):
        """As of `OrderedWeights`."""
        found = distinct_weights(self.weights, at_most)
        return found if len(found) else None

    def starts_of_distinct(self, count):
        """As of `OrderedWeights`."""
        starts = np.flatnonzero(np.append(True, self.weights[1:] != self.weights[:-1]))
        return starts[np.linspace(0, len(starts) - 1, count).astype(np.int64)]

    def rank(self, values, side="left"):
        """As of `OrderedWeights`."""
        values = np.asarray(values, np.float64)
        with np.errstate(over="ignore"):
            cast = values.astype(self.dtype)  # searching for another dtype copies all weights
            off = cast > values if side == "right" else cast < values
            if off.any():
                towards = self.dtype.type(-np.inf if side == "right" else np.inf)
                cast[off] = np.nextafter(cast[off], towards)
        return np.searchsorted(self.weights, cast, side)

    def rank_near(self, values):
        """The same as `rank` on the left side."""
        return self.rank(values)

    def ranges(self, starts, stops):
        """As of `OrderedWeights`."""
        return range_sums(self.tables, self.known_sample_weight, starts, stops)

    def inertia(self, centers, cell_starts):
        """As of `OrderedWeights`."""
        return inertia(self.tables, self.known_sample_weight, centers, cell_starts)

    def label(self, thresholds, dtype):
        """As of `OrderedWeights`."""
        return self._labels(label_floats, thresholds, dtype)

    def nearest(self, centers, dtype):
        """As of `OrderedWeights`."""
        return self._labels(label_nearest, centers, dtype)

    def _labels(self, write, by, dtype):
        labels = np.empty(self.n_labels, dtype)
        threads.run(
            lambda part: write(self.values[part], by, labels[part]),
            threads.parts(len(labels), at_most=1 << 20),
        )
        return labels
