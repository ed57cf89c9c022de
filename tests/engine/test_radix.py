"""Sorting by digits, beside NumPy's sorting."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lib.engine.radix import order_of_floats, sort_floats, sort_keys

floats = hnp.arrays(np.float32, st.integers(0, 300), elements=st.floats(width=32, allow_nan=False))


@settings(deadline=None)  # the first call compiles
@given(floats)
def test_floats_are_sorted_and_those_given_stay(values):
    before = values.copy()
    assert np.array_equal(sort_floats(values), np.sort(values))
    assert np.array_equal(values.view(np.uint32), before.view(np.uint32))


@settings(deadline=None)  # the first call compiles
@given(floats)
def test_the_order_of_floats_is_stable(values):
    assert np.array_equal(order_of_floats(values), np.argsort(values, kind="stable"))


def test_double_precision_keeps_its_digits():
    values = np.array([1 + 2e-16, 1.0, -1.0])
    assert sort_floats(values).tolist() == [-1.0, 1.0, 1 + 2e-16]
    assert order_of_floats(values).tolist() == [2, 1, 0]


@pytest.mark.parametrize("sign", [1, -1])
def test_what_is_not_finite_comes_first_or_last(sign):
    for bad in (np.nan, np.inf):
        found = sort_floats(np.array([0, np.copysign(bad, sign), -5, 5], np.float32))
        assert not np.isfinite(found[-1 if sign > 0 else 0])


def test_any_array_is_sorted_along_with_keys():
    rng = np.random.default_rng(0)
    keys = rng.integers(0, 2**32, 300_000, dtype=np.uint32)
    keys[:1000] = keys[0]
    others = rng.normal(size=len(keys))
    order = np.argsort(keys, kind="stable")
    expected = keys[order], others[order]
    found = sort_keys(keys, others)
    assert np.array_equal(found[0], expected[0])
    assert np.array_equal(found[1], expected[1])
