"""The adaptive density and the quantiles of its powers."""

import numpy as np
import pytest

from lib.density import N_RANKS, Density, adaptive_density, power_quantiles


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [2, 100, 50_000])
def test_a_density(n, dtype):
    weights = np.sort(np.random.default_rng(0).laplace(size=n)).astype(dtype)
    density = adaptive_density(weights)
    assert (np.diff(density.edges) > 0).all()
    assert (density.mass > 0).all()
    assert density.mass.sum() == pytest.approx(1)
    assert len(density.mass) < N_RANKS
    assert np.isin(density.edges, weights).all()
    assert density.edges[[0, -1]].tolist() == weights[[0, -1]].tolist()
    assert np.sum(density.heights * np.diff(density.edges)) == pytest.approx(1)


def test_mass_is_the_share_of_the_weights_up_to_each_edge():
    weights = np.sort(np.random.default_rng(0).normal(size=50_000))
    density = adaptive_density(weights)
    upto = np.searchsorted(weights, density.edges[1:], side="right") / len(weights)
    np.testing.assert_allclose(np.cumsum(density.mass), upto, rtol=1e-12)


def test_bins_hold_little_of_the_bulk_and_single_weights_in_the_tails():
    weights = np.sort(np.random.default_rng(0).standard_t(2, size=200_000))
    mass = adaptive_density(weights).mass
    assert mass.max() < 2e-3
    assert mass[-1] * len(weights) == pytest.approx(1)


def test_two_distinct_weights():
    density = adaptive_density(np.array([1.0, 1.0, 1.0, 3.0]))
    assert density.edges.tolist() == [1.0, 3.0]
    assert density.mass.tolist() == [1.0]
    assert density.heights.tolist() == [0.5]


def test_an_outlier_leaves_the_bulk_its_resolution():
    bulk = np.sort(np.random.default_rng(0).normal(size=50_000))
    inside = adaptive_density(np.append(bulk, 1e9)).edges
    assert np.sum(inside < 10) > 1000


def test_mass_of_sample_weights():
    rng = np.random.default_rng(0)
    weights = np.sort(rng.normal(size=2000))
    repeats = rng.integers(1, 4, 2000)
    density = adaptive_density(weights, repeats.astype(np.float64))
    bins = np.searchsorted(density.edges[1:-1], weights, side="left")
    expected = np.bincount(bins, repeats) / repeats.sum()
    np.testing.assert_allclose(np.cumsum(density.mass), np.cumsum(expected), atol=2e-3)
    assert density.mass.sum() == pytest.approx(1)


def test_quantiles_by_hand():
    density = Density(np.array([0.0, 1.0, 3.0]), np.array([0.5, 0.5]))
    probabilities = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
    even = power_quantiles(density, 0.0, probabilities)
    np.testing.assert_allclose(even, [0, 0.75, 1.5, 2.25, 3])
    itself = power_quantiles(density, 1.0, probabilities)
    np.testing.assert_allclose(itself, [0, 0.5, 1, 2, 3])
    # square root: 0.5 ** 0.5 * 1 and 0.25 ** 0.5 * 2
    half = power_quantiles(density, 0.5, np.array([0.5**0.5 / (0.5**0.5 + 1)]))
    np.testing.assert_allclose(half, [1])


@pytest.mark.parametrize(("gamma", "std"), [(1.0, 1.0), (1 / 3, 3**0.5)])
def test_powers_of_a_normal_density_are_normal(gamma, std):
    """N(0, 1) to the power gamma is proportional to N(0, 1 / gamma)."""
    weights = np.sort(np.random.default_rng(0).normal(size=1_000_000))
    low, high = power_quantiles(adaptive_density(weights), gamma, np.array([0.25, 0.75]))
    np.testing.assert_allclose([low, high], np.array([-0.67449, 0.67449]) * std, atol=0.03)


@pytest.mark.parametrize("scale", [1e-320, 1e-40, 1e37, 1e149])
def test_extreme_scales(scale):
    weights = np.array([-2, -1, 0, 1, 2, 3]) * scale
    for gamma in (0, 1 / 3, 1):
        quantiles = power_quantiles(adaptive_density(weights), gamma, np.array([0.25, 0.5, 0.75]))
        assert np.isfinite(quantiles).all()
        assert (np.diff(quantiles) > 0).all()
