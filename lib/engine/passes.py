"""Passes over unsorted weights, by their bits: what they hold, what a few of them are, labels.

A *leaf* is what floats share that differ in their last bits alone, their *remainder*. Leaves and
remainders are numbered so that they ascend with the floats; -0.0 stands just below 0.0.
"""

import functools

import numpy as np

from . import threads
from .compiled import kernel
from .keys import bits_of, key_of
from .ordered import label_floats
from .radix import sort_keys

SHIFT = {"float32": 12, "float16": 0, "bfloat16": 0}  # bits of a remainder
INFINITE = {"float32": 0x7F800000, "float16": 0x7C00, "bfloat16": 0x7F80}  # bits of infinity
COUNT = 38  # a tally holds the count above this bit and the sum of remainders below
FEW_KEYS = 32  # comparing with each is faster than tables of leaves
SEVERAL = 0xFFFF  # the cut of a leaf that several thresholds cut


class Passes:
    """The passes, on all cores of the processor.

    Parameters
    ----------
    bits : uint32 or uint16 array of shape (n,)
        Of the floats, in any order. Kept, not copied, not modified.
    kind : {"float32", "float16", "bfloat16"}
    sample_weight : float array of shape (n,), optional
        Weights of importance 0 are labelled, and otherwise left out.
    """

    def __init__(self, bits, kind="float32", sample_weight=None):
        self.kind, self.shift, self.width = kind, SHIFT[kind], 8 * bits.itemsize
        self.n_leaves, self.n_labels = 1 << (self.width - self.shift), len(bits)
        self.bits, self.top, self.sample_weight = bits, self.width - 1, sample_weight
        self.parts = threads.parts(len(bits))

    def tally(self):
        """Leaves that hold weights; sums of their mass, mass * remainder, mass * remainder ** 2.

        Returns
        -------
        leaves : int64 array of shape (m,)
            Ascending.
        counts, totals, squares : int64 arrays of shape (m,)
            Of mass 1 each.
        masses : float64 array of shape (3, m), or None
            With the sample weights as masses.
        """
        weighted = self.sample_weight is not None

        def of_part(part):
            packed, masses = np.zeros(2 * self.n_leaves, np.uint64), None
            if weighted:
                masses = np.zeros((self.n_leaves, 3))
            mass = self.sample_weight[part] if weighted else None
            infinite = INFINITE[self.kind]
            tally(self.bits[part], mass, self.top, self.shift, infinite, packed, masses)
            return packed, masses

        packed, masses = zip(*threads.run(of_part, self.parts), strict=True)
        packed = [tallies.reshape(-1, 2) for tallies in packed]
        found = np.flatnonzero(functools.reduce(np.bitwise_or, [part[:, 0] for part in packed]))
        negative = np.searchsorted(found, self.n_leaves // 2)  # where the sign's bit is set
        self.found = np.concatenate([found[negative:][::-1], found[:negative]])  # by their bits
        leaves = _in_order(self.found, self.n_leaves)
        sums = sum(_unpacked(tallies[self.found]) for tallies in packed)
        return leaves, *sums, sum(m[self.found] for m in masses).T if weighted else None

    def gather(self, chosen):
        """Remainders of the weights of chosen leaves, and their masses: leaf by leaf, ascending.

        Parameters
        ----------
        chosen : int64 array of shape (c,)
            Positions among the leaves that hold weights.

        Returns
        -------
        members : uint16 array
        masses : float array, or None
        """
        wanted = np.zeros(self.n_leaves, bool)
        wanted[self.found[chosen]] = True

        def of_part(part):
            keys, masses = np.empty(part.stop - part.start, np.uint32), None  # touched as needed
            if self.sample_weight is not None:
                masses = np.empty(len(keys))
            mass = None if masses is None else self.sample_weight[part]
            number = gather(self.bits[part], mass, self.top, self.shift, wanted, keys, masses)
            return keys[:number], None if masses is None else masses[:number]

        keys, masses = zip(*threads.run(of_part, self.parts), strict=True)
        keys, rest = np.concatenate(keys), np.uint32((1 << self.shift) - 1)
        masses = None if self.sample_weight is None else np.concatenate(masses)
        keys, along = sort_keys(keys, masses)
        return (keys & rest).astype(np.uint16), None if masses is None else along

    def label(self, keys, dtype):
        """Number of keys at or below that of each weight, of the given dtype.

        `keys` are int64, ascending: a leaf times 2 ** shift, plus a remainder.
        """
        labels = np.empty(self.n_labels, dtype)
        parts = threads.parts(len(labels), at_most=1 << 20)
        if self.kind == "float32" and len(keys) <= FEW_KEYS:
            floats = self.bits.view(np.float32)
            cuts = bits_of(keys.astype(np.uint32)).view(np.float32)
            threads.run(lambda part: label_floats(floats[part], cuts, labels[part]), parts)
            return labels
        base, cuts = label_tables(keys, self.shift, self.n_leaves, dtype)
        base, cuts = _by_bits(base), _by_bits(cuts)
        threads.run(
            lambda part: label(
                self.bits[part], self.top, self.shift, base, cuts, keys, labels[part]
            ),
            parts,
        )
        return labels


def label_tables(keys, shift, n_leaves, dtype):
    """What labels the weights of each leaf: the label of its start, and where the next begins.

    `cuts` are remainders: past the last where no key parts the leaf, `SEVERAL` where some do.
    """
    ends = np.minimum(-(-keys >> shift), n_leaves)
    base = np.repeat(
        np.arange(len(keys) + 1).astype(dtype), np.diff(ends, prepend=0, append=n_leaves)
    )
    cuts = np.full(n_leaves, 1 << shift, np.uint16)
    parted = keys[keys & ((1 << shift) - 1) > 0]
    cuts[parted >> shift] = parted & ((1 << shift) - 1)
    leaves, counts = np.unique(parted >> shift, return_counts=True)
    cuts[leaves[counts > 1]] = SEVERAL
    return base, cuts


def _unpacked(tallies):
    """Counts and sums of one part, int64 of shape (3, m): those of all overflow while packed."""
    both, squares = tallies.T
    return np.stack([both >> np.uint64(COUNT), both & np.uint64((1 << COUNT) - 1), squares]).astype(
        np.int64
    )


def _in_order(leaves, n_leaves):
    """Numbers that ascend with the floats, of leaves numbered by their bits."""
    half = n_leaves // 2
    return np.where(leaves < half, leaves + half, n_leaves - 1 - leaves)


def _by_bits(table):
    """A table of leaves that ascend with the floats, numbered by their bits instead."""
    negative, positive = np.split(table, 2)
    return np.concatenate([positive, negative[::-1]])


@kernel
def count_sound(importance):
    """How many are finite and not negative, and how many are positive."""
    sound, positive = 0, 0
    for i in range(len(importance)):
        sound += (importance[i] >= 0) & (importance[i] < np.inf)
        positive += importance[i] > 0
    return sound, positive


@kernel
def tally(bits, mass, top, shift, infinite, packed, masses):
    """Count the weights of each leaf and sum their remainders and the squares of those.

    Integers add up exactly, in any order, so that the sums do not depend on the number of threads.

    Parameters
    ----------
    bits : uint16 or uint32 array of shape (n,)
        At most 2 ** 25 weights.
    mass : float64 array of shape (n,), or None
        Weights of mass 0 are left out, unless they are not finite.
    top, shift, infinite : int
        The sign's bit, the bits of a remainder, and those of infinity.
    packed : uint64 array of shape (2 * n_leaves,)
        Added to: count and sum in one, and sum of squares. Leaves are numbered by their bits.
    masses : float64 array of shape (n_leaves, 3), or None
        Added to: mass, mass * remainder and mass * remainder ** 2.
    """
    top, shift, rest = np.uint64(top), np.uint64(shift), np.uint64((1 << shift) - 1)
    one, infinite = np.uint64(1) << np.uint64(COUNT), np.uint64(infinite)
    magnitude = (np.uint64(1) << top) - np.uint64(1)
    for i in range(len(bits)):
        word = np.uint64(bits[i])
        if mass is not None:  # noqa: SIM102  # Numba leaves out what follows only then
            if mass[i] == 0 and (word & magnitude) < infinite:
                continue
        leaf, remainder = word >> shift, key_of(word, top) & rest
        packed[leaf << np.uint64(1)] += one + remainder
        packed[(leaf << np.uint64(1)) + np.uint64(1)] += remainder * remainder
        if masses is not None:
            moment = mass[i] * np.float64(remainder)
            masses[leaf, 0] += mass[i]
            masses[leaf, 1] += moment
            masses[leaf, 2] += moment * np.float64(remainder)


@kernel
def gather(bits, mass, top, shift, wanted, keys, masses):
    """Write keys and masses of the weights of wanted leaves; how many there are with a mass.

    `wanted` is bool of shape (n_leaves,), numbered by their bits.
    """
    top, shift, number = np.uint64(top), np.uint64(shift), 0
    for i in range(len(bits)):
        word = np.uint64(bits[i])
        if wanted[word >> shift]:
            keys[number] = key_of(word, top)
            if mass is not None:
                masses[number] = mass[i]
                number -= mass[i] == 0
            number += 1
    return number


@kernel
def label(bits, top, shift, base, cuts, keys, labels):
    """Number of keys at or below that of each weight; `base` and `cuts` are numbered by bits."""
    top, shift, rest = np.uint64(top), np.uint64(shift), np.uint64((1 << shift) - 1)
    for i in range(len(bits)):
        word = np.uint64(bits[i])
        leaf, key = word >> shift, key_of(word, top)
        if cuts[leaf] == SEVERAL:
            number = 0
            while number < len(keys) and keys[number] <= np.int64(key):
                number += 1
            labels[i] = number
        else:
            labels[i] = base[leaf] + ((key & rest) >= cuts[leaf])
