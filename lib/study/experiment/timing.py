"""One layer's weights, prepared once for everything that is counted and timed on them."""

import functools
import time

import numpy as np

from ...clustering import Prepared, flat_array, initial_centers, ordered
from ...engine import FEW
from ...initialization import named
from ...lloyd import lloyd, lloyd_in_order
from .evaluation import Setting
from .textbook import TextbookCells


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
