"""From weights to labels and back, and the sum of what belongs to each label; compiled."""

import numpy as np

from . import threads
from .compiled import kernel
from .keys import write_thresholds

LANES = 4  # sums kept apart, so that a run of equal labels does not wait for itself
TILE = 4096  # weights that stay in a core's cache
FEW_THRESHOLDS = 64  # comparing with each is faster than searching (docs/measure_engine.py)


def label_floats(weights, thresholds, labels):
    """Write the number of thresholds at or below each weight into `labels`."""
    fours = np.full(-(-len(thresholds) // 4) * 4, np.nan, thresholds.dtype)  # NaN is below none
    fours[: len(thresholds)] = thresholds
    label_tiles(weights, fours, labels)


@kernel
def label_nearest(weights, centers, labels):
    """Write the nearest of ascending centers to each weight: of equal ones the first."""
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


def reconstruct(centers, labels):
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
        lambda part: _reconstruct(centers, labels[part], weights[part]), threads.parts(len(labels))
    )
    return weights


def rounded(weights, thresholds, centers):
    """Each weight's center: that of the cell that it is in.

    Parameters
    ----------
    weights : float32 array of shape (n,)
    thresholds : float32 array of shape (k - 1,)
        The smallest weight of each cell but the first, ascending.
    centers : float32 array of shape (k,)

    Returns
    -------
    float32 array of shape (n,)
    """
    found = np.empty_like(weights)

    def of_part(part):
        labels = np.empty(part.stop - part.start, np.uint8 if len(centers) <= 256 else np.uint16)
        label_floats(weights[part], thresholds, labels)
        _reconstruct(centers, labels, found[part])

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
def label_tiles(weights, thresholds, labels):
    """`label_floats` with thresholds that come in fours, padded by NaN."""
    for start in range(0, len(weights), TILE):
        # Counted from 0, which tells the compiler that no index is negative: ten times as fast.
        tile, found = weights[start : start + TILE], labels[start : start + TILE]
        if len(thresholds) <= FEW_THRESHOLDS:
            for i in range(len(tile)):
                found[i] = 0
            for j in range(0, len(thresholds), 4):  # fewer reads and writes than one by one
                a, b = thresholds[j], thresholds[j + 1]
                c, d = thresholds[j + 2], thresholds[j + 3]
                for i in range(len(tile)):
                    found[i] += (tile[i] >= a) + (tile[i] >= b) + (tile[i] >= c) + (tile[i] >= d)
        else:
            for i in range(len(tile)):
                low, high = 0, len(thresholds)
                while low < high:
                    middle = (low + high) >> 1
                    if tile[i] >= thresholds[middle]:
                        low = middle + 1
                    else:
                        high = middle
                found[i] = low


@kernel
def _reconstruct(centers, labels, weights):
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
