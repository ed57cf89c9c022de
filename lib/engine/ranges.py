"""Ranks and sums of weights in order, compiled: those that are sorted, those known by their leaves.

Sums are by trees of sums over blocks: differences of prefix sums would drown the bulk beside an
outlier. They are of mass, mass * value and mass * value ** 2, of values about an origin.
"""

from typing import NamedTuple

import numpy as np
from numba.extending import overload

from .compiled import inner, kernel
from .keys import nearer

BLOCK = 256  # sorted weights in a leaf of the tree
STRIDE = 64  # members that are summed together


class Sorted(NamedTuple):
    """Weights, ascending; the tree has sums over every `BLOCK` of them."""

    weights: np.ndarray
    origin: float
    tree: np.ndarray


class Leaves(NamedTuple):
    """Weights by leaves, of which some have been looked up.

    Attributes
    ----------
    shift : int
        Bits of a remainder.
    first : int64 array of shape (m + 1,)
        Rank of the first weight of each leaf that holds weights.
    edges, step : float64 arrays of shape (m,)
        A weight of leaf i is edges[i] + step[i] * its remainder.
    pure : int64 array of shape (m,)
        Remainder of all weights of a leaf, or -1 where they differ.
    place : int64 array of shape (m,)
        Where the sorted remainders of a leaf begin among the members; -1 where it is not known.
    members : uint16 array
    sums : float64 array
        Of the members: `member_sums`.
    looked : bool array of shape (m,)
        Receives True where the answer lies among members that are not known. They are then taken
        for even.
    origin : float
    tree : float64 array of shape (2 m, 3)
        Has sums over every leaf.
    """

    shift: int
    first: np.ndarray
    edges: np.ndarray
    step: np.ndarray
    pure: np.ndarray
    place: np.ndarray
    members: np.ndarray
    sums: np.ndarray
    looked: np.ndarray
    origin: float
    tree: np.ndarray


def rank(order, low, high):
    """Number of weights that are not strictly nearer to `high` than to `low`.

    If both are the same: number of weights at or below.
    """
    raise NotImplementedError("compiled")


def add_range(order, masses, start, stop, sums):
    """Add the sums from one rank to another to `sums`, float64 of shape (3,)."""
    raise NotImplementedError("compiled")


def all_known(order):
    """Whether no answer so far lay among members that are not known."""
    raise NotImplementedError("compiled")


@overload(rank)
def _rank(order, low, high):
    return _rank_sorted if order.instance_class is Sorted else _rank_by_leaves


def _rank_sorted(order, low, high):
    start, stop = 0, len(order.weights)
    while start < stop:
        middle = (start + stop) >> 1
        if nearer(np.float64(order.weights[middle]), low, high):
            stop = middle
        else:
            start = middle + 1
    return start


def _rank_by_leaves(order, low, high):
    start, stop = 0, len(order.edges)
    while start < stop:
        middle = (start + stop) >> 1
        if nearer(order.edges[middle], low, high):
            stop = middle
        else:
            start = middle + 1
    if start == 0:
        return 0
    leaf = start - 1
    edge, step, count = order.edges[leaf], order.step[leaf], order.first[start] - order.first[leaf]
    if order.pure[leaf] >= 0:
        return order.first[leaf + (not nearer(edge + step * order.pure[leaf], low, high))]
    known = order.place[leaf] >= 0
    start, stop = 0, count if known else 1 << order.shift
    while start < stop:
        middle = (start + stop) >> 1
        remainder = order.members[order.place[leaf] + middle] if known else middle
        if nearer(edge + step * remainder, low, high):
            stop = middle
        else:
            start = middle + 1
    if known:
        return order.first[leaf] + start
    if start >> order.shift == 0:
        order.looked[leaf] = True
    return order.first[leaf] + ((count * start) >> order.shift)


@overload(all_known)
def _all_known(order):
    return _always if order.instance_class is Sorted else _none_looked


def _always(order):
    return True


def _none_looked(order):
    number = 0
    for i in range(len(order.looked)):
        number += order.looked[i]
    return number == 0


@overload(add_range)
def _add_range(order, masses, start, stop, sums):
    return _add_sorted if order.instance_class is Sorted else _add_leaves


def _add_sorted(order, masses, start, stop, sums):
    left, right = (start + BLOCK - 1) // BLOCK, stop // BLOCK  # the whole blocks between
    head_end = min(left * BLOCK, stop)
    add_weights(order.weights, masses, order.origin, start, head_end, sums)
    add_weights(order.weights, masses, order.origin, max(right * BLOCK, head_end), stop, sums)
    add_nodes(order.tree, left, right, sums)


def _add_leaves(order, masses, start, stop, sums):
    if start >= stop:
        return
    low = _leaf_of(order.first, start)
    high = _leaf_of(order.first, stop)
    if low == high:
        _add_part(order, masses, low, start, stop, sums)
        return
    if start > order.first[low]:
        _add_part(order, masses, low, start, order.first[low + 1], sums)
        low += 1
    if stop > order.first[high]:
        _add_part(order, masses, high, order.first[high], stop, sums)
    add_nodes(order.tree, low, high, sums)


@inner
def _leaf_of(first, rank):
    """The last leaf that begins at or before a rank."""
    low, high = 0, len(first) - 1
    while low < high:
        middle = (low + high + 1) >> 1
        if first[middle] <= rank:
            low = middle
        else:
            high = middle - 1
    return low


@inner
def _add_part(order, masses, leaf, start, stop, sums):
    """Add the sums over part of a leaf's weights."""
    first, place, pure = order.first[leaf], order.place[leaf], order.pure[leaf]
    count = order.first[leaf + 1] - first
    part = np.zeros(3)  # with remainders for values
    if place >= 0:
        _add_members(order, masses, place + start - first, place + stop - first, part)
    else:
        part[0] = (stop - start) * order.tree[(len(order.tree) >> 1) + leaf, 0] / count
        if pure >= 0:
            part[1], part[2] = part[0] * pure, part[0] * pure * pure
        else:  # taken for even
            pace = (1 << order.shift) / count
            a, b = pace * (start - first), pace * (stop - first)
            part[1], part[2] = part[0] * (a + b) / 2, part[0] * (a * a + a * b + b * b) / 3
    offset, step = order.edges[leaf] - order.origin, order.step[leaf]
    sums[0] += part[0]
    sums[1] += part[0] * offset + step * part[1]
    sums[2] += part[0] * offset * offset + 2 * offset * step * part[1] + step * step * part[2]


@inner
def _add_members(order, masses, start, stop, sums):
    left, right = (start + STRIDE - 1) // STRIDE, stop // STRIDE  # the whole strides between
    if left > right:
        left = right
    head = left * STRIDE if left * STRIDE > start else start
    add_weights(order.members, masses, 0.0, start, head, sums)
    for block in range(left, right):
        for i in range(3):
            sums[i] += order.sums[block, i]
    tail = right * STRIDE if right * STRIDE > head else head
    add_weights(order.members, masses, 0.0, tail, stop, sums)


@kernel
def member_sums(members, masses):
    """Sums over every `STRIDE` members, remainders for values; float64 (blocks, 3)."""
    sums = np.zeros((len(members) // STRIDE, 3))
    for block in range(len(sums)):
        add_weights(members, masses, 0.0, block * STRIDE, (block + 1) * STRIDE, sums[block])
    return sums


@kernel
def _fill(tree):
    for i in range((len(tree) >> 1) - 1, 0, -1):
        for j in range(3):
            tree[i, j] = tree[2 * i, j] + tree[2 * i + 1, j]


def sum_tree(leaves):
    """Binary tree of sums: node i is the sum of nodes 2 i and 2 i + 1, the leaves come last.

    `leaves` and its result are float64, of shapes (m, 3) and (2 m, 3).
    """
    tree = np.concatenate([np.zeros_like(leaves), leaves])
    _fill(tree)
    return tree


@inner
def add_nodes(tree, start, stop, sums):
    """Add the leaves of a tree from `start` to `stop` to `sums`."""
    left, right = start + (len(tree) >> 1), stop + (len(tree) >> 1)
    while left < right:
        if left & 1:
            for j in range(3):
                sums[j] += tree[left, j]
            left += 1
        if right & 1:
            right -= 1
            for j in range(3):
                sums[j] += tree[right, j]
        left, right = left >> 1, right >> 1


@inner
def add_weights(weights, masses, origin, start, stop, sums):
    """Add weights from `start` to `stop` to `sums`, one by one."""
    for i in range(start, stop):
        mass = 1.0 if masses is None else masses[i]
        value = np.float64(weights[i]) - origin
        sums[0] += mass
        sums[1] += mass * value
        sums[2] += mass * value * value


@kernel
def block_sums(weights, masses, origin, start, stop, blocks):
    """Sums of the blocks from `start` to `stop`, into `blocks`, float64 of shape (m, 3)."""
    for b in range(start, stop):
        end = min((b + 1) * BLOCK, len(weights))
        add_weights(weights, masses, origin, b * BLOCK, end, blocks[b])


@kernel
def ranks(order, values):
    """Number of weights at or below each value; int64."""
    found = np.empty(len(values), np.int64)
    for j in range(len(values)):
        found[j] = rank(order, values[j], values[j])
    return found


@kernel
def range_sums(order, masses, starts, stops):
    """Sums from each rank to another; float64 of shape (q, 3)."""
    sums = np.zeros((len(starts), 3))
    for j in range(len(starts)):
        add_range(order, masses, starts[j], stops[j], sums[j])
    return sums


@kernel
def decode(order, leaves, keys):
    """Keys of all float32 weights in order, from leaves that are pure or known."""
    for i in range(len(leaves)):
        start, stop = order.first[i], order.first[i + 1]
        for j in range(stop - start):
            remainder = np.int64(order.pure[i])
            if remainder < 0:
                remainder = np.int64(order.members[order.place[i] + j])
            keys[start + j] = leaves[i] << order.shift | remainder
