"""A clustering for each row of a matrix, in one compiled loop."""

from typing import NamedTuple

import numpy as np

from .compiled import kernel
from .labels import label_nearest
from .loop import whole_path
from .partition import write_optimal
from .quantiles import write_quantiles
from .tables import SortedTables, distinct_weights, sum_tree


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
        origin = np.float64(ranked[len(ranked) // 2])
        tables = SortedTables(ranked, origin, sum_tree(ranked, mass, origin))
        if initial is None:
            start = rows.centers[r]
            distinct = distinct_weights(ranked, len(start))
            if len(distinct):
                start[: len(distinct)], start[len(distinct) :] = distinct, distinct[-1]
            elif optimal:
                write_optimal(ranked, mass, origin, start)
            else:
                write_quantiles(ranked, mass, ranks, gamma, start)
        else:
            start = initial[r]
        path = whole_path(tables, mass, start, revise, max_iter, tol)
        rows.centers[r], rows.counts[r], history, rows.converged[r], _ = path
        rows.n_iter[r], rows.inertia[r] = len(history) - 1, history[-1]
        label_nearest(weights[r], rows.centers[r], rows.labels[r])
        if len(ranked) < len(weights[r]):  # those of sample weight 0 have labels, too
            rows.counts[r] = 0
            for label in rows.labels[r]:
                rows.counts[r, label] += 1


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
