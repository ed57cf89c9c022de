"""Operations against a textbook run that counts them, and seconds of passes."""

import math

import numpy as np
import pytest
import torch

from lib.lloyd import lloyd
from lib.study.experiment import passes, timing
from lib.study.experiment.data import load_convolutions
from lib.study.experiment.evaluation import Setting, settings
from lib.study.experiment.textbook import TextbookCells
from lib.study.tables import TABLES

GRID = settings(["random", "linear", "weight-distribution"], [2], [None], [0, 1])


@pytest.fixture(scope="module")
def layer():
    return timing.Layer("conv1", load_convolutions()["features.0.weight"])


class Counting(TextbookCells):
    """Counts the comparisons of its passes."""

    compared = 0

    def assign(self, centers):
        self.compared += len(self.weights) * len(centers)
        return super().assign(centers)

    def lower_parts(self, means):
        self.compared += len(self.weights)
        return super().lower_parts(means)


@pytest.mark.parametrize("revise", [False, True])
@pytest.mark.parametrize("init", ["linear", "random", "weight-distribution"])
def test_operations_are_those_of_the_textbook(layer, init, revise):
    setting = Setting(init, 3, revise=revise, max_iter=None)
    start, cells = layer.start(setting), Counting(layer.values)
    lloyd(cells, start, revise=revise)
    n = len(layer.values)
    begun = n * math.log2(n) if init == "weight-distribution" else n
    path = layer.path(setting, start)
    assert passes.operations(layer, setting, path) == round(begun + cells.compared)


def test_operations_by_hand():
    # From 0 and 1 the cells of 0, 1, 1 and 2 are {0} and {1, 1, 2}; no label changes after.
    layer = timing.Layer("toy", torch.tensor([0.0, 1, 1, 2]))
    setting = Setting("linear", 1, revise=False, max_iter=None)
    path = layer.path(setting, np.array([0.0, 1.0]))
    assert path.n_iter == 1
    assert passes.operations(layer, setting, path) == 4 + 2 * 4 * 2


def test_rows(layer):
    rows = passes._rows(layer, GRID, repeats=2)
    assert [(row["init"], row["seed"]) for row in rows] == [(s.init, s.seed) for s in GRID]
    assert all(set(row) == set(TABLES["passes"].columns) for row in rows)
    for row, setting in zip(rows, GRID, strict=True):
        path = layer.path(setting, layer.start(setting))
        assert (row["n_iter"], row["splits_tried"]) == (path.n_iter, path.splits_tried[-1])
        assert row["operations"] == passes.operations(layer, setting, path)


def test_all_starts_share_the_seconds_of_a_pass(layer, monkeypatch):
    """Where starting takes no time, and a pass one second or half of one."""
    monkeypatch.setattr(passes, "pass_seconds", lambda *_: passes.PassSeconds(1.0, 0.5))
    monkeypatch.setattr(timing.Layer, "timed_start", lambda self, setting: (None, 0.0))
    for row in passes._rows(layer, GRID, repeats=1):
        assert row["seconds"] == row["n_iter"] + 1 + row["splits_tried"] / 2


def test_seconds_of_a_pass_are_a_mean(layer, clocked):
    found = passes.pass_seconds(clocked(layer.values), layer.start(GRID[0]))
    assert found == (1, 0.5)


def test_convolutions_are_counted_once(monkeypatch, three_weights):
    monkeypatch.setattr(passes, "_rows", lambda layer, grid, repeats: [layer.name])
    networks = dict.fromkeys(("a", "b"), three_weights)
    found = passes.pass_rows(networks, ["conv1", "fc8"], GRID, 1)
    assert found == ["conv1", "fc8", "b/fc8"]
