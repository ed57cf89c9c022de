"""Weights from codebook and labels, and the sum of what belongs to each label; compiled."""

import numpy as np
from numba import njit

from . import threads

LANES = 4  # sums kept apart, so that a run of equal labels does not wait for itself


def look_up(centers, labels):
    """The center of each label.

    Parameters
    ----------
    centers : float array of shape (k,)
    labels : integer array of shape (n,)

    Returns
    -------
    array of shape (n,) and the centers' dtype
    """
    weights = np.empty(len(labels), centers.dtype)
    threads.run(
        lambda part: _look_up(centers, labels[part], weights[part]), threads.parts(len(labels))
    )
    return weights


def sum_by_label(values, labels, n_labels):
    """Sum of the values of each label, in float64.

    One read of both arrays: torch's `index_add_` and indexing's gradient take many times as long.

    Parameters
    ----------
    values : float array of shape (n,)
    labels : integer array of shape (n,)
    n_labels : int

    Returns
    -------
    float64 array of shape (n_labels,)
    """
    return sum(
        threads.run(
            lambda part: _sum_by_label(values[part], labels[part], n_labels),
            threads.parts(len(labels)),
        )
    )


@njit(cache=True, nogil=True)
def _look_up(centers, labels, weights):
    for i in range(len(labels)):
        weights[i] = centers[labels[i]]


@njit(cache=True, nogil=True)
def _sum_by_label(values, labels, n_labels):
    sums = np.zeros((LANES, n_labels))
    whole = len(values) - len(values) % LANES
    for i in range(0, whole, LANES):
        for lane in range(LANES):
            sums[lane, labels[i + lane]] += values[i + lane]
    for i in range(whole, len(values)):
        sums[0, labels[i]] += values[i]
    for lane in range(1, LANES):
        for j in range(n_labels):
            sums[0, j] += sums[lane, j]
    return sums[0]
