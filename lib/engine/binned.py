"""`BinnedWeights`: ranks, values and sums of unsorted weights, through bins of their bits."""

import numpy as np

from .keys import bits_of, keys_of
from .ranges import Leaves, decode, member_sums, range_sums, ranks, sum_tree

FINE = 1 << 10  # a leaf may hold one of so many weights
MARGIN = 8  # leaves looked up on both sides of each that is asked for


class BinnedWeights:
    """Weights in order, of which only those are looked up that a question is about.

    One pass counts and sums the weights of each *leaf*: those that share their sign, exponent and
    the first 11 binary digits (all digits, for 16-bit floats). That answers most questions. Where
    a rank or a threshold parts the weights of a leaf, another pass gathers the members of such
    leaves, and they are sorted.

    Parameters
    ----------
    passes : Passes or DevicePasses
        Over the weights. Those of importance 0 count in no rank and no sum.

    Attributes
    ----------
    dtype : NumPy dtype
        float32, the grid that thresholds lie on.
    origin : float
        Amid the weights: sums are of weights about it.

    Raises
    ------
    ValueError
        If a weight is not finite.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, passes):
        self.passes, self.n_labels = passes, passes.n_labels
        self.kind, self.width, self.shift = passes.kind, passes.width, passes.shift
        self.leaf, count, total, square, masses = passes.tally()
        self._check_finite(count, total)
        self.starts = np.concatenate([[0], np.cumsum(count)])
        mean, rest = np.divmod(total, count)
        self.pure = np.where((rest == 0) & (square == mean * total), mean, -1)
        self.edges = self._values(self.leaf << self.shift)
        next_ = self._values((self.leaf << self.shift) + 1) if self.shift else self.edges
        self.step = next_ - self.edges
        middle = self._leaf_of(len(self) // 2)
        self.origin = float(self.edges[middle] + self.step[middle] * mean[middle])
        self._sum_leaves(*((count, total, square) if masses is None else masses))
        self.place, self.looked = np.full(len(count), -1), np.zeros(len(count), bool)
        self.members = np.empty(0, np.uint16)
        self.masses = None if masses is None else np.empty(0)
        self.sums = member_sums(self.members, self.masses)

    def _check_finite(self, count, total):
        ends = self.leaf[[0, -1]] << self.shift
        with np.errstate(invalid="ignore"):
            extremes = self._values(ends + total[[0, -1]] // count[[0, -1]])
        for extreme in extremes[~np.isfinite(extremes)]:
            raise ValueError(f"weights hold {extreme}: remove or replace what is not finite.")

    def _sum_leaves(self, mass, total, square):
        """The tree of sums over leaves."""
        offset, total, square = self.edges - self.origin, self.step * total, self.step**2 * square
        about = mass * offset + total, mass * offset**2 + 2 * offset * total + square
        self.tree = sum_tree(np.stack([mass, *about], axis=1))

    def _values(self, keys):
        """Floats of the given keys, as float64."""
        bits = bits_of(keys.astype(f"u{self.width // 8}"))
        if self.kind == "float16":
            return bits.view(np.float16).astype(np.float64)
        bits = bits.astype(np.uint32) << 16 if self.kind == "bfloat16" else bits
        return bits.view(np.float32).astype(np.float64)

    # ------------------------------------------------------------------------- looking up

    @property
    def order(self):
        """What is known of them, for compiled loops; these mark the leaves that they look into."""
        return Leaves(
            self.shift,
            self.starts,
            self.edges,
            self.step,
            self.pure,
            self.place,
            self.members,
            self.sums,
            self.looked,
            self.origin,
            self.tree,
        )

    def look_up(self):
        """Look up what loops have asked for and was not known; whether there was any."""
        if not self.looked.any():
            return False
        self._look_up(self.looked)
        self.looked = np.zeros_like(self.looked)
        return True

    def _look_up(self, wanted):
        """Gather the members of the given leaves, a bool each, and of those beside them."""
        for _ in range(MARGIN):
            wanted[1:] |= wanted[:-1].copy()
            wanted[:-1] |= wanted[1:].copy()
        chosen = np.flatnonzero(wanted & (self.place < 0))
        if len(chosen) == 0:
            return
        counts = np.diff(self.starts)[chosen]
        members, masses = self.passes.gather(chosen)
        self.place[chosen] = len(self.members) + np.cumsum(counts) - counts
        self.members = np.concatenate([self.members, members])
        if masses is not None:
            self.masses = np.concatenate([self.masses, masses])
        self.sums = member_sums(self.members, self.masses)

    def is_fine(self):
        """Whether no leaf holds so many different weights that it blurs their distribution."""
        crowd = np.diff(self.starts)[self.pure < 0].max(initial=0)
        return bool(crowd <= len(self) // FINE)

    # ------------------------------------------------------------------ as a sorted array

    def __len__(self):
        return int(self.starts[-1])

    @property
    def sample_weight(self):
        """Of each weight, in order, float64; None if there are none."""
        if self.masses is None:
            return None
        self._look_up(self.place < 0)
        behind = np.repeat(self.place - self.starts[:-1], np.diff(self.starts))
        return self.masses[behind + np.arange(len(self))]

    def __getitem__(self, places):
        """Weights of the given ranks, float64."""
        places = np.asarray(places)
        leaf = self._leaf_of(places)
        mixed = self.pure[leaf] < 0
        if mixed.any():
            wanted = np.zeros_like(self.looked)
            wanted[leaf[mixed]] = self.place[leaf[mixed]] < 0
            if wanted.any():
                self._look_up(wanted)
            member = np.where(mixed, self.place[leaf] + places - self.starts[leaf], 0)
            remainder = np.where(mixed, self.members[member], self.pure[leaf])
        else:
            remainder = self.pure[leaf]
        return self.edges[leaf] + self.step[leaf] * remainder

    def _leaf_of(self, places):
        return np.asarray(np.searchsorted(self.starts, places, side="right") - 1)

    def bounds(self, places):
        """Between what the weights of the given ranks are, as far as their leaf tells; float64."""
        leaf = self._leaf_of(places)
        mixed, rest = self.pure[leaf] < 0, (1 << self.shift) - 1
        low = self.edges[leaf] + self.step[leaf] * np.where(mixed, 0, self.pure[leaf])
        return low, np.where(mixed, self.edges[leaf] + self.step[leaf] * rest, low)

    def __array__(self, dtype=None, copy=None):
        """All of them, sorted, as float32."""
        mixed = self.pure < 0
        if not mixed.any():
            values = self.edges + self.step * self.pure
            return np.repeat(values, np.diff(self.starts)).astype(dtype or np.float32)
        if (unknown := mixed & (self.place < 0)).any():
            self._look_up(unknown)
        keys = np.empty(len(self), np.uint32)
        decode(self.order, self.leaf, keys)
        return np.asarray(bits_of(keys).view(np.float32), dtype)

    def distinct(self, at_most):
        """The distinct weights, ascending, float64; None if there are more than `at_most`."""
        if len(self.leaf) > at_most + 1:  # 0.0 may have two
            return None
        if (self.pure >= 0).all():
            found = np.unique(self.edges + self.step * self.pure)
        else:
            found = np.unique(np.asarray(self)).astype(np.float64)
        return found if len(found) <= at_most else None

    def starts_of_distinct(self, count):
        """Ranks of the first of equal weights, `count` of them evenly over the leaves."""
        return self.starts[np.linspace(0, len(self.leaf) - 1, count).astype(np.int64)]

    def rank(self, values, side="left"):
        """Number of weights below each value or, on the right side, at or below it; int64."""
        values = np.asarray(values, np.float64)
        values = values if side == "right" else np.nextafter(values, -np.inf)
        found = ranks(self.order, values)
        return ranks(self.order, values) if self.look_up() else found

    def rank_near(self, values):
        """Number of weights below the leaf of each value: nothing is looked up."""
        leaf = np.searchsorted(self.edges, values, side="right") - 1
        return self.starts[np.maximum(leaf, 0)]

    def ranges(self, starts, stops):
        """Sums of mass, mass * value, mass * value ** 2 from each rank to another.

        Values are taken about the origin, masses are the sample weights. The ranks come from
        `rank`. float64 of shape (q, 3).
        """
        return range_sums(self.order, self.masses, starts, stops)

    # ---------------------------------------------------------------------------- labels

    def label(self, thresholds, dtype):
        """Number of thresholds at or below each weight, in the weights' own order."""
        if self.shift:
            keys = keys_of(thresholds)
        else:
            # No 16-bit float lies between a threshold and the next of them.
            with np.errstate(invalid="ignore"):
                values = self._values(np.arange(1 << self.width))
            values[np.isnan(values)] = np.inf  # above inf
            values[: np.argmax(values == -np.inf)] = -np.inf
            keys = np.searchsorted(values, thresholds)
        return self.passes.label(keys, dtype)
