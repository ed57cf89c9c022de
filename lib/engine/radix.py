"""Sorting by digits: of a hundred thousand 32-bit words several times as fast as by comparisons."""

import numpy as np
from numba import njit

from .keys import bits_of_key, key_of

TOP = np.uint64(31)  # the sign's place
DIGITS = 4  # of 8 bits: an even number, so that what is sorted ends where it began


def sort_floats(values):
    """A sorted copy of a float32 or float64 array; NaNs come first or last, by their sign."""
    if values.dtype != np.float32:
        return np.sort(values)
    keys = _keys(values)
    sort_keys(keys)
    _to_bits(keys)
    return keys.view(np.float32)


def order_of_floats(values):
    """The places of a float array's values in order; of equal ones the first comes first."""
    if values.dtype != np.float32:
        return np.argsort(values, kind="stable")
    places = np.arange(len(values), dtype=np.uint32)
    sort_keys(_keys(values + np.float32(0)), places)  # -0.0 becomes 0.0, its equal
    return places


def sort_keys(keys, others=None):
    """Sort a uint32 array where it is, and an array of anything along with it."""
    others = keys[:0] if others is None else others
    _sort(keys, others, np.empty_like(keys), np.empty_like(others))


def _keys(values):
    keys = np.empty(len(values), np.uint32)
    _to_keys(np.ascontiguousarray(values).view(np.uint32), keys)
    return keys


@njit(cache=True, nogil=True)
def _to_keys(bits, keys):
    for i in range(len(bits)):
        keys[i] = key_of(np.uint64(bits[i]), TOP)


@njit(cache=True, nogil=True)
def _to_bits(keys):
    for i in range(len(keys)):
        keys[i] = bits_of_key(np.uint64(keys[i]), TOP)


@njit(cache=True, nogil=True)
def _sort(keys, others, next_keys, next_others):
    n, last = len(keys), np.uint64(255)
    starts = np.zeros((DIGITS, 256), np.int64)
    for i in range(n):
        for digit in range(DIGITS):
            starts[digit, (np.uint64(keys[i]) >> np.uint64(8 * digit)) & last] += 1
    for digit in range(DIGITS):
        start = 0
        for value in range(256):
            count = starts[digit, value]
            starts[digit, value] = start
            start += count
        for i in range(n):
            value = (np.uint64(keys[i]) >> np.uint64(8 * digit)) & last
            place = starts[digit, value]
            next_keys[place] = keys[i]
            if len(others):
                next_others[place] = others[i]
            starts[digit, value] = place + 1
        keys, next_keys = next_keys, keys
        others, next_others = next_others, others
