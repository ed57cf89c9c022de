"""Weights from codebook and labels, and the sum of what belongs to each label; compiled."""

import numpy as np

from . import threads
from .compiled import kernel
from .ordered import label_floats

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


def rounded(weights, cuts, centers):
    """Each weight's center: that of the cell between the cuts that it lies in.

    Parameters
    ----------
    weights : float32 array of shape (n,)
    cuts : float32 array of shape (k - 1,)
        The smallest weight of each cell but the first, ascending.
    centers : float32 array of shape (k,)

    Returns
    -------
    float32 array of shape (n,)
    """
    found = np.empty_like(weights)

    def of_part(part):
        labels = np.empty(part.stop - part.start, np.uint8 if len(centers) <= 256 else np.uint16)
        label_floats(weights[part], cuts, labels)
        _look_up(centers, labels, found[part])

    threads.run(of_part, threads.parts(len(weights)))
    return found


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


@kernel
def _look_up(centers, labels, weights):
    for i in range(len(labels)):
        weights[i] = centers[labels[i]]


@kernel
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
