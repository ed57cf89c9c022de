"""Pruning by magnitude, and cells whose zero stays exactly zero."""

import numpy as np

from ..clustering import Array, Prepared, flat_array
from ..optimal import inertia_curve
from .entropy import Cells, as_prepared, cells_between


def pruned_cells(weights: Array | Prepared, sparsity: float, n_clusters: int) -> Cells:
    """The smallest weights in a cell whose center is 0, the others clustered on both sides of it.

    Parameters
    ----------
    weights : NumPy array, torch tensor or Prepared
    sparsity : float
        Share of the weights, at least, that become 0; in [0, 1). Magnitude pruning as in Han et al.
        (2015).
    n_clusters : int
        Centers, that of 0 among them; at least 2. The two sides share the others so that the
        inertia is least.

    Returns
    -------
    Cells
        Without a center at 0 if nothing was to be pruned and no weight is 0.

    Raises
    ------
    ValueError
        For a sparsity out of its range, too few centers (at least 2, or 3 if weights of both signs
        stay), and weights prepared with a `sample_weight`: magnitudes alone decide here.

    Examples
    --------
    >>> import numpy as np
    >>> from lib.compression import pruned_cells
    >>> cells = pruned_cells(np.array([-2.0, -1.9, -0.1, 0.0, 0.1, 0.2, 1.0, 1.1]), 0.5, 3)
    >>> cells.centers
    array([-1.95,  0.  ,  1.05])
    >>> cells.counts
    array([2, 4, 2])
    """
    if not 0 <= sparsity < 1:
        raise ValueError(f"sparsity={sparsity} must be at least 0 and below 1.")
    if n_clusters < 2:
        raise ValueError(f"n_clusters={n_clusters} must be at least 2: one is that of 0.")
    prepared = as_prepared(weights)
    if prepared.ordered.sample_weight is not None:
        raise ValueError("the weights were prepared with a sample_weight: prepare them without.")
    values = flat_array(prepared.weights)
    largest = _largest_pruned(values, sparsity)
    sides = [values[values < -largest], values[values > largest]]
    sides = [Prepared(side) if len(side) else None for side in sides]
    numbers = _shares(sides, n_clusters - 1)
    below, above = (_cuts(side, k) for side, k in zip(sides, numbers, strict=True))
    beyond = np.nextafter(values.dtype.type(largest), values.dtype.type(np.inf))
    cuts = np.concatenate([below, [-largest, beyond], above])
    cells = cells_between(prepared.ordered, cuts)
    n_zeros = np.diff(prepared.ordered.rank([-largest, beyond]))[0]
    return cells.with_zero() if n_zeros else cells


def _largest_pruned(values, sparsity):
    """The largest magnitude to prune."""
    n_pruned = int(np.ceil(sparsity * len(values)))
    if n_pruned == 0:
        return 0.0
    return float(np.partition(np.abs(values), n_pruned - 1)[n_pruned - 1])


def _shares(sides, n_centers):
    """Centers of the two sides that make the inertia least together."""
    curves = [_curve(side, n_centers) for side in sides]
    choices = [
        (curves[0][first] + curves[1][second], first, second)
        for first in range(len(curves[0]))
        for second in range(len(curves[1]))
        if first + second <= n_centers
    ]
    inertia, *numbers = min(choices)
    if inertia == np.inf:
        raise ValueError("n_clusters=2: weights on both sides of 0 need at least 3.")
    return numbers


def _curve(side, n_centers):
    """Least inertia of one side by number of centers, from 0."""
    if side is None:
        return [0.0]
    return [np.inf, *inertia_curve(side.ordered, n_centers)]


def _cuts(side, n_clusters):
    """Between the best centers of one side."""
    if side is None or n_clusters == 0:
        return []
    centers = np.unique(side.cluster(n_clusters, init="optimal", labels=False).centers)
    return (centers[1:] + centers[:-1]) / 2
