"""Lloyd on weights in order against textbook Lloyd, and the revision of centers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib import clustering
from lib.engine.keys import thresholds
from lib.engine.leaves import LeafWeights
from lib.engine.passes import Passes
from lib.engine.sorted import SortedWeights
from lib.lloyd import lloyd, lloyd_in_order, revised
from lib.study.experiment.textbook import TextbookCells

eighths = st.integers(-40, 40).map(lambda i: i / 8)
tenths = st.integers(-20, 20).map(lambda i: i * 0.1)  # 0.30000000000000004 among them
ordinary = st.floats(-100, 100, width=32)


def oracle(weights, centers, sample_weight=None, max_iter=None):
    """Textbook Lloyd in NumPy: the distance of every weight to every center."""
    weights = weights.astype(np.float64)
    mass = np.ones(len(weights)) if sample_weight is None else sample_weight

    def assign():
        labels = np.abs(weights[:, None] - centers).argmin(axis=1)
        return labels, np.sum(mass * (weights - centers[labels]) ** 2)

    labels, inertia = assign()
    history = [inertia]
    while len(history) - 1 != max_iter:
        before, filled = labels, np.bincount(labels, mass, len(centers)) > 0
        sums = np.bincount(labels, mass * weights, len(centers))[filled]
        centers = centers.copy()
        centers[filled] = sums / np.bincount(labels, mass, len(centers))[filled]
        centers.sort()
        labels, inertia = assign()
        history.append(inertia)
        if np.array_equal(labels, before):
            break
    return centers, labels, history


@st.composite
def problems(draw, values=ordinary):
    """Weights in any order, ascending centers, and sample weights or None."""
    weights = np.array(draw(st.lists(values, min_size=1, max_size=40)))
    weights = weights.astype(draw(st.sampled_from([np.float32, np.float64])))
    centers = draw(
        st.lists(st.one_of(values, st.sampled_from(list(weights))), min_size=1, max_size=9)
    )
    sample_weight = None
    if draw(st.booleans()):
        masses = st.sampled_from([0.25, 1.0, 3.0])
        n = len(weights)
        sample_weight = np.array(draw(st.lists(masses, min_size=n, max_size=n)))
        weights = weights.astype(np.float64)  # float32 with sample weights is one more to compile
    return weights, np.sort(np.array(centers, dtype=np.float64)), sample_weight


def orders(weights, sample_weight=None):
    """Every way to put weights in order that takes these."""
    yield SortedWeights(weights, sample_weight)
    single = weights.astype(np.float32)
    if (single == weights).all():
        yield LeafWeights(Passes(single.view(np.uint32), "float32", sample_weight))


def label(weights, centers):
    (labels, *others) = (clustering.label(order, centers) for order in orders(weights))
    for other in others:
        np.testing.assert_array_equal(labels, other)
    return labels


def both(weights, centers, sample_weight, **options):
    """Paths over the weights in order, and the textbook's last."""
    paths = [lloyd_in_order(o, centers, **options) for o in orders(weights, sample_weight)]
    return [*paths, lloyd(TextbookCells(weights, sample_weight), centers, **options)]


def rounding(weights, sample_weight=None):
    """How far sums of squares of these weights may be off."""
    mass = len(weights) if sample_weight is None else sample_weight.sum()
    return 1e-13 * mass * (1e-30 + np.square(weights.astype(np.float64)).max())


def assert_same(path, other, weights):
    assert path.n_iter == other.n_iter
    assert path.converged == other.converged
    scale = np.abs(weights).max()
    np.testing.assert_allclose(path.centers, other.centers, rtol=1e-12, atol=1e-13 * scale)
    np.testing.assert_array_equal(label(weights, path.centers), label(weights, other.centers))


@pytest.mark.parametrize("revise", [False, True])
@given(problem=problems())
def test_sorted_and_textbook_take_the_same_path(revise, problem):
    weights, centers, sample_weight = problem
    *paths, textbook = both(weights, centers, sample_weight, revise=revise)
    for path in paths:
        assert_same(path, textbook, weights)
        np.testing.assert_allclose(
            path.history, textbook.history, rtol=1e-9, atol=rounding(weights, sample_weight)
        )


@pytest.mark.parametrize("revise", [False, True])
@given(problem=problems(values=eighths))
def test_same_path_with_ties_and_duplicates(revise, problem):
    """Sums of eighths are exact, so that weights do stand exactly on midpoints."""
    weights, centers, sample_weight = problem
    *paths, textbook = both(weights, centers, sample_weight, revise=revise)
    for path in paths:
        assert path.n_iter == textbook.n_iter
        np.testing.assert_array_equal(path.centers, textbook.centers)


@given(problem=problems(values=tenths))
def test_same_step_with_ties_up_to_rounding(problem):
    """Means of tenths are rounded, and a later tie may fall either way: compare one step.

    Not a revision: it splits a cell at such a mean in the same step.
    """
    weights, centers, sample_weight = problem
    *paths, textbook = both(weights, centers, sample_weight, max_iter=1)
    for path in paths:
        np.testing.assert_allclose(path.centers, textbook.centers, rtol=1e-12, atol=1e-13)


@given(problem=problems(values=eighths))
def test_textbook_in_numpy(problem):
    weights, centers, sample_weight = problem
    path, *_ = both(weights, centers, sample_weight, max_iter=1)
    expected, _, history = oracle(weights, centers, sample_weight, max_iter=1)
    np.testing.assert_allclose(path.centers, expected, rtol=1e-12, atol=1e-13)
    tolerance = rounding(weights, sample_weight)
    np.testing.assert_allclose(path.history, history, rtol=1e-9, atol=tolerance)


@pytest.mark.parametrize("n_clusters", [2, 5, 16])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_textbook_in_numpy_to_convergence(n_clusters, dtype):
    rng = np.random.default_rng(n_clusters)
    weights = rng.laplace(size=3000).astype(dtype)
    centers = np.linspace(weights.min(), weights.max(), n_clusters, dtype=np.float64)
    expected, labels, history = oracle(weights, centers)
    for path in both(weights, centers, None):
        assert path.n_iter == len(history) - 1
        assert path.converged
        np.testing.assert_allclose(path.centers, expected, rtol=1e-12)
        np.testing.assert_allclose(path.history, history, rtol=1e-9)
        np.testing.assert_array_equal(label(weights, path.centers), labels)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_tie_goes_to_the_lower_center(dtype):
    weights, centers = np.array([0, 1, 2], dtype), np.array([0.0, 2.0])
    for path in both(weights, centers, None):
        assert path.centers.tolist() == [0.5, 2.0]
    assert label(weights, centers).tolist() == [0, 0, 1]


def test_a_tie_that_only_rounding_breaks():
    """0.2 - 0.1 < 0.3 - 0.2 in float64, though their midpoint is 0.2."""
    weights, centers = np.array([0.1, 0.2, 0.3]), np.array([0.1, 0.3])
    assert np.abs(0.2 - centers).argmin() == 1
    assert label(weights, centers).tolist() == [0, 1, 1]
    assert thresholds(centers, weights.dtype).tolist() == [0.2]
    for path in both(weights, centers, None, max_iter=1):
        np.testing.assert_allclose(path.centers, [0.1, 0.25])


def test_known_path():
    weights = np.array([0.0, 1.0, 2.0, 10.0, 11.0, 12.0])
    for path in both(weights, np.array([0.0, 1.0]), None):
        # {0} {1, 2, 10, 11, 12}; {0, 1, 2} {10, 11, 12}; no change
        assert path.n_iter == 2
        assert path.centers.tolist() == [1.0, 11.0]
        # 0 + 0 + 1 + 81 + 100 + 121; about 0 and 7.2: 0 + 1 + 4 + 7.84 + 14.44 + 23.04; 2 + 2
        np.testing.assert_allclose(path.history, [303.0, 50.32, 4.0])


def test_of_equal_centers_the_first_is_nearest():
    weights = np.array([1.0, 1.0, 5.0])
    for path in both(weights, np.array([1.0, 1.0, 5.0]), None):
        assert path.centers.tolist() == [1.0, 1.0, 5.0]
        assert path.n_iter == 1


def test_an_emptied_center_stays_without_revision():
    weights = np.array([0.0, 1.0, 9.0, 10.0])
    for path in both(weights, np.array([0.0, 5.0, 10.0]), None):
        assert path.centers.tolist() == [0.5, 5.0, 9.5]


def test_revision_repairs_emptied_centers():
    weights = np.array([0.0, 1.0, 9.0, 10.0])
    for path in both(weights, np.array([0.0, 5.0, 5.5, 10.0]), None, revise=True):
        assert path.centers.tolist() == [0.0, 1.0, 9.0, 10.0]
        assert path.history[-1] == 0.0


def test_revision_merges_the_cheapest_pair_to_split_the_cell_that_gains_most():
    weights = np.array([0.0, 0.1, 5.0, 9.0])
    cells, centers = TextbookCells(weights), np.array([0.0, 0.1, 7.0])
    cells.assign(centers)
    np.testing.assert_allclose(np.sort(revised(cells, centers)), [0.05, 5.0, 9.0])


@given(problem=problems())
def test_revision_never_ends_worse_than_it_starts(problem):
    weights, centers, sample_weight = problem
    tolerance = rounding(weights, sample_weight)
    for path in both(weights, centers, sample_weight, revise=True):
        assert path.converged
        assert path.history[-1] <= path.history[0] + tolerance
        assert (np.diff(path.history) <= tolerance).all()


@given(problem=problems())
def test_inertia_never_rises_and_is_the_direct_sum(problem):
    weights, centers, sample_weight = problem
    path, *_ = both(weights, centers, sample_weight)
    tolerance = rounding(weights, sample_weight)
    assert (np.diff(path.history) <= tolerance).all()
    assert (np.diff(path.centers) >= 0).all()
    squares = (weights - path.centers[label(weights, path.centers)]) ** 2
    direct = np.sum(squares if sample_weight is None else sample_weight * squares)
    assert path.history[-1] == pytest.approx(direct, rel=1e-9, abs=tolerance)


@pytest.mark.parametrize("seed", range(20))
def test_neighbouring_floats_are_not_revised_in_a_circle(seed):
    rng = np.random.default_rng(seed)
    weights = np.sort(1 + rng.integers(0, 30, 30) * 2.0**-52)
    path = lloyd_in_order(SortedWeights(weights), weights[::4], revise=True, max_iter=1000)
    assert path.converged


@pytest.mark.parametrize("outlier", [-3e38, -1e15, 1e15, 3e38])
def test_an_outlier_does_not_drown_the_others(outlier):
    rng = np.random.default_rng(0)
    bulk = rng.normal(size=2000).astype(np.float32)
    weights = np.sort(np.append(bulk, np.float32(outlier)))
    start = np.array([-1.0, 0.0, 1.0])
    expected = lloyd_in_order(SortedWeights(np.sort(bulk)), start).centers
    path = lloyd_in_order(SortedWeights(weights), np.sort(np.append(start, outlier)))
    np.testing.assert_allclose(np.setdiff1d(path.centers, weights[[0, -1]]), expected, rtol=1e-12)


@pytest.mark.parametrize("n", [1, 255, 256, 257, 511, 512, 5000])
@pytest.mark.parametrize("weighted", [False, True])
def test_sums_of_every_range(n, weighted):
    """Across the blocks of the tree of sums."""
    rng = np.random.default_rng(n)
    weights = np.sort(rng.normal(size=n))
    mass = rng.uniform(0.5, 2, n) if weighted else np.ones(n)
    order = SortedWeights(weights, mass if weighted else None)
    cuts = np.concatenate([[0], np.sort(rng.integers(0, n + 1, 9)), [n]])
    sums = order.ranges(cuts[:-1], cuts[1:])
    for (part, total, _), start, stop in zip(sums, cuts[:-1], cuts[1:], strict=True):
        assert part == pytest.approx(mass[start:stop].sum())
        direct = (mass * (weights - order.origin))[start:stop].sum()
        assert total == pytest.approx(direct, abs=1e-9)


@given(problem=problems())
def test_thresholds_are_the_smallest_weights_of_their_cells(problem):
    weights, centers, _ = problem
    centers = np.unique(centers)
    found = thresholds(centers, weights.dtype)
    for threshold, low, high in zip(found, centers[:-1], centers[1:], strict=True):
        below = np.nextafter(threshold, -np.inf, dtype=weights.dtype)
        assert float(threshold) - low > high - float(threshold)
        assert not float(below) - low > high - float(below)


def test_tol_stops_early_and_counts_as_converged():
    weights = np.sort(np.random.default_rng(0).normal(size=2000))
    start = np.linspace(-3, 3, 16)
    to_the_end = lloyd_in_order(SortedWeights(weights), start)
    path = lloyd_in_order(SortedWeights(weights), start, tol=0.01)
    assert path.converged
    assert path.n_iter < to_the_end.n_iter
    np.testing.assert_allclose(path.history, to_the_end.history[: path.n_iter + 1], rtol=1e-12)
    falls = -np.diff(path.history) / path.history[:-1]
    assert falls[-1] <= 0.01
    assert (falls[:-1] > 0.01).all()


def test_max_iter_ends_the_path():
    weights = np.sort(np.random.default_rng(0).normal(size=2000))
    start = np.linspace(-3, 3, 16)
    for max_iter in (0, 1, 5):
        path = lloyd_in_order(SortedWeights(weights), start, max_iter=max_iter)
        assert (path.n_iter, path.converged) == (max_iter, False)
        assert len(path.history) == max_iter + 1
    np.testing.assert_array_equal(
        lloyd_in_order(SortedWeights(weights), start, max_iter=0).centers, start
    )
