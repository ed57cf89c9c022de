"""`SortedWeights`: ranks, values and sums of weights that are sorted once."""

import numpy as np

from . import threads
from .compiled import kernel
from .radix import order_of_floats, sort_floats
from .ranges import BLOCK, Sorted, block_sums, range_sums, sum_tree

TILE = 4096  # weights that stay in a core's cache
FEW_THRESHOLDS = 64  # comparing with each, many weights at a time, is faster than searching


class SortedWeights:
    """Weights in order: the same questions as to `BinnedWeights`, answered by a sorted copy.

    Parameters
    ----------
    values : float32 or float64 array of shape (n,)
        In any order. Kept, not modified.
    sample_weight : float64 array of shape (n,), optional
        Those of importance 0 count in no rank and no sum.

    Attributes
    ----------
    sample_weight : float64 array or None
        Positive, in the order of the sorted weights.
    dtype : NumPy dtype
        Of the values.

    Everything else, what is raised too, is as of `BinnedWeights`.
    """

    def __init__(self, values, sample_weight=None):
        self.values, self.dtype = values, values.dtype
        if sample_weight is None:
            self.weights, self.sample_weight = sort_floats(values), None
        else:
            order = order_of_floats(values)
            self.weights, self.sample_weight = values[order], sample_weight[order]
        for extreme in self.weights[[0, -1]]:
            if not np.isfinite(extreme):
                raise ValueError(f"weights hold {extreme}: remove or replace what is not finite.")
        if sample_weight is not None:
            used = self.sample_weight > 0
            self.weights, self.sample_weight = self.weights[used], self.sample_weight[used]
        self.origin = float(self.weights[len(self.weights) // 2])
        leaves = np.zeros((-(-len(self.weights) // BLOCK), 3))
        known = (self.weights, self.sample_weight, self.origin)
        threads.run(
            lambda part: block_sums(*known, part.start, part.stop, leaves),
            threads.parts(len(leaves), at_least=1 << 10),
        )
        self.tree = sum_tree(leaves)

    def __len__(self):
        return len(self.weights)

    def __getitem__(self, places):
        """Weights of the given ranks, float64."""
        return self.weights[places].astype(np.float64)

    def bounds(self, places):
        """Between what the weights of the given ranks are: themselves, twice; float64."""
        found = self[places]
        return found, found

    @property
    def order(self):
        """All of them, for compiled loops."""
        return Sorted(self.weights, self.origin, self.tree)

    @property
    def masses(self):
        """Sample weights, for compiled loops; or None."""
        return self.sample_weight

    def look_up(self):
        """Whether anything was asked for that was not known: it never is."""
        return False

    def __array__(self, dtype=None, copy=None):
        """All of them, sorted, in their own dtype."""
        return np.asarray(self.weights, dtype)

    def distinct(self, at_most):
        """The distinct weights, ascending, float64; None if there are more than `at_most`."""
        first, start = [0], 1
        while start < len(self.weights):  # stop early: few need a full scan
            part = self.weights[start - 1 : start + max(start, 256)]
            first = np.append(first, start + np.flatnonzero(part[1:] != part[:-1]))
            if len(first) > at_most:
                return None
            start += len(part) - 1
        return self[first] if len(first) <= at_most else None

    def starts_of_distinct(self, count):
        """Ranks of the first of equal weights, for `count` of the distinct weights, evenly."""
        starts = np.flatnonzero(np.append(True, self.weights[1:] != self.weights[:-1]))
        return starts[np.linspace(0, len(starts) - 1, count).astype(np.int64)]

    def rank(self, values, side="left"):
        """Number of weights below each value or, on the right side, at or below it; int64."""
        values = np.asarray(values, np.float64)
        with np.errstate(over="ignore"):
            cast = values.astype(self.dtype)  # searching for another dtype copies all weights
            off = cast > values if side == "right" else cast < values
            if off.any():
                towards = self.dtype.type(-np.inf if side == "right" else np.inf)
                cast[off] = np.nextafter(cast[off], towards)
        return np.searchsorted(self.weights, cast, side)

    def rank_near(self, values):
        """The same, on the left side."""
        return self.rank(values)

    def ranges(self, starts, stops):
        """Sums of mass, mass * value, mass * value ** 2 from each rank to another.

        Values are taken about the origin, masses are the sample weights. float64 of shape (q, 3).
        """
        return range_sums(self.order, self.masses, starts, stops)

    @property
    def n_labels(self):
        """Number of weights that have a label: all, those of importance 0 too."""
        return len(self.values)

    def label(self, thresholds, dtype):
        """Number of thresholds at or below each weight, in the weights' own order."""
        labels = np.empty(self.n_labels, dtype)
        threads.run(
            lambda part: label_floats(self.values[part], thresholds, labels[part]),
            threads.parts(len(labels), at_most=1 << 20),
        )
        return labels


def label_floats(weights, thresholds, labels):
    """Number of thresholds at or below each weight, into `labels`."""
    fours = np.full(-(-len(thresholds) // 4) * 4, np.nan, thresholds.dtype)  # NaN is below none
    fours[: len(thresholds)] = thresholds
    _label_floats(weights, fours, labels)


@kernel
def _label_floats(weights, thresholds, labels):
    for start in range(0, len(weights), TILE):
        # Counted from 0, which tells the compiler that no place is negative: ten times as fast.
        tile, found = weights[start : start + TILE], labels[start : start + TILE]
        if len(thresholds) <= FEW_THRESHOLDS:
            for i in range(len(tile)):
                found[i] = 0
            for j in range(0, len(thresholds), 4):  # fewer reads and writes than one by one
                a, b = thresholds[j], thresholds[j + 1]
                c, d = thresholds[j + 2], thresholds[j + 3]
                for i in range(len(tile)):
                    found[i] += (tile[i] >= a) + (tile[i] >= b) + (tile[i] >= c) + (tile[i] >= d)
        else:
            for i in range(len(tile)):
                low, high = 0, len(thresholds)
                while low < high:
                    middle = (low + high) >> 1
                    if tile[i] >= thresholds[middle]:
                        low = middle + 1
                    else:
                        high = middle
                found[i] = low
