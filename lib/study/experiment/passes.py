"""Passes of textbook k-means over the weights, counted and timed: what C1 compares.

On n weights with k centers, N iterations that try splits in S passes take

    c + (N + 1) n k + S n

operations: an assignment, with the sums of the cells, compares every weight with every center; a
pass that tries splits compares every weight with the mean of its cell. The start takes c = n, or
n log2 n where it needs the weights in order. For the same weights the count is the same on every
machine. Its seconds are these passes times the measured seconds of each kind, which all starts of a
layer share.
"""

import math
from typing import NamedTuple

import numpy as np

from ...initialization import named
from ...lloyd import lloyd
from .network import CONVOLUTIONS, LAYERS
from .progress import progress
from .textbook import TextbookCells
from .timing import Layer, timed

ITERATIONS = 10  # of which an assignment's seconds are the mean


class PassSeconds(NamedTuple):
    """Seconds of the passes over one layer's weights.

    Attributes
    ----------
    assignment : float
        Of comparing every weight with every center, and the sums of the cells.
    split : float
        Of trying to split every cell.
    """

    assignment: float
    split: float

    def of(self, path):
        """Seconds of all passes of a path."""
        return (path.n_iter + 1) * self.assignment + path.splits_tried[-1] * self.split


def operations(layer, setting, path):
    """Operations of a path from its start, by the formula of this module."""
    n, k = len(layer.values), 2**setting.bits
    start = n * math.log2(n) if named(setting.init).needs_order else n
    return round(start + (path.n_iter + 1) * n * k + path.splits_tried[-1] * n)


def pass_seconds(cells, centers):
    """`PassSeconds` of the cells with as many centers as these."""
    path, seconds = timed(lloyd, cells, centers, max_iter=ITERATIONS)
    _, split = timed(cells.lower_parts, path.centers)
    return PassSeconds(seconds / (path.n_iter + 1), split)


def pass_rows(networks, layers, grid, repeats):
    """Rows of the table `passes`, on every layer of every network.

    Parameters
    ----------
    networks : dict of str to torch.nn.Module
        By name, the headline one first. Their convolutions are the same; the linear layers of the
        others are called "<network>/<layer>".
    layers : sequence of str
    grid : list of Setting
        All of the same bits, and without a limit on the iterations.
    repeats : int
        Of the timings; medians are taken.
    """
    (headline, *_), rows = networks, []
    for network, module in networks.items():
        for name in layers:
            if network == headline or name not in CONVOLUTIONS:
                called = name if network == headline else f"{network}/{name}"
                layer = Layer(called, module.get_submodule(LAYERS[name]).weight)
                rows += _rows(layer, grid, repeats)
    return rows


def _rows(layer, grid, repeats):
    first_of = {setting.init: setting for setting in reversed(grid)}  # the seeds share its seconds
    cells, any_start = TextbookCells(layer.values), layer.start(grid[0])
    timings = [
        (
            pass_seconds(cells, any_start),
            {init: layer.timed_start(setting)[1] for init, setting in first_of.items()},
        )
        for _ in range(repeats)
    ]
    each = PassSeconds(*np.median([passes for passes, _ in timings], axis=0))
    starts = {init: np.median([starts[init] for _, starts in timings]) for init in first_of}
    rows = []
    for setting in progress(grid, f"{layer.name} counted"):
        path = layer.path(setting, layer.start(setting))
        rows.append(
            {
                "layer": layer.name,
                "n_weights": len(layer.values),
                **{key: value for key, value in setting.row().items() if key != "max_iter"},
                "n_iter": path.n_iter,
                "splits_tried": path.splits_tried[-1],
                "operations": operations(layer, setting, path),
                "seconds": starts[setting.init] + each.of(path),
            }
        )
    return rows
