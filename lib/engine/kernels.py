"""Compiled loops over weights. Each releases the GIL: `threads` runs them on all cores."""

import numpy as np
from numba import njit

from .keys import key_of
from .sums import add_leaves

COUNT = 38  # a tally holds the count above this bit and the sum of remainders below


@njit(cache=True, nogil=True)
def tally(bits, width, shift, packed):
    """Count the weights of each leaf and sum their remainders and the squares of those.

    A leaf is a key without its last `shift` (at most 12) bits; the remainder is those. Integers
    add up exactly, in any order, so that the sums do not depend on the number of threads.

    Parameters
    ----------
    bits : uint16 or uint32 array of shape (n,)
        At most 2 ** 25 weights.
    packed : uint64 array of shape (2 ** (width - shift), 2)
        Added to: count and sum, packed; sum of squares.
    """
    one, rest = np.uint64(1) << np.uint64(COUNT), (np.int64(1) << shift) - 1
    for i in range(len(bits)):
        key = key_of(bits[i], width)
        remainder = np.uint64(key & rest)
        leaf = key >> shift
        packed[leaf, 0] += one + remainder
        packed[leaf, 1] += remainder * remainder


@njit(cache=True, nogil=True)
def tally_mass(bits, mass, width, shift, sums):
    """Add up mass, mass * remainder and mass * remainder ** 2 of the weights of each leaf.

    `sums` is float64 of shape (2 ** (width - shift), 3).
    """
    rest = (np.int64(1) << shift) - 1
    for i in range(len(bits)):
        key = key_of(bits[i], width)
        remainder = np.float64(key & rest)
        sums[key >> shift, 0] += mass[i]
        sums[key >> shift, 1] += mass[i] * remainder
        sums[key >> shift, 2] += mass[i] * remainder * remainder


@njit(cache=True, nogil=True)
def scatter(bits, mass, width, ends, members, masses):
    """Write the last bits of each key, and its mass, behind those of its group; moves `ends`."""
    for i in range(len(bits)):
        key = key_of(bits[i], width)
        group = key >> (width - 16)
        end = ends[group]
        members[end] = key & 0xFFFF
        if mass is not None:
            masses[end] = mass[i]
        ends[group] = end + 1


@njit(cache=True, nogil=True)
def label(bits, width, shift, table, keys, labels):
    """Number of thresholds at or below each weight.

    `table` holds that number for the smallest key of every group of keys that share all but
    their last `shift` bits, and one more; `keys` are those of the thresholds, ascending.
    """
    for i in range(len(bits)):
        key = key_of(bits[i], width)
        group = key >> shift
        labels[i] = _at_or_below(keys, key, table[group], table[group + 1])


@njit(cache=True)
def rank_keys(keys, shift, leaves, starts, pure, settled, members, ranks, unsettled):
    """Number of weights with a smaller key, for each key; the number of groups to settle first.

    Parameters
    ----------
    keys : int64 array of shape (q,)
    leaves, starts : int64 arrays of shape (m,) and (m + 1,)
        Leaves that hold weights, ascending, and the rank of the first weight of each.
    pure : int64 array of shape (m,)
        Remainder of all weights of a leaf, or -1 where they differ.
    settled : bool array of shape (65536,)
        Groups whose members are sorted.
    members : uint16 array of shape (n,)
    ranks : int64 array of shape (q,)
        Receives the result, as far as it is known.
    unsettled : int64 array of shape (q,)
        Receives the groups to settle.
    """
    waiting = 0
    rest = (np.int64(1) << shift) - 1
    for j in range(len(keys)):
        leaf, remainder = keys[j] >> shift, keys[j] & rest
        i = np.searchsorted(leaves, leaf)
        ranks[j] = starts[i]
        if i == len(leaves) or leaves[i] != leaf or remainder == 0:
            continue
        if pure[i] >= 0:
            ranks[j] = starts[i + 1] if pure[i] < remainder else starts[i]
        elif settled[leaf >> 4]:
            ranks[j] += np.searchsorted(members[starts[i] : starts[i + 1]], keys[j] & 0xFFFF)
        else:
            unsettled[waiting] = leaf >> 4
            waiting += 1
    return waiting


@njit(cache=True)
def decode(group_ends, members, bits):
    """Bits of the float32s whose keys begin with their group and end as the sorted members do."""
    start = 0
    for group in range(len(group_ends)):
        for i in range(start, group_ends[group]):
            key = np.int64(group) << 16 | np.int64(members[i])
            bits[i] = key - 0x80000000 if key >= 0x80000000 else 0xFFFFFFFF - key
        start = group_ends[group]


@njit(cache=True)
def count_distinct(starts, members):
    """Number of distinct weights, from the sorted members of all leaves."""
    number = 0
    for i in range(len(starts) - 1):
        number += 1
        for j in range(starts[i] + 1, starts[i + 1]):
            number += members[j] != members[j - 1]
    return number


@njit(cache=True)
def pick_distinct(starts, members, wanted, found):
    """Ranks at which the distinct weights of the given numbers, ascending, begin."""
    number, next_ = -1, 0
    for i in range(len(starts) - 1):
        for j in range(starts[i], starts[i + 1]):
            number += j == starts[i] or members[j] != members[j - 1]
            while next_ < len(wanted) and wanted[next_] == number:
                found[next_] = j
                next_ += 1


@njit(cache=True)
def ranges(starts, stops, first, edge, step, pure, members, masses, tree, sums):
    """Sums of mass, mass * value, mass * value ** 2 from each rank to another.

    Parameters
    ----------
    starts, stops : int64 arrays of shape (q,)
        Where they part the weights of a leaf, its group must be settled.
    first : int64 array of shape (m + 1,)
        Rank of the first weight of each leaf.
    edge, step : float64 arrays of shape (m,)
        A weight of leaf i is edge[i] + step[i] * its remainder, about the origin.
    pure, members
        As of `rank_keys`.
    masses : float array of shape (n,), or None
        Of the members; 1 each if None.
    tree : float64 array of shape (2 m, 3)
        Of sums over leaves: `lib.engine.sums`.
    sums : float64 array of shape (q, 3)
        Receives the result.
    """
    for j in range(len(starts)):
        sums[j] = 0.0
        if starts[j] >= stops[j]:
            continue
        low = np.searchsorted(first, starts[j], side="right") - 1
        high = np.searchsorted(first, stops[j], side="right") - 1
        if low == high:
            _add_part(low, starts[j], stops[j], edge, step, pure, members, masses, sums[j])
            continue
        if starts[j] > first[low]:
            _add_part(low, starts[j], first[low + 1], edge, step, pure, members, masses, sums[j])
            low += 1
        if stops[j] > first[high]:
            _add_part(high, first[high], stops[j], edge, step, pure, members, masses, sums[j])
        add_leaves(tree, low, high, sums[j])


@njit(cache=True)
def _add_part(leaf, start, stop, edge, step, pure, members, masses, sums):
    """Add the sums over part of a leaf's weights."""
    if masses is not None:
        mass, total, square = _mass_sums(members[start:stop], masses[start:stop])
    elif pure[leaf] >= 0:
        mass = np.float64(stop - start)
        total, square = mass * pure[leaf], mass * pure[leaf] * pure[leaf]
    else:
        mass = np.float64(stop - start)
        total, square = _integer_sums(members[start:stop])
    total, square = step[leaf] * total, step[leaf] * step[leaf] * square
    sums[0] += mass
    sums[1] += mass * edge[leaf] + total
    sums[2] += mass * edge[leaf] * edge[leaf] + 2 * edge[leaf] * total + square


@njit(cache=True)
def _integer_sums(members):
    total = square = np.int64(0)
    for i in range(len(members)):
        remainder = np.int64(members[i] & 0xFFF)
        total += remainder
        square += remainder * remainder
    return np.float64(total), np.float64(square)


@njit(cache=True)
def _mass_sums(members, masses):
    mass = total = square = 0.0
    for i in range(len(members)):
        remainder = np.float64(members[i] & 0xFFF)
        mass += masses[i]
        total += masses[i] * remainder
        square += masses[i] * remainder * remainder
    return mass, total, square


@njit(cache=True, nogil=True)
def label_floats(weights, thresholds, labels):
    """As `label`, for weights and thresholds of any float dtype: O(n log k)."""
    for i in range(len(weights)):
        labels[i] = _at_or_below(thresholds, weights[i], 0, len(thresholds))


@njit(inline="always")
def _at_or_below(ascending, value, low, high):
    """How many are at or below a value, known to be from `low` to `high`."""
    while low < high:
        middle = (low + high) >> 1
        if value >= ascending[middle]:
            low = middle + 1
        else:
            high = middle
    return low
