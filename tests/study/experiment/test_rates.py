"""Rates, allocations and remedies of a real network's convolutions, on few images."""

import numpy as np
import pytest

from lib import Prepared, compression
from lib.study.experiment.data import load_convolutions
from lib.study.experiment.distortion import Remedies
from lib.study.experiment.frontier import Compressor
from lib.study.experiment.network import LAYERS, SCOPES
from lib.study.experiment.rates import (
    Allocator,
    allocation_rows,
    prepared_by_inputs,
    rate_rows,
)


@pytest.fixture(scope="module")
def compressor(narrow):
    return Compressor(narrow, "toy", n_calibration=4, n_images=20, n_train=10)


def test_at_one_entropy_the_cells_made_for_it_leave_the_least_error(compressor, monkeypatch):
    whole = Prepared(load_convolutions()["features.3.weight"])
    monkeypatch.setitem(compressor.prepared, "conv2", whole)
    monkeypatch.setitem(compressor.n_weights, "conv2", whole.weights.numel())
    rows = rate_rows(compressor, ["conv2"], [3])
    found = {row["cells"]: row for row in rows}
    means, uniform, ours = (found[n] for n in ("k-means", "uniform", "entropy-constrained"))
    assert means["n_clusters"] == 8
    assert ours["entropy"] <= means["entropy"] * 1.001
    assert ours["relative_distortion"] < min(
        means["relative_distortion"], uniform["relative_distortion"]
    )
    for row in rows:
        assert row["entropy"] <= row["bits_per_weight"] < row["entropy"] + 0.1
        assert row["bits_per_weight"] == 8 * row["bytes"] / (192 * 64 * 25)


@pytest.mark.parametrize("criterion", ["squared error", "fisher"])
def test_an_allocation_fits_its_budget_and_errs_less(compressor, criterion):
    allocator = Allocator(compressor, criterion, 64)
    uniform = allocator.uniform("conv", 3)
    budget = allocator.size(uniform)
    rows = allocator.rows("conv", 3, "uniform", uniform)
    best = allocator.frontier("conv").within(budget)
    ours = allocator.rows("conv", 3, "allocated", best)
    assert [row["layer"] for row in ours] == list(SCOPES["conv"])
    assert sum(row["bytes"] for row in ours) == ours[0]["total_bytes"] <= budget
    assert sum(r["distortion"] for r in ours) <= sum(r["distortion"] for r in rows)
    model = allocator.model(best)
    for layer, k in best.items():
        assert len(model.get_submodule(LAYERS[layer]).weight.unique()) <= k


def test_unknown_criteria_and_weightings_are_named(compressor):
    with pytest.raises(ValueError, match="criterion='hessian' is unknown: choose from squared"):
        Allocator(compressor, "hessian")
    with pytest.raises(ValueError, match=r"weightings=\['outputs'\]: choose from none, inputs"):
        Remedies(compressor, ["none", "outputs"])


def test_weighting_by_inputs_keeps_the_weights_and_counts_them_differently(compressor):
    prepared = prepared_by_inputs(compressor.network, compressor.batches)["conv1"]
    plain = compressor.prepared["conv1"]
    assert prepared.weights is plain.weights
    weighted, usual = (p.cluster(8, init="optimal") for p in (prepared, plain))
    assert not np.allclose(weighted.centers, usual.centers, rtol=1e-3)


def test_remedies_apply_alone_and_together(compressor):
    remedies = Remedies(compressor, ["none"], ["conv"])
    combinations = remedies.combinations()
    assert combinations[0] == ("none", False, False)
    assert combinations[-1] == ("none", True, True)
    assert len(combinations) == 4
    rows = [remedies.applied(2, *combination) for combination in combinations]
    assert [[row["scope"] for row in found] for found in rows] == 4 * [["conv"]]
    plain, corrected = rows[0][0], rows[1][0]
    # A factor a channel in half precision, and one entry of the file's header each.
    assert corrected["bytes"] - plain["bytes"] == 2 * (16 + 48 + 96 + 64 + 64)
    assert compression.describe(compressor.folder / "new.safetensors")


def test_every_criterion_and_scope_has_its_allocations(monkeypatch):
    """With an allocator that names what it is asked for."""

    class Named(Allocator):
        def __init__(self, compressor, criterion, max_clusters):
            self.criterion = criterion
            self.frontier = lambda scope: self

        def within(self, budget):
            return {"best of": budget}

        def size(self, numbers):
            return sum(numbers.values())

        def smallest(self, scope, lost):
            return [(self.criterion, scope, "smallest", lost)]

        def rows(self, scope, bits, allocation, numbers):
            return [(self.criterion, scope, bits, allocation, numbers)]

    monkeypatch.setattr("lib.study.experiment.rates.Allocator", Named)
    rows = allocation_rows(None, ["fisher"], ["conv"], [1, 3], 256, 0.5)
    uniform = {bits: dict.fromkeys(SCOPES["conv"], 2**bits) for bits in (1, 3)}
    assert rows == [
        ("fisher", "conv", 1, "uniform", uniform[1]),
        ("fisher", "conv", 1, "allocated", {"best of": 10}),
        ("fisher", "conv", 3, "uniform", uniform[3]),
        ("fisher", "conv", 3, "allocated", {"best of": 40}),
        ("fisher", "conv", "smallest", 0.5),
    ]
    assert len(allocation_rows(None, ["fisher", "squared error"], SCOPES, [3], 256, 0.5)) == 12
