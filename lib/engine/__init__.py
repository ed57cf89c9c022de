"""Weights in order, as far as anyone looks: ranks, values and sums without sorting them all."""

import numpy as np

from .binned import BinnedWeights
from .device import DevicePasses
from .ordered import SortedWeights
from .passes import SHIFT, Passes

__all__ = ["FEW", "SHIFT", "BinnedWeights", "DevicePasses", "Passes", "SortedWeights", "in_order"]

FEW = 1 << 20  # sorting so few is as fast as binning them


def in_order(weights, sample_weight=None):
    """Weights in order from a sorted NumPy array; what is in order already as it is.

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
    return SortedWeights(weights, sample_weight) if isinstance(weights, np.ndarray) else weights
