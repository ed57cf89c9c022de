"""`cluster`: results, options, kinds of arrays, bad input and extreme input."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.cluster import KMeans

import lib
from lib.clustering import initial_centers, label, ordered
from lib.engine import FEW, DevicePasses, LeafWeights
from lib.lloyd import lloyd
from lib.study.experiment.data import load_convolutions
from lib.study.experiment.textbook import TextbookCells

EVERY = pytest.mark.parametrize("init", lib.INITIALIZATIONS)
arrays = st.lists(st.floats(-100, 100, width=16), min_size=1, max_size=40).map(np.array)


@pytest.fixture(scope="module")
def conv1():
    """Load the weights of AlexNet's first convolution, of shape (64, 3, 11, 11)."""
    return load_convolutions()["features.0.weight"].numpy()


def normal(n=2000, seed=0):
    return np.random.default_rng(seed).normal(size=n)


def direct_inertia(weights, result, sample_weight=1.0):
    moved = weights.astype(np.float64) - result.centers[result.labels]
    return np.sum(sample_weight * moved**2)


def assert_sound(weights, result):
    """Centers ascend, labels are nearest, counts and history are theirs."""
    n_clusters = len(result.centers)
    assert result.centers.dtype == np.float64
    assert np.isfinite(result.centers).all()
    assert (np.diff(result.centers) >= 0).all()
    assert result.labels.shape == weights.shape
    assert result.labels.dtype == (np.uint8 if n_clusters <= 256 else np.uint16)
    counts = np.bincount(result.labels.ravel(), minlength=n_clusters)
    np.testing.assert_array_equal(result.counts, counts)
    values = weights.astype(np.float64).ravel()
    distances = np.abs(values[:, None] - result.centers)
    chosen = np.take_along_axis(distances, result.labels.reshape(-1, 1).astype(int), axis=1)
    np.testing.assert_array_equal(chosen[:, 0], distances.min(axis=1))
    assert len(result.history) == result.n_iter + 1
    assert result.history[-1] == result.inertia


# Known answers


def test_by_hand():
    weights = np.array([[0.0, 1.0, 2.0], [10.0, 11.0, 12.0]], dtype=np.float32)
    result = lib.cluster(weights, 2, init=[0.0, 1.0], revise=False)
    assert result.centers.tolist() == [1.0, 11.0]
    assert result.labels.tolist() == [[0, 0, 0], [1, 1, 1]]
    assert result.counts.tolist() == [3, 3]
    assert result.inertia == 4.0
    assert result.n_iter == 2
    assert result.converged
    assert result.initial_centers.tolist() == [0.0, 1.0]
    np.testing.assert_allclose(result.history, [303.0, 50.32, 4.0])


def test_one_center_is_the_mean():
    weights = normal()
    result = lib.cluster(weights, 1)
    assert result.centers[0] == pytest.approx(weights.mean())
    assert result.inertia == pytest.approx(len(weights) * weights.var())


@EVERY
def test_clear_groups_are_found(init):
    groups = np.array([-5.0, 0.0, 1.0, 7.0])
    weights = np.repeat(groups, 50) + normal(200) * 1e-3
    result = lib.cluster(weights, 4, init=init)
    np.testing.assert_allclose(result.centers, groups, atol=1e-3)
    assert result.counts.tolist() == [50] * 4


# Properties


@given(arrays, st.integers(1, 8), st.sampled_from(list(lib.INITIALIZATIONS)), st.booleans())
def test_sound_on_anything(weights, n_clusters, init, revise):
    result = lib.cluster(weights, n_clusters, init=init, revise=revise)
    assert_sound(weights, result)
    assert result.converged
    rounding = 1e-12 * (np.sum(weights**2) + 1e-300)
    assert (np.diff(result.history) <= rounding).all()
    assert result.inertia == pytest.approx(direct_inertia(weights, result), rel=1e-9, abs=rounding)


@EVERY
@pytest.mark.parametrize("revise", [False, True])
def test_sound_on_a_real_layer(conv1, init, revise):
    result = lib.cluster(conv1, 16, init=init, revise=revise, max_iter=30)
    assert_sound(conv1, result)
    assert (np.diff(result.history) <= 1e-12 * result.history[0]).all()
    assert result.inertia == pytest.approx(direct_inertia(conv1, result), rel=1e-10)


@EVERY
def test_permutations_permute_the_labels(conv1, init):
    order = np.random.default_rng(0).permutation(conv1.size)
    result = lib.cluster(conv1.ravel(), 8, init=init)
    permuted = lib.cluster(conv1.ravel()[order], 8, init=init)
    np.testing.assert_array_equal(permuted.centers, result.centers)
    np.testing.assert_array_equal(permuted.labels, result.labels[order])


@EVERY
@pytest.mark.parametrize("scale", [0.25, 4.0, -2.0])
def test_affine_maps_map_the_centers(init, scale):
    """A reflection too, where the initialization draws nothing and no tie decides."""
    if scale < 0 and init not in ("linear", "optimal"):
        pytest.skip("the initialization is not symmetric")
    weights = normal()
    result = lib.cluster(weights, 8, init=init)
    mapped = lib.cluster(scale * weights + 3, 8, init=init)
    expected = np.sort(scale * result.centers + 3)
    np.testing.assert_allclose(mapped.centers, expected, rtol=1e-9)
    assert mapped.inertia == pytest.approx(scale**2 * result.inertia, rel=1e-9)
    labels = result.labels if scale > 0 else 7 - result.labels
    np.testing.assert_array_equal(mapped.labels, labels)


@EVERY
def test_seeds(conv1, init):
    def start(seed):
        return lib.cluster(conv1, 16, init=init, seed=seed, max_iter=0).centers

    np.testing.assert_array_equal(start(1), start(1))
    assert np.array_equal(start(1), start(2)) != lib.INITIALIZATIONS[init].seeded


# Other implementations


@pytest.mark.parametrize("init", ["density", "weight-distribution", "k-means++"])
@pytest.mark.parametrize("n_clusters", [4, 16])
def test_scikit_learn_from_the_same_centers(conv1, init, n_clusters):
    weights = conv1.astype(np.float64)
    result = lib.cluster(weights, n_clusters, init=init, revise=False)
    assert (result.counts > 0).all()
    start = result.initial_centers[:, None]
    theirs = KMeans(n_clusters, init=start, n_init=1, tol=0, max_iter=10_000).fit(
        weights.reshape(-1, 1)
    )
    np.testing.assert_allclose(result.centers, theirs.cluster_centers_.ravel(), rtol=1e-9)
    np.testing.assert_array_equal(result.labels.ravel(), theirs.labels_)
    assert result.inertia == pytest.approx(theirs.inertia_)


@pytest.mark.parametrize("init", ["linear", "random", "weight-distribution"])
@pytest.mark.parametrize("revise", [False, True])
def test_textbook_engine_on_a_real_layer(conv1, init, revise):
    result = lib.cluster(conv1, 8, init=init, revise=revise)
    start = initial_centers(ordered(conv1), 8, init)
    path = lloyd(TextbookCells(conv1.reshape(-1)), start, revise=revise)
    assert path.n_iter == result.n_iter
    np.testing.assert_allclose(path.centers, result.centers, rtol=1e-11)
    np.testing.assert_allclose(path.history, result.history, rtol=1e-9)


# Options


def test_max_iter_0_labels_the_initial_centers():
    weights = normal()
    result = lib.cluster(weights, 8, max_iter=0)
    np.testing.assert_array_equal(result.centers, result.initial_centers)
    assert (result.n_iter, result.converged) == (0, False)
    assert_sound(weights, result)


def test_max_iter_is_a_prefix_of_the_whole_path():
    weights = normal()
    whole = lib.cluster(weights, 8)
    part = lib.cluster(weights, 8, max_iter=3)
    np.testing.assert_allclose(part.history, whole.history[:4], rtol=1e-12)
    assert not part.converged


def test_tol():
    weights = normal()
    whole, part = lib.cluster(weights, 8), lib.cluster(weights, 8, tol=0.01)
    assert part.converged
    assert part.n_iter < whole.n_iter
    assert lib.cluster(weights, 8, tol=0).n_iter == whole.n_iter


def test_initial_centers_and_converged_centers_are_a_fixed_point():
    weights = normal()
    result = lib.cluster(weights, 8)
    again = lib.cluster(weights, 8, init=result.centers)
    assert again.n_iter == 1
    np.testing.assert_allclose(again.centers, result.centers, rtol=1e-12)


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_init_as_an_array_in_any_order(kind):
    start = kind([2.0, -1.0, 0.5])
    result = lib.cluster(normal(), 3, init=start, max_iter=0)
    assert result.centers.tolist() == [-1.0, 0.5, 2.0]


def test_init_as_a_callable():
    def init(weights, n_clusters, *, sample_weight, gamma, seed):
        assert (np.diff(weights) >= 0).all()
        assert sample_weight is None
        assert (gamma, seed) == (0.5, 7)
        return np.arange(n_clusters)

    result = lib.cluster(normal(), 3, init=init, gamma=0.5, seed=7, max_iter=0)
    assert result.centers.tolist() == [0.0, 1.0, 2.0]


@EVERY
@pytest.mark.parametrize("n_clusters", [8, 64])
def test_revision_never_ends_worse_than_it_starts(conv1, init, n_clusters):
    result = lib.cluster(conv1, n_clusters, init=init, revise=True, max_iter=50)
    assert result.inertia <= result.history[0]
    assert (result.counts > 0).all()


def test_revision_repairs_what_linear_centers_leave_empty():
    weights = np.append(normal(5000), 100.0)
    plain = lib.cluster(weights, 32, init="linear", revise=False)
    revised = lib.cluster(weights, 32, init="linear", revise=True)
    assert (plain.counts == 0).any()
    assert (revised.counts > 0).all()
    assert revised.inertia < plain.inertia / 10


@pytest.mark.parametrize("init", ["linear", "density", "weight-distribution", "optimal"])
@pytest.mark.parametrize("revise", [False, True])
def test_a_weight_of_3_is_three_repeats(init, revise):
    rng = np.random.default_rng(0)
    weights, repeats = rng.normal(size=300), rng.integers(1, 5, 300)
    start = lib.cluster(weights, 6, init=init, max_iter=0).centers
    weighted = lib.cluster(weights, 6, init=start, sample_weight=repeats, revise=revise)
    repeated = lib.cluster(np.repeat(weights, repeats), 6, init=start, revise=revise)
    np.testing.assert_allclose(weighted.centers, repeated.centers, rtol=1e-12)
    np.testing.assert_array_equal(np.repeat(weighted.labels, repeats), repeated.labels)
    assert weighted.inertia == pytest.approx(repeated.inertia)
    assert weighted.n_iter == repeated.n_iter
    expected = direct_inertia(weights, weighted, repeats)
    assert weighted.inertia == pytest.approx(expected)


@EVERY
def test_weights_of_no_importance_are_labelled_only(init):
    weights, importance = np.arange(10.0), np.ones(10)
    importance[[0, 9]] = 0
    result = lib.cluster(weights, 3, init=init, sample_weight=importance)
    inside = lib.cluster(weights[1:9], 3, init=init, sample_weight=np.ones(8))
    np.testing.assert_allclose(result.centers, inside.centers)
    assert (result.labels[0], result.labels[9]) == (0, 2)
    assert result.counts.sum() == 10


# Kinds of arrays


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("n_clusters", [4, 300])
def test_torch_and_numpy_agree(dtype, n_clusters):
    tensor = torch.from_numpy(normal()).reshape(4, 500).to(getattr(torch, dtype))
    array = tensor.double().numpy()
    if dtype != "bfloat16":
        array = array.astype(dtype)
    result, expected = lib.cluster(tensor, n_clusters), lib.cluster(array, n_clusters)
    for name in ("centers", "counts", "labels", "initial_centers"):
        ours, theirs = getattr(result, name), getattr(expected, name)
        assert torch.is_tensor(ours)
        assert isinstance(theirs, np.ndarray)
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-12)
    assert result.labels.dtype == (torch.uint8 if n_clusters <= 256 else torch.uint16)
    assert (result.n_iter, result.converged) == (expected.n_iter, expected.converged)
    assert result.inertia == pytest.approx(expected.inertia, rel=1e-9)


def test_float32_and_float64_agree(conv1):
    single, double = lib.cluster(conv1, 16), lib.cluster(conv1.astype(np.float64), 16)
    np.testing.assert_allclose(single.centers, double.centers, rtol=1e-9)
    np.testing.assert_array_equal(single.labels, double.labels)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("n", [2000, 3_000_000])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_tensor_on_cuda(dtype, n, weighted):
    generator = torch.Generator().manual_seed(0)
    tensor = torch.randn(n, generator=generator).to(getattr(torch, dtype))
    importance = torch.rand(n, generator=generator) if weighted else None
    result = lib.cluster(tensor.cuda(), 16, sample_weight=importance)
    assert result.labels.is_cuda
    assert result.centers.is_cuda
    expected = lib.cluster(tensor, 16, sample_weight=importance)
    torch.testing.assert_close(result.centers.cpu(), expected.centers)
    assert torch.equal(result.labels.cpu(), expected.labels)
    assert torch.equal(result.counts.cpu(), expected.counts)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_weights_on_cuda_stay_there(monkeypatch):
    copied, copy = [], torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda t: copied.append(t.numel()) or copy(t))
    tensor = torch.randn(1 << 24, device="cuda")
    lib.cluster(tensor, 16)
    assert 0 < sum(copied) < len(tensor) / 4  # sums of leaves, and the weights of a few


@pytest.mark.parametrize("n_clusters", [2, 16, 300])
def test_labels_of_the_passes_on_a_device(n_clusters):
    """Here on the processor: the labels come as a tensor, of equal centers the first."""
    weights = torch.randn(5000, generator=torch.Generator().manual_seed(0))
    centers = np.sort(weights[:n_clusters].double().numpy())
    centers[1] = centers[0]
    found = label(LeafWeights(DevicePasses(weights)), centers)
    assert torch.is_tensor(found)
    assert found.dtype == (torch.uint8 if n_clusters <= 256 else torch.uint16)
    np.testing.assert_array_equal(found.numpy(), label(ordered(weights), centers))


@pytest.mark.parametrize("n", [2 * FEW, pytest.param(10**8, marks=pytest.mark.slow)])
@pytest.mark.parametrize("shape", ["in any order", "sorted", "reversed"])
def test_many_weights(shape, n):
    weights = np.random.default_rng(0).standard_normal(n, dtype=np.float32)
    if shape != "in any order":
        weights.sort()
        weights = weights if shape == "sorted" else weights[::-1]
    result = lib.cluster(weights, 8, init="linear", max_iter=3)
    sums, counts = np.zeros(8), np.zeros(8, np.int64)
    for start in range(0, len(weights), 10**7):
        part, labels = weights[start : start + 10**7], result.labels[start : start + 10**7]
        nearest = np.abs(part[::1000, None] - result.centers).argmin(axis=1)
        np.testing.assert_array_equal(labels[::1000], nearest)
        sums += np.bincount(labels, part, 8)
        counts += np.bincount(labels, minlength=8)
    np.testing.assert_array_equal(counts, result.counts)
    following = lib.cluster(weights, 8, init=result.centers, revise=False, max_iter=1)
    np.testing.assert_allclose(following.centers, sums / counts, rtol=1e-9)


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a.reshape(40, 50).T,
        lambda a: a.reshape(40, 50)[::2, ::-5],
        lambda a: a.reshape(40, 50)[:, 3],
        lambda a: a[7:8].reshape(()),
        lambda a: a.astype(a.dtype.newbyteorder()),
    ],
)
def test_not_contiguous(view):
    weights = view(normal())
    result = lib.cluster(weights, 4)
    expected = lib.cluster(np.ascontiguousarray(weights, dtype=np.float64), 4)
    np.testing.assert_array_equal(result.labels, expected.labels.reshape(weights.shape))
    np.testing.assert_array_equal(result.centers, expected.centers)
    assert result.labels.shape == weights.shape


def test_a_transposed_tensor_that_requires_a_gradient():
    tensor = torch.from_numpy(normal()).reshape(40, 50).requires_grad_().T
    result = lib.cluster(tensor, 4)
    expected = lib.cluster(tensor.detach().numpy(), 4)
    np.testing.assert_array_equal(result.labels.numpy(), expected.labels)


@EVERY
def test_inputs_are_not_modified(init):
    weights, importance, start = normal(), np.ones(2000), np.array([1.0, -1.0, 0.0, 2.0])
    lib.cluster(weights, 4, init=init, sample_weight=importance)
    lib.cluster(weights, 4, init=start)
    np.testing.assert_array_equal(weights, normal())
    assert (importance == 1).all()
    assert start.tolist() == [1.0, -1.0, 0.0, 2.0]
    tensor = torch.from_numpy(normal())
    before = tensor.clone()
    lib.cluster(tensor, 4, init=init)
    assert torch.equal(tensor, before)


# Bad input


@pytest.mark.parametrize(
    ("weights", "options", "message"),
    [
        (np.zeros((3, 0)), {}, r"empty.*\(3, 0\)"),
        (np.array([1.0, np.nan]), {}, "nan"),
        (np.array([1.0, np.inf]), {}, "inf"),
        (np.array([1.0, -np.inf]), {}, "-inf"),
        (np.array([1.0, np.nan]), {"sample_weight": np.ones(2)}, "nan"),
        (np.array([1.0, 1e200]), {}, r"1e\+200.*1e\+150"),
        (None, {"n_clusters": 0}, "n_clusters=0.*65536"),
        (None, {"n_clusters": -3}, "n_clusters=-3"),
        (None, {"n_clusters": 65_537}, "n_clusters=65537"),
        (None, {"init": "lineal"}, "'lineal'.*random, linear, density, k-means"),
        (None, {"init": [0.0, 1.0]}, r"shape \(2,\).*\(4,\)"),
        (None, {"init": [0.0, 1.0, np.nan, 2.0]}, "nan"),
        (None, {"init": [0.0, 1.0, np.inf, 2.0]}, "inf"),
        (None, {"init": lambda weights, n_clusters, **_: np.zeros(3)}, r"shape \(3,\)"),
        (None, {"sample_weight": -np.ones(2000)}, "-1.0"),
        (None, {"sample_weight": np.full(2000, np.nan)}, "nan"),
        (None, {"sample_weight": np.zeros(2000)}, "0 everywhere"),
        (None, {"sample_weight": np.ones(3)}, r"\(3,\).*\(2000,\)"),
        (None, {"gamma": -0.1}, r"gamma=-0\.1"),
        (None, {"gamma": 1.5}, r"gamma=1\.5"),
        (None, {"gamma": np.nan}, "gamma=nan"),
        (None, {"max_iter": -1}, "max_iter=-1"),
        (None, {"tol": -1e-3}, r"tol=-0\.001"),
        (None, {"tol": np.inf}, "tol=inf"),
        (None, {"tol": np.nan}, "tol=nan"),
    ],
)
def test_bad_values(weights, options, message):
    with pytest.raises(ValueError, match=message):
        lib.cluster(normal() if weights is None else weights, **{"n_clusters": 4} | options)


@pytest.mark.parametrize(
    ("weights", "options", "message"),
    [
        (np.arange(5), {}, "int64"),
        (np.array([True, False]), {}, "bool"),
        (np.arange(5) * 1j, {}, "complex128"),
        (torch.arange(5), {}, "torch.int64"),
        (torch.zeros(5, dtype=torch.complex64), {}, "torch.complex64"),
        ([0.0, 1.0], {}, "list"),
        (None, {"n_clusters": 4.0}, "n_clusters=4.0"),
        (None, {"n_clusters": 2.5}, "n_clusters=2.5"),
        (None, {"n_clusters": "4"}, "n_clusters='4'"),
        (None, {"max_iter": 2.5}, "max_iter=2.5"),
    ],
)
def test_bad_types(weights, options, message):
    with pytest.raises(TypeError, match=message):
        lib.cluster(normal() if weights is None else weights, **{"n_clusters": 4} | options)


# Extreme input: nothing may warn, nothing may turn NaN


@pytest.fixture
def no_warnings():
    """Turn every warning into an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with np.errstate(divide="raise", invalid="raise"):
            yield


@EVERY
@pytest.mark.usefixtures("no_warnings")
def test_fewer_distinct_values_than_centers(init):
    weights = np.array([3.0, 1.0, 3.0, 2.0, 1.0], dtype=np.float32)
    result = lib.cluster(weights, 8, init=init)
    assert result.centers.tolist() == [1.0, 2.0] + [3.0] * 6
    assert result.counts.tolist() == [2, 1, 2, 0, 0, 0, 0, 0]
    assert result.inertia == 0.0
    assert result.converged


@EVERY
@pytest.mark.parametrize("weights", [np.full(100, -0.3), np.array([0.7]), np.array(0.7)])
@pytest.mark.usefixtures("no_warnings")
def test_constant_and_single(init, weights):
    for n_clusters in (1, 4):
        result = lib.cluster(weights, n_clusters, init=init)
        assert (result.centers == weights.flat[0]).all()
        assert result.counts.tolist() == [weights.size] + [0] * (n_clusters - 1)
        assert result.inertia == 0.0


@EVERY
@pytest.mark.usefixtures("no_warnings")
def test_already_quantized(init):
    values = np.array([-0.5, -0.1, 0.0, 0.25, 0.9])
    weights = np.random.default_rng(0).choice(values, 1000)
    result = lib.cluster(weights, 5, init=init)
    np.testing.assert_allclose(result.centers, values, rtol=1e-14)
    np.testing.assert_allclose(result.centers[result.labels], weights, rtol=1e-14)


@EVERY
@pytest.mark.parametrize(
    ("dtype", "scale"),
    [(np.float32, 1e-42), (np.float64, 1e-318), (np.float32, 3e38 / 4), (np.float64, 1e149 / 4)],
)
@pytest.mark.usefixtures("no_warnings")
def test_denormals_and_values_near_the_limits(init, dtype, scale):
    weights = (np.clip(normal(500), -4, 4) * scale).astype(dtype)
    result = lib.cluster(weights, 8, init=init, max_iter=100)
    assert_sound(weights, result)
    assert np.isfinite(result.history).all()


@EVERY
@pytest.mark.parametrize("outlier", [-3e38, 1e9])
@pytest.mark.usefixtures("no_warnings")
def test_one_huge_outlier(init, outlier):
    weights = np.append(normal(), outlier).astype(np.float32)
    result = lib.cluster(weights, 8, init=init)
    assert_sound(weights, result)
    assert np.isfinite(result.history).all()


@pytest.mark.usefixtures("no_warnings")
def test_one_huge_outlier_leaves_the_others_their_centers():
    weights = normal()
    for outlier in (-1e12, 1e12):
        result = lib.cluster(np.append(weights, outlier), 9, init="optimal", revise=False)
        expected = lib.cluster(weights, 8, init="optimal", revise=False)
        np.testing.assert_allclose(result.centers[result.centers != outlier], expected.centers)


@pytest.mark.parametrize("n_clusters", [1, 2, 3])
@pytest.mark.usefixtures("no_warnings")
def test_zeros_of_both_signs_are_one_value(n_clusters):
    weights = np.array([-0.0, 0.0, -0.0, 1.0], dtype=np.float32)
    result = lib.cluster(weights, n_clusters)
    assert (result.labels[:3] == result.labels[0]).all()
    if n_clusters > 1:
        assert result.centers.tolist() == [0.0] + [1.0] * (n_clusters - 1)
        assert result.counts.tolist() == [3, 1, 0][:n_clusters]


@pytest.mark.usefixtures("no_warnings")
def test_as_many_centers_as_labels_can_name():
    weights = np.arange(70_000, dtype=np.float32)
    result = lib.cluster(weights, 65_536, init="density", max_iter=2)
    assert result.labels.dtype == np.uint16
    assert (np.diff(result.labels.astype(np.int64)) >= 0).all()
    assert result.counts.sum() == 70_000


@pytest.mark.parametrize("n", [2 * FEW, pytest.param(40_000_000, marks=pytest.mark.slow)])
def test_many_weights_in_four_groups(n):
    """Each group lies within 0.01 of its middle, so that the cells are the groups."""
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 4, n, dtype=np.uint8)
    weights = np.float32(0.02) * (rng.random(n, dtype=np.float32) - np.float32(0.5))
    weights += np.float32([-1.0, -0.25, 0.5, 2.0])[groups]
    result = lib.cluster(weights.reshape(256, -1), 4)
    assert result.converged
    np.testing.assert_array_equal(result.labels.ravel(), groups)
    counts = np.bincount(groups)
    np.testing.assert_array_equal(result.counts, counts)
    means = np.bincount(groups, weights) / counts
    np.testing.assert_allclose(result.centers, means, rtol=1e-9)
    assert result.inertia == pytest.approx(np.square(weights - means[groups]).sum(), rel=1e-9)


def test_large_weights_of_another_kind_are_refused_like_small_ones():
    for n in (10, FEW + 1):
        with pytest.raises(TypeError, match="weights are a Series"):
            lib.cluster(pd.Series(np.zeros(n, np.float32)), 2)


class TestReconstructAndPredict:
    @pytest.mark.parametrize("n_clusters", [5, 300])
    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
    @pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
    def test_tensors(self, n_clusters, dtype, device):
        if device == "cuda" and not torch.cuda.is_available():
            pytest.skip("no CUDA device")
        weights = torch.randn(40, 50, generator=torch.Generator().manual_seed(0))
        weights = weights.to(device, dtype).requires_grad_()
        result = lib.cluster(weights, n_clusters)
        found = result.reconstruct()
        assert (found.dtype, found.device, found.shape) == (dtype, weights.device, weights.shape)
        assert torch.equal(found, result.centers[result.labels.long()].to(dtype))
        labels = result.predict(weights)
        assert (labels.dtype, labels.device) == (result.labels.dtype, weights.device)
        assert torch.equal(labels.int(), result.labels.int())

    @pytest.mark.parametrize("n_clusters", [5, 300])
    @pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ">f4"])
    def test_arrays(self, n_clusters, dtype):
        weights = np.random.default_rng(0).normal(size=(40, 50)).astype(dtype)
        result = lib.cluster(weights, n_clusters)
        found = result.reconstruct()
        assert (found.dtype, found.shape) == (weights.dtype, weights.shape)
        assert np.array_equal(found, result.centers[result.labels].astype(dtype))
        labels = result.predict(weights)
        assert labels.dtype == result.labels.dtype
        assert np.array_equal(labels, result.labels)

    def test_labels_of_other_values_are_those_of_the_nearest_centers_ties_to_the_lower(self):
        result = lib.cluster(np.array([0.0, 10.0, 20.0]), 4)  # the largest center twice
        values = [[-1e300, 5, 5.1], [15, 15.1, 1e300]]
        expected = np.array([[0, 0, 1], [1, 2, 2]], np.uint8)
        assert np.array_equal(result.predict(values), expected)
        assert np.array_equal(result.predict(np.array(values)), expected)
        assert torch.equal(
            result.predict(torch.tensor(values, dtype=torch.float64)), torch.from_numpy(expected)
        )
        expected = 6 * [0] + 10 * [1] + 14 * [2]
        assert result.predict(np.arange(30, dtype=np.int16)).tolist() == expected
        assert result.predict(torch.arange(30)).tolist() == expected
        assert result.predict(20.0) == 2

    def test_values_that_have_no_nearest_center_are_refused(self):
        result = lib.cluster(np.array([0.0, 10.0]), 2)
        for values in (np.array([1, np.nan]), torch.tensor([1, torch.nan])):
            with pytest.raises(ValueError, match="values hold nan: they must be finite"):
                result.predict(values)
        for values in (np.array(["one"]), np.array([1j]), torch.tensor([1j])):
            with pytest.raises(TypeError, match="they must be real numbers"):
                result.predict(values)

    def test_without_labels_there_is_nothing_to_reconstruct(self):
        result = lib.Prepared(np.array([0.0, 10.0])).cluster(2, labels=False)
        with pytest.raises(ValueError, match="has no labels: call cluster with labels=True"):
            result.reconstruct()
        assert result.predict([9.0]).tolist() == [1]

    @pytest.mark.parametrize("convert", [np.asarray, torch.as_tensor])
    def test_the_repr_is_one_line_without_arrays(self, convert):
        result = lib.cluster(convert(np.linspace(0, 1, 100_001)), 11, init="linear", max_iter=0)
        assert repr(result) == (
            "Clustering(n_clusters=11, centers=[0, 0.1, ..., 0.9, 1], "
            f"inertia={result.inertia:.6g}, n_iter=0, converged=False)"
        )


def exact_inertia(weights, found, sample_weight=None):
    """By labels and centers, in twice the digits of float64."""
    centers = np.asarray(found.centers)[np.asarray(found.labels).astype(int)]
    squares = (np.asarray(weights).astype(np.longdouble) - centers) ** 2
    return float(np.sum(squares if sample_weight is None else sample_weight * squares))


def far_groups(case):
    rng = np.random.default_rng(0)
    steps = np.arange(9) * 1e-3
    if case == "two groups":
        return np.where(steps < 4e-3, steps, 1e6 + steps - 4e-3), None
    if case == "groups at 1e8":
        return rng.normal(size=300) * 1e-3 + np.repeat([0, 1e8, 3e8], 100), None
    if case == "large offset":
        return (rng.normal(size=5000) * 0.01 + 1000).astype(np.float32), None
    if case == "extreme sample weights":
        return rng.normal(size=5000), 10 ** rng.uniform(-100, 100, 5000)
    if case == "heavy cells of no inertia":
        return np.append(np.repeat([-1e6, 1e6], 500), [0.0, 1e-3]), np.append(
            np.full(1000, 1e9), [1, 1]
        )
    weights = rng.choice(1 + np.arange(9) * 2.0**-23, 1_200_000).astype(np.float32)
    weights[:300_000] = -rng.choice(500.0 + np.arange(4), 300_000)
    if case == "many, few digits apart":
        return weights, None
    return weights, 10 ** rng.uniform(-9, 0, len(weights))


@pytest.mark.parametrize("init", ["weight-distribution", "optimal", "linear"])
@pytest.mark.parametrize(
    "case",
    [
        "two groups",
        "groups at 1e8",
        "large offset",
        "extreme sample weights",
        "heavy cells of no inertia",
        "many, few digits apart",
        "many, few digits apart, weighted",
    ],
)
def test_inertia_is_that_of_centers_and_labels(case, init):
    weights, sample_weight = far_groups(case)
    for n_clusters in (2, 3, 7):
        found = lib.cluster(weights, n_clusters, init=init, sample_weight=sample_weight)
        expected = exact_inertia(weights, found, sample_weight)
        assert found.inertia == pytest.approx(expected, rel=1e-6, abs=0)
        assert found.history[-1] == found.inertia


def test_optimal_centers_of_far_groups():
    weights, _ = far_groups("two groups")
    assert lib.cluster(weights, 3, init="optimal").inertia == pytest.approx(7.5e-6, rel=1e-3)
