"""Weights in order: both ways give the ranks, values, sums and labels of a sorted array."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_lloyd import assert_same

from lib.engine import BinnedWeights, SortedWeights, in_order
from lib.engine.keys import bits_of, key_of, keys_of, thresholds
from lib.lloyd import OrderedCells, TextbookCells, lloyd

TINY, LARGEST = np.float32(1e-45), np.finfo(np.float32).max


def adversarial():
    rng = np.random.default_rng(0)
    normal = rng.normal(size=5000).astype(np.float32)
    yield "normal", normal
    yield "sorted", np.sort(normal)
    yield "reversed", np.sort(normal)[::-1].copy()
    yield "all equal", np.full(1000, 0.1, np.float32)
    yield "two values", rng.choice(np.float32([-0.3, 0.7]), 1000)
    yield "quantized", rng.choice(normal[:16], 5000)
    yield "on midpoints", rng.integers(-8, 9, 1000).astype(np.float32) / 4
    yield "zeros of both signs", rng.choice(np.float32([-0.0, 0.0, TINY, -TINY]), 1000)
    yield "denormal", rng.integers(-5000, 5000, 1000) * TINY
    yield "extremes", np.append(normal, np.float32([LARGEST, -LARGEST, TINY]))
    yield "huge outlier", np.append(normal, np.float32(1e30))
    yield "one leaf", (1 + rng.integers(0, 2000, 5000) * 2.0**-23).astype(np.float32)
    yield "one group", rng.uniform(1, 1.0078, 5000).astype(np.float32)
    yield "one weight", np.float32([0.25])


EVERY = pytest.mark.parametrize(
    "weights", [pytest.param(w.astype(np.float32), id=name) for name, w in adversarial()]
)


def binned(weights):
    return BinnedWeights(weights.view(np.uint32))


@EVERY
def test_binned_weights_are_a_sorted_array(weights):
    order, expected = binned(weights), np.sort(weights).astype(np.float64)
    assert len(order) == len(expected)
    ranks = np.random.default_rng(1).permutation(len(expected))[:50]
    np.testing.assert_array_equal(order[ranks], expected[ranks])
    np.testing.assert_array_equal(np.asarray(order), expected)
    assert np.asarray(order).dtype == np.float32


@EVERY
def test_ranks_are_numbers_of_smaller_weights(weights):
    rng = np.random.default_rng(2)
    own = rng.choice(weights, 20)
    beside = np.nextafter(own, rng.choice(np.float32([-np.inf, np.inf]), 20))
    for order in (binned(weights), SortedWeights(weights)):
        for values in (own, beside, np.float32([-np.inf, np.inf, 0.0, -0.0])):
            expected = (weights < values[:, None]).sum(axis=1)
            np.testing.assert_array_equal(order.rank(values), expected)


@EVERY
def test_sums_of_ranges_are_exact(weights):
    order, values = binned(weights), np.sort(weights).astype(np.float64)
    cuts = np.unique(order.rank(np.random.default_rng(3).choice(weights, 30)))
    cuts = np.concatenate([[0], cuts, [len(values)]])
    sums = order.ranges(cuts[:-1], cuts[1:])
    for (count, total, square), low, high in zip(sums, cuts[:-1], cuts[1:], strict=True):
        about = values[low:high] - order.origin
        assert count == high - low
        assert total == pytest.approx(about.sum(), rel=1e-12, abs=1e-15 * np.abs(about).sum())
        assert square == pytest.approx((about**2).sum(), rel=1e-12)


@EVERY
def test_sample_weights_go_with_their_weights(weights):
    rng = np.random.default_rng(6)
    importance = rng.choice([0.0, 1e-9, 1.0, 2.5], len(weights))
    importance[0] = 1.0
    order, same = (
        BinnedWeights(weights.view(np.uint32), sample_weight=importance),
        SortedWeights(weights, importance),
    )
    assert len(order) == len(same) == (importance > 0).sum()
    np.testing.assert_array_equal(np.asarray(order), np.asarray(same))
    for weight in np.unique(same.weights)[:9]:  # equal weights may come in another order
        here = np.asarray(order) == weight
        assert sorted(order.sample_weight[here]) == sorted(same.sample_weight[here])
    cuts = np.unique(order.rank(rng.choice(weights, 30)))
    np.testing.assert_allclose(
        order.ranges(cuts[:-1], cuts[1:])[:, 0], same.ranges(cuts[:-1], cuts[1:])[:, 0], rtol=1e-12
    )


@EVERY
@pytest.mark.parametrize("n_clusters", [1, 2, 5, 16])
@pytest.mark.parametrize("revise", [False, True])
def test_every_engine_takes_the_path_of_the_textbook(weights, n_clusters, revise):
    start = np.sort(np.random.default_rng(4).choice(weights, n_clusters).astype(np.float64))
    # Sums of some are rounded, and a later tie may fall either way: the first steps decide.
    options = {"revise": revise, "max_iter": 3}
    expected = lloyd(TextbookCells(weights), start, **options)
    for order in (binned(weights), SortedWeights(weights)):
        assert_same(lloyd(OrderedCells(order), start, **options), expected, weights)


@EVERY
def test_labels_count_the_thresholds_below(weights):
    cuts = np.unique(np.random.default_rng(5).choice(weights, 12))
    expected = np.searchsorted(cuts, weights, side="right")
    for order in (binned(weights), SortedWeights(weights)):
        labels = np.empty(len(weights), np.uint8)
        order.label(cuts, labels)
        np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_half_precision_is_as_its_float32(kind):
    tensor = torch.randn(5000, generator=torch.Generator().manual_seed(0)) / 50
    half = tensor.to(getattr(torch, kind))
    order = BinnedWeights(half.view(torch.int16).numpy().view(np.uint16), kind)
    same = SortedWeights(half.float().numpy())
    ranks = np.arange(5000)
    np.testing.assert_array_equal(order[ranks], same[ranks])
    np.testing.assert_array_equal(order.distinct(5000), same.distinct(5000))
    start = np.linspace(-0.05, 0.05, 16)
    path, expected = (lloyd(OrderedCells(o), start, revise=True) for o in (order, same))
    assert path.n_iter == expected.n_iter
    np.testing.assert_allclose(path.centers, expected.centers, rtol=1e-12)
    cuts = thresholds(path.centers, np.float32)
    found, labels = np.empty((2, 5000), np.uint8)
    order.label(cuts, found)
    same.label(cuts, labels)
    np.testing.assert_array_equal(found, labels)


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_halves_of_importance_0_are_labelled_too(kind):
    half = torch.linspace(-1, 1, 201).to(getattr(torch, kind))
    importance = (np.arange(201) % 3 == 0).astype(np.float64)
    order = BinnedWeights(half.view(torch.int16).numpy().view(np.uint16), kind, importance)
    cuts, labels = np.float32([-np.inf, -0.655, 0.0, 0.123, np.inf]), np.empty(201, np.uint8)
    order.label(cuts, labels)
    expected = np.searchsorted(cuts, half.float().numpy(), side="right")
    np.testing.assert_array_equal(labels, expected)


def test_one_rank_among_weights_that_share_their_leading_digits():
    weights = np.float32(1) + np.arange(5, dtype=np.float32) * np.float32(2**-23)
    order = binned(weights)
    assert [float(order[rank]) for rank in range(5)] == weights.tolist()


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(bad):
    weights = np.float32([1, 2, bad, -3])
    with pytest.raises(ValueError, match=f"weights hold -?{abs(bad)}"):
        binned(weights)


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=2, max_size=50))
def test_keys_ascend_with_floats(values):
    values = np.float32(values)
    keys = keys_of(values)
    assert keys.tolist() == [key_of(bits, 32) for bits in values.view(np.uint32)]
    np.testing.assert_array_equal(bits_of(keys, 32).astype(np.uint32).view(np.float32), values)
    np.testing.assert_array_equal(np.sort(values), values[np.argsort(keys)])
    np.testing.assert_array_equal(values[:, None] < values, keys[:, None] < keys)


def test_large_arrays_are_binned_unless_a_leaf_is_crowded():
    rng = np.random.default_rng(0)
    assert isinstance(in_order(rng.normal(size=1 << 18).astype(np.float32)), BinnedWeights)
    assert isinstance(in_order(rng.normal(size=1 << 18)), SortedWeights)
    crowded = (1 + rng.integers(0, 2000, 1 << 19) * 2.0**-23).astype(np.float32)
    assert isinstance(in_order(crowded), SortedWeights)


@EVERY
def test_distinct_weights(weights):
    order, same = binned(weights), SortedWeights(weights)
    for at_most in (1, 16, 10_000):
        found, expected = order.distinct(at_most), same.distinct(at_most)
        assert (found is None) == (expected is None)
        if expected is not None:
            np.testing.assert_array_equal(found, expected)
    for count in (2, 50):
        starts = order.starts_of_distinct(count)
        np.testing.assert_array_equal(starts, same.starts_of_distinct(count))
