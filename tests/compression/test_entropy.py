"""Entropy-constrained cells: against exhaustive search, and against k-means and equal steps."""

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lib
from lib.compression.coding import entropy
from lib.compression.entropy import (
    cells_of_centers,
    entropy_constrained_cells,
    multiplier_for_bits,
    uniform_cells,
)
from lib.study.experiment.data import load_convolutions


def cost_of(weights, cuts, multiplier):
    """The definition, spelled out."""
    labels = np.searchsorted(cuts, weights, side="right")
    counts = np.bincount(labels, minlength=len(cuts) + 1)
    inertia = sum(
        ((part - part.mean()) ** 2).sum()
        for part in (weights[labels == j] for j in range(len(cuts) + 1))
        if len(part)
    )
    return inertia + multiplier * len(weights) * entropy(counts)


@given(
    weights=st.lists(st.integers(-8, 8), min_size=1, max_size=9, unique=True),
    repeats=st.integers(1, 3),
    log=st.floats(-6, 6),
)
def test_no_partition_is_better(weights, repeats, log):
    distinct = np.sort(np.array(weights, np.float64))
    values, multiplier = np.repeat(distinct, repeats), 2.0**log
    best = min(
        cost_of(values, np.array(cuts), multiplier)
        for size in range(len(distinct))
        for cuts in combinations(distinct[1:], size)
    )
    found = entropy_constrained_cells(values, multiplier)
    ours = found.inertia + multiplier * len(values) * found.entropy
    assert ours == pytest.approx(best, rel=1e-9, abs=1e-9)


def test_free_bits_keep_every_weight_and_dear_ones_none():
    weights = np.array([0.0, 0.5, 2.0, 2.5], np.float32)
    free = entropy_constrained_cells(weights, 0.0)
    np.testing.assert_array_equal(free.centers, weights)
    assert free.inertia == 0
    dear = entropy_constrained_cells(weights, 1e6)
    np.testing.assert_array_equal(dear.centers, [1.25])
    assert dear.entropy == 0


@pytest.fixture(scope="module")
def conv2():
    weight = load_convolutions()["features.3.weight"]
    return lib.Prepared(weight), weight


def test_labels_counts_and_inertia_belong_together(conv2):
    prepared, weight = conv2
    for cells in (entropy_constrained_cells(prepared, 1e-4), uniform_cells(prepared, 0.02)):
        labels = cells.labels(prepared)
        assert labels.dtype == torch.uint8
        assert labels.shape == weight.shape
        counts = np.bincount(labels.numpy().reshape(-1), minlength=len(cells.centers))
        np.testing.assert_array_equal(counts, cells.counts)
        restored = cells.centers[labels.int().numpy()]
        error = ((restored - weight.double().numpy()) ** 2).sum()
        assert cells.inertia == pytest.approx(error, rel=1e-9)


@pytest.mark.parametrize("bits", [0.5, 1.0, 2.0, 3.0])
def test_less_error_than_k_means_and_equal_steps_at_no_more_bits(conv2, bits):
    prepared, weight = conv2

    def cells_at(multiplier):
        return [entropy_constrained_cells(prepared, multiplier)]

    (ours,) = cells_at(multiplier_for_bits([weight.numel()], bits, cells_at))
    assert bits * 0.97 < ours.entropy <= bits
    clustered = min(
        (
            cells_of_centers(prepared, prepared.cluster(k, init="optimal", labels=False).centers)
            for k in range(2, 17)
        ),
        key=lambda cells: (cells.entropy > ours.entropy, cells.inertia),
    )
    steps = [uniform_cells(prepared, step) for step in np.geomspace(0.005, 0.8, 60)]
    for other in (clustered, *steps):
        if other.entropy <= ours.entropy:
            assert ours.inertia < other.inertia


def test_large_tensors_take_the_same_cells():
    weights = np.random.default_rng(0).standard_t(4, 3_000_000).astype(np.float32)
    binned, plain = lib.Prepared(weights), lib.Prepared(weights.astype(np.float64))
    assert type(binned.ordered) is not type(plain.ordered)
    ours, theirs = (entropy_constrained_cells(p, 0.05) for p in (binned, plain))
    costs = [cells.inertia + 0.05 * len(weights) * cells.entropy for cells in (ours, theirs)]
    assert costs[0] == pytest.approx(costs[1], rel=1e-4)
    labels = np.asarray(ours.labels(binned))
    np.testing.assert_array_equal(np.bincount(labels, minlength=len(ours.counts)), ours.counts)


def test_weighted_error_moves_the_cells():
    weights = np.linspace(-1, 1, 2001)
    importance = np.where(weights > 0, 100.0, 1.0)
    cells = entropy_constrained_cells(lib.Prepared(weights, importance), 0.2)
    assert (cells.centers > 0).sum() > 2 * (cells.centers < 0).sum()


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_the_bits_asked_for_at_any_scale(scale):
    weights = scale * np.random.default_rng(0).normal(size=20_000)

    def cells_at(multiplier):
        return [entropy_constrained_cells(weights, multiplier)]

    (cells,) = cells_at(multiplier_for_bits([20_000], 3.0, cells_at))
    assert 2.95 < cells.entropy <= 3.0


def test_fewer_bits_than_asked_for_where_there_are_no_more():
    def cells_at(multiplier):
        return [entropy_constrained_cells(np.ones(100), multiplier)]

    assert cells_at(multiplier_for_bits([100], 3.0, cells_at))[0].entropy == 0


def test_a_zero_costs_the_importance_of_its_cell():
    prepared = lib.Prepared(np.array([-1.0, 0.5, 0.5, 3.0]), np.array([1.0, 2.0, 3.0, 1.0]))
    cells = cells_of_centers(prepared, [-1.0, 0.5, 3.0])
    assert cells.masses.tolist() == [1, 5, 1]
    assert cells.with_zero().inertia == pytest.approx(5 * 0.25)


def test_uniform_cells_by_hand():
    cells = uniform_cells(np.array([-0.6, -0.4, 0.1, 0.3, 2.2]), 1.0)
    np.testing.assert_allclose(cells.centers, [-0.6, 0.0, 2.2], atol=1e-12)
    np.testing.assert_array_equal(cells.counts, [1, 3, 1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: uniform_cells(np.ones(3), 0.0), "step=0.0 must be positive"),
        (lambda: uniform_cells(np.array([0.0, 1.0]), 1e-6), "at most 65536 fit"),
        (lambda: entropy_constrained_cells(np.ones(3), -1.0), "multiplier=-1.0"),
        (lambda: multiplier_for_bits([1], 0, None), "bits=0 must be positive"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
