"""A clustering for each row of a matrix, in one compiled loop."""

from typing import NamedTuple

import numpy as np

from .compiled import inner, kernel
from .keys import write_thresholds
from .labels import label_tiles
from .loop import first_state, iterate
from .partition import write_optimal
from .quantiles import write_quantiles
from .tables import BLOCK, SortedTables, direct_inertia, fill, sum_blocks


class Rows(NamedTuple):
    """Results of r rows of n weights, for k centers; written by `cluster_sorted_rows`."""

    centers: np.ndarray  # float64 (r, k)
    labels: np.ndarray  # uint8 or uint16 (r, n)
    counts: np.ndarray  # int64 (r, k)
    inertia: np.ndarray  # float64 (r,)
    n_iter: np.ndarray  # int64 (r,)
    converged: np.ndarray  # bool (r,)


@kernel
def cluster_sorted_rows(
    weights,
    in_order,
    order,
    sample_weight,
    initial,
    optimal,
    ranks,
    gamma,
    revise,
    max_iter,
    tol,
    rows,
):
    """Cluster each row.

    Parameters
    ----------
    weights : float32 or float64 array of shape (r, n)
    in_order : array of the same shape and dtype
        Each row of the weights ascending; not read with sample weights.
    order : uint32 or int64 array of shape (r, n), or None
        The order of each row, with sample weights.
    sample_weight : float64 array of shape (r, n), or None
    initial : float64 array of shape (r, k), or None
        Ascending initial centers; by default those of "optimal" or "weight-distribution".
    optimal : bool
        Which of the two.
    ranks : int64 array
        Of the ends of bins, for these. All sample weights are then positive.
    gamma, revise, max_iter, tol
        As of `lib.cluster`; -1 for no `max_iter`.
    rows : Rows
        Written.
    """
    for r in range(len(weights)):
        if sample_weight is None:
            ranked, mass = in_order[r], None
        else:
            ranked, mass = sorted_used(weights[r], sample_weight[r], order[r])
        tables = _tables(ranked, mass)
        if initial is None:
            start = rows.centers[r]
            if not _take_distinct(ranked, start):
                if optimal:
                    write_optimal(ranked, mass, tables.origin, start)
                else:
                    write_quantiles(ranked, mass, ranks, gamma, start)
        else:
            start = initial[r]
        state, rows.converged[r] = iterate(tables, mass, first_state(start, revise), max_iter, tol)
        rows.centers[r], rows.n_iter[r] = state.centers, state.n_iter
        rows.inertia[r] = direct_inertia(tables, mass, state.centers, state.cells[:, 0])
        _label(weights[r], state.centers, rows.labels[r])
        _count(state.cells, len(weights[r]) - len(ranked), rows.labels[r], rows.counts[r])


@kernel
def sorted_used(weights, sample_weight, order):
    """Weights in an order, and their sample weights, without those of sample weight 0."""
    number = 0
    for i in range(len(weights)):
        number += sample_weight[i] > 0
    used, mass, number = np.empty(number, weights.dtype), np.empty(number), 0
    for i in range(len(weights)):
        theirs = sample_weight[order[i]]
        if theirs > 0:
            used[number], mass[number] = weights[order[i]], theirs
            number += 1
    return used, mass


@inner
def _tables(weights, sample_weight):
    n_blocks = (len(weights) + BLOCK - 1) // BLOCK
    origin = np.float64(weights[len(weights) // 2])
    tree = np.empty((2 * n_blocks, 3))
    sum_blocks(weights, sample_weight, origin, 0, n_blocks, tree)
    fill(tree)
    return SortedTables(weights, origin, tree)


@inner
def _take_distinct(weights, centers):
    """Whether the distinct weights are as few as the centers: they then become the centers."""
    number = 1
    for i in range(1, len(weights)):
        if weights[i] != weights[i - 1]:
            number += 1
            if number > len(centers):
                return False
    j, centers[0] = 0, weights[0]
    for i in range(1, len(weights)):
        if weights[i] != weights[i - 1]:
            j += 1
            centers[j] = weights[i]
    centers[j + 1 :] = centers[j]
    return True


@inner
def _label(weights, centers, labels):
    """Write the label of each weight: of equal centers, the first."""
    first, number = np.zeros(len(centers), np.int64), 1
    for j in range(1, len(centers)):
        if centers[j] > centers[j - 1]:
            first[number] = j
            number += 1
    fours = np.full((number + 2) // 4 * 4, np.nan, weights.dtype)  # NaN is below no weight
    write_thresholds(centers[first[:number]], fours[: number - 1])
    label_tiles(weights, fours, labels)
    if number < len(centers):
        for i in range(len(labels)):
            labels[i] = first[labels[i]]


@inner
def _count(cells, n_unranked, labels, counts):
    """Write the number of weights of each label, those of sample weight 0 included."""
    if n_unranked == 0:
        for j in range(len(counts)):
            counts[j] = cells[j + 1, 0] - cells[j, 0]
    else:
        counts[:] = 0
        for i in range(len(labels)):
            counts[labels[i]] += 1
