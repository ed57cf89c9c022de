"""Pruned weights: what becomes zero, what stays, and that zero is exact."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lib
from lib.compression.pruning import pruned_cells


def labels_and_weights(values, cells):
    labels = np.asarray(cells.labels(lib.Prepared(values)))
    return labels, cells.centers[labels]


def test_by_hand():
    values = np.array([-3.0, -2.8, -0.2, 0.1, 0.0, 1.0, 2.0, 2.2])
    cells = pruned_cells(values, 0.375, 4)
    np.testing.assert_allclose(cells.centers, [-2.9, 0.0, 1.0, 2.1])
    np.testing.assert_array_equal(cells.counts, [2, 3, 1, 2])
    assert cells.inertia == pytest.approx(0.02 + 0.05 + 0.02)


@given(
    n=st.integers(3, 400),
    sparsity=st.floats(0, 0.95),
    k=st.integers(3, 9),
    seed=st.integers(0, 999),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_the_smallest_are_zero_and_no_sign_changes(n, sparsity, k, seed, dtype):
    values = np.random.default_rng(seed).standard_normal(n).astype(dtype)
    cells = pruned_cells(values, sparsity, k)
    labels, shared = labels_and_weights(values, cells)
    n_pruned = int(np.ceil(sparsity * n))
    order = np.argsort(np.abs(values))
    assert not shared[order[:n_pruned]].any()
    np.testing.assert_array_equal(
        np.sign(shared[order[n_pruned:]]), np.sign(values[order[n_pruned:]])
    )
    assert len(cells.centers) <= k
    np.testing.assert_array_equal(np.bincount(labels), cells.counts)
    assert cells.inertia == pytest.approx(((values - shared) ** 2).sum(), rel=1e-6, abs=1e-12)


def test_weights_of_one_sign_and_nothing_to_prune():
    values = np.array([1.0, 2.0, 3.0, 4.0])
    cells = pruned_cells(values, 0.5, 3)
    np.testing.assert_allclose(cells.centers, [0.0, 3.0, 4.0])
    cells = pruned_cells(values, 0.0, 3)
    assert 0 not in cells.centers
    assert cells.counts.sum() == 4


def test_magnitudes_alone_decide():
    with pytest.raises(ValueError, match="prepared with a sample_weight"):
        pruned_cells(lib.Prepared(np.arange(5.0), np.ones(5)), 0.5, 3)


def test_pruned_weights_stay_pruned():
    values = torch.randn(64, 64)
    cells = pruned_cells(values, 0.7, 5)
    _, shared = labels_and_weights(values, cells)
    again = pruned_cells(torch.from_numpy(shared).float(), 0.5, 5)
    _, twice = labels_and_weights(torch.from_numpy(shared).float(), again)
    np.testing.assert_allclose(twice, shared, rtol=1e-6)


@pytest.mark.parametrize(
    ("sparsity", "k", "message"),
    [
        (1.0, 3, "sparsity=1.0 must be"),
        (-0.1, 3, "sparsity=-0.1 must be"),
        (0.5, 1, "n_clusters=1 must be at least 2"),
        (0.1, 2, "need at least 3"),
    ],
)
def test_bad_input(sparsity, k, message):
    with pytest.raises(ValueError, match=message):
        pruned_cells(np.array([-2.0, -1.0, 1.0, 2.0]), sparsity, k)
