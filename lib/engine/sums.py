"""Sums over ranges by a tree: differences of prefix sums would drown the bulk beside an outlier."""

import numpy as np
from numba import njit

BLOCK = 256  # sorted weights in a leaf of the tree


@njit(cache=True)
def sum_tree(leaves):
    """Binary tree of sums: node i is the sum of nodes 2 i and 2 i + 1, the leaves come last.

    `leaves` and its result are float64, of shapes (m, 3) and (2 m, 3).
    """
    n = len(leaves)
    tree = np.zeros((2 * n, 3))
    tree[n:] = leaves
    for i in range(n - 1, 0, -1):
        tree[i] = tree[2 * i] + tree[2 * i + 1]
    return tree


@njit(cache=True, inline="always")
def add_leaves(tree, start, stop, sums):
    """Add the leaves from `start` to `stop` to `sums`, float64 of shape (3,)."""
    left, right = start + len(tree) // 2, stop + len(tree) // 2
    while left < right:
        if left % 2:
            sums += tree[left]
            left += 1
        if right % 2:
            right -= 1
            sums += tree[right]
        left, right = left // 2, right // 2


@njit(cache=True, nogil=True)
def block_sums(weights, sample_weight, origin, start, stop, leaves):
    """Sums of mass, mass * value, mass * value ** 2 in the blocks from `start` to `stop`."""
    for b in range(start, stop):
        for i in range(b * BLOCK, min((b + 1) * BLOCK, len(weights))):
            mass = 1.0 if sample_weight is None else sample_weight[i]
            value = np.float64(weights[i]) - origin
            leaves[b, 0] += mass
            leaves[b, 1] += mass * value
            leaves[b, 2] += mass * value * value


@njit(cache=True)
def sorted_ranges(weights, sample_weight, origin, tree, starts, stops):
    """Sums, as of a block, of sorted weights from each start to its stop; float64 (q, 3)."""
    sums = np.zeros((len(starts), 3))
    for j in range(len(starts)):
        left, right = -(-starts[j] // BLOCK), stops[j] // BLOCK  # the whole blocks between
        head_end = min(left * BLOCK, stops[j])
        tail_start = max(right * BLOCK, head_end)
        for start, stop in ((starts[j], head_end), (tail_start, stops[j])):
            for i in range(start, stop):
                mass = 1.0 if sample_weight is None else sample_weight[i]
                value = np.float64(weights[i]) - origin
                sums[j, 0] += mass
                sums[j, 1] += mass * value
                sums[j, 2] += mass * value * value
        add_leaves(tree, left, right, sums[j])
    return sums
