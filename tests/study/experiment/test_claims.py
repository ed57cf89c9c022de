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


def row(name, init, seconds, **changed):
    """One row of `speed` as C1 reads it."""
    usual = {"revise": init == OURS, "bits": 4, "seed": 0, "repeat": 0, "extrapolated": True}
    return (
        dict.fromkeys(TABLES["speed"].columns)
        | {"layer": name, "engine": "textbook", "init": init, "seconds": seconds}
        | usual
        | changed
    )


def rows(layers=SCOPES["all"], ours=3.0, random=4.0, linear=2.0):
    return [
        row(layer, init, seconds, repeat=repeat)
        for layer in layers
        for init, seconds in ((OURS, ours), ("random", random), ("linear", linear))
        for repeat in (0, 1)
    ]


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    for name in ("time_saving", "accuracy_gain"):
        few = functools.partial(getattr(claims, name), n_resamples=200)
        monkeypatch.setattr(claims, name, few)


def judge(table, scope="conv", **options):
    found = claims.speed_claims(pd.DataFrame(table), scope, "net", 4, **options)
    return {claim["baseline"]: claim for claim in found}


def test_saving_is_against_each_baseline():
    found = judge(rows())
    assert list(found) == ["random", "linear"]
    assert found["random"]["measured"] == pytest.approx(25)
    assert found["random"]["relative"] == pytest.approx(4 / 3)
    assert found["random"]["verdict"] == "consistent"
    assert found["linear"]["measured"] == pytest.approx(-50)
    assert found["linear"]["verdict"] == "inconsistent"
    assert (found["random"]["claim"], found["random"]["paper"]) == ("C1", 5)


def test_rows_have_the_columns_of_the_table():
    correct = dict.fromkeys((OURS, *claims.BASELINES), np.ones((1, 10), bool))
    for found in (
        claims.speed_claims(pd.DataFrame(rows()), "all", "net", 4),
        claims.accuracy_claims(correct, "all", "net"),
    ):
        assert all(tuple(claim) == TABLES["claims"].columns for claim in found)


def test_layers_of_the_scope_are_summed():
    table = [*rows(SCOPES["conv"]), *rows(("fc6", "fc7", "fc8"), ours=1.0, random=40.0)]
    assert judge(table)["random"]["measured"] == pytest.approx(25)
    assert judge(table, "all")["random"]["measured"] == pytest.approx(100 * (1 - 18 / 140))


def test_median_of_repeats_and_mean_of_seeds():
    table = [
        row("conv1", OURS, 1.0, repeat=0),
        *(row("conv1", "linear", s, repeat=i) for i, s in enumerate((2.0, 2.0, 90.0))),
        *(row("conv1", OURS, 1.0, repeat=i) for i in (1, 2)),
        *(
            row("conv1", "random", s, seed=seed, repeat=i)
            for seed, s in ((0, 2.0), (1, 6.0))
            for i in range(3)
        ),
    ]
    table += [dict(r, layer=layer) for layer in SCOPES["conv"][1:] for r in table]
    found = judge(table)
    assert found["linear"]["measured"] == pytest.approx(50)
    assert found["random"]["measured"] == pytest.approx(75)
    assert (found["random"]["low"], found["random"]["high"]) == pytest.approx(
        (50, 100 * (1 - 1 / 6))
    )


def test_other_rows_are_not_read():
    noise = [
        row("conv1", init, 1e6, **changed)
        for init in (OURS, "random", "linear")
        for changed in (
            {"engine": "sorted"},
            {"engine": "textbook, to 1 % of optimal"},
            {"bits": 3},
            {"max_iter": 20},
            {"extrapolated": False},
            {"revise": init != OURS},
            {"layer": "other/conv1"},
        )
    ]
    assert judge(rows() + noise) == judge(rows())


def test_another_network_has_its_own_linear_layers():
    table = rows() + rows(["torch-0/fc6", "torch-0/fc7", "torch-0/fc8"], ours=40.0, random=40.0)
    assert judge(table, "all")["random"]["measured"] == pytest.approx(25)
    other = judge(table, "all", prefix="torch-0/")
    assert other["random"]["measured"] == pytest.approx(100 * (1 - 135 / 140))


@pytest.mark.parametrize("init", [None, OURS, "random", "linear"])
def test_missing_layer_is_refused_even_for_one_initialization(init):
    kept = [r for r in rows() if r["layer"] != "conv3" or init not in (None, r["init"])]
    with pytest.raises(ValueError, match=r"conv3.*at 4 bits"):
        judge(kept)


def test_gain_of_accuracy_has_its_sign_and_unit():
    right, half = np.ones((1, 40), bool), np.arange(40)[None] % 2 == 0
    found = claims.accuracy_claims({OURS: right, "random": half, "linear": right}, "conv", "net")
    random, linear = found
    assert (random["claim"], random["paper"], random["baseline"]) == ("C2", 6, "random")
    assert random["measured"] == pytest.approx(50)  # points
    assert random["relative"] == pytest.approx(100)  # percent of the baseline
    assert random["verdict"] == "consistent"
    assert linear["measured"] == 0
    assert linear["verdict"] == "inconclusive"
    worse = claims.accuracy_claims({OURS: half, "random": right, "linear": half}, "conv", "net")
    assert worse[0]["measured"] == pytest.approx(-50)
    assert worse[0]["verdict"] == "inconsistent"


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


def test_the_time_of_shared_convolutions_is_judged_once():
    others = [f"torch-0/{layer}" for layer in ("fc6", "fc7", "fc8")]
    speed = pd.DataFrame(rows() + rows(others))
    endpoints = claims.endpoint_settings(4, 20, [0, 1])
    found = claims.claim_rows(["net", "torch-0"], speed, Judged(), endpoints, ["conv", "all"])
    assert [(row["claim"], row["scope"], row["network"]) for row in found[::2]] == [
        ("C1", "conv", "net"),
        ("C1", "all", "net"),
        ("C1", "all", "torch-0"),
        ("C2", "conv", "net"),
        ("C2", "all", "net"),
        ("C2", "conv", "torch-0"),
        ("C2", "all", "torch-0"),
    ]
    gains = {row["baseline"]: row["measured"] for row in found if row["claim"] == "C2"}
    assert gains == {"random": 62.5, "linear": 50}  # of seeds 0 and 1; of seed 0
