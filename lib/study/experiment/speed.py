"""Time and iterations of k-means, by engine: sorted, textbook, and scikit-learn's.

Every engine takes the same path, so iterations are counted once, on the sorted engine. Textbook
seconds are those iterations times the measured seconds of one, plus the passes that try splits,
unless a row says that it was run whole (`extrapolated` False).
"""

import functools
import time

import numpy as np
from sklearn.cluster import KMeans

from ...clustering import Prepared, flat_array, initial_centers, ordered
from ...engine import FEW
from ...initialization import named
from ...lloyd import lloyd, lloyd_in_order
from .evaluation import Setting
from .progress import progress
from .textbook import TextbookCells

NEAR_OPTIMAL = 1.01
TIMED_ITERATIONS = 10


class Layer:
    """One layer's weights, prepared once for all timings.

    Parameters
    ----------
    name : str
    weight : torch.Tensor
    """

    def __init__(self, name, weight):
        _compile()
        self.name, self.values = name, flat_array(weight)
        self.ordered = ordered(self.values)
        self._best = {}

    def start(self, setting):
        """Initial centers of a setting."""
        k = 2**setting.bits
        return initial_centers(
            self.ordered, k, setting.init, gamma=setting.gamma, seed=setting.seed
        )

    def timed_start(self, setting):
        """The same and its seconds, with the sort that an initialization needs."""
        centers, seconds = timed(self.start, setting)
        if named(setting.init).needs_order:
            seconds += timed(np.sort, self.values)[1]
        return centers, seconds

    def path(self, setting, centers):
        """Lloyd's path on the sorted weights."""
        options = {"revise": setting.revise, "max_iter": setting.max_iter}
        return lloyd_in_order(self.ordered, centers, **options)

    def best_inertia(self, bits):
        """Inertia of the globally optimal centers, Lloyd's iterations included."""
        if bits not in self._best:
            setting = Setting("optimal", bits, revise=False, max_iter=None)
            self._best[bits] = self.path(setting, self.start(setting)).history[-1]
        return self._best[bits]

    def row(self, engine, setting, path, seconds, repeat, *, extrapolated=False):
        """One row of the table `speed`."""
        return {
            "layer": self.name,
            "n_weights": len(self.values),
            "engine": engine,
            **setting.row(),
            "repeat": repeat,
            "n_iter": path.n_iter,
            "converged": path.converged,
            "seconds": seconds,
            "extrapolated": extrapolated,
            "inertia": path.history[-1],
            "relative_inertia": path.history[-1] / self.best_inertia(setting.bits),
        }


@functools.cache
def _compile():
    """Run every engine once, so that no timing holds Numba's compilation."""
    values = np.linspace(-1, 1, 100, dtype=np.float32)
    for n in (100, FEW + 1):
        Prepared(np.linspace(-1, 1, n, dtype=np.float32)).cluster(4, init="optimal")
    lloyd(TextbookCells(values), np.linspace(-1, 1, 4), revise=True)


def timed(function, *arguments, **options):
    """Result of a call and its wall time in seconds."""
    start = time.perf_counter()
    result = function(*arguments, **options)
    return result, time.perf_counter() - start


def sorted_rows(layer, grid, repeats=1):
    """Rows of the engine on weights in order: put in order, initialize, iterate, each time anew.

    Repeats are interleaved over the grid.
    """
    rows = []
    for repeat in range(repeats):
        for setting in progress(grid, f"{layer.name} sorted"):
            path, seconds = timed(_cluster, layer.values, setting)
            rows.append(layer.row("sorted", setting, path, seconds, repeat))
    return rows


def _cluster(values, setting):
    return Prepared(values).cluster(**setting.options(), labels=False)


def textbook_rows(layer, grid, repeats=1, near_optimal=True):
    """Rows of the textbook engine, extrapolated from the seconds of one iteration.

    With `near_optimal` also rows of the time until the inertia is within 1 % of the optimal one;
    where it never is, the row stands at the path's end and `converged` is False: censored.
    """
    cells = TextbookCells(layer.values)
    starts = {setting: layer.start(setting) for setting in grid}
    paths = {setting: layer.path(setting, starts[setting]) for setting in grid}
    near = {setting: _until_near(layer, setting, path) for setting, path in paths.items()}
    rows = []
    for repeat in range(repeats):
        each = {}
        for setting in progress(grid, f"{layer.name} textbook"):
            cost = (setting.bits, setting.revise)
            if cost not in each:
                each[cost] = _seconds_of_passes(cells, setting, starts[setting])
            first, iteration, split = each[cost]
            _, starting = layer.timed_start(setting)
            ends = {"textbook": paths[setting]}
            if near_optimal:
                ends["textbook, to 1 % of optimal"] = near[setting]
            for engine, path in ends.items():
                passes = first + path.n_iter * iteration + path.splits_tried[-1] * split
                seconds = starting + passes
                rows.append(layer.row(engine, setting, path, seconds, repeat, extrapolated=True))
    return rows


def _seconds_of_passes(cells, setting, centers):
    """Seconds of the first assignment, of an iteration, and of the pass that tries splits."""
    path, first = timed(lloyd, cells, centers, max_iter=0)
    _, split = timed(cells.lower_parts, path.centers)
    options = {"revise": setting.revise, "max_iter": TIMED_ITERATIONS}
    path, whole = timed(lloyd, cells, centers, **options)
    iterating = max(0.0, whole - first - path.splits_tried[-1] * split)  # timings of little jitter
    return first, iterating / path.n_iter, split


def _until_near(layer, setting, path):
    """The path cut where its inertia first comes within 1 % of the optimal one."""
    reached = np.flatnonzero(path.history <= NEAR_OPTIMAL * layer.best_inertia(setting.bits))
    if len(reached) == 0:
        return path._replace(converged=False)
    end = int(reached[0])
    return path._replace(
        history=path.history[: end + 1],
        splits_tried=path.splits_tried[: end + 1],
        converged=True,
    )


def direct_textbook_rows(layer, grid, repeats=1):
    """Rows of the textbook engine run whole; repeats interleaved over the grid."""
    rows = []
    for repeat in range(repeats):
        for setting in progress(grid, f"{layer.name} textbook, whole"):
            centers, starting = layer.timed_start(setting)
            cells = TextbookCells(layer.values)
            options = {"revise": setting.revise, "max_iter": setting.max_iter}
            path, iterating = timed(lloyd, cells, centers, **options)
            rows.append(layer.row("textbook", setting, path, starting + iterating, repeat))
    return rows


def scikit_learn_rows(layer, grid, repeats=1):
    """Rows of scikit-learn's KMeans (Lloyd, tol=0) from the same centers; revision is not its own.

    scikit-learn relocates emptied centers, so that its path may differ from ours.
    """
    rows = []
    points = layer.values.astype(np.float64)[:, None]
    for repeat in range(repeats):
        for setting in progress(grid, f"{layer.name} scikit-learn"):
            centers, starting = layer.timed_start(setting)
            cap = setting.max_iter or 10_000
            model = KMeans(len(centers), init=centers[:, None], n_init=1, max_iter=cap, tol=0)
            _, fitting = timed(model.fit, points)
            path = _PathOf(model, cap)
            rows.append(layer.row("scikit-learn", setting, path, starting + fitting, repeat))
    return rows


class _PathOf:
    """A fitted KMeans seen as a path."""

    def __init__(self, model, cap):
        self.converged = model.n_iter_ < cap
        # scikit-learn counts the assignment that changes nothing as an iteration
        self.n_iter, self.history = model.n_iter_ - self.converged, [model.inertia_]
