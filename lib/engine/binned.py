"""`BinnedWeights`: ranks, values and sums of unsorted weights, through bins of their bits."""

import numpy as np

from . import threads
from .kernels import (
    COUNT,
    count_distinct,
    decode,
    label,
    pick_distinct,
    ranges,
    rank_keys,
    scatter,
    tally,
    tally_mass,
)
from .keys import bits_of, keys_of
from .sums import sum_tree

GROUPS = 1 << 16  # weights whose keys share the leading 16 bits
SHIFT = {"float32": 12, "float16": 0, "bfloat16": 0}


class BinnedWeights:
    """Weights in order, sorted only where somebody looks.

    One pass counts and sums the weights of each *leaf*: those that share their sign, exponent and
    the first 11 binary digits (all digits, for 16-bit floats). That answers most questions. Where
    a rank or a threshold parts the weights of a leaf, its members are looked up: a second pass has
    written the rest of each weight's bits to its *group* of 16 leaves, which is sorted when it is
    needed.

    Parameters
    ----------
    bits : uint32 or uint16 array of shape (n,)
        The weights' bits, in any order. Kept, not copied, not modified.
    kind : {"float32", "float16", "bfloat16"}
    sample_weight : float array of shape (n,), optional
        Weights of importance 0 count in no rank and no sum.

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

    def __init__(self, bits, kind="float32", sample_weight=None):
        self.bits, self.kind = bits, kind
        self.width, self.shift = 8 * bits.itemsize, SHIFT[kind]
        parts = threads.parts(len(bits))
        tallies = threads.run(lambda part: self._tally(bits[part]), parts)
        packed = sum(tallies)
        self._check_finite(packed)
        if sample_weight is not None and not sample_weight.all():
            bits, sample_weight = bits[sample_weight > 0], sample_weight[sample_weight > 0]
            parts = threads.parts(len(bits))
            tallies = threads.run(lambda part: self._tally(bits[part]), parts)
            packed = sum(tallies)
        count, total, square = self._index_leaves(packed)
        if sample_weight is not None:
            count, total, square = self._mass_sums(bits, sample_weight, parts)
        self._sum_leaves(count, total, square)
        self.members, self.masses = np.empty(0, np.uint16), None
        self.settled = np.zeros(GROUPS, bool)
        if sample_weight is not None or (self.pure < 0).any():
            self._scatter(bits, sample_weight, parts, tallies)

    def _tally(self, bits):
        packed = np.zeros((1 << (self.width - self.shift), 2), np.uint64)
        tally(bits, self.width, self.shift, packed)
        return packed

    def _check_finite(self, packed):
        ends = np.flatnonzero(packed[:, 0])[[0, -1]]
        count, total = _unpacked(packed[ends, 0])
        with np.errstate(invalid="ignore"):
            extremes = self._values((ends << self.shift) + total // count)
        for extreme in extremes[~np.isfinite(extremes)]:
            raise ValueError(f"weights hold {extreme}: remove or replace what is not finite.")

    def _index_leaves(self, packed):
        """What is known of each leaf that holds weights; counts and sums of their remainders."""
        self.leaf = np.flatnonzero(packed[:, 0])
        packed = packed[self.leaf]
        count, total = _unpacked(packed[:, 0])
        square = packed[:, 1].astype(np.int64)
        self.starts = np.concatenate([[0], np.cumsum(count)])
        mean, rest = np.divmod(total, count)
        self.pure = np.where((rest == 0) & (square == mean * total), mean, -1)
        self.edges = self._values(self.leaf << self.shift)
        next_ = self._values((self.leaf << self.shift) + 1) if self.shift else self.edges
        self.step = next_ - self.edges
        self.origin = self.edges[np.searchsorted(self.starts, len(self) // 2, "right") - 1]
        self.offset = self.edges - self.origin
        return count, total, square

    def _mass_sums(self, bits, sample_weight, parts):
        """Sums of mass, mass * remainder, mass * remainder ** 2 of each leaf."""

        def tally_part(part):
            sums = np.zeros((1 << (self.width - self.shift), 3))
            tally_mass(bits[part], sample_weight[part], self.width, self.shift, sums)
            return sums[self.leaf]

        return sum(threads.run(tally_part, parts)).T

    def _sum_leaves(self, mass, total, square):
        """The tree of sums over leaves."""
        total, square = self.step * total, self.step**2 * square
        about = (
            mass * self.offset + total,
            mass * self.offset**2 + 2 * self.offset * total + square,
        )
        self.tree = sum_tree(np.stack([mass, *about], axis=1))

    def _values(self, keys):
        """Floats of the given keys, as float64."""
        bits = bits_of(keys, self.width)
        if self.kind == "float16":
            return bits.astype(np.uint16).view(np.float16).astype(np.float64)
        bits = bits << 16 if self.kind == "bfloat16" else bits
        return bits.astype(np.uint32).view(np.float32).astype(np.float64)

    def _scatter(self, bits, sample_weight, parts, tallies):
        # Each part writes its share of a group behind that of the parts before it.
        counts = [_unpacked(t[:, 0])[0].reshape(GROUPS, -1).sum(axis=1) for t in tallies]
        ends = np.cumsum(np.stack(counts, axis=1)).reshape(GROUPS, -1)
        self.group_ends = ends[:, -1]
        self.members = np.empty(len(bits), np.uint16)
        if sample_weight is not None:
            self.masses = np.empty(len(bits), sample_weight.dtype)

        def write(part, next_):
            mass = None if sample_weight is None else sample_weight[part]
            scatter(bits[part], mass, self.width, next_, self.members, self.masses)

        threads.run(write, parts, [end - count for end, count in zip(ends.T, counts, strict=True)])

    def largest_crowd(self):
        """Most weights of a leaf in which they differ."""
        return int(np.diff(self.starts)[self.pure < 0].max(initial=0))

    # ------------------------------------------------------------------ as a sorted array

    def __len__(self):
        return int(self.starts[-1])

    @property
    def sample_weight(self):
        """Of each weight, in order, float64; None if there are none."""
        if self.masses is None:
            return None
        self._settle(self._groups())
        return self.masses.astype(np.float64)

    def __getitem__(self, ranks):
        """Weights of the given ranks, float64."""
        ranks = np.asarray(ranks)
        leaf = np.asarray(np.searchsorted(self.starts, ranks, side="right") - 1)
        mixed = np.asarray(self.pure[leaf] < 0)
        if mixed.any():
            self._settle(self._groups()[leaf[mixed]])
            remainder = np.where(
                mixed, self.members[np.where(mixed, ranks, 0)] & 0xFFF, self.pure[leaf]
            )
        else:
            remainder = self.pure[leaf]
        return self.edges[leaf] + self.step[leaf] * remainder

    def __array__(self, dtype=None, copy=None):
        """All of them, sorted, as float32."""
        if (self.pure >= 0).all():
            values = self.edges + self.step * self.pure
            return np.repeat(values, np.diff(self.starts)).astype(dtype or np.float32)
        self._settle(self._groups())
        bits = np.empty(len(self), np.uint32)
        decode(self.group_ends, self.members, bits)
        return np.asarray(bits.view(np.float32), dtype)

    def distinct(self, at_most):
        """The distinct weights, ascending, float64; None if there are more than `at_most`."""
        if len(self.leaf) > at_most:
            return None
        if (self.pure >= 0).all():
            return self.edges + self.step * self.pure
        found = np.unique(np.asarray(self)).astype(np.float64)
        return found if len(found) <= at_most else None

    def starts_of_distinct(self, count):
        """Ranks of the first of equal weights, for `count` of the distinct weights, evenly."""
        if (self.pure >= 0).all():
            starts = self.starts[:-1]
            return starts[np.linspace(0, len(starts) - 1, count).astype(np.int64)]
        self._settle(self._groups())
        found = np.empty(count, np.int64)
        number = count_distinct(self.starts, self.members)
        wanted = np.linspace(0, number - 1, count).astype(np.int64)
        pick_distinct(self.starts, self.members, wanted, found)
        return found

    def rank(self, thresholds):
        """Number of weights below each threshold, int64; thresholds are cast to float32."""
        if self.kind != "float32":
            return self.starts[np.searchsorted(self.edges, thresholds)]
        keys = keys_of(thresholds)
        ranks, unsettled = np.empty_like(keys), np.empty_like(keys)
        known = (self.shift, self.leaf, self.starts, self.pure, self.settled, self.members)
        while waiting := rank_keys(keys, *known, ranks, unsettled):
            self._settle(unsettled[:waiting])
        return ranks

    def ranges(self, starts, stops):
        """Sums of mass, mass * value, mass * value ** 2 from each rank to another.

        Values are taken about the origin, masses are the sample weights. The ranks come from
        `rank`. float64 of shape (q, 3).
        """
        sums = np.empty((len(starts), 3))
        known = (self.starts, self.offset, self.step, self.pure, self.members, self.masses)
        ranges(starts, stops, *known, self.tree, sums)
        return sums

    def _groups(self):
        """The groups that hold weights; some twice."""
        return self.leaf >> (self.width - 16 - self.shift)

    def _settle(self, groups):
        groups = [g for g in np.unique(groups) if not self.settled[g]]
        cores = threads.n_threads() if len(groups) > 8 else 1
        threads.run(self._sort_groups, [groups[i::cores] for i in range(cores)])
        self.settled[groups] = True

    def _sort_groups(self, groups):
        for group in groups:
            part = slice(self.group_ends[group - 1] if group else 0, self.group_ends[group])
            if self.masses is None:
                self.members[part].sort(kind="stable")  # a radix sort, for 16 bits
            else:
                order = np.argsort(self.members[part], kind="stable")
                self.members[part] = self.members[part][order]
                self.masses[part] = self.masses[part][order]

    # ---------------------------------------------------------------------------- labels

    @property
    def n_labels(self):
        """Number of weights that have a label: all, those of importance 0 too."""
        return len(self.bits)

    def label(self, thresholds, labels):
        """Write the number of thresholds at or below each weight, in the weights' own order."""
        if self.kind == "float32":
            keys = keys_of(thresholds)
        else:
            # No 16-bit float lies between a threshold and the next of them.
            with np.errstate(invalid="ignore"):
                values = self._values(np.arange(GROUPS))
            values[np.isnan(values)] = np.inf  # above inf
            values[: np.argmax(values == -np.inf)] = -np.inf
            keys = np.searchsorted(values, thresholds)
        shift = self.width - 16
        table = np.searchsorted(keys, np.arange(GROUPS + 1) << shift, side="left")
        table = table.astype(np.int32)
        threads.run(
            lambda part: label(self.bits[part], self.width, shift, table, keys, labels[part]),
            threads.parts(len(labels), at_most=1 << 20),
        )


def _unpacked(tallies):
    """Counts and sums of remainders, int64, of packed tallies."""
    counts = (tallies >> np.uint64(COUNT)).astype(np.int64)
    return counts, (tallies & np.uint64((1 << COUNT) - 1)).astype(np.int64)
