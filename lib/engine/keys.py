"""Keys: integers in the order of the floats that they stand for.

A float's bits, read as an integer, ascend with its magnitude. Its key is that integer, reflected
for negative floats, so that keys ascend with the floats. -0.0 has the key of 0.0.
"""

import numpy as np
from numba import njit


@njit(inline="always")
def key_of(bits, width):
    """Key of a float of `width` bits (16 or 32), from its bits; int64 from 0 to 2 ** width - 1."""
    sign = np.int64(1) << (width - 1)
    bits = np.int64(bits)
    if bits == sign:
        bits = np.int64(0)
    return 2 * sign - 1 - bits if bits >= sign else bits + sign


def keys_of(values):
    """Keys of float32 values, int64."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32).astype(np.int64)
    bits[bits == 1 << 31] = 0
    return np.where(bits >= 1 << 31, (1 << 32) - 1 - bits, bits + (1 << 31))


def bits_of(keys, width):
    """Bits of the floats of the given keys, as int64: the inverse of `key_of`."""
    sign = 1 << (width - 1)
    return np.where(keys >= sign, keys - sign, 2 * sign - 1 - keys)


def thresholds(centers, dtype):
    """The smallest weight of each cell but the first: strictly nearer to its center.

    A weight belongs to the nearest center, of two equally near to the lower.

    Parameters
    ----------
    centers : float64 array of shape (k,)
        Ascending and distinct.
    dtype : NumPy dtype
        float32 or float64: the grid that the weights lie on.

    Returns
    -------
    array of shape (k - 1,) and that dtype
        Infinite where no finite weight is.
    """
    found = np.empty(len(centers) - 1, dtype)
    _thresholds(centers, found)
    return found


@njit(cache=True)
def _thresholds(centers, found):
    if found.itemsize == 4:
        for j in range(len(found)):
            found[j] = _first_nearer32(centers[j], centers[j + 1])
    else:
        for j in range(len(found)):
            found[j] = _first_nearer64(centers[j], centers[j + 1])


# Bisection over the places of all floats in order: the bits as a signed integer, reflected where
# negative. `weight - low > high - weight` is monotone in the weight under rounding, and so it is
# from one pair of neighbours to the next: labels by thresholds are those of the nearest center.


@njit(cache=True)
def _first_nearer32(low, high):
    before, place = np.int64(-0x7F800001), np.int64(0x7F800000)  # -inf, inf
    while place - before > 1:
        middle = (place + before) >> 1
        weight = np.float64(_float32(middle))
        if weight - low > high - weight:
            place = middle
        else:
            before = middle
    return _float32(place)


@njit(cache=True)
def _first_nearer64(low, high):
    before, place = np.int64(-0x7FF0000000000001), np.int64(0x7FF0000000000000)
    while before + 1 != place:
        middle = (place & before) + ((place ^ before) >> 1)  # their mean, without overflow
        weight = _float64(middle)
        if weight - low > high - weight:
            place = middle
        else:
            before = middle
    return _float64(place)


@njit(cache=True)
def _float32(place):
    bits = np.uint32(place ^ 0x7FFFFFFF if place < 0 else place)
    return bits.view(np.float32)


@njit(cache=True)
def _float64(place):
    bits = np.int64(place ^ 0x7FFFFFFFFFFFFFFF if place < 0 else place)
    return bits.view(np.float64)
