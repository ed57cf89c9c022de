"""`LeafWeights`: ordered weights of which only those are sorted that a question is about."""

import numpy as np
import torch

from .keys import bits_of, keys_of, thresholds
from .tables import LeafTables, fill, inertia, member_sums, range_sums, ranks, write_keys

FINE = 1 << 10  # a leaf may hold one of so many weights
MARGIN = 8  # leaves loaded on both sides of each that is needed (docs/measure_engine.py)


class LeafWeights:
    """`OrderedWeights` by leaves: weights that share their sign, exponent and leading digits.

    One pass counts and sums the weights of each leaf. That answers most questions. Where a rank or
    a threshold divides the weights of a leaf, a look-up loads the leaf: another pass gathers its
    members, and they are sorted.

    Parameters
    ----------
    passes : Passes or DevicePasses

    Attributes
    ----------
    numbers : int64 array of shape (m,)
        Leaf numbers of the leaves that hold weights, ascending. All other arrays of shape (m,)
        have one entry for each of these; they are described by `LeafTables`.
    needed : bool array of shape (m + 1,)
        Leaves that compiled loops marked for the next look-up, and whether there are any.

    Raises
    ------
    ValueError
        If a weight is not finite.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, passes):
        self.passes, self.n_labels = passes, passes.n_labels
        self.kind, self.width, self.shift = passes.kind, passes.width, passes.shift
        self.numbers, count, total, square, weighted = passes.tally()
        self._check_finite(count, total)
        self.starts = np.concatenate([[0], np.cumsum(count)])
        mean, rest = np.divmod(total, count)
        self.pure = np.where((rest == 0) & (square == mean * total), mean, -1)
        self.edges = self._values(self.numbers << self.shift)
        next_ = self._values((self.numbers << self.shift) + 1) if self.shift else self.edges
        self.step = next_ - self.edges
        middle = self._leaf_of(len(self) // 2)
        self.origin = float(self.edges[middle] + self.step[middle] * mean[middle])
        self._sum_leaves(*((count, total, square) if weighted is None else weighted))
        self.spread = _spread(*((count, total, square) if weighted is None else weighted))
        self.spread[self.pure >= 0, 1] = self.pure[self.pure >= 0]  # without rounding
        self.spread[self.pure >= 0, 2] = 0.0
        self.member_start, self.needed = np.full(len(count), -1), np.zeros(len(count) + 1, bool)
        self.members = np.empty(0, np.uint16)
        self.known_sample_weight = None if weighted is None else np.empty(0)
        self.sums = member_sums(self.members, self.known_sample_weight)

    def _check_finite(self, count, total):
        ends = self.numbers[[0, -1]] << self.shift
        with np.errstate(invalid="ignore"):
            extremes = self._values(ends + total[[0, -1]] // count[[0, -1]])
        for extreme in extremes[~np.isfinite(extremes)]:
            raise ValueError(f"weights hold {extreme}: remove or replace what is not finite.")

    def _sum_leaves(self, mass, total, square):
        """Build the tree of sums from the moments of remainders."""
        offset, total, square = self.edges - self.origin, self.step * total, self.step**2 * square
        about = mass * offset + total, mass * offset**2 + 2 * offset * total + square
        last = np.stack([mass, *about], axis=1)
        self.tree = np.concatenate([np.zeros_like(last), last])
        fill(self.tree)

    def _values(self, keys):
        """Floats of the given keys, as float64."""
        bits = bits_of(keys.astype(f"u{self.width // 8}"))
        if self.kind == "float16":
            return bits.view(np.float16).astype(np.float64)
        bits = bits.astype(np.uint32) << 16 if self.kind == "bfloat16" else bits
        return bits.view(np.float32).astype(np.float64)

    # ------------------------------------------------------------------------- looking up

    @property
    def tables(self):
        """What is known so far; compiled loops mark the leaves that they needed besides."""
        return LeafTables(
            self.shift,
            self.starts,
            self.edges,
            self.step,
            self.pure,
            self.member_start,
            self.members,
            self.sums,
            self.needed,
            self.origin,
            self.tree,
            self.spread,
        )

    def look_up(self):
        """As of `OrderedWeights`."""
        if not self.needed[-1]:
            return False
        self._load(self.needed[:-1])
        self.needed = np.zeros_like(self.needed)
        return True

    def _load(self, wanted):
        """Gather and sort the members of the given leaves, a bool each, and of those beside."""
        for _ in range(MARGIN):
            wanted[1:] |= wanted[:-1].copy()
            wanted[:-1] |= wanted[1:].copy()
        chosen = np.flatnonzero(wanted & (self.member_start < 0))
        if len(chosen) == 0:
            return
        counts = np.diff(self.starts)[chosen]
        members, sample_weight = self.passes.gather(chosen)
        self.member_start[chosen] = len(self.members) + np.cumsum(counts) - counts
        self.members = np.concatenate([self.members, members])
        if sample_weight is not None:
            self.known_sample_weight = np.concatenate([self.known_sample_weight, sample_weight])
        self.sums = member_sums(self.members, self.known_sample_weight)

    def is_fine(self):
        """Whether no leaf holds so many different weights that it blurs their distribution."""
        crowd = np.diff(self.starts)[self.pure < 0].max(initial=0)
        return bool(crowd <= len(self) // FINE)

    # ------------------------------------------------------------------ as a sorted array

    def __len__(self):
        return int(self.starts[-1])

    @property
    def sample_weight(self):
        """As of `OrderedWeights`; loads all leaves."""
        if self.known_sample_weight is None:
            return None
        self._load(self.member_start < 0)
        ahead = np.repeat(self.member_start - self.starts[:-1], np.diff(self.starts))
        return self.known_sample_weight[ahead + np.arange(len(self))]

    def __getitem__(self, ranks):
        ranks = np.asarray(ranks)
        leaf = self._leaf_of(ranks)
        mixed = self.pure[leaf] < 0
        if mixed.any():
            wanted = np.zeros(len(self.numbers), bool)
            wanted[leaf[mixed]] = self.member_start[leaf[mixed]] < 0
            if wanted.any():
                self._load(wanted)
            member = np.where(mixed, self.member_start[leaf] + ranks - self.starts[leaf], 0)
            remainder = np.where(mixed, self.members[member], self.pure[leaf])
        else:
            remainder = self.pure[leaf]
        return self.edges[leaf] + self.step[leaf] * remainder

    def _leaf_of(self, ranks):
        return np.asarray(np.searchsorted(self.starts, ranks, side="right") - 1)

    def value_bounds(self, ranks):
        """As of `OrderedWeights`: the ends of their leaves."""
        leaf = self._leaf_of(ranks)
        mixed, rest = self.pure[leaf] < 0, (1 << self.shift) - 1
        low = self.edges[leaf] + self.step[leaf] * np.where(mixed, 0, self.pure[leaf])
        return low, np.where(mixed, self.edges[leaf] + self.step[leaf] * rest, low)

    def __array__(self, dtype=None, copy=None):
        mixed = self.pure < 0
        if not mixed.any():
            values = self.edges + self.step * self.pure
            return np.repeat(values, np.diff(self.starts)).astype(dtype or np.float32)
        if (unknown := mixed & (self.member_start < 0)).any():
            self._load(unknown)
        keys = np.empty(len(self), np.uint32)
        write_keys(self.tables, self.numbers, keys)
        return np.asarray(bits_of(keys).view(np.float32), dtype)

    def distinct(self, at_most):
        """As of `OrderedWeights`."""
        if len(self.numbers) > at_most + 1:  # 0.0 may have two
            return None
        if (self.pure >= 0).all():
            found = np.unique(self.edges + self.step * self.pure)
        else:
            found = np.unique(np.asarray(self)).astype(np.float64)
        return found if len(found) <= at_most else None

    def starts_of_distinct(self, count):
        """As of `OrderedWeights`, but evenly over the leaves."""
        return self.starts[np.linspace(0, len(self.numbers) - 1, count).astype(np.int64)]

    def rank(self, values, side="left"):
        """As of `OrderedWeights`."""
        values = np.asarray(values, np.float64)
        values = values if side == "right" else np.nextafter(values, -np.inf)
        found = ranks(self.tables, values)
        return ranks(self.tables, values) if self.look_up() else found

    def rank_near(self, values):
        """Number of weights below the leaf of each value."""
        leaf = np.searchsorted(self.edges, values, side="right") - 1
        return self.starts[np.maximum(leaf, 0)]

    def ranges(self, starts, stops):
        """As of `OrderedWeights`."""
        return range_sums(self.tables, self.known_sample_weight, starts, stops)

    def inertia(self, centers, cell_starts):
        """As of `OrderedWeights`."""
        found = inertia(self.tables, self.known_sample_weight, centers, cell_starts)
        mixed = (self.pure < 0) & (self.member_start < 0)
        if self.known_sample_weight is None or not mixed.any():
            return found
        # Second moments of weighted leaves are rounded: load what may be off by a millionth.
        rounding = np.finfo(np.float64).eps * self.spread[:, 0] * (self.step * 2**self.shift) ** 2
        if rounding[mixed].sum() > 1e-7 * found:
            self._load(mixed)
            found = inertia(self.tables, self.known_sample_weight, centers, cell_starts)
        return found

    # ---------------------------------------------------------------------------- labels

    def label(self, thresholds, dtype):
        """As of `OrderedWeights`."""
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

    def nearest(self, centers, dtype):
        """As of `OrderedWeights`."""
        first = np.flatnonzero(np.append(True, centers[1:] > centers[:-1]))
        labels = self.label(thresholds(centers[first], self.dtype), dtype)
        if len(first) == len(centers):
            return labels
        if torch.is_tensor(labels):
            return torch.from_numpy(first).to(labels.device)[labels.int()].to(labels.dtype)
        return first.astype(dtype)[labels]


def _spread(mass, total, square):
    """Mass, mean and sum of squared distances from it, of each leaf; from sums of remainders."""
    mean = total / mass
    if mass.dtype == np.int64:  # about the nearest integer, exactly: squares would cancel
        near = np.rint(mean).astype(np.int64)
        square, offset = square + near * (near * mass - 2 * total), mean - near
    else:
        offset = mean
    return np.stack([mass, mean, np.maximum(0.0, square - mass * offset**2)], axis=1)
