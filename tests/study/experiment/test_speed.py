"""Rows of the engines on the real conv1 at 2 bits."""

import numpy as np
import pandas as pd
import pytest
import torch

from lib.study.experiment import speed
from lib.study.experiment.data import load_convolutions
from lib.study.experiment.evaluation import Setting, settings
from lib.study.tables import TABLES

NEAR = "textbook, to 1 % of optimal"
GRID = settings(["linear", "random", "weight-distribution"], [2], [None, 3], [0, 1])


@pytest.fixture(scope="module")
def layer():
    return speed.Layer("conv1", load_convolutions()["features.0.weight"])


@pytest.fixture(scope="module")
def rows(layer):
    """Rows of every engine by its name; the textbook run whole is "direct"."""
    textbook = speed.textbook_rows(layer, GRID)
    return {
        "sorted": speed.sorted_rows(layer, GRID),
        "textbook": [row for row in textbook if row["engine"] == "textbook"],
        NEAR: [row for row in textbook if row["engine"] == NEAR],
        "direct": speed.direct_textbook_rows(layer, GRID),
        "scikit-learn": speed.scikit_learn_rows(layer, GRID[:1]),
    }


def test_rows_have_the_columns_of_the_table(rows):
    for engine in rows.values():
        assert all(set(row) == set(TABLES["speed"].columns) for row in engine)
        assert all(row["seconds"] > 0 and row["n_weights"] == 23_232 for row in engine)
        assert all(row["layer"] == "conv1" for row in engine)


def test_only_what_is_not_run_whole_is_marked_extrapolated(rows):
    marked = {name: {row["extrapolated"] for row in engine} for name, engine in rows.items()}
    assert marked.pop("textbook") == marked.pop(NEAR) == {True}
    assert set.union(*marked.values()) == {False}


@pytest.mark.parametrize("engine", ["textbook", "direct"])
def test_engines_take_the_same_path(rows, engine):
    for ours, theirs in zip(rows["sorted"], rows[engine], strict=True):
        for column in ("init", "seed", "max_iter", "n_iter", "converged"):
            assert ours[column] == theirs[column]
        assert ours["inertia"] == pytest.approx(theirs["inertia"], rel=1e-12)


def test_budget_ends_the_iteration(rows):
    for row in rows["sorted"]:
        assert row["converged"] == (row["max_iter"] is None)
        assert row["n_iter"] == 3 if row["max_iter"] else row["n_iter"] > 3
        assert row["relative_inertia"] >= 1


def test_optimum_has_relative_inertia_1(layer):
    (row,) = speed.sorted_rows(layer, settings(["optimal"], [2], [None]))
    assert row["relative_inertia"] == 1


def test_time_to_near_the_optimum_ends_there(layer, rows):
    for whole, near in zip(rows["textbook"], rows[NEAR], strict=True):
        if near["converged"]:
            setting = Setting(near["init"], 2, near["revise"], near["n_iter"], near["seed"])
            history = layer.path(setting, layer.start(setting)).history
            best = layer.best_inertia(2)
            assert near["relative_inertia"] <= speed.NEAR_OPTIMAL
            assert (history[:-1] > speed.NEAR_OPTIMAL * best).all()
            assert near["n_iter"] <= whole["n_iter"]
        else:
            assert near["relative_inertia"] > speed.NEAR_OPTIMAL
            assert near["n_iter"] == whole["n_iter"]
    assert {row["converged"] for row in rows[NEAR] if row["max_iter"] is None} == {True}


def test_path_that_never_comes_near_the_optimum_is_censored():
    # Linear centers leave the bulk in one cell beside an outlier and two emptied ones.
    bulk = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    layer = speed.Layer("toy", torch.from_numpy(np.append(bulk, np.float32(1000))))
    whole, near = speed.textbook_rows(layer, settings(["linear"], [2], [None]))
    assert whole["converged"] and not near["converged"]
    assert near["n_iter"] == whole["n_iter"]
    assert near["inertia"] == whole["inertia"] > 2 * layer.best_inertia(2)


def test_extrapolated_seconds_are_those_of_the_whole_run(layer, monkeypatch, clocked):
    monkeypatch.setattr(speed, "TextbookCells", clocked)
    grid = settings(["linear", "weight-distribution", "optimal"], [2], [None])
    extrapolated = speed.textbook_rows(layer, grid)[::2]
    for guess, whole in zip(extrapolated, speed.direct_textbook_rows(layer, grid), strict=True):
        assert whole["seconds"] >= 1 + whole["n_iter"]
        assert guess["seconds"] == pytest.approx(whole["seconds"])


def test_repeats_are_interleaved(layer):
    grid = settings(["linear", "density"], [2], [1])
    for engine in (speed.sorted_rows, speed.textbook_rows, speed.direct_textbook_rows):
        frame = pd.DataFrame(engine(layer, grid, 2))
        assert frame["repeat"].is_monotonic_increasing
        assert set(frame["repeat"]) == {0, 1}
        repeated = frame.groupby(["engine", "init"])[["n_iter", "inertia"]].nunique()
        assert (repeated == 1).to_numpy().all()


def test_scikit_learn_reaches_the_same_inertia_from_the_same_centers(rows):
    (theirs,) = rows["scikit-learn"]
    ours = rows["sorted"][0]
    assert (ours["init"], ours["max_iter"]) == (theirs["init"], theirs["max_iter"])
    assert theirs["converged"]
    assert theirs["inertia"] == pytest.approx(ours["inertia"], rel=1e-6)
    assert theirs["relative_inertia"] == pytest.approx(ours["relative_inertia"], rel=1e-6)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_scikit_learn_run_that_hits_its_cap_is_censored(layer):
    (row,) = speed.scikit_learn_rows(layer, settings(["linear"], [2], [2]))
    assert (row["n_iter"], row["converged"]) == (2, False)


def test_every_engine_runs_its_grid(monkeypatch, three_weights):
    """With engines that name themselves; layers of three weights."""
    for engine in ("textbook", "sorted", "scikit_learn", "direct_textbook"):
        monkeypatch.setattr(
            speed,
            f"{engine}_rows",
            lambda layer, grid, repeats=1, engine=engine: [
                (engine, layer.name, setting.init, repeats) for setting in grid
            ],
        )
    claimed, other = settings(["linear", "random"], [2], [None])
    grids = speed.Grids(
        endpoint=[claimed],
        claimed=[claimed],
        others=[other],
        textbook=[claimed, other],
        scikit_learn=[other],
    )
    rows = speed.speed_rows(three_weights, ["conv1", "fc8"], grids, repeats=3, direct=True)
    assert rows == [
        ("sorted", "conv1", "linear", 3),
        ("sorted", "conv1", "random", 1),
        ("textbook", "conv1", "linear", 3),
        ("textbook", "conv1", "random", 1),  # the claimed setting is not repeated
        ("scikit_learn", "conv1", "random", 1),
        ("direct_textbook", "conv1", "linear", 3),
        ("sorted", "fc8", "linear", 3),
        ("sorted", "fc8", "random", 1),
    ]
    assert speed.speed_rows(three_weights, ["conv1"], grids, repeats=3) == rows[:5]


def test_seconds_of_the_textbook_are_summed_over_the_convolutions():
    usual = {"init": "linear", "revise": False, "seed": 0, "bits": 4, "max_iter": None}
    usual |= {"extrapolated": True, "engine": "textbook"}
    rows = [
        usual | {"layer": layer, "repeat": repeat, "seconds": seconds}
        for layer, times in (("conv1", (1, 2, 90)), ("conv2", (5, 5, 5)), ("fc6", (70, 70, 70)))
        for repeat, seconds in enumerate(times)
    ]
    for change in ({"engine": "sorted"}, {"bits": 3}, {"max_iter": 20}, {"extrapolated": False}):
        rows.append(rows[0] | {"seconds": 1e6} | change)
    rows.append(rows[0] | {"engine": NEAR, "seconds": 0.5})
    found = speed.textbook_seconds(pd.DataFrame(rows), 4)
    assert found.loc[("linear", False, 0)].to_dict() == {"textbook": 7.0, NEAR: 0.5}
