"""Sorting by digits: of a hundred thousand 32-bit words several times as fast as by comparisons."""

import numpy as np

from .compiled import kernel
from .keys import bits_of, float_keys

WIDTH, DIGITS = 11, 3  # bits of a digit, and digits of a word: an odd number


def sort_floats(values):
    """A sorted copy of a float32 or float64 array; NaNs come first or last, by their sign."""
    if values.dtype != np.float32:
        return np.sort(values)
    return bits_of(sort_keys(float_keys(values))[0]).view(np.float32)


def order_of_floats(values):
    """The places of a float array's values in order; of equal ones the first comes first."""
    if values.dtype != np.float32:
        return np.argsort(values, kind="stable")
    places = np.arange(len(values), dtype=np.uint32)
    return sort_keys(float_keys(values + np.float32(0)), places)[1]  # -0.0 becomes 0.0, its equal


def sort_keys(keys, others=None):
    """A uint32 array in order, and an array of anything along with it; those given are used up.

    Equal keys stay in their order.
    """
    others = keys[:0] if others is None else others
    found, along = np.empty_like(keys), np.empty_like(others)
    _sort(keys, others, found, along)
    return found, along


@kernel
def _sort(keys, others, next_keys, next_others):
    """Digit by digit from one to the other, which has them in the end."""
    n, last = len(keys), np.uint64((1 << WIDTH) - 1)
    starts = np.zeros((DIGITS, 1 << WIDTH), np.int64)
    for i in range(n):
        for digit in range(DIGITS):
            starts[digit, (np.uint64(keys[i]) >> np.uint64(WIDTH * digit)) & last] += 1
    for digit in range(DIGITS):
        start = 0
        for value in range(1 << WIDTH):
            count = starts[digit, value]
            starts[digit, value] = start
            start += count
        for i in range(n):
            value = (np.uint64(keys[i]) >> np.uint64(WIDTH * digit)) & last
            place = starts[digit, value]
            next_keys[place] = keys[i]
            if len(others):
                next_others[place] = others[i]
            starts[digit, value] = place + 1
        keys, next_keys = next_keys, keys
        others, next_others = next_others, others
