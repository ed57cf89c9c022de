"""Ranks and sums of ordered weights, compiled, over either kind of tables.

A sum over a range of ranks has three columns: the mass, which is the sum of the sample weights (or
the number of weights), and the first and second moment about the origin. Ranges are summed by trees
of sums over blocks: differences of prefix sums would drown the bulk beside an outlier.
"""

from typing import NamedTuple

import numpy as np
from numba.extending import overload

from .compiled import inner, kernel
from .keys import nearer

BLOCK = 256  # sorted weights that the tree sums in one node (docs/measure_engine.py)
STRIDE = 64  # members that are summed together (docs/measure_engine.py)


class SortedTables(NamedTuple):
    """Weights, ascending; the last nodes of the tree are sums over every `BLOCK` of them."""

    weights: np.ndarray
    origin: float
    tree: np.ndarray


class LeafTables(NamedTuple):
    """Weights by leaves, of which some are loaded; m leaves hold weights.

    Attributes
    ----------
    shift : int
        Bits of a remainder.
    starts : int64 array of shape (m + 1,)
        Rank of the first weight of each leaf, and the number of weights.
    edges, step : float64 arrays of shape (m,)
        A weight of leaf i is edges[i] + step[i] * its remainder.
    pure : int64 array of shape (m,)
        The remainder that all weights of a leaf have, or -1 where they differ.
    member_start : int64 array of shape (m,)
        Where the members of a leaf begin in `members`; -1 of a leaf that is not loaded.
    members : uint16 array
        Remainders of the weights of loaded leaves, ascending in each leaf.
    sums : float64 array
        `member_sums` of the members.
    needed : bool array of shape (m,)
        Set to True where an answer depends on the members of a leaf that is not loaded. The answer
        is then provisional: these members are taken to be evenly spaced.
    origin : float
    tree : float64 array of shape (2 m, 3)
        Its last nodes are sums over every leaf.
    """

    shift: int
    starts: np.ndarray
    edges: np.ndarray
    step: np.ndarray
    pure: np.ndarray
    member_start: np.ndarray
    members: np.ndarray
    sums: np.ndarray
    needed: np.ndarray
    origin: float
    tree: np.ndarray


def rank(tables, low, high):
    """Number of weights that are not strictly nearer to `high` than to `low`.

    If both are the same, this is the number of weights at or below them.
    """


def add_range(tables, sample_weight, start, stop, sums):
    """Add the sums over the weights from one rank to another to `sums`, float64 of shape (3,)."""


def all_known(tables):
    """Whether no answer so far was provisional."""


@overload(rank)
def _rank(tables, low, high):
    return _rank_sorted if tables.instance_class is SortedTables else _rank_by_leaves


def _rank_sorted(tables, low, high):
    start, stop = 0, len(tables.weights)
    while start < stop:
        middle = (start + stop) >> 1
        if nearer(np.float64(tables.weights[middle]), low, high):
            stop = middle
        else:
            start = middle + 1
    return start


def _rank_by_leaves(tables, low, high):
    start, stop = 0, len(tables.edges)
    while start < stop:
        middle = (start + stop) >> 1
        if nearer(tables.edges[middle], low, high):
            stop = middle
        else:
            start = middle + 1
    if start == 0:
        return 0
    leaf = start - 1
    edge, step = tables.edges[leaf], tables.step[leaf]
    count = tables.starts[start] - tables.starts[leaf]
    if tables.pure[leaf] >= 0:
        return tables.starts[leaf + (not nearer(edge + step * tables.pure[leaf], low, high))]
    loaded = tables.member_start[leaf] >= 0
    start, stop = 0, count if loaded else 1 << tables.shift
    while start < stop:
        middle = (start + stop) >> 1
        remainder = tables.members[tables.member_start[leaf] + middle] if loaded else middle
        if nearer(edge + step * remainder, low, high):
            stop = middle
        else:
            start = middle + 1
    if loaded:
        return tables.starts[leaf] + start
    if start >> tables.shift == 0:
        tables.needed[leaf] = True
    return tables.starts[leaf] + ((count * start) >> tables.shift)


@overload(all_known)
def _all_known(tables):
    return _always if tables.instance_class is SortedTables else _none_needed


def _always(tables):
    return True


def _none_needed(tables):
    number = 0
    for i in range(len(tables.needed)):
        number += tables.needed[i]
    return number == 0


@overload(add_range)
def _add_range(tables, sample_weight, start, stop, sums):
    return _add_sorted if tables.instance_class is SortedTables else _add_leaves


def _add_sorted(tables, sample_weight, start, stop, sums):
    left, right = (start + BLOCK - 1) // BLOCK, stop // BLOCK  # the whole blocks between
    head_end = min(left * BLOCK, stop)
    tail = max(right * BLOCK, head_end)
    add_weights(tables.weights, sample_weight, tables.origin, start, head_end, sums)
    add_weights(tables.weights, sample_weight, tables.origin, tail, stop, sums)
    add_nodes(tables.tree, left, right, sums)


def _add_leaves(tables, sample_weight, start, stop, sums):
    if start >= stop:
        return
    low = _leaf_of(tables.starts, start)
    high = _leaf_of(tables.starts, stop)
    if low == high:
        _add_part(tables, sample_weight, low, start, stop, sums)
        return
    if start > tables.starts[low]:
        _add_part(tables, sample_weight, low, start, tables.starts[low + 1], sums)
        low += 1
    if stop > tables.starts[high]:
        _add_part(tables, sample_weight, high, tables.starts[high], stop, sums)
    add_nodes(tables.tree, low, high, sums)


@inner
def _leaf_of(starts, rank):
    """The last leaf that begins at or before a rank."""
    low, high = 0, len(starts) - 1
    while low < high:
        middle = (low + high + 1) >> 1
        if starts[middle] <= rank:
            low = middle
        else:
            high = middle - 1
    return low


@inner
def _add_part(tables, sample_weight, leaf, start, stop, sums):
    """Add the sums over part of a leaf's weights."""
    first, begin, pure = tables.starts[leaf], tables.member_start[leaf], tables.pure[leaf]
    count = tables.starts[leaf + 1] - first
    part = np.zeros(3)  # about the leaf's edge, in steps
    if begin >= 0:
        _add_members(tables, sample_weight, begin + start - first, begin + stop - first, part)
    else:
        part[0] = (stop - start) * tables.tree[(len(tables.tree) >> 1) + leaf, 0] / count
        if pure >= 0:
            part[1], part[2] = part[0] * pure, part[0] * pure * pure
        else:  # taken to be evenly spaced
            pace = (1 << tables.shift) / count
            a, b = pace * (start - first), pace * (stop - first)
            part[1], part[2] = part[0] * (a + b) / 2, part[0] * (a * a + a * b + b * b) / 3
    offset, step = tables.edges[leaf] - tables.origin, tables.step[leaf]
    sums[0] += part[0]
    sums[1] += part[0] * offset + step * part[1]
    sums[2] += part[0] * offset * offset + 2 * offset * step * part[1] + step * step * part[2]


@inner
def _add_members(tables, sample_weight, start, stop, sums):
    left, right = (start + STRIDE - 1) // STRIDE, stop // STRIDE  # the whole strides between
    if left > right:
        left = right
    head = left * STRIDE if left * STRIDE > start else start
    add_weights(tables.members, sample_weight, 0.0, start, head, sums)
    for block in range(left, right):
        for i in range(3):
            sums[i] += tables.sums[block, i]
    tail = right * STRIDE if right * STRIDE > head else head
    add_weights(tables.members, sample_weight, 0.0, tail, stop, sums)


@kernel
def member_sums(members, sample_weight):
    """Sums over every `STRIDE` members about their edge, in steps; float64 (blocks, 3)."""
    sums = np.zeros((len(members) // STRIDE, 3))
    for block in range(len(sums)):
        add_weights(members, sample_weight, 0.0, block * STRIDE, (block + 1) * STRIDE, sums[block])
    return sums


@kernel
def _fill(tree):
    for i in range((len(tree) >> 1) - 1, 0, -1):
        for j in range(3):
            tree[i, j] = tree[2 * i, j] + tree[2 * i + 1, j]


def sum_tree(last):
    """Binary tree of sums: node i is the sum of nodes 2 i and 2 i + 1, the given ones come last.

    `last` and the result are float64, of shapes (m, 3) and (2 m, 3).
    """
    tree = np.concatenate([np.zeros_like(last), last])
    _fill(tree)
    return tree


@inner
def add_nodes(tree, start, stop, sums):
    """Add the last nodes of a tree from number `start` to `stop` to `sums`."""
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
def add_weights(weights, sample_weight, origin, start, stop, sums):
    """Add weights from `start` to `stop` to `sums`, one by one."""
    for i in range(start, stop):
        mass = 1.0 if sample_weight is None else sample_weight[i]
        value = np.float64(weights[i]) - origin
        sums[0] += mass
        sums[1] += mass * value
        sums[2] += mass * value * value


@kernel
def block_sums(weights, sample_weight, origin, start, stop, blocks):
    """Sums of the blocks from `start` to `stop`, into `blocks`, float64 of shape (m, 3)."""
    for b in range(start, stop):
        end = min((b + 1) * BLOCK, len(weights))
        add_weights(weights, sample_weight, origin, b * BLOCK, end, blocks[b])


@kernel
def ranks(tables, values):
    """Number of weights at or below each value; int64."""
    found = np.empty(len(values), np.int64)
    for j in range(len(values)):
        found[j] = rank(tables, values[j], values[j])
    return found


@kernel
def range_sums(tables, sample_weight, starts, stops):
    """Sums from each rank to another; float64 of shape (q, 3)."""
    sums = np.zeros((len(starts), 3))
    for j in range(len(starts)):
        add_range(tables, sample_weight, starts[j], stops[j], sums[j])
    return sums


@kernel
def write_keys(tables, numbers, keys):
    """Write the keys of all float32 weights, ascending, from leaves that are pure or loaded."""
    for i in range(len(numbers)):
        start, stop = tables.starts[i], tables.starts[i + 1]
        for j in range(stop - start):
            remainder = np.int64(tables.pure[i])
            if remainder < 0:
                remainder = np.int64(tables.members[tables.member_start[i] + j])
            keys[start + j] = numbers[i] << tables.shift | remainder
