"""Rows of the densities and of the centers, on the real conv1."""

import numpy as np
import pandas as pd
import pytest

from lib import Prepared
from lib.study.experiment.data import load_convolutions
from lib.study.experiment.distribution import (
    THINNING,
    center_rows,
    convolution_weights,
    density_rows,
    distribution_rows,
    network_weights,
    start_rows,
)
from lib.study.experiment.network import alexnet
from lib.study.tables import TABLES

GAMMAS = [1 / 3, 0.0]


@pytest.fixture(scope="module")
def layer():
    return Prepared(load_convolutions()["features.0.weight"])


@pytest.fixture(scope="module")
def centers(layer):
    inits = ["random", "linear", "weight-distribution"]
    return pd.DataFrame(center_rows("conv1", layer, inits, [1, 2], GAMMAS))


def test_density_integrates_to_1_over_the_range_of_the_weights(layer):
    density = pd.DataFrame(density_rows("conv1", layer))
    assert tuple(density.columns) == TABLES["density"].columns
    weight, height = density["weight"].to_numpy(), density["density"].to_numpy()
    assert np.sum(height[:-1] * np.diff(weight)) == pytest.approx(1)
    assert height[-1] == 0
    assert (height[:-1] > 0).all()
    assert (np.diff(weight) > 0).all()
    assert (weight[0], weight[-1]) == tuple(layer.ordered[[0, len(layer.ordered) - 1]])


def test_density_over_an_interval_is_the_share_of_weights_in_it(layer):
    rows = density_rows("conv1", layer)
    weight, height = (np.array([r[column] for r in rows]) for column in ("weight", "density"))
    low, high = weight[[40, 150]]
    inside = slice(40, 150)
    weights = np.asarray(layer.ordered)
    share = np.mean((weights > low) & (weights <= high))
    thinning = 2 * THINNING / len(layer.ordered)  # a step at either end
    mass = np.sum(height[inside] * np.diff(weight)[inside])
    assert mass == pytest.approx(share, abs=thinning)


def test_every_setting_has_its_centers_before_and_after(centers):
    assert tuple(centers.columns) == TABLES["distribution"].columns
    counts = centers.groupby(["init", "gamma", "bits", "stage"], dropna=False).size()
    expected = {
        (init, gamma, bits, stage): 2**bits
        for init, gammas in (("random", [-1]), ("linear", [-1]), ("weight-distribution", GAMMAS))
        for gamma in gammas
        for bits in (1, 2)
        for stage in ("initial", "final")
    }
    counts.index = [(i, -1 if np.isnan(g) else g, b, s) for i, g, b, s in counts.index]
    assert counts.to_dict() == expected
    assert set(centers["layer"]) == {"conv1"}


def test_centers_are_ascending_and_where_they_should_be(layer, centers):
    for _, group in centers.groupby(["init", "gamma", "bits", "stage"], dropna=False):
        assert (np.diff(group["center"]) > 0).all()
    linear = centers.query("init == 'linear' and bits == 2 and stage == 'initial'")["center"]
    ends = layer.ordered[[0, len(layer.ordered) - 1]]
    assert linear.to_numpy() == pytest.approx(np.linspace(*ends, 4))
    even = centers.query("gamma == 0 and bits == 2 and stage == 'initial'")["center"]
    cells = np.linspace(*ends, 5)
    assert even.to_numpy() == pytest.approx((cells[1:] + cells[:-1]) / 2)


def test_seed_decides_the_random_centers(layer, centers):
    again, other = (
        pd.DataFrame(center_rows("conv1", layer, ["random"], [1, 2], GAMMAS, seed=seed))["center"]
        for seed in (0, 1)
    )
    drawn = centers.loc[centers["init"] == "random", "center"]
    assert drawn.tolist() == again.tolist()
    assert drawn.tolist() != other.tolist()


def test_every_layer_has_rows_in_both_tables(layer):
    weights = {"conv1": layer.weights, "other": layer.weights[:8]}
    density, distribution = distribution_rows(weights, ["linear"], [1], GAMMAS)
    assert {row["layer"] for row in density} == {row["layer"] for row in distribution} == {*weights}
    assert density[: len(density_rows("conv1", layer))] == density_rows("conv1", layer)


def test_starts_are_over_the_optimal_inertia(layer):
    linear, ours, optimal = start_rows(layer, ["linear", "weight-distribution", "optimal"], 2)
    assert [linear["revised"], ours["revised"]] == [False, True]
    for row in (linear, ours):
        assert row["initial"] > row["final"] >= 1 - 1e-9
        assert row["n_iter"] > 0
    assert optimal["final"] == 1


def test_the_convolutions_need_no_network():
    weights = convolution_weights()
    assert list(weights) == ["conv1", "conv2", "conv3", "conv4", "conv5"]
    network = alexnet()
    for name, weight in network_weights(network).items():
        assert name not in weights or weights[name].equal(weight)
