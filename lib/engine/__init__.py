"""Weights in order, as far as anyone looks: ranks, values and sums without sorting them all."""

import numpy as np

from .binned import BinnedWeights
from .ordered import SortedWeights

FEW = 1 << 17  # sorting so few is as fast as binning them
CROWD = 1 << 18  # members of one leaf: looking for a rank among more would be slow


def in_order(weights, sample_weight=None):
    """Weights in order from a NumPy array; what is in order already as it is.

    Parameters
    ----------
    weights : float32 or float64 array of shape (n,), or weights in order
    sample_weight : float64 array of shape (n,), optional

    Returns
    -------
    SortedWeights or BinnedWeights

    Raises
    ------
    ValueError
        If a weight is not finite.
    """
    if not isinstance(weights, np.ndarray):
        return weights
    if weights.dtype == np.float32 and len(weights) > FEW:
        binned = BinnedWeights(weights.view(np.uint32), sample_weight=sample_weight)
        if binned.largest_crowd() <= CROWD:
            return binned
    return SortedWeights(weights, sample_weight)
