"""Ranks and sums of ordered weights, compiled, over either kind of tables.

A sum over a range of ranks has three columns: the mass, which is the sum of the sample weights (or
the number of weights), and the first and second moment about the origin. Ranges are summed by trees
of sums over blocks: differences of prefix sums would drown the bulk beside an outlier.

Every rank has a *place*, which spares the next search: the index of its leaf, or the rank itself.
"""

from typing import NamedTuple

import numpy as np
from numba.extending import overload

from .compiled import OPTIONS, inner, kernel
from .keys import nearer

BLOCK = 16  # sorted weights that the tree sums in one node (docs/measure_engine.py)
STRIDE = 16  # members that are summed together (docs/measure_engine.py)


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
    needed : bool array of shape (m + 1,)
        Set to True where an answer depends on the members of a leaf that is not loaded. The answer
        is then provisional: these members are taken to be evenly spaced. The last is True if any
        other is.
    origin : float
    tree : float64 array of shape (2 m, 3)
        Its last nodes are sums over every leaf.
    spread : float64 array of shape (m, 3)
        Of every leaf its mass, the mean of its remainders, and the sum of the squares of their
        distances from it.
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
    spread: np.ndarray


def rank(tables, low, high, guess):
    """Number of weights that are not strictly nearer to `high` than to `low`, and its place.

    If both are the same, this is the number of weights at or below them. The search begins at the
    place `guess`; any is right, one nearby is quick.
    """


def range_sum(tables, sample_weight, start, stop, start_place, stop_place):
    """The sums over the weights from one rank to another, whose places are given; three floats."""


def place_of(tables, rank):
    """The place of a rank."""


def is_exact(tables):
    """Whether no answer so far was provisional."""


def direct_inertia(tables, sample_weight, centers, cell_starts):
    """Sum of the squared distances to the centers, about each center instead of the origin.

    No terms cancel. The leaves that cells divide are loaded.
    """


@overload(rank, jit_options=OPTIONS)
def _rank(tables, low, high, guess):
    return _rank_sorted if tables.instance_class is SortedTables else _rank_by_leaves


def _rank_sorted(tables, low, high, guess):
    found = first_nearer(tables.weights, low, high, guess)
    return found, found


@inner
def first_nearer(values, low, high, guess):
    """Index of the first of ascending values that is strictly nearer to `high`.

    Galloping from a guess, then bisection.
    """
    n, step = len(values), 1
    if guess < n and not nearer(np.float64(values[guess]), low, high):
        start = guess + 1
        stop = start
        while stop < n and not nearer(np.float64(values[stop]), low, high):
            start = stop + 1
            stop += step
            step += step
        if stop > n:
            stop = n
    else:
        stop = guess
        start = stop - 1
        while start >= 0 and nearer(np.float64(values[start]), low, high):
            stop = start
            start -= step
            step += step
        start = 0 if start < 0 else start + 1
    while start < stop:
        middle = (start + stop) >> 1
        if nearer(np.float64(values[middle]), low, high):
            stop = middle
        else:
            start = middle + 1
    return start


def _rank_by_leaves(tables, low, high, guess):
    start = first_nearer(tables.edges, low, high, guess)
    if start == 0:
        return 0, 0
    leaf = start - 1
    edge, step, first = tables.edges[leaf], tables.step[leaf], tables.starts[leaf]
    count = tables.starts[start] - first
    if tables.pure[leaf] >= 0:
        below = not nearer(edge + step * tables.pure[leaf], low, high)
        return (first + count if below else first), leaf
    begin = tables.member_start[leaf]
    loaded = begin >= 0
    start, stop = 0, count if loaded else 1 << tables.shift
    while start < stop:
        middle = (start + stop) >> 1
        remainder = np.int64(tables.members[begin + middle]) if loaded else middle
        if nearer(edge + step * remainder, low, high):
            stop = middle
        else:
            start = middle + 1
    if loaded:
        return first + start, leaf
    if start >> tables.shift == 0:
        tables.needed[leaf] = tables.needed[len(tables.edges)] = True
    return first + ((count * start) >> tables.shift), leaf


@overload(is_exact, jit_options=OPTIONS)
def _is_exact(tables):
    return _always if tables.instance_class is SortedTables else _none_needed


def _always(tables):
    return True


def _none_needed(tables):
    return not tables.needed[len(tables.edges)]


@overload(place_of, jit_options=OPTIONS)
def _place_of(tables, rank):
    return _same if tables.instance_class is SortedTables else _leaf_of


def _same(tables, rank):
    return rank


def _leaf_of(tables, rank):
    low, high = 0, len(tables.edges) - 1
    while low < high:
        middle = (low + high + 1) >> 1
        if tables.starts[middle] <= rank:
            low = middle
        else:
            high = middle - 1
    return low


@overload(range_sum, jit_options=OPTIONS)
def _range_sum(tables, sample_weight, start, stop, start_place, stop_place):
    return _sum_sorted if tables.instance_class is SortedTables else _sum_leaves


def _sum_sorted(tables, sample_weight, start, stop, start_place, stop_place):
    left, right = (start + BLOCK - 1) // BLOCK, stop // BLOCK  # the whole blocks between
    head_end = min(left * BLOCK, stop)
    tail = max(right * BLOCK, head_end)
    a, b, c = sum_weights(tables.weights, sample_weight, tables.origin, start, head_end)
    d, e, f = sum_nodes(tables.tree, left, right)
    g, h, i = sum_weights(tables.weights, sample_weight, tables.origin, tail, stop)
    return a + d + g, b + e + h, c + f + i


def _sum_leaves(tables, sample_weight, start, stop, start_place, stop_place):
    low, high = start_place, stop_place
    if start >= stop:
        return 0.0, 0.0, 0.0
    if start == tables.starts[low + 1]:
        low += 1
    if stop == tables.starts[high + 1]:
        high += 1
    if low == high:
        return _sum_part(tables, sample_weight, low, start, stop)
    a = b = c = d = e = f = 0.0
    if start > tables.starts[low]:
        a, b, c = _sum_part(tables, sample_weight, low, start, tables.starts[low + 1])
        low += 1
    if stop > tables.starts[high]:
        d, e, f = _sum_part(tables, sample_weight, high, tables.starts[high], stop)
    g, h, i = sum_nodes(tables.tree, low, high)
    return a + d + g, b + e + h, c + f + i


@inner
def _sum_part(tables, sample_weight, leaf, start, stop):
    """The sums over part of a leaf's weights."""
    first, begin, pure = tables.starts[leaf], tables.member_start[leaf], tables.pure[leaf]
    count = tables.starts[leaf + 1] - first
    if begin >= 0:
        start, stop = begin + start - first, begin + stop - first
        mass, total, square = _sum_members(tables, sample_weight, start, stop)
    else:
        mass = (stop - start) * tables.spread[leaf, 0] / count
        if pure >= 0:
            total, square = mass * pure, mass * pure * pure
        else:  # taken to be evenly spaced
            pace = (1 << tables.shift) / count
            a, b = pace * (start - first), pace * (stop - first)
            total, square = mass * (a + b) / 2, mass * (a * a + a * b + b * b) / 3
    offset, step = tables.edges[leaf] - tables.origin, tables.step[leaf]
    about = mass * offset + step * total
    return mass, about, mass * offset * offset + step * (2 * offset * total + step * square)


@inner
def _sum_members(tables, sample_weight, start, stop):
    """The sums over loaded members about their edge, in steps."""
    left, right = (start + STRIDE - 1) // STRIDE, stop // STRIDE  # the whole strides between
    head_end = min(left * STRIDE, stop)
    tail = max(right * STRIDE, head_end)
    mass, total, square = sum_weights(tables.members, sample_weight, 0.0, start, head_end)
    for stride in range(left, right):
        mass += tables.sums[stride, 0]
        total += tables.sums[stride, 1]
        square += tables.sums[stride, 2]
    d, e, f = sum_weights(tables.members, sample_weight, 0.0, tail, stop)
    return mass + d, total + e, square + f


@overload(direct_inertia, jit_options=OPTIONS)
def _direct_inertia(tables, sample_weight, centers, cell_starts):
    return _inertia_sorted if tables.instance_class is SortedTables else _inertia_leaves


def _inertia_sorted(tables, sample_weight, centers, cell_starts):
    total = 0.0
    for j in range(len(centers)):
        start, stop = cell_starts[j], cell_starts[j + 1]
        total += sum_squares(tables.weights, sample_weight, centers[j], 1.0, start, stop)
    return total


def _inertia_leaves(tables, sample_weight, centers, cell_starts):
    total, leaf = 0.0, 0
    for j in range(len(centers)):
        start, stop = cell_starts[j], cell_starts[j + 1]
        while start < stop:
            first, after = tables.starts[leaf], tables.starts[leaf + 1]
            edge, step, begin = tables.edges[leaf], tables.step[leaf], tables.member_start[leaf]
            end = min(stop, after)
            if begin >= 0 and (end - start < after - first or sample_weight is not None):
                theirs, center = begin - first, edge - centers[j]
                total += sum_squares(
                    tables.members, sample_weight, -center, step, start + theirs, end + theirs
                )
            else:
                distance = edge + step * tables.spread[leaf, 1] - centers[j]
                total += tables.spread[leaf, 0] * distance * distance
                total += step * step * tables.spread[leaf, 2]
            start = end
            leaf += start == after
    return total


@inner
def sum_squares(values, sample_weight, center, step, start, stop):
    """Sum of mass * (step * value - center) ** 2, in four parts that do not wait for each other."""
    a = b = c = d = 0.0
    for i in range(start, stop - 3, 4):
        p, q = step * values[i] - center, step * values[i + 1] - center
        r, s = step * values[i + 2] - center, step * values[i + 3] - center
        if sample_weight is None:
            a, b, c, d = a + p * p, b + q * q, c + r * r, d + s * s
        else:
            a, b = a + sample_weight[i] * p * p, b + sample_weight[i + 1] * q * q
            c, d = c + sample_weight[i + 2] * r * r, d + sample_weight[i + 3] * s * s
    for i in range(stop - (stop - start) % 4, stop):
        p = step * values[i] - center
        a += p * p if sample_weight is None else sample_weight[i] * p * p
    return (a + b) + (c + d)


@inner
def sum_nodes(tree, start, stop):
    """Sum of the last nodes of a tree from number `start` to `stop`."""
    left, right = start + (len(tree) >> 1), stop + (len(tree) >> 1)
    mass = total = square = 0.0
    while left < right:
        if left & 1:
            mass, total, square = (
                mass + tree[left, 0],
                total + tree[left, 1],
                square + tree[left, 2],
            )
            left += 1
        if right & 1:
            right -= 1
            mass, total, square = (
                mass + tree[right, 0],
                total + tree[right, 1],
                square + tree[right, 2],
            )
        left, right = left >> 1, right >> 1
    return mass, total, square


@inner
def sum_weights(weights, sample_weight, origin, start, stop):
    """Sum over the weights from `start` to `stop`, one by one."""
    mass, total, square = 0.0, 0.0, 0.0
    for i in range(start, stop):
        value = np.float64(weights[i]) - origin
        if sample_weight is None:
            total, square = total + value, square + value * value
        else:
            moment = sample_weight[i] * value
            mass, total, square = mass + sample_weight[i], total + moment, square + moment * value
    return (mass if sample_weight is not None else np.float64(stop - start)), total, square


@kernel
def member_sums(members, sample_weight):
    """Sums over every `STRIDE` members about their edge, in steps; float64 (strides, 3)."""
    sums = np.zeros((len(members) // STRIDE, 3))
    for s in range(len(sums)):
        start = s * STRIDE
        sums[s, 0], sums[s, 1], sums[s, 2] = sum_weights(
            members, sample_weight, 0.0, start, start + STRIDE
        )
    return sums


@kernel
def sum_blocks(weights, sample_weight, origin, start, stop, tree):
    """Write the sums of the blocks from `start` to `stop` into the last nodes of a tree."""
    for b in range(start, stop):
        end = min((b + 1) * BLOCK, len(weights))
        sums = sum_weights(weights, sample_weight, origin, b * BLOCK, end)
        node = (len(tree) >> 1) + b
        tree[node, 0], tree[node, 1], tree[node, 2] = sums


@kernel
def sum_tree(weights, sample_weight, origin):
    """The tree of sums over sorted weights."""
    n_blocks = (len(weights) + BLOCK - 1) // BLOCK
    tree = np.empty((2 * n_blocks, 3))
    sum_blocks(weights, sample_weight, origin, 0, n_blocks, tree)
    fill(tree)
    return tree


@kernel
def fill(tree):
    """Make node i of a binary tree the sum of nodes 2 i and 2 i + 1; the last half is given."""
    for i in range((len(tree) >> 1) - 1, 0, -1):
        for j in range(3):
            tree[i, j] = tree[2 * i, j] + tree[2 * i + 1, j]


@kernel
def distinct_weights(weights, at_most):
    """The distinct ones of sorted weights, float64; empty if there are more than `at_most`."""
    number = 1
    for i in range(1, len(weights)):
        number += weights[i] != weights[i - 1]
        if number > at_most:
            return np.empty(0)
    found, number = np.empty(number), 1
    found[0] = weights[0]
    for i in range(1, len(weights)):
        if weights[i] != weights[i - 1]:
            found[number] = weights[i]
            number += 1
    return found


@kernel
def ranks(tables, values):
    """Number of weights at or below each value; int64."""
    found = np.empty(len(values), np.int64)
    guess = 0
    for j in range(len(values)):
        found[j], guess = rank(tables, values[j], values[j], guess)
    return found


@kernel
def range_sums(tables, sample_weight, starts, stops):
    """Sums from each rank to another; float64 of shape (q, 3)."""
    sums = np.zeros((len(starts), 3))
    for j in range(len(starts)):
        start, stop = starts[j], stops[j]
        places = place_of(tables, start), place_of(tables, stop)
        sums[j, 0], sums[j, 1], sums[j, 2] = range_sum(tables, sample_weight, start, stop, *places)
    return sums


@kernel
def inertia(tables, sample_weight, centers, cell_starts):
    """Sum of the squared distances of the weights to their centers; `direct_inertia`."""
    return direct_inertia(tables, sample_weight, centers, cell_starts)


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
