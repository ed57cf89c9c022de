"""Rows of the densities and of the centers, on the real conv1."""

import numpy as np
import pandas as pd
import pytest

from lib.study.experiment.data import load_convolutions
from lib.study.experiment.distribution import THINNING, center_rows, density_rows
from lib.study.experiment.speed import Layer
from lib.study.tables import TABLES

GAMMAS = [1 / 3, 0.0]


@pytest.fixture(scope="module")
def layer():
    return Layer("conv1", load_convolutions()["features.0.weight"])


@pytest.fixture(scope="module")
def centers(layer):
    inits = ["random", "linear", "weight-distribution"]
    return pd.DataFrame(center_rows(layer, inits, [1, 2], GAMMAS))


def test_density_integrates_to_1_over_the_range_of_the_weights(layer):
    density = pd.DataFrame(density_rows(layer))
    assert tuple(density.columns) == TABLES["density"].columns
    weight, height = density["weight"].to_numpy(), density["density"].to_numpy()
    assert np.sum(height[:-1] * np.diff(weight)) == pytest.approx(1)
    assert height[-1] == 0
    assert (height[:-1] > 0).all()
    assert (np.diff(weight) > 0).all()
    assert (weight[0], weight[-1]) == tuple(layer.ordered[[0, len(layer.ordered) - 1]])


def test_density_over_an_interval_is_the_share_of_weights_in_it(layer):
    rows = density_rows(layer)
    weight, height = (np.array([r[column] for r in rows]) for column in ("weight", "density"))
    low, high = weight[[40, 150]]
    inside = slice(40, 150)
    weights = np.asarray(layer.ordered)
    share = np.mean((weights > low) & (weights <= high))
    thinning = 2 * THINNING / len(layer.values)  # a step at either end
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
        pd.DataFrame(center_rows(layer, ["random"], [1, 2], GAMMAS, seed=seed))["center"]
        for seed in (0, 1)
    )
    drawn = centers.loc[centers["init"] == "random", "center"]
    assert drawn.tolist() == again.tolist()
    assert drawn.tolist() != other.tolist()
