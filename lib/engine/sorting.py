"""Sorting with companions: NumPy sorts integers by SIMD, so each key carries its position along."""

import numpy as np

from .keys import float_keys

HALF = np.uint64(32)


def stable_order(values):
    """Positions of values in ascending order along the last axis; the first of equals first."""
    if values.dtype != np.float32:
        return np.argsort(values, kind="stable")
    return _order(float_keys(values + np.float32(0)))[1]  # -0.0 becomes 0.0, its equal


def sort_along(keys, others):
    """A uint32 array in ascending order, and another array along with it; equal keys stay put."""
    keys, order = _order(keys)
    return keys, others[order]


def _order(keys):
    """The keys in ascending order, and their positions."""
    if keys.shape[-1] > 1 << 32:  # more positions than half a word holds
        order = np.argsort(keys, kind="stable")
        return np.take_along_axis(keys, order, -1), order
    words = keys.astype(np.uint64)
    words <<= HALF
    words |= np.arange(keys.shape[-1], dtype=np.uint64)
    words.sort()
    return (words >> HALF).astype(np.uint32), words.astype(np.uint32)
