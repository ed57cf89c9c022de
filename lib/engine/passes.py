"""Passes over the bits of all weights: they tally leaves, gather members or write labels."""

import functools

import numpy as np

from . import threads
from .compiled import kernel
from .keys import bits_of, key_of
from .labels import label_floats
from .numbering import Slots, by_slot, by_value, leaf_numbers
from .sorting import sort_along

SHIFT = {"float32": 12, "float16": 0, "bfloat16": 0}  # bits of a remainder (docs/measure_engine.py)
INFINITE = {"float32": 0x7F800000, "float16": 0x7C00, "bfloat16": 0x7F80}  # bits of infinity
COUNT = 38  # a tally holds the count above this bit and the sum of remainders below
FEW_KEYS = 32  # comparing with each is faster than tables of leaves (docs/measure_engine.py)
SEVERAL = 0xFFFF  # the cut of a leaf that several thresholds divide


class Passes:
    """The passes, on all cores of the processor.

    Parameters
    ----------
    bits : uint32 or uint16 array of shape (n,)
        Of the floats, in any order. Kept, not copied, not modified.
    kind : {"float32", "float16", "bfloat16"}
    sample_weight : float array of shape (n,), optional
        Weights of sample weight 0 are labelled, and otherwise left out.
    """

    def __init__(self, bits, kind="float32", sample_weight=None):
        self.kind, self.shift, self.width = kind, SHIFT[kind], 8 * bits.itemsize
        self.n_leaves, self.n_labels = 1 << (self.width - self.shift), len(bits)
        self.bits, self.top, self.sample_weight = bits, self.width - 1, sample_weight
        self.parts = threads.parts(len(bits))

    def tally(self):
        """Leaves that hold weights, and sums over each.

        Returns
        -------
        numbers : int64 array of shape (m,)
            Leaf numbers, ascending.
        counts, totals, squares : int64 arrays of shape (m,)
            Number of weights; sums of their remainders, and of the squares of these.
        weighted : float64 array of shape (3, m), or None
            The same sums, each weight counted by its sample weight.
        """

        def of_part(part):
            packed, weighted, sample_weight = np.zeros(2 * self.n_leaves, np.uint64), None, None
            if self.sample_weight is not None:
                weighted, sample_weight = np.zeros((self.n_leaves, 3)), self.sample_weight[part]
            infinite = INFINITE[self.kind]
            tally(self.bits[part], sample_weight, self.top, self.shift, infinite, packed, weighted)
            return packed, weighted

        packed, weighted = zip(*threads.run(of_part, self.parts), strict=True)
        packed = [tallies.reshape(-1, 2) for tallies in packed]
        found = np.flatnonzero(functools.reduce(np.bitwise_or, [part[:, 0] for part in packed]))
        self.slots = by_value(Slots(found), self.n_leaves)
        sums = sum(_unpacked(tallies[self.slots]) for tallies in packed)
        if self.sample_weight is not None:
            weighted = sum(sums[self.slots] for sums in weighted).T
        else:
            weighted = None
        return leaf_numbers(self.slots, self.n_leaves), *sums, weighted

    def gather(self, chosen):
        """Remainders of the weights of chosen leaves, and their sample weights, ascending.

        Parameters
        ----------
        chosen : int64 array of shape (c,)
            Indices among the leaves that hold weights.

        Returns
        -------
        members : uint16 array
        sample_weight : float array, or None
        """
        wanted = np.zeros(self.n_leaves, bool)
        wanted[self.slots[chosen]] = True

        def of_part(part):
            keys = np.empty(part.stop - part.start, np.uint32)  # its pages are touched as needed
            theirs, sample_weight = None, None
            if self.sample_weight is not None:
                theirs, sample_weight = np.empty(len(keys)), self.sample_weight[part]
            bits = self.bits[part]
            number = gather(bits, sample_weight, self.top, self.shift, wanted, keys, theirs)
            return keys[:number], None if theirs is None else theirs[:number]

        keys, theirs = zip(*threads.run(of_part, self.parts), strict=True)
        keys, rest = np.concatenate(keys), np.uint32((1 << self.shift) - 1)
        if self.sample_weight is None:
            return (np.sort(keys) & rest).astype(np.uint16), None
        keys, theirs = sort_along(keys, np.concatenate(theirs))
        return (keys & rest).astype(np.uint16), theirs

    def label(self, keys, dtype):
        """Number of keys at or below that of each weight, of the given dtype.

        `keys` are int64, ascending.
        """
        labels = np.empty(self.n_labels, dtype)
        parts = threads.parts(len(labels), at_most=1 << 20)
        if self.kind == "float32" and len(keys) <= FEW_KEYS:
            floats = self.bits.view(np.float32)
            cuts = bits_of(keys.astype(np.uint32)).view(np.float32)
            threads.run(lambda part: label_floats(floats[part], cuts, labels[part]), parts)
            return labels
        base, cuts = label_tables(keys, self.shift, self.n_leaves, dtype)
        base, cuts = by_slot(base), by_slot(cuts)
        threads.run(
            lambda part: label(
                self.bits[part], self.top, self.shift, base, cuts, keys, labels[part]
            ),
            parts,
        )
        return labels


def label_tables(keys, shift, n_leaves, dtype):
    """Tables by leaf number: the label at a leaf's start, and the remainder at which it rises.

    The second, `cuts`, is past the last remainder where no key divides the leaf, and `SEVERAL`
    where several do.
    """
    ends = np.minimum(-(-keys >> shift), n_leaves)
    base = np.repeat(
        np.arange(len(keys) + 1).astype(dtype), np.diff(ends, prepend=0, append=n_leaves)
    )
    cuts = np.full(n_leaves, 1 << shift, np.uint16)
    dividing = keys[keys & ((1 << shift) - 1) > 0]
    cuts[dividing >> shift] = dividing & ((1 << shift) - 1)
    numbers, counts = np.unique(dividing >> shift, return_counts=True)
    cuts[numbers[counts > 1]] = SEVERAL
    return base, cuts


def _unpacked(tallies):
    """Counts and sums of one part, int64 of shape (3, m); sums of all overflow while packed."""
    both, squares = tallies.T
    return np.stack([both >> np.uint64(COUNT), both & np.uint64((1 << COUNT) - 1), squares]).astype(
        np.int64
    )


@kernel
def count_sound(sample_weight):
    """How many sample weights are finite and not negative, and how many are positive."""
    sound, positive = 0, 0
    for i in range(len(sample_weight)):
        sound += (sample_weight[i] >= 0) & (sample_weight[i] < np.inf)
        positive += sample_weight[i] > 0
    return sound, positive


@kernel
def tally(bits, sample_weight, top, shift, infinite, packed, weighted):
    """Count the weights of each leaf, and sum their remainders and the squares of these.

    Integers add up exactly in any order, so that the sums do not depend on the number of threads.

    Parameters
    ----------
    bits : uint16 or uint32 array of shape (n,)
        At most 2 ** 25 weights.
    sample_weight : float64 array of shape (n,), or None
        Sample weights. Weights of 0 are left out, unless they are not finite.
    top, shift, infinite : int
        The sign's bit, the number of a remainder's bits, and the bits of infinity.
    packed : uint64 array of shape (2 * n_leaves,)
        By slot; added to: count and sum in one word, and sum of squares.
    weighted : float64 array of shape (n_leaves, 3), or None
        By slot; added to: sums of the sample weights, of these times the remainders, and of these
        times the squares of the remainders.
    """
    top, shift, rest = np.uint64(top), np.uint64(shift), np.uint64((1 << shift) - 1)
    one, infinite = np.uint64(1) << np.uint64(COUNT), np.uint64(infinite)
    magnitude = (np.uint64(1) << top) - np.uint64(1)
    for i in range(len(bits)):
        word = np.uint64(bits[i])
        if sample_weight is not None:  # noqa: SIM102  # Numba compiles no branch on a None
            if sample_weight[i] == 0 and (word & magnitude) < infinite:
                continue
        slot, remainder = word >> shift, key_of(word, top) & rest
        packed[slot << np.uint64(1)] += one + remainder
        packed[(slot << np.uint64(1)) + np.uint64(1)] += remainder * remainder
        if weighted is not None:
            moment = sample_weight[i] * np.float64(remainder)
            weighted[slot, 0] += sample_weight[i]
            weighted[slot, 1] += moment
            weighted[slot, 2] += moment * np.float64(remainder)


@kernel
def gather(bits, sample_weight, top, shift, wanted, keys, theirs):
    """Write keys and sample weights of the weights of wanted leaves; how many there are.

    `wanted` is bool of shape (n_leaves,), by slot. Weights of sample weight 0 are left out.
    """
    top, shift, number = np.uint64(top), np.uint64(shift), 0
    for i in range(len(bits)):
        word = np.uint64(bits[i])
        if wanted[word >> shift]:
            keys[number] = key_of(word, top)
            if sample_weight is not None:
                theirs[number] = sample_weight[i]
                number -= sample_weight[i] == 0
            number += 1
    return number


@kernel
def label(bits, top, shift, base, cuts, keys, labels):
    """Number of keys at or below that of each weight; `base` and `cuts` are by slot."""
    top, shift, rest = np.uint64(top), np.uint64(shift), np.uint64((1 << shift) - 1)
    for i in range(len(bits)):
        word = np.uint64(bits[i])
        slot, key = word >> shift, key_of(word, top)
        if cuts[slot] == SEVERAL:
            number = 0
            while number < len(keys) and keys[number] <= np.int64(key):
                number += 1
            labels[i] = number
        else:
            labels[i] = base[slot] + ((key & rest) >= cuts[slot])
