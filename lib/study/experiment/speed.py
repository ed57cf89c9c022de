"""Time and iterations of k-means, by engine: sorted, textbook, and scikit-learn's.

Every engine takes the same path, so iterations are counted once, on the sorted engine. Seconds of
the textbook engine are extrapolated from those of its passes (`passes`). Where it ran to its end,
`extrapolated` is False.
"""

import dataclasses

import numpy as np
from sklearn.cluster import KMeans

from ...clustering import Prepared
from ...lloyd import lloyd
from .network import CONVOLUTIONS, LAYERS
from .passes import pass_seconds
from .progress import progress
from .textbook import TextbookCells
from .timing import Layer, timed

NEAR_OPTIMAL = 1.01


@dataclasses.dataclass(frozen=True)
class Grids:
    """The settings that each engine runs.

    Attributes
    ----------
    endpoint, others : list of Setting
        The sorted engine runs them on every layer; `endpoint` repeatedly.
    claimed : list of Setting
        Those of C1: the textbook engine runs them on the convolutions, repeatedly.
    textbook, scikit_learn : list of Setting
        These engines run them once on the convolutions.
    """

    endpoint: list
    claimed: list
    others: list
    textbook: list
    scikit_learn: list


def speed_rows(network, layers, grids, repeats, direct=False):
    """Rows of the table `speed`.

    Parameters
    ----------
    network : torch.nn.Module
    layers : sequence of str
    grids : Grids
    repeats : int
        Of `claimed` and `endpoint`.
    direct : bool
        Whether the textbook engine also runs `claimed` to its end.
    """
    rows = []
    for name in layers:
        layer = Layer(name, network.get_submodule(LAYERS[name]).weight)
        rows += sorted_rows(layer, grids.endpoint, repeats) + sorted_rows(layer, grids.others)
        if name in CONVOLUTIONS:
            once = [setting for setting in grids.textbook if setting not in grids.claimed]
            rows += textbook_rows(layer, grids.claimed, repeats) + textbook_rows(layer, once)
            rows += scikit_learn_rows(layer, grids.scikit_learn)
            rows += direct_textbook_rows(layer, grids.claimed, repeats) if direct else []
        print(f"{layer.name}: {len(layer.values):,} weights", flush=True)
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


def textbook_rows(layer, grid, repeats=1):
    """Rows of the textbook engine, extrapolated from the seconds of its passes.

    Beside each is a row of the time until the inertia is within 1 % of the optimal one. If the path
    never comes that near, that row has the time to its end, and `converged` is False.
    """
    cells = TextbookCells(layer.values)
    starts = {setting: layer.start(setting) for setting in grid}
    paths = {setting: layer.path(setting, starts[setting]) for setting in grid}
    near = {setting: _until_near(layer, setting, path) for setting, path in paths.items()}
    rows = []
    for repeat in range(repeats):
        each = {}  # by number of centers: all settings share the seconds of a pass
        for setting in progress(grid, f"{layer.name} textbook"):
            if setting.bits not in each:
                each[setting.bits] = pass_seconds(cells, starts[setting])
            _, starting = layer.timed_start(setting)
            ends = {"textbook": paths[setting], "textbook, to 1 % of optimal": near[setting]}
            for engine, path in ends.items():
                seconds = starting + each[setting.bits].of(path)
                rows.append(layer.row(engine, setting, path, seconds, repeat, extrapolated=True))
    return rows


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
