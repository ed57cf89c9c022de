"""Weights in order: both ways give the ranks, values, sums and labels of a sorted array."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_lloyd import assert_same

import lib
from lib.clustering import label, ordered
from lib.engine import DevicePasses, LeafWeights, Passes, SortedWeights
from lib.engine import passes as of_processor
from lib.engine.keys import bits_of, keys_of, thresholds
from lib.lloyd import lloyd, lloyd_in_order
from lib.study.experiment.textbook import TextbookCells

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


def binned(weights, sample_weight=None):
    return LeafWeights(Passes(weights.view(np.uint32), "float32", sample_weight))


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
            expected = (weights <= values[:, None]).sum(axis=1)
            np.testing.assert_array_equal(order.rank(values, side="right"), expected)


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
    order, same = binned(weights, importance), SortedWeights(weights, importance)
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
@pytest.mark.parametrize("weighted", [False, True])
def test_every_engine_takes_the_path_of_the_textbook(weights, n_clusters, revise, weighted):
    rng = np.random.default_rng(7)
    importance = rng.choice([0.25, 1.0, 2.5], len(weights)) if weighted else None
    start = np.sort(np.random.default_rng(4).choice(weights, n_clusters).astype(np.float64))
    # Sums of some are rounded, and a later tie may fall either way: the first steps decide.
    options = {"revise": revise, "max_iter": 3}
    expected = lloyd(TextbookCells(weights, importance), start, **options)
    for order in (binned(weights, importance), SortedWeights(weights, importance)):
        assert_same(lloyd_in_order(order, start, **options), expected, weights)


@EVERY
def test_labels_count_the_thresholds_below(weights):
    cuts = np.unique(np.random.default_rng(5).choice(weights, 12))
    expected = np.searchsorted(cuts, weights, side="right")
    for order in (binned(weights), SortedWeights(weights)):
        np.testing.assert_array_equal(order.label(cuts, np.uint8), expected)


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_half_precision_is_as_its_float32(kind):
    tensor = torch.randn(5000, generator=torch.Generator().manual_seed(0)) / 50
    half = tensor.to(getattr(torch, kind))
    order = LeafWeights(Passes(half.view(torch.int16).numpy().view(np.uint16), kind))
    same = SortedWeights(half.float().numpy())
    ranks = np.arange(5000)
    np.testing.assert_array_equal(order[ranks], same[ranks])
    np.testing.assert_array_equal(order.distinct(5000), same.distinct(5000))
    start = np.linspace(-0.05, 0.05, 16)
    path, expected = (lloyd_in_order(o, start, revise=True) for o in (order, same))
    assert path.n_iter == expected.n_iter
    np.testing.assert_allclose(path.centers, expected.centers, rtol=1e-12)
    cuts = thresholds(path.centers, np.float32)
    np.testing.assert_array_equal(order.label(cuts, np.uint8), same.label(cuts, np.uint8))


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_halves_of_importance_0_are_labelled_too(kind):
    half = torch.linspace(-1, 1, 201).to(getattr(torch, kind))
    importance = (np.arange(201) % 3 == 0).astype(np.float64)
    order = LeafWeights(Passes(half.view(torch.int16).numpy().view(np.uint16), kind, importance))
    cuts = np.float32([-np.inf, -0.655, 0.0, 0.123, np.inf])
    expected = np.searchsorted(cuts, half.float().numpy(), side="right")
    np.testing.assert_array_equal(order.label(cuts, np.uint8), expected)


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_importance_goes_with_halves(kind):
    rng = np.random.default_rng(8)
    half = torch.from_numpy(rng.integers(-500, 500, 3000) / 64).to(getattr(torch, kind))
    importance = rng.uniform(0.5, 2, 3000)
    bits = half.view(torch.int16).numpy().view(np.uint16)
    order = LeafWeights(Passes(bits, kind, importance))
    same = SortedWeights(half.float().numpy(), importance)
    np.testing.assert_array_equal(np.asarray(order), np.asarray(same))
    for weight in np.unique(same.weights)[::97]:
        here = np.asarray(order) == weight
        assert sorted(order.sample_weight[here]) == sorted(same.sample_weight[here])


def test_one_rank_among_weights_that_share_their_leading_digits():
    weights = np.float32(1) + np.arange(5, dtype=np.float32) * np.float32(2**-23)
    order = binned(weights)
    assert [float(order[rank]) for rank in range(5)] == weights.tolist()


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(bad):
    weights = np.float32([1, 2, bad, -3])
    importance = np.array([1.0, 1.0, 0.0, 1.0])
    tensor, mass = torch.from_numpy(weights), torch.from_numpy(importance)
    for make in (
        lambda: binned(weights),
        lambda: binned(weights, importance),
        lambda: SortedWeights(weights, importance),
        lambda: LeafWeights(DevicePasses(tensor)),
        lambda: LeafWeights(DevicePasses(tensor, mass)),
    ):
        with pytest.raises(ValueError, match=f"weights hold -?{abs(bad)}"):
            make()


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=2, max_size=50))
def test_keys_ascend_with_floats(values):
    values = np.float32(values)
    keys = keys_of(values)
    np.testing.assert_array_equal(bits_of(keys.astype(np.uint32)).view(np.float32), values)
    np.testing.assert_array_equal(np.sort(values), values[np.argsort(keys)])
    np.testing.assert_array_equal(values[:, None] < values, keys[:, None] < keys)


def test_large_arrays_are_binned_unless_a_leaf_is_crowded():
    rng = np.random.default_rng(0)
    assert isinstance(ordered(rng.normal(size=1 << 21).astype(np.float32)), LeafWeights)
    assert isinstance(ordered(rng.normal(size=1 << 21)), SortedWeights)
    crowded = (1 + rng.integers(0, 4000, 1 << 21) * 2.0**-23).astype(np.float32)
    assert isinstance(ordered(crowded), SortedWeights)


@EVERY
def test_distinct_weights(weights):
    order, same = binned(weights), SortedWeights(weights)
    for at_most in (1, 16, 10_000):
        found, expected = order.distinct(at_most), same.distinct(at_most)
        assert (found is None) == (expected is None)
        if expected is not None:
            np.testing.assert_array_equal(found, expected)
    ranks = np.unique(order.starts_of_distinct(50))
    values = np.asarray(same)
    assert ranks[0] == 0
    assert all(values[rank] != values[rank - 1] or values[rank] == 0 for rank in ranks[1:])


@EVERY
def test_bounds_hold_what_lies_between(weights):
    order, values = binned(weights), np.sort(weights).astype(np.float64)
    ranks = np.arange(len(values))
    low, high = order.value_bounds(ranks)
    assert (low <= values).all() and (values <= high).all()
    near = np.abs(values) >= np.finfo(np.float32).tiny
    assert ((high - low)[near] <= np.abs(values[near]) * 2**-11).all()
    edges = np.unique(low[:: max(1, len(low) // 50)])
    edges = edges[edges != 0]  # its place is that of -0.0, in the leaf before
    looked = order.member_start.copy()
    np.testing.assert_array_equal(order.rank_near(edges), np.searchsorted(values, edges))
    np.testing.assert_array_equal(order.member_start, looked)


def test_few_passes_look_up_what_a_path_asks_for():
    rng = np.random.default_rng(7)
    order = binned(rng.normal(size=200_000).astype(np.float32))
    passes, gather = [], order.passes.gather
    order.passes.gather = lambda chosen: passes.append(len(chosen)) or gather(chosen)
    path = lloyd_in_order(order, np.linspace(-2, 2, 8), revise=True)
    assert path.n_iter > 20
    assert 1 <= len(passes) <= 5
    assert sum(passes) < len(order.numbers) / 2
    again = lloyd_in_order(order, np.linspace(-2, 2, 8), revise=True)
    np.testing.assert_array_equal(again.centers, path.centers)
    assert len(passes) <= 5


GPU = pytest.param("cuda", marks=pytest.mark.gpu)
KINDS = ["float32", "float16", "bfloat16"]


class TestDevice:
    """The passes by torch are those of the processor, here or on a CUDA device."""

    @pytest.fixture(params=["cpu", GPU])
    def device(self, request):
        if request.param == "cuda" and not torch.cuda.is_available():
            pytest.skip("no CUDA device")
        return request.param

    def both(self, weights, device, kind="float32", importance=None):
        tensor = torch.from_numpy(weights).to(getattr(torch, kind))
        bits = tensor.view(torch.int32 if kind == "float32" else torch.int16).numpy()
        host = Passes(bits.view(f"uint{8 * bits.itemsize}"), kind, importance)
        mass = None if importance is None else torch.from_numpy(importance).to(device)
        return DevicePasses(tensor.to(device), mass), host

    @EVERY
    @pytest.mark.parametrize("kind", KINDS)
    def test_tallies(self, weights, kind, device):
        weights = np.clip(weights, -6e4, 6e4)  # what float16 holds
        for found, expected in zip(
            *(p.tally() for p in self.both(weights, device, kind)), strict=True
        ):
            np.testing.assert_array_equal(found, expected)

    @EVERY
    def test_masses(self, weights, device):
        importance = np.random.default_rng(0).choice([0.0, 1.0, 2.5], len(weights))
        importance[0] = 1.0
        passes = self.both(weights, device, importance=importance)
        (*found, masses), (*expected, others) = (p.tally() for p in passes)
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        np.testing.assert_allclose(masses, others, rtol=1e-12)
        chosen = np.arange(0, len(found[0]), 3)
        (members, masses), (same, others) = (p.gather(chosen) for p in passes)
        np.testing.assert_array_equal(members, same)
        np.testing.assert_array_equal(masses, others)

    @EVERY
    @pytest.mark.parametrize("kind", KINDS)
    def test_labels(self, weights, kind, device):
        weights = np.clip(weights, -6e4, 6e4)
        on_device, host = self.both(weights, device, kind)
        keys = np.sort(np.random.default_rng(1).integers(0, 1 << host.width, 40))
        expected = host.label(keys, np.uint16)
        np.testing.assert_array_equal(on_device.label(keys, np.uint16).cpu(), expected)
        keys = keys[:0]
        assert not on_device.label(keys, np.uint8).any()

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("weighted", [False, True])
    def test_takes_the_path_of_the_processor(self, kind, weighted, device):
        rng = np.random.default_rng(2)
        weights = rng.standard_t(3, 20_000).astype(np.float32)
        importance = rng.uniform(0, 1, len(weights)) if weighted else None
        paths = [
            lloyd_in_order(LeafWeights(p), np.linspace(-2, 2, 9), revise=True)
            for p in self.both(weights, device, kind, importance)
        ]
        assert paths[0].n_iter == paths[1].n_iter
        np.testing.assert_allclose(paths[0].centers, paths[1].centers, rtol=1e-12)


def test_a_leaf_with_more_weights_than_a_tally_holds(monkeypatch):
    """Parts are tallied in 26 bits; what all of them hold is not."""
    real, times = of_processor.tally, np.uint64(2**23)

    def as_if_repeated(*arguments):
        real(*arguments)
        arguments[5][:] *= times

    monkeypatch.setattr(of_processor, "tally", as_if_repeated)
    monkeypatch.setattr(
        of_processor.threads, "parts", lambda n: [slice(i, i + 4) for i in range(0, n, 4)]
    )
    weights = np.repeat(np.float32([1, 1 + 2**-23]), 32)
    _, counts, totals, squares, _ = Passes(weights.view(np.uint32)).tally()
    assert [counts.sum(), totals.sum(), squares.sum()] == [2**29, 2**28, 2**28]


def test_a_hundred_million_equal_weights():
    found = lib.cluster(np.repeat(np.float32([0, 1]), [2**26, 2**25]), 2)
    assert found.centers.tolist() == [0, 1]
    assert found.inertia == 0
    assert found.labels[2**26 - 1 : 2**26 + 1].tolist() == [0, 1]


@EVERY
@pytest.mark.parametrize("weighted", [False, True])
def test_inertia_is_that_of_centers_and_cells(weights, weighted):
    rng = np.random.default_rng(9)
    importance = 10 ** rng.uniform(-12, 0, len(weights)) if weighted else None
    start = np.sort(rng.choice(weights, 6).astype(np.float64))
    for order in (binned(weights, importance), SortedWeights(weights, importance)):
        path = lloyd_in_order(order, start, revise=True, max_iter=20)
        centers = path.centers[label(order, path.centers)]
        squares = (weights.astype(np.longdouble) - centers) ** 2
        expected = np.sum(squares if importance is None else importance * squares)
        assert path.history[-1] == pytest.approx(float(expected), rel=1e-6, abs=0)


def test_a_path_goes_on_from_where_it_needed_a_leaf():
    """It does not start again, and ends bit by bit where a sorted array's does."""
    rng = np.random.default_rng(3)
    weights = np.round(1024 * rng.standard_t(6, 300_000)).astype(np.float32) / 1024
    start, loads, sorted_ = np.linspace(-9, 9, 64), [], SortedWeights(weights)  # sums are exact
    order = binned(weights)
    passes = order.passes.gather
    order.passes.gather = lambda chosen: loads.append(len(chosen)) or passes(chosen)
    path, expected = (lloyd_in_order(o, start, revise=True) for o in (order, sorted_))
    assert len(loads) > 1
    np.testing.assert_array_equal(path.centers, expected.centers)
    np.testing.assert_array_equal(path.counts, expected.counts)
    np.testing.assert_array_equal(path.splits_tried, expected.splits_tried)
