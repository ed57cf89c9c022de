"""Tables of retraining, from a retrainer whose outcome is known."""

import functools

import numpy as np
import pytest

from lib.study.experiment import claims
from lib.study.experiment.retraining import compressed_claims, retraining_rows
from lib.study.tables import TABLES


class KnownRetrainer:
    """Ours ends right about three images of four, the others about two."""

    def rows(self, way, init, bits):
        ours = init == "weight-distribution"
        epochs = [
            {"way": way, "init": init, "bits": bits, "epoch": epoch, "test_top1": top1}
            for epoch, top1 in enumerate((25.0, 75.0 if ours else 50.0))
        ]
        return epochs, np.array([True, True, ours, False])


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    few = functools.partial(claims.accuracy_gain, n_resamples=200)
    monkeypatch.setattr(claims, "accuracy_gain", few)


@pytest.mark.parametrize("inits", [None, ["random", "linear", "weight-distribution"]])
def test_every_way_and_number_of_bits_has_its_claims(inits):
    ways = ["centers trained", "trained through"]
    rows, judged = retraining_rows(KnownRetrainer(), "net", ways, [2, 3], inits)
    assert len(rows) == 2 * 2 * 2 * (6 if inits is None else 3)
    assert [row["scope"] for row in judged[::2]] == [
        f"all, {bits} bits, {way}" for way in ways for bits in (2, 3)
    ]
    for row in judged:
        assert tuple(row) == TABLES["claims_retrained"].columns
        assert row["measured"] == 25
        assert (row["claim"], row["network"]) == ("C2, retrained", "net")


class KnownCompressor:
    """Ours is right about three images of four before training, and as the others after."""

    def compressed(self, recipe, scope):
        assert (recipe.cells, recipe.multiplier, scope) == ("compress", 1e-9, "all")
        return [True, True, recipe.init == claims.OURS, False], 1.0

    def retrained(self, retraining):
        assert (retraining.trained, retraining.epochs) == ("classifier", 2)
        assert retraining.rate == 0.003
        return [True, True, True, False], 1.0

    def correct(self, model):
        return np.array(model)

    def saved(self, model, scope):
        return None, 1000 * sum(model)


def test_claims_under_compress_are_those_before_and_after_training(capsys):
    judged = compressed_claims(KnownCompressor(), "net", 1e-9, 2, 0.003)
    assert [(row["claim"], row["baseline"], row["measured"]) for row in judged] == [
        ("C2, compressed", "random", 25),
        ("C2, compressed", "linear", 25),
        ("C2, compressed, trained", "random", 0),
        ("C2, compressed, trained", "linear", 0),
    ]
    assert all(tuple(row) == TABLES["claims_retrained"].columns for row in judged)
    assert "from random: 2,000 bytes" in capsys.readouterr().out
