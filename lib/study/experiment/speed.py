"""Time and iterations of k-means, by engine: sorted, textbook, and scikit-learn's.

Every engine takes the same path, so iterations are counted once, on the sorted engine. Seconds of
the textbook engine are extrapolated: iterations times the measured seconds of one, plus the passes
that try splits. Where it ran to its end, `extrapolated` is False.
"""

import dataclasses
import functools
import time

import numpy as np
from sklearn.cluster import KMeans

from ...clustering import Prepared, flat_array, initial_centers, ordered
from ...engine import FEW
from ...initialization import named
from ...lloyd import lloyd, lloyd_in_order
from .evaluation import Setting
from .network import CONVOLUTIONS, LAYERS
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
        """Initial centers and their seconds, those of the sort included where it is needed."""
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
    """Run every engine once, so that no timing includes Numba's compilation."""
    values = np.linspace(-1, 1, 100, dtype=np.float32)
    for n in (100, FEW + 1):
        Prepared(np.linspace(-1, 1, n, dtype=np.float32)).cluster(4, init="optimal")
    lloyd(TextbookCells(values), np.linspace(-1, 1, 4), revise=True)


def timed(function, *arguments, **options):
    """Result of a call and its wall time in seconds."""
    start = time.perf_counter()
    result = function(*arguments, **options)
    return result, time.perf_counter() - start


@dataclasses.dataclass(frozen=True)
class Grids:
    """The settings that each engine runs.

    Attributes
    ----------
    claimed : list of Setting
        Those of C1: the textbook engine runs them on every layer of every network.
    endpoint, others : list of Setting
        The sorted engine runs them on every layer of the headline network; `endpoint` repeatedly.
    textbook, scikit_learn : list of Setting
        These engines run them once on the convolutions.
    """

    claimed: list
    endpoint: list
    others: list
    textbook: list
    scikit_learn: list


def speed_rows(networks, layers, grids, repeats, direct=False):
    """Rows of the table `speed`.

    Parameters
    ----------
    networks : dict of str to torch.nn.Module
        By name, the headline one first. Their convolutions are the same; the linear layers of the
        others are called "<network>/<layer>".
    layers : sequence of str
    grids : Grids
    repeats : int
        Of `claimed` and `endpoint`.
    direct : bool
        Whether the textbook engine also runs `claimed` to its end on the convolutions.
    """
    (headline, *others), rows = networks, []
    for name in layers:
        layer = Layer(name, networks[headline].get_submodule(LAYERS[name]).weight)
        rows += textbook_rows(layer, grids.claimed, repeats)
        rows += sorted_rows(layer, grids.endpoint, repeats) + sorted_rows(layer, grids.others)
        if name in CONVOLUTIONS:
            once = [setting for setting in grids.textbook if setting not in grids.claimed]
            rows += textbook_rows(layer, once) + scikit_learn_rows(layer, grids.scikit_learn)
            rows += direct_textbook_rows(layer, grids.claimed, repeats) if direct else []
        print(f"{layer.name}: {len(layer.values):,} weights", flush=True)
    for network in others:
        for name in [name for name in layers if name not in CONVOLUTIONS]:
            weight = networks[network].get_submodule(LAYERS[name]).weight
            rows += textbook_rows(Layer(f"{network}/{name}", weight), grids.claimed, repeats)
    return rows


def textbook_seconds(speed, bits):
    """Seconds of textbook k-means to convergence, summed over the convolutions.

    Parameters
    ----------
    speed : pandas.DataFrame
        The table `speed`.
    bits : int

    Returns
    -------
    pandas.DataFrame
        One row for each `init`, `revise` and `seed`, a column for each stopping rule; the median of
        the repeats.
    """
    keys = ["engine", "init", "revise", "seed"]
    rows = speed[
        speed["engine"].str.startswith("textbook")
        & (speed["bits"] == bits)
        & speed["max_iter"].isna()
        & speed["extrapolated"].astype(bool)
        & speed["layer"].isin(CONVOLUTIONS)
    ]
    seconds = rows.groupby([*keys, "layer"])["seconds"].median().groupby(keys).sum()
    return seconds.unstack("engine")


def sorted_rows(layer, grid, repeats=1):
    """Rows of the sorted engine: each run puts the weights in order, initializes and iterates.

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

    With `near_optimal` also rows of the time until the inertia is within 1 % of the optimal one.
    If the path never comes that near, the row has the time to its end and `converged` is False.
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
    iterating = max(0.0, whole - first - path.splits_tried[-1] * split)  # timings jitter
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
    """Rows of the textbook engine run to its end; repeats are interleaved over the grid."""
    rows = []
    for repeat in range(repeats):
        for setting in progress(grid, f"{layer.name} textbook, to its end"):
            centers, starting = layer.timed_start(setting)
            cells = TextbookCells(layer.values)
            options = {"revise": setting.revise, "max_iter": setting.max_iter}
            path, iterating = timed(lloyd, cells, centers, **options)
            rows.append(layer.row("textbook", setting, path, starting + iterating, repeat))
    return rows


def scikit_learn_rows(layer, grid, repeats=1):
    """Rows of scikit-learn's KMeans (Lloyd, tol=0) from the same centers, without revision.

    scikit-learn relocates emptied centers, so its path may differ from ours.
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
    """The part of a path that `Layer.row` reads, from a fitted KMeans."""

    def __init__(self, model, cap):
        self.converged = model.n_iter_ < cap
        # scikit-learn counts the assignment that changes nothing as an iteration
        self.n_iter, self.history = model.n_iter_ - self.converged, [model.inertia_]
