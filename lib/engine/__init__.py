"""Ordered weights: ranks, values and sums as of a sorted array, without sorting them all.

Glossary, one word a thing; `docs/engine.md` has a picture.

===============  =================================================================================
weight           a number to cluster
sample weight    how much a weight counts; a weight without one counts 1
mass             the sum of the sample weights of a set of weights
moment           first, second: the same sum of distances from the origin, and of their squares
origin           a weight near the median
rank             number of weights before a weight in ascending order
cell             the weights that are nearest to one center: a range of ranks
threshold        the smallest weight of a cell
key, ordinal     a float as an integer, unsigned or signed, that ascends with the floats
leaf, remainder  the weights whose keys share their leading bits; the last bits of a key
pure, mixed      of a leaf: its weights are all equal; they are not
slot             number of a leaf by the bits of its floats (`numbering`)
leaf number      number of a leaf by their value (`numbering`)
pass             one read of all weights: it tallies leaves, gathers members, or writes labels
tally            for each leaf its count, and the sums of its remainders and of their squares
look-up, loaded  a pass that gathers and sorts members; of a leaf: its members were gathered
members          the remainders of the weights of loaded leaves
needed           of a leaf: an answer depends on its members, which are not loaded
provisional      of an answer: it takes the members of a leaf to be evenly spaced
tables           what compiled loops read: `SortedTables` or `LeafTables`
===============  =================================================================================
"""

import numpy as np
import torch

from .device import DevicePasses
from .leaves import LeafWeights
from .ordered import OrderedWeights
from .passes import SHIFT, Passes
from .sorted import SortedWeights

__all__ = [
    "FEW",
    "DevicePasses",
    "LeafWeights",
    "OrderedWeights",
    "Passes",
    "SortedWeights",
    "has_leaves",
    "in_order",
    "passes_over",
]

FEW = 1 << 20  # sorting so few is as fast as tallying them (docs/measure_engine.py)


def in_order(weights, sample_weight=None):
    """Ordered weights from a NumPy array; ordered weights are returned as they are.

    Parameters
    ----------
    weights : float32 or float64 array of shape (n,), or OrderedWeights
    sample_weight : float64 array of shape (n,), optional

    Returns
    -------
    OrderedWeights

    Raises
    ------
    ValueError
        If a weight is not finite.
    """
    return SortedWeights(weights, sample_weight) if isinstance(weights, np.ndarray) else weights


def has_leaves(weights):
    """Whether `LeafWeights` takes an array or tensor: floats of 16 or 32 bits."""
    known = isinstance(weights, (np.ndarray, torch.Tensor))
    return known and str(weights.dtype).removeprefix("torch.") in SHIFT


def passes_over(weights, sample_weight=None):
    """The passes that `LeafWeights` needs, on the device that has the weights.

    Parameters
    ----------
    weights : NumPy array or torch tensor of any shape
        `has_leaves` is True of it.
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
