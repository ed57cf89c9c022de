"""Weights in order, as far as anyone looks: ranks, values and sums without sorting them all."""

import numpy as np
import torch

from .binned import BinnedWeights
from .device import DevicePasses
from .ordered import SortedWeights
from .passes import SHIFT, Passes

__all__ = ["FEW", "BinnedWeights", "SortedWeights", "has_bins", "in_order", "passes_over"]

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


def has_bins(weights):
    """Whether the weights of an array or tensor can be binned: floats of 16 or 32 bits."""
    known = isinstance(weights, (np.ndarray, torch.Tensor))
    return known and str(weights.dtype).removeprefix("torch.") in SHIFT


def passes_over(weights, sample_weight=None):
    """The passes that `BinnedWeights` asks for, where the weights are.

    Parameters
    ----------
    weights : NumPy array or torch tensor of any shape
        That `has_bins`.
    sample_weight : float64 array of shape (n,), optional

    Returns
    -------
    Passes or DevicePasses
    """
    kind, bits = str(weights.dtype).removeprefix("torch."), 8 * weights.itemsize
    if torch.is_tensor(weights):
        weights = weights.detach()
        if weights.is_cuda:
            if sample_weight is not None:
                sample_weight = torch.from_numpy(sample_weight).to(weights.device)
            return DevicePasses(weights.flatten(), sample_weight)
        weights = weights.cpu().contiguous()
        weights = weights.view(torch.int16 if bits == 16 else torch.int32).numpy()
    flat = np.ascontiguousarray(weights).reshape(-1)
    return Passes(flat.view(f"uint{bits}"), kind, sample_weight)
