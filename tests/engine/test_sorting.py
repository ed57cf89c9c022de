"""Sorting with companions, beside NumPy's stable sort."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lib.engine.sorting import sort_along, stable_order

floats = hnp.arrays(np.float32, st.integers(0, 300), elements=st.floats(width=32, allow_nan=False))


@given(floats)
def test_the_order_of_floats_is_stable(values):
    before = values.copy()
    assert np.array_equal(stable_order(values), np.argsort(values, kind="stable"))
    assert np.array_equal(values.view(np.uint32), before.view(np.uint32))


def test_double_precision_keeps_its_digits():
    assert stable_order(np.array([1 + 2e-16, 1.0, -1.0])).tolist() == [2, 1, 0]


@pytest.mark.parametrize("sign", [1, -1])
def test_what_is_not_finite_comes_first_or_last(sign):
    for bad in (np.nan, np.inf):
        values = np.array([0, np.copysign(bad, sign), -5, 5], np.float32)
        assert stable_order(values)[-1 if sign > 0 else 0] == 1


def test_any_array_is_sorted_along_with_keys():
    rng = np.random.default_rng(0)
    keys = rng.integers(0, 2**32, 300_000, dtype=np.uint32)
    keys[:1000] = keys[0]
    others = rng.normal(size=len(keys))
    order = np.argsort(keys, kind="stable")
    found = sort_along(keys, others)
    assert np.array_equal(found[0], keys[order])
    assert np.array_equal(found[1], others[order])
