"""Centers of labels, and sums by label, against NumPy."""

import numpy as np
import pytest

from lib.engine.labels import reconstruct, rounded, sum_by_label

SIZES = [1, 3, 4, 5, 1000, 300_001]  # within a lane, across lanes, and on several threads


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32])
def test_centers_of_labels(n, dtype):
    labels = np.random.default_rng(n).integers(0, 100, n).astype(dtype)
    centers = np.random.default_rng(0).standard_normal(100).astype(np.float32)
    found = reconstruct(centers, labels)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, centers[labels])


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sums_of_labels(n, dtype):
    rng = np.random.default_rng(n)
    labels, values = rng.integers(0, 7, n).astype(np.uint8), rng.standard_normal(n).astype(dtype)
    expected = np.bincount(labels, weights=values, minlength=9)
    found = sum_by_label(values, labels, 9)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-9)
    assert not found[7:].any()


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("k", [1, 2, 30, 300])
def test_rounding_to_centers(n, k):
    rng = np.random.default_rng(n + k)
    weights = rng.standard_normal(n).astype(np.float32)
    cuts = np.sort(rng.standard_normal(k - 1)).astype(np.float32)
    weights[: k - 1] = cuts[:n]  # a weight at a cut belongs above it
    centers = rng.standard_normal(k).astype(np.float32)
    expected = centers[np.searchsorted(cuts, weights, side="right")]
    np.testing.assert_array_equal(rounded(weights, cuts, centers), expected)
