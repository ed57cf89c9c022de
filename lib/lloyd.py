"""Lloyd's algorithm in one dimension, and the automatic revision of its centers.

`lloyd` and `revised` state the algorithm as the paper has it. They work on cells of any kind; the
study has the textbook's, which compare every weight with every center. `lloyd_in_order` runs the
same algorithm compiled, on ordered weights, where an iteration is k binary searches. Both take the
same path, since both apply the same rule: a weight belongs to the nearest center, and to the lower
one of two equally near. Of equal centers only the first is ever nearest.
"""

from typing import Any, NamedTuple

import numpy as np

from .engine import OrderedWeights, SortedWeights
from .engine.loop import MARGIN, first_state, iterate, whole_path


class Path(NamedTuple):
    """What the iterations did.

    Attributes
    ----------
    centers : float64 array of shape (n_clusters,)
        Ascending.
    counts : int64 array of shape (n_clusters,)
        Number of weights of each.
    history : float64 array of shape (n_iter + 1,)
        Inertia of the initial centers and after each iteration.
    converged : bool
        False only when `max_iter` ended the iteration.
    splits_tried : int64 array of shape (n_iter + 1,)
        Number of times so far that revision tried to split cells.
    """

    centers: np.ndarray
    counts: np.ndarray
    history: np.ndarray
    converged: bool
    splits_tried: np.ndarray

    @property
    def n_iter(self) -> int:
        """Number of times that the centers were moved."""
        return len(self.history) - 1


def lloyd_in_order(
    weights: OrderedWeights,
    centers: np.ndarray,
    *,
    revise: bool = False,
    max_iter: int | None = None,
    tol: float = 0.0,
) -> Path:
    """As `lloyd`, over OrderedWeights of `lib.engine`; O(k log n) an iteration."""
    ends = (-1 if max_iter is None else max_iter, float(tol))
    if isinstance(weights, SortedWeights):
        known = (weights.tables, weights.known_sample_weight)
        return Path(*whole_path(*known, centers, bool(revise), *ends))
    state = first_state(centers, bool(revise))
    while True:
        state, converged = iterate(weights.tables, weights.known_sample_weight, state, *ends)
        if not weights.look_up():  # nothing was provisional
            break
    cell_starts, steps = state.cells[:, 0], state.steps[: state.n_iter + 1]
    history, splits_tried = steps[:, 0].copy(), steps[:, 1].astype(np.int64)
    history[-1] = weights.inertia(state.centers, cell_starts)
    return Path(state.centers, np.diff(cell_starts), history, converged, splits_tried)


def lloyd(
    cells: Any,
    centers: np.ndarray,
    *,
    revise: bool = False,
    max_iter: int | None = None,
    tol: float = 0.0,
) -> Path:
    """Iterate assignment and means from the given centers.

    Parameters
    ----------
    cells : TextbookCells
        Of `lib.study.experiment.textbook`, or of another kind with the same methods.
    centers : float64 array of shape (n_clusters,)
        Ascending; not modified.
    revise : bool, default False
        Revise the centers at each iteration (`revised`) while the inertia falls. Otherwise an
        emptied center stays where it is.
    max_iter : int, optional
        By default until convergence.
    tol : float, default 0.0
        Stop, too, when an iteration lowers the inertia by no more than `tol` times its value.

    Returns
    -------
    Path

    Notes
    -----
    Lloyd (1982), Least squares quantization in PCM, method I.
    """
    cells.assign(centers)
    history, tried = [cells.inertia(centers)], [0]
    cells.n_splits_tried = 0
    converged = False
    while not converged and len(history) - 1 != max_iter:
        centers = np.sort(revised(cells, centers) if revise else cells.means(centers))
        moved = cells.assign(centers)
        history.append(cells.inertia(centers))
        tried.append(cells.n_splits_tried)
        # Weights a few units in the last place apart could be revised in a circle.
        revise = revise and history[-1] < history[-2]
        converged = not moved or (tol > 0 and history[-2] - history[-1] <= tol * history[-2])
    return Path(centers, cells.counts(len(centers)), np.array(history), converged, np.array(tried))


def revised(cells: Any, centers: np.ndarray) -> np.ndarray:
    """Means of the cells, after freeing one center where another cell needs it more.

    The pair of neighbours that is cheapest to merge frees a center, an emptied center costs
    nothing, and the cell that gains most from a second center is split at its mean, if that gain
    exceeds the cost. Inertia falls by the difference.

    This is our reading of the paper's "automatically ... revises the centers".
    """
    means = cells.means(centers)
    mass, total = cells.mass, cells.total
    if (mass == 0).any():
        freed, cost = np.argmin(mass), 0.0
    elif len(means) > 2:
        costs = _between(mass[:-1], means[:-1], mass[1:], means[1:])
        freed, cost = np.argmin(costs) + 1, costs.min()
    else:
        return means
    inertias = cells.inertias(means)
    if inertias.max() <= cost:
        return means  # a split saves at most the inertia of its cell: no need to try one

    low_mass, low_total = cells.lower_parts(means)
    low_mean = cells.mean_of(low_mass, low_total, means)
    high_mean = cells.mean_of(mass - low_mass, total - low_total, means)
    gain = _between(low_mass, low_mean, mass - low_mass, high_mean)
    if cost > 0:
        gain[[freed - 1, freed]] = 0.0
    split = np.argmax(gain)
    # A margin above rounding, so that a revision is never undone and done again.
    if gain[split] <= cost + MARGIN * inertias.sum():
        return means
    if cost > 0:
        pair = slice(freed - 1, freed + 1)
        means[freed - 1] = np.average(means[pair], weights=mass[pair])
    means[[split, freed]] = low_mean[split], high_mean[split]
    return means


def _between(mass_a, mean_a, mass_b, mean_b):
    """Inertia that merging two cells adds, and parting them saves (Ward 1963)."""
    mass = mass_a + mass_b
    return _ratio(mass_a * mass_b, mass, np.zeros_like(mass)) * (mean_a - mean_b) ** 2


def _ratio(numerator, denominator, otherwise):
    """Quotient where the denominator is positive, `otherwise` elsewhere."""
    return np.divide(numerator, denominator, out=otherwise.copy(), where=denominator > 0)
