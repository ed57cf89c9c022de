"""A clustering for each row is that of `cluster` on it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lib
from lib import rows as module
from lib.density import adaptive_density, logit_ranks, power_quantiles
from lib.engine import SortedWeights
from lib.engine.quantiles import power_quantiles as compiled_quantiles

FIELDS = ("centers", "labels", "counts", "inertia", "n_iter", "converged")


def assert_rows_of(found, weights, n_clusters, sample_weight=None, **options):
    """Every row is bit by bit what `cluster` returns."""
    for i, row in enumerate(weights):
        mass = None if sample_weight is None else sample_weight[i]
        alone = lib.cluster(row, n_clusters, sample_weight=mass, **options)
        for field in FIELDS:
            expected, ours = (np.asarray(getattr(r, field)) for r in (alone, found))
            np.testing.assert_array_equal(ours[i], expected, err_msg=f"{field} of row {i}")


def matrix(dtype="float32", shape=(9, 700)):
    rng = np.random.default_rng(0)
    weights = rng.standard_t(3, shape).astype(dtype)
    weights[1] = np.round(weights[1])  # ties
    weights[2] = rng.choice([-1.5, 0.0, 2.0], shape[1])  # fewer distinct values than centers
    weights[3] = 0.25
    weights[4] += 1000
    weights[5, :-1] *= 1e-3  # all but one in a corner
    return weights


@pytest.mark.parametrize("n_clusters", [1, 2, 8, 40, 300])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_rows_are_those_of_cluster(dtype, n_clusters):
    weights = matrix(dtype)
    assert_rows_of(lib.cluster_rows(weights, n_clusters), weights, n_clusters)


@pytest.mark.parametrize("init", list(lib.INITIALIZATIONS))
@pytest.mark.parametrize("weighted", [False, True])
def test_every_initialization(init, weighted):
    weights = matrix(shape=(9, 200))
    mass = np.random.default_rng(1).uniform(0.5, 2, weights.shape) if weighted else None
    found = lib.cluster_rows(weights, 6, init=init, seed=5, sample_weight=mass)
    assert_rows_of(found, weights, 6, mass, init=init, seed=5)


@pytest.mark.parametrize("init", ["weight-distribution", "linear"])
def test_weights_of_sample_weight_0_are_labelled_only(init):
    weights = matrix()
    mass = np.random.default_rng(1).choice([0.0, 1.0, 1e-6, 3.0], weights.shape)
    mass[0] = 1.0
    found = lib.cluster_rows(weights, 5, init=init, sample_weight=mass)
    assert_rows_of(found, weights, 5, mass, init=init)
    assert found.counts.sum() == weights.size


@pytest.mark.parametrize(
    "options",
    [
        {"gamma": 0.0},
        {"gamma": 1.0},
        {"revise": False},
        {"max_iter": 0},
        {"max_iter": 3},
        {"tol": 0.01},
        {"init": np.linspace(-1, 1, 4)},
        {"init": lambda weights, k, **_: np.linspace(weights[0], weights[-1], k)},
    ],
    ids=" ".join,  # the text of a function has its address, which differs between workers
)
def test_options(options):
    weights = matrix()
    assert_rows_of(lib.cluster_rows(weights, 4, **options), weights, 4, **options)


def test_initial_centers_of_each_row():
    weights = matrix()
    init = np.sort(np.random.default_rng(0).normal(size=(len(weights), 4)))
    found = lib.cluster_rows(weights, 4, init=init)
    for i, start in enumerate(init):
        alone = lib.cluster(weights[i], 4, init=start)
        np.testing.assert_array_equal(found.centers[i], alone.centers)
    with pytest.raises(ValueError, match=r"init has shape \(3, 4\): expected \(4,\) or \(9, 4\)"):
        lib.cluster_rows(weights, 4, init=init[:3])


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    shape=st.tuples(st.integers(1, 5), st.integers(1, 60)),
    n_clusters=st.integers(1, 12),
    weighted=st.booleans(),
)
def test_anything(seed, shape, n_clusters, weighted):
    rng = np.random.default_rng(seed)
    weights = rng.integers(-20, 20, shape) * rng.choice([1e-30, 0.1, 1.0, 1e6])
    mass = rng.choice([0.0, 0.25, 1.0, 1e3], shape) if weighted else None
    if weighted:
        mass[:, 0] = 1.0
    found = lib.cluster_rows(weights, n_clusters, sample_weight=mass)
    assert_rows_of(found, weights, n_clusters, mass)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_tensors(dtype):
    weights = torch.from_numpy(matrix()).to(dtype)
    mass = torch.rand(weights.shape, generator=torch.Generator().manual_seed(0)) + 0.5
    for sample_weight in (None, mass):
        found = lib.cluster_rows(weights, 8, sample_weight=sample_weight)
        assert all(torch.is_tensor(getattr(found, field)) for field in FIELDS)
        assert_rows_of(found, weights, 8, sample_weight)


@pytest.mark.parametrize("view", ["transposed", "strided", "reversed", "broadcast"])
def test_views(view):
    weights = matrix()
    weights = {
        "transposed": np.asfortranarray(weights),
        "strided": weights[::2, ::3],
        "reversed": weights[::-1, ::-1],
        "broadcast": np.broadcast_to(weights[0], (3, weights.shape[1])),
    }[view]
    assert_rows_of(lib.cluster_rows(weights, 5), weights, 5)


def test_parts_of_any_size_are_the_whole(monkeypatch):
    weights, whole = matrix(), lib.cluster_rows(matrix(), 8)
    for part in (1, 700, 1500, 10**9):
        monkeypatch.setattr(module, "PART", part)
        for field in FIELDS:
            found = lib.cluster_rows(weights, 8)
            np.testing.assert_array_equal(getattr(found, field), getattr(whole, field))


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_long_rows(kind, monkeypatch):
    monkeypatch.setattr(module, "FEW", 100)
    weights, init = matrix(), np.linspace(-1, 1, 5)
    assert_rows_of(lib.cluster_rows(kind(weights), 5, init=init), weights, 5, init=init)
    mass = np.random.default_rng(1).choice([0.0, 1.0], weights.shape)
    assert_rows_of(lib.cluster_rows(weights, 5, sample_weight=mass), weights, 5, mass)
    with pytest.raises(ValueError, match="row 6: weights hold nan"):
        lib.cluster_rows(bad(6, np.nan), 2)


def test_inputs_are_not_modified():
    weights, mass = matrix(), np.ones((9, 700))
    before = weights.copy()
    lib.cluster_rows(weights, 8, sample_weight=mass)
    np.testing.assert_array_equal(weights, before)
    assert (mass == 1).all()


def test_progress_counts_rows(capsys):
    lib.cluster_rows(matrix(), 2, progress=True)
    assert "9/9" in capsys.readouterr().err


def test_repr_is_short():
    assert (
        repr(lib.cluster_rows(np.eye(3), 2)) == "RowClustering(3 rows, 2 centers each, inertia=0)"
    )


def bad(row, value, dtype="float32"):
    weights = matrix(dtype)
    weights[row, 3] = value
    return weights


@pytest.mark.parametrize("part", [1, 10**9])
@pytest.mark.parametrize(
    ("weights", "options", "message"),
    [
        (bad(6, np.nan), {}, "row 6: weights hold nan: remove or replace"),
        (bad(8, -np.inf), {}, "row 8: weights hold -inf: remove or replace"),
        (bad(7, 1e200, "float64"), {}, r"row 7: weights reach 1e\+200: scale them below"),
        (matrix(), {"sample_weight": bad(5, -1)}, "row 0: sample_weight holds -"),
        (matrix(), {"sample_weight": bad(4, np.nan) ** 2}, "row 4: sample_weight holds nan"),
        (
            matrix(),
            {"sample_weight": np.arange(9.0)[:, None] * np.ones(700)},
            "row 0: sample_weight is 0 everywhere",
        ),
        (matrix(), {"sample_weight": np.ones((9, 5))}, r"sample_weight has shape \(9, 5\)"),
        (matrix(), {"init": "none"}, "row 0: init='none' is unknown"),
        (matrix(), {"gamma": 2}, "gamma=2 must be from 0"),
        (matrix()[0], {}, r"weights have shape \(700,\): cluster_rows takes a matrix"),
        (np.zeros((3, 0)), {}, r"weights are empty \(shape \(3, 0\)\)"),
    ],
)
def test_bad_values(weights, options, message, part, monkeypatch):
    monkeypatch.setattr(module, "PART", part)
    with pytest.raises(ValueError, match=message):
        lib.cluster_rows(weights, 4, **options)


@pytest.mark.parametrize("weights", [[[1.0, 2.0]], np.ones((2, 3), int), "weights"])
def test_bad_types(weights):
    with pytest.raises(TypeError, match="weights"):
        lib.cluster_rows(weights, 2)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("gamma", [0.0, 1 / 3, 1.0])
@pytest.mark.parametrize("n", [2, 17, 5000, 30_000])
def test_compiled_quantiles_are_those_of_the_density(n, gamma, weighted):
    rng = np.random.default_rng(n)
    weights = np.round(rng.standard_t(2, n), 3)
    weights[:2] = 0, 1
    mass = rng.uniform(0.1, 5, n) if weighted else None
    order = SortedWeights(weights, mass)
    expected = power_quantiles(adaptive_density(order), gamma, (np.arange(16) + 0.5) / 16)
    known = (order.weights, order.sample_weight, logit_ranks(n), gamma, 16)
    np.testing.assert_allclose(compiled_quantiles(*known), expected, rtol=1e-10, atol=1e-12)
