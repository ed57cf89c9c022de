"""Each initialization by itself, against its definition."""

import numpy as np
import pytest
import seaborn as sns

from lib.initialization import (
    INITIALIZATIONS,
    density,
    k_means_plus_plus,
    linear,
    optimal,
    random,
    weight_distribution,
)
from lib.study.experiment.data import load_convolutions

EVERY = pytest.mark.parametrize("name", INITIALIZATIONS)


@pytest.fixture(scope="module")
def conv1():
    """Load the sorted weights of AlexNet's first convolution."""
    return np.sort(load_convolutions()["features.0.weight"].numpy().ravel())


@EVERY
@pytest.mark.parametrize("n_clusters", [1, 2, 16, 256])
def test_ascending_centers_within_the_range(conv1, name, n_clusters):
    centers = INITIALIZATIONS[name].function(conv1, n_clusters, gamma=1 / 3, seed=0)
    assert centers.shape == (n_clusters,)
    assert centers.dtype == np.float64
    assert (np.diff(centers) >= 0).all()
    assert conv1[0] <= centers[0]
    assert centers[-1] <= conv1[-1]


@EVERY
def test_leaves_the_weights_as_they_are(name):
    weights = np.arange(100.0)
    INITIALIZATIONS[name].function(weights, 8, gamma=1 / 3, seed=0)
    np.testing.assert_array_equal(weights, np.arange(100.0))


@EVERY
def test_affine_maps_of_the_weights_map_the_centers(conv1, name):
    options = {"gamma": 1 / 3, "seed": 3}
    weights = conv1.astype(np.float64)
    centers = INITIALIZATIONS[name].function(weights, 16, **options)
    moved = INITIALIZATIONS[name].function(weights * 4 + 2, 16, **options)
    np.testing.assert_allclose(moved, centers * 4 + 2, atol=1e-9)


@EVERY
def test_a_sample_weight_of_one_changes_nothing(conv1, name):
    weights, ones = conv1.astype(np.float64), np.ones(len(conv1))
    options = {"gamma": 1 / 3, "seed": 3}
    centers = INITIALIZATIONS[name].function(weights, 16, **options)
    weighted = INITIALIZATIONS[name].function(weights, 16, sample_weight=ones, **options)
    if INITIALIZATIONS[name].seeded:  # drawn in another way
        assert np.isin(weighted, weights).all()
    else:
        np.testing.assert_allclose(weighted, centers, atol=2e-3)


def test_colors_are_seaborns_and_no_two_look_alike():
    records = INITIALIZATIONS.values()
    colors = {record.color for record in records}
    assert colors <= set(sns.color_palette("colorblind").as_hex())
    assert len(colors) == len({record.marker for record in records}) == len(records)


@EVERY
def test_a_record_says_what_its_function_reads(conv1, name):
    record, read = INITIALIZATIONS[name], {}
    for option, values in (("seed", (1, 2)), ("gamma", (0.2, 0.9))):
        first, second = (record.function(conv1, 16, **{option: value}) for value in values)
        read[option] = not np.array_equal(first, second)
    assert read == {"seed": record.seeded, "gamma": record.reads_gamma}


def test_linear():
    assert linear(np.array([-1.0, 0.5, 3.0]), 5).tolist() == [-1, 0, 1, 2, 3]


def test_density():
    assert density(np.arange(8.0), 4).tolist() == [1, 3, 5, 7]
    mass = np.array([1.0, 1.0, 6.0])
    assert density(np.arange(3.0), 4, sample_weight=mass).tolist() == [0, 2, 2, 2]


def test_random_draws_observed_weights_without_replacement():
    weights = np.arange(50.0)
    for seed in range(5):
        drawn = random(weights, 40, seed=seed)
        assert len(np.unique(drawn)) == 40
        assert np.isin(drawn, weights).all()


@pytest.mark.parametrize("init", [random, k_means_plus_plus])
def test_seeds(conv1, init):
    first = init(conv1, 16, seed=1)
    np.testing.assert_array_equal(first, init(conv1, 16, seed=1))
    assert not np.array_equal(first, init(conv1, 16, seed=2))


def test_seeds_leave_the_global_generator_alone(conv1):
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    k_means_plus_plus(conv1, 16, seed=1)
    random(conv1, 16, seed=1)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_random_draws_by_sample_weight():
    weights, mass = np.arange(3.0), np.array([1.0, 1.0, 8.0])
    drawn = [random(weights, 1, sample_weight=mass, seed=seed)[0] for seed in range(1000)]
    assert np.mean(np.array(drawn) == 2) == pytest.approx(0.8, abs=0.04)


def test_k_means_plus_plus_draws_by_squared_distance():
    """From 0: 1 with 1/10, 3 with 9/10; from 1: 0 with 1/5, 3 with 4/5; from 3: 9/13, 4/13."""
    weights = np.array([0.0, 1.0, 3.0])
    drawn = np.array([k_means_plus_plus(weights, 2, seed=seed) for seed in range(3000)])
    pairs, counts = np.unique(drawn, axis=0, return_counts=True)
    assert pairs.tolist() == [[0, 1], [0, 3], [1, 3]]
    expected = np.array([1 / 10 + 1 / 5, 9 / 10 + 9 / 13, 4 / 5 + 4 / 13]) / 3
    np.testing.assert_allclose(counts / 3000, expected, atol=0.03)


def test_k_means_plus_plus_never_repeats_a_weight():
    weights = np.sort(np.repeat(np.arange(20.0), 5))
    assert k_means_plus_plus(weights, 20, seed=0).tolist() == list(range(20))


def test_gamma_0_is_the_midpoints_of_equal_cells(conv1):
    low, high = float(conv1[0]), float(conv1[-1])
    expected = low + (high - low) * (np.arange(16) + 0.5) / 16
    np.testing.assert_allclose(weight_distribution(conv1, 16, gamma=0.0), expected, rtol=1e-6)


@pytest.mark.parametrize("n_clusters", [4, 16, 64])
def test_gamma_1_is_the_density_initialization(conv1, n_clusters):
    """Up to the density's resolution: no more than its bins' share of the weights apart."""
    centers = weight_distribution(conv1, n_clusters, gamma=1.0)
    ranks = np.searchsorted(conv1, centers)
    expected = np.searchsorted(conv1, density(conv1, n_clusters))
    assert np.abs(ranks - expected).max() / len(conv1) < 1e-3


@pytest.mark.parametrize("name", ["features.3.weight", "features.10.weight"])
def test_gamma_one_third_starts_nearer_the_optimum_than_both_ends(name):
    weights = np.sort(load_convolutions()[name].numpy().ravel()).astype(np.float64)

    def inertia(centers):
        cuts = np.searchsorted(weights, (centers[1:] + centers[:-1]) / 2)
        return np.sum(
            (weights - np.repeat(centers, np.diff(cuts, prepend=0, append=len(weights)))) ** 2
        )

    third, even, dense = (
        inertia(weight_distribution(weights, 64, gamma=gamma)) for gamma in (1 / 3, 0, 1)
    )
    assert third < even
    assert third < dense
    assert third < 2 * inertia(optimal(weights, 64))
