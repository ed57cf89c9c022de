"""Keys and ordinals: integers in the order of the floats that they stand for.

A float's bits, read as an integer, ascend with its magnitude. Its *key* is that integer, reflected
for negative floats, so that keys ascend with the floats; -0.0 comes just before 0.0. Its *ordinal*
is the key as a signed integer: 0 for 0.0, -1 for -0.0.
"""

import numpy as np

from .compiled import inlined, inner, kernel

SIGN = np.int32(-(2**31))  # the sign alone


def float_keys(values):
    """Keys of float32 values, uint32."""
    bits = np.ascontiguousarray(values).view(np.int32)
    keys = bits >> 31  # -1 where negative
    keys |= SIGN
    keys ^= bits
    return keys.view(np.uint32)


def keys_of(thresholds):
    """Keys of float32 thresholds, int64: of 0.0 that of -0.0, so that both are at or above it."""
    values = np.asarray(thresholds, np.float32)
    return float_keys(np.where(values == 0, np.float32(-0.0), values)).astype(np.int64)


def bits_of(keys):
    """Bits of the floats of the given keys, both uint16 or uint32."""
    signed = keys.view(f"i{keys.itemsize}")
    bits = ~signed
    bits >>= 8 * keys.itemsize - 1  # -1 where positive
    bits |= np.iinfo(bits.dtype).min
    bits ^= signed
    return bits.view(keys.dtype)


@inlined
def key_of(bits, top):
    """Key of a float's bits, both uint64: these flipped, or the sign alone if positive.

    `top` is the number of the sign's bit.
    """
    flipped = bits ^ ((np.uint64(0) - (bits >> top)) | (np.uint64(1) << top))
    return flipped & ((np.uint64(2) << top) - np.uint64(1))


@inlined
def nearer(weight, low, high):
    """Whether a weight is strictly nearer to `high` than to `low`.

    Signed distances keep this monotone in the weight, and in the pair, under rounding, so that
    comparing neighbours in turn finds the nearest of all.
    """
    return weight - low > high - weight


def thresholds(centers, dtype):
    """The smallest weight of each cell but the first: strictly nearer to its center.

    A weight belongs to the nearest center, of two equally near to the lower.

    Parameters
    ----------
    centers : float64 array of shape (k,)
        Ascending and distinct.
    dtype : NumPy dtype
        float32 or float64: the weights' own.

    Returns
    -------
    array of shape (k - 1,) and that dtype
        Infinite where a cell is above all finite weights.
    """
    found = np.empty(len(centers) - 1, dtype)
    write_thresholds(centers, found)
    return found


@kernel
def write_thresholds(centers, found):
    """`thresholds` into an array of their dtype."""
    for j in range(len(found)):
        found[j] = _first_nearer(centers[j], centers[j + 1], found.itemsize == 4)


@inner
def _first_nearer(low, high, single):
    """Bisection over the ordinals of all floats, from -inf to inf.

    `nearer` is monotone, so that labels by thresholds are those of the nearest center.
    """
    ordinal = np.int64(0x7F800000 if single else 0x7FF0000000000000)
    before = -1 - ordinal
    while before + 1 != ordinal:
        middle = (ordinal & before) + ((ordinal ^ before) >> 1)  # their mean, without overflow
        if nearer(_float_at(middle, single), low, high):
            ordinal = middle
        else:
            before = middle
    return _float_at(ordinal, single)


@inner
def _float_at(ordinal, single):
    """The float32 or float64 of an ordinal, as float64."""
    if single:
        bits = np.uint32(ordinal ^ 0x7FFFFFFF if ordinal < 0 else ordinal)
        return np.float64(bits.view(np.float32))
    long = np.int64(ordinal ^ 0x7FFFFFFFFFFFFFFF if ordinal < 0 else ordinal)
    return long.view(np.float64)
