"""Pruning by magnitude: cells of which one has the center 0, exactly."""

import numpy as np

from ..clustering import Array, Prepared, flat_array
from ..optimal import inertia_curve
from .entropy import Cells, as_prepared, cells_between


def pruned_cells(weights: Array | Prepared, sparsity: float, n_clusters: int) -> Cells:
    """Cells that prune the smallest weights to 0 and cluster the others, on both sides of 0.

    Parameters
    ----------
    weights : NumPy array, torch tensor or Prepared
    sparsity : float
        At least this share of the weights becomes 0; in [0, 1). Magnitude pruning as in Han et al.
        (2015).
    n_clusters : int
        Number of centers, 0 included; at least 2. The others are divided between the two sides so
        that the inertia is least.

    Returns
    -------
    Cells
        Without a center at 0 if the sparsity is 0 and no weight is 0.

    Raises
    ------
    ValueError
        If the sparsity is out of range, there are fewer than 2 centers (3 if weights of both signs
        remain), or the weights were prepared with a `sample_weight`, which pruning would ignore.

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
        raise ValueError(f"n_clusters={n_clusters} must be at least 2: one center is 0.")
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
    """Numbers of centers below and above 0 whose inertia together is least."""
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
    """Least inertia of one side with 0, 1, 2, ... centers."""
    if side is None:
        return [0.0]
    return [np.inf, *inertia_curve(side.ordered, n_centers)]


def _cuts(side, n_clusters):
    """Cuts halfway between the best centers of one side."""
    if side is None or n_clusters == 0:
        return []
    centers = np.unique(side.cluster(n_clusters, init="optimal", labels=False).centers)
    return (centers[1:] + centers[:-1]) / 2
