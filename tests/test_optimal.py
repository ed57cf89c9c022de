"""Globally optimal centers against exhaustive search and an independent exact solver."""

from itertools import combinations

import ckwrap
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lib
from lib.optimal import N_EXACT, inertia_bound, inertia_curve, optimal_centers
from lib.study.experiment.data import load_convolutions


def exhaustive(weights, n_clusters, sample_weight=None):
    """Least inertia of every way to cut sorted weights into cells."""
    mass = np.ones(len(weights)) if sample_weight is None else sample_weight

    def cost(start, stop):
        cell, m = weights[start:stop], mass[start:stop]
        return np.sum(m * (cell - np.average(cell, weights=m)) ** 2)

    n = len(weights)
    return min(
        sum(cost(a, b) for a, b in zip((0, *cuts), (*cuts, n), strict=True))
        for cuts in combinations(range(1, n), n_clusters - 1)
    )


def inertia_of(weights, centers, sample_weight=None):
    squares = np.square(weights[:, None] - centers).min(axis=1)
    return np.sum(squares if sample_weight is None else squares * sample_weight)


@given(
    st.lists(st.integers(-30, 30), min_size=1, max_size=10),
    st.integers(1, 5),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_exhaustive_search(weights, n_clusters, weighted, random):
    weights = np.sort(np.array(weights) / 4)
    n_clusters = min(n_clusters, len(np.unique(weights)))
    mass = np.array([random.choice([0.5, 1.0, 4.0]) for _ in weights]) if weighted else None
    centers = optimal_centers(weights, n_clusters, mass)
    assert (np.diff(centers) > 0).all()
    expected = exhaustive(weights, n_clusters, mass)
    assert inertia_of(weights, centers, mass) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(
    st.lists(st.floats(-30, 30), min_size=1, max_size=10, unique=True),
    st.integers(1, 5),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_the_bound_is_the_optimum_where_no_bin_is_split(weights, n_clusters, weighted, random):
    weights = np.sort(np.array(weights))
    n_clusters = min(n_clusters, len(weights))
    mass = np.array([random.choice([0.5, 1.0, 4.0]) for _ in weights]) if weighted else None
    expected = exhaustive(weights, n_clusters, mass)
    bound = inertia_bound(weights, n_clusters, mass)
    assert bound <= expected + 1e-12
    assert bound == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("n_bins", [8, 64, 512, 4096])
@pytest.mark.parametrize("n_clusters", [2, 5, 16])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_bound_never_exceeds_the_optimum_where_bins_are_split(n_bins, n_clusters, weighted):
    rng = np.random.default_rng(n_bins)
    weights = np.sort(rng.standard_t(4, size=20_000))
    if weighted:  # the optimum of repeated weights is an oracle for weighted ones
        repeats = rng.integers(1, 4, len(weights))
        exact = float(np.sum(ckwrap.ckmeans(np.repeat(weights, repeats), n_clusters).withinss))
        bound = inertia_bound(weights, n_clusters, repeats.astype(np.float64), n_bins)
    else:
        exact = float(np.sum(ckwrap.ckmeans(weights, n_clusters).withinss))
        bound = inertia_bound(weights, n_clusters, n_bins=n_bins)
    assert 0 <= bound <= exact
    # each boundary costs at most a bin's share of its cell, squared
    assert 1 - bound / exact < 40 * (n_clusters / n_bins) ** 2


@pytest.mark.parametrize("n", [2000, 2_000_000])
def test_weights_too_light_to_count(n):
    """Fisher information spans tens of orders: whole bins then leave the sums as they were."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=n).astype(np.float32)
    heavy = 10.0 ** rng.uniform(-45, 0, n)
    heavy[weights > 0.5] *= 1e-40
    found = lib.cluster(weights, 64, init="optimal", sample_weight=heavy)
    assert np.isfinite(found.centers).all()
    assert (np.diff(found.centers) >= 0).all()
    few = lib.cluster(weights, 4, init="optimal", sample_weight=heavy)
    assert 0 <= found.inertia < few.inertia
    assert found.inertia <= inertia_of(weights.astype(float), few.centers, heavy)
    prepared = lib.Prepared(weights, heavy)
    curve = inertia_curve(prepared.ordered, 64)
    assert np.isfinite(curve).all()
    assert (np.diff(curve) <= 0).all()
    assert curve[3] == pytest.approx(few.inertia, rel=0.05)


@pytest.mark.parametrize("solve", [optimal_centers, inertia_curve, inertia_bound])
def test_numbers_of_centers_that_cannot_be(solve):
    for n_clusters in (0, -1):
        with pytest.raises(ValueError, match=f"n_clusters={n_clusters} must be at least 1"):
            solve(np.arange(10.0), n_clusters)


def test_more_centers_than_distinct_weights():
    with pytest.raises(ValueError, match="n_clusters=3, but only 2 weights are distinct"):
        optimal_centers(np.array([1.0, 1.0, 2.0]), 3)


def test_known_answer():
    weights = np.array([0.0, 1.0, 2.0, 10.0, 11.0, 12.0, 50.0])
    assert optimal_centers(weights, 3).tolist() == [1.0, 11.0, 50.0]
    assert optimal_centers(weights, 1) == pytest.approx([weights.mean()])
    assert optimal_centers(weights, 7).tolist() == weights.tolist()


@pytest.mark.parametrize("n", [100, N_EXACT // 8, N_EXACT])
def test_weights_that_are_not_binned_have_their_exact_optimum(n):
    weights = np.sort(np.random.default_rng(0).standard_t(3, size=n))
    for n_clusters in (2, 3, 7, 32):
        exact = float(np.sum(ckwrap.ckmeans(weights, n_clusters).withinss))
        found = inertia_of(weights, optimal_centers(weights, n_clusters))
        assert found == pytest.approx(exact, rel=1e-9)


@given(
    st.lists(st.integers(-20, 20), min_size=2, max_size=40),
    st.integers(1, 40),
    st.sampled_from([1.0, 1e-3, 1e-150, 1e140]),
    st.sampled_from([0.0, 2.0**30]),
)
def test_any_number_of_cells_where_many_partitions_are_equally_good(values, k, scale, offset):
    """Whole numbers: chords of the curve hold several numbers of cells, made of two partitions."""
    weights = np.sort(np.array(values, np.float64))
    k = min(k, len(np.unique(weights)))
    exact = float(np.sum(ckwrap.ckmeans(weights, k).withinss))
    given_ = weights * scale + offset * scale
    centers = optimal_centers(given_, k)
    assert len(centers) == k
    assert (np.diff(centers) > 0).all()
    found = inertia_of(weights, centers / scale - offset)
    assert found == pytest.approx(exact, rel=1e-9, abs=1e-9)


def test_the_curve_has_every_number_of_cells():
    weights = np.sort(np.random.default_rng(1).normal(size=200).round(1))
    curve = inertia_curve(weights, 60)
    for k in range(1, len(curve) + 1):
        exact = float(np.sum(ckwrap.ckmeans(weights, k).withinss))
        assert curve[k - 1] == pytest.approx(exact, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("distance", [1e3, 1e6, 1e8])
def test_far_groups_do_not_drown_what_is_within_them(distance):
    """Sums about one origin cancel: of the two groups the larger is split, which gains more."""
    weights = np.append(np.arange(4), np.arange(5)).astype(np.float64)
    weights = weights * 2.0**-10 + np.repeat([0.0, distance], [4, 5])
    centers = optimal_centers(weights, 3)
    parts = (weights[:4], weights[4:6], weights[6:]), (weights[:4], weights[4:7], weights[7:])
    assert any(np.allclose(centers, [p.mean() for p in cells], rtol=1e-15) for cells in parts)
    # spread over 2 ** -10: 5 within the first group, 1/2 and 2 within the halves of the second
    assert inertia_of(weights, centers) == pytest.approx(7.5 * 2.0**-20, rel=1e-6)


@pytest.mark.parametrize("outlier", [-1e12, 1e12, 3e38])
def test_one_huge_outlier_leaves_the_others_their_optimum(outlier):
    bulk = np.sort(np.random.default_rng(0).normal(size=3000))
    weights = np.sort(np.append(bulk, outlier))
    centers = optimal_centers(weights, 9)
    centers = centers[centers != outlier]
    np.testing.assert_allclose(centers, optimal_centers(bulk, 8), rtol=1e-9)


@pytest.mark.parametrize("scale", [1e-300, 1e-40, 1.0, 1e37, 1e140])
def test_scales(scale):
    """Squares of the smallest underflow: any cut will do, but every cell holds weights."""
    weights = np.arange(20.0) * scale
    centers = optimal_centers(weights, 5)
    assert np.isfinite(centers).all()
    assert (np.diff(centers) > 0).all()


CASES = [("features.0.weight", k) for k in (2, 3, 4, 8, 16, 32, 64)]
CASES += [
    pytest.param(f"features.{layer}.weight", k, marks=pytest.mark.slow)
    for layer in (3, 6, 8, 10)
    for k in (2, 4, 8, 16, 32, 64)
]


@pytest.mark.parametrize(("name", "n_clusters"), CASES)
def test_real_convolutions_against_an_exact_solver(name, n_clusters, record_property):
    """Whole layers, all weights: both within 1e-5 of the exact optimum, above it and below."""
    weights = load_convolutions()[name].numpy().ravel().astype(np.float64)
    exact = float(np.sum(ckwrap.ckmeans(weights, n_clusters).withinss))
    result = lib.cluster(weights, n_clusters, init="optimal")
    gap = result.inertia / exact - 1
    record_property("gap", gap)
    assert -1e-9 < gap < 1e-5
    bound = inertia_bound(np.sort(weights), n_clusters)
    assert bound <= exact * (1 + 1e-12)  # the sums of the exact solver are rounded, too
    assert 1 - bound / exact < 1e-5
