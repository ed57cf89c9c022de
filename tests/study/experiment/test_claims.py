"""Claims from tables whose outcome is known."""

import functools

import numpy as np
import pandas as pd
import pytest
import torch

from lib.study.experiment import claims
from lib.study.experiment.network import SCOPES
from lib.study.tables import TABLES

OURS = claims.OURS


def row(layer, init, cost, /, **changed):
    """One row of `passes` as C1 reads it; its seconds are its operations."""
    usual = {"layer": layer, "init": init, "revise": init == OURS, "bits": 4, "seed": 0}
    row = dict.fromkeys(TABLES["passes"].columns) | {"operations": cost, "seconds": cost}
    return row | usual | changed


def rows(layers=SCOPES["all"], ours=3.0, random=4.0, linear=2.0):
    return [
        row(layer, init, cost)
        for layer in layers
        for init, cost in ((OURS, ours), ("random", random), ("linear", linear))
    ]


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    for name in ("cost_saving", "accuracy_gain"):
        few = functools.partial(getattr(claims, name), n_resamples=200)
        monkeypatch.setattr(claims, name, few)


def judge(table, scope="conv", claim="C1, counted", networks=("net",)):
    """Claims by network and baseline."""
    found = claims.speed_claims(pd.DataFrame(table), claim, scope, networks, 4)
    return {(row["network"], row["baseline"]): row for row in found}


def test_saving_is_against_each_baseline():
    found = judge(rows())
    assert list(found) == [("net", "random"), ("net", "linear")]
    random, linear = found.values()
    assert random["measured"] == pytest.approx(25)
    assert random["relative"] == pytest.approx(4 / 3)
    assert random["verdict"] == "supported"
    assert linear["measured"] == linear["low"] == linear["high"] == pytest.approx(-50)
    assert linear["verdict"] == "contradicted"
    assert (random["claim"], random["paper"]) == ("C1, counted", 5)


def test_seconds_are_compared_and_not_judged():
    table = [r | {"operations": 1.0} for r in rows()]
    found = judge(table, claim="C1, timed")["net", "random"]
    assert found["measured"] == pytest.approx(25)
    assert (found["claim"], found["paper"], found["verdict"]) == ("C1, timed", 5, "")
    assert judge(table)["net", "random"]["measured"] == 0


def test_rows_have_the_columns_of_the_table():
    correct = dict.fromkeys((OURS, *claims.BASELINES), np.ones((1, 10), bool))
    for found in (judge(rows(), "all").values(), claims.accuracy_claims(correct, "all", "net")):
        assert all(tuple(claim) == TABLES["claims"].columns for claim in found)


def test_layers_of_the_scope_are_summed():
    table = [*rows(SCOPES["conv"]), *rows(("fc6", "fc7", "fc8"), ours=1.0, random=40.0)]
    assert judge(table)["net", "random"]["measured"] == pytest.approx(25)
    whole = judge(table, "all")["net", "random"]
    assert whole["measured"] == pytest.approx(100 * (1 - 18 / 140))
    assert whole["verdict"] == ""  # of one network


def test_mean_of_seeds_and_their_interval():
    table = rows(ours=1.0, random=2.0) + [
        row(name, "random", 6.0, seed=1) for name in SCOPES["all"]
    ]
    found = judge(table)["net", "random"]
    assert found["measured"] == pytest.approx(75)
    assert (found["low"], found["high"]) == pytest.approx((50, 100 * (1 - 1 / 6)))


def test_other_rows_are_not_read():
    noise = [
        row("conv1", init, 1e6, **changed)
        for init in (OURS, "random", "linear")
        for changed in ({"bits": 3}, {"revise": init != OURS}, {"layer": "other/conv1"})
    ]
    assert judge(rows() + noise) == judge(rows())


def test_several_networks_are_judged_together():
    others = ["torch-0/fc6", "torch-0/fc7", "torch-0/fc8"]
    table = rows() + rows(others, ours=40.0, random=40.0)
    found = judge(table, "all", networks=("net", "torch-0"))
    alone, other, together = (found[name, "random"] for name in ("net", "torch-0", claims.TOGETHER))
    assert alone["measured"] == pytest.approx(25)
    assert other["measured"] == pytest.approx(100 * (1 - 135 / 140))
    assert together["measured"] == pytest.approx((25 + 100 * (1 - 135 / 140)) / 2)
    half = 12.7062 * abs(alone["measured"] - other["measured"]) / 2  # Student's t of two networks
    ends = (together["measured"] - half, together["measured"] + half)
    assert (together["low"], together["high"]) == pytest.approx(ends, rel=1e-4)
    assert [row["verdict"] for row in (alone, other, together)] == ["", "", "left open"]
    assert list(judge(table, networks=("net", "torch-0"))) == list(judge(rows()))


@pytest.mark.parametrize("init", [None, OURS, "random", "linear"])
def test_missing_layer_is_refused_even_for_one_initialization(init):
    kept = [r for r in rows() if r["layer"] != "conv3" or init not in (None, r["init"])]
    with pytest.raises(ValueError, match=r"no rows of .*conv3"):
        judge(kept)


def test_gain_of_accuracy_has_its_sign_and_unit():
    right, half = np.ones((1, 40), bool), np.arange(40)[None] % 2 == 0
    found = claims.accuracy_claims({OURS: right, "random": half, "linear": right}, "conv", "net")
    random, linear = found
    assert (random["claim"], random["paper"], random["baseline"]) == ("C2", 6, "random")
    assert random["measured"] == pytest.approx(50)  # points
    assert random["relative"] == pytest.approx(100)  # percent of the baseline
    assert random["verdict"] == "supported"
    assert linear["measured"] == 0
    assert linear["verdict"] == "left open"
    worse = claims.accuracy_claims({OURS: half, "random": right, "linear": half}, "conv", "net")
    assert worse[0]["measured"] == pytest.approx(-50)
    assert worse[0]["verdict"] == "contradicted"


def test_endpoints_are_ours_revised_and_the_baselines_as_they_are():
    grid = claims.endpoint_settings(4, 20, [0, 1, 2])
    assert {init: len(part) for init, part in grid.items()} == {OURS: 1, "random": 3, "linear": 1}
    for init, part in grid.items():
        assert {(s.init, s.bits, s.max_iter, s.revise) for s in part} == {
            (init, 4, 20, init == OURS)
        }


class Judged:
    """Predictions of two networks on four images of class 1: ours right about all of them."""

    class images:  # noqa: N801
        labels = torch.ones(4, dtype=torch.int64)

    def run(self, setting, scopes):
        top = torch.ones(4, 5, dtype=torch.int64)
        if setting.init != OURS:
            top[: 2 + setting.seed] = 0
        for network in ("net", "torch-0"):
            for scope in scopes:
                yield network, scope, top, 0.0


def test_shared_convolutions_are_judged_once():
    others = [f"torch-0/{layer}" for layer in ("fc6", "fc7", "fc8")]
    passes = pd.DataFrame(rows() + rows(others))
    endpoints = claims.endpoint_settings(4, 20, [0, 1])
    found = claims.claim_rows(["net", "torch-0"], passes, Judged(), endpoints, ["conv", "all"])
    speed = [("conv", "net"), ("all", "net"), ("all", "torch-0"), ("all", "together")]
    assert [(row["claim"], row["scope"], row["network"]) for row in found[::2]] == [
        *(("C1, counted", *where) for where in speed),
        *(("C1, timed", *where) for where in speed),
        ("C2", "conv", "net"),
        ("C2", "all", "net"),
        ("C2", "conv", "torch-0"),
        ("C2", "all", "torch-0"),
    ]
    gains = {row["baseline"]: row["measured"] for row in found if row["claim"] == "C2"}
    assert gains == {"random": 62.5, "linear": 50}  # of seeds 0 and 1; of seed 0
