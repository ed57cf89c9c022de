"""`cluster_rows`: a clustering for each row of a matrix."""

from collections.abc import Callable
from contextlib import contextmanager

import numpy as np
import torch
from tqdm import tqdm

from .clustering import (
    MAX_MAGNITUDE,
    Array,
    check_extreme,
    check_masses,
    check_n_clusters,
    check_options,
    cluster,
    flat_array,
    initial_centers,
)
from .density import logit_ranks
from .engine import FEW, SortedWeights, threads
from .engine.rows import Rows, cluster_sorted_rows, sorted_used
from .engine.sorting import stable_order
from .optimal import N_EXACT
from .result import RowClustering

PART = 1 << 18  # weights of the rows that a thread clusters at a time: what stays in its cache


def cluster_rows(
    weights: Array,
    n_clusters: int,
    *,
    init: str | Array | Callable = "weight-distribution",
    gamma: float = 1 / 3,
    revise: bool = True,
    max_iter: int | None = None,
    tol: float = 0.0,
    seed: int = 0,
    sample_weight: Array | None = None,
    progress: bool = False,
) -> RowClustering:
    """Cluster each row of a matrix into `n_clusters` shared values of its own.

    The result of a row is that of `cluster` on it. Rows are clustered on all cores by one compiled
    loop, some at a time, so that little more memory is used than the result takes.

    Parameters
    ----------
    weights : NumPy array or torch tensor of shape (r, n)
        float16, bfloat16, float32 or float64; finite. Not modified.
    n_clusters, gamma, revise, max_iter, tol
        As of `cluster`, for every row.
    init : str, array or callable, default "weight-distribution"
        As of `cluster`; an array of shape (n_clusters,) is for every row, one of shape
        (r, n_clusters) has a row for each.
    seed : int, default 0
        Read by the random initializations, which draw in each row as if it were alone.
    sample_weight : array of the shape of `weights`, optional
        How much each weight counts: finite, not negative, positive somewhere in each row.
    progress : bool, default False
        Show a bar of the rows that are done.

    Returns
    -------
    RowClustering

    Raises
    ------
    TypeError, ValueError
        On bad input; of a row with its number.

    Notes
    -----
    A CUDA tensor is clustered on the processor, and its results are copied to its device.

    Examples
    --------
    >>> import numpy as np
    >>> import lib
    >>> found = lib.cluster_rows(np.array([[0.0, 1.0, 9.0], [5.0, 5.0, 7.0]]), 2)
    >>> found.centers
    array([[0.5, 9. ],
           [5. , 7. ]])
    >>> found.labels
    array([[0, 0, 1],
           [0, 0, 1]], dtype=uint8)
    """
    n_clusters = check_n_clusters(n_clusters)
    check_options(gamma, max_iter, tol)
    empty = 0 in getattr(weights, "shape", ())
    flat_array(weights if empty else weights[:1])  # raises for what is no array of floats
    if weights.ndim != 2:
        raise ValueError(
            f"weights have shape {tuple(weights.shape)}: cluster_rows takes a matrix, "
            "cluster an array of any shape."
        )
    if sample_weight is not None and tuple(sample_weight.shape) != tuple(weights.shape):
        raise ValueError(
            f"sample_weight has shape {tuple(sample_weight.shape)}: expected "
            f"{tuple(weights.shape)}, that of the weights."
        )
    rows = _empty(weights.shape, n_clusters)
    options = {"gamma": gamma, "revise": revise, "max_iter": max_iter, "tol": tol, "seed": seed}
    start = _Start(weights.shape, n_clusters, init, options)
    with tqdm(desc="clustering rows", total=len(weights), disable=not progress) as bar:
        each = _cluster_long if weights.shape[1] > FEW else _cluster_short
        each(weights, sample_weight, start, rows, bar)
    if torch.is_tensor(weights):
        return RowClustering(*(torch.from_numpy(array).to(weights.device) for array in rows))
    return RowClustering(*rows)


def _cluster_long(weights, sample_weight, start, rows, bar):
    """Row by row by `cluster`, whose passes over a long row use all cores."""
    for row in range(len(weights)):
        mass = None if sample_weight is None else sample_weight[row]
        options = {"init": start.init_of(row), "sample_weight": mass, **start.options}
        with _naming(row):
            found = cluster(weights[row], start.n_clusters, **options)
        for array, name in zip(rows, Rows._fields, strict=True):
            value = getattr(found, name)
            array[row] = value.cpu() if torch.is_tensor(value) else value
        bar.update()


def _cluster_short(weights, sample_weight, start, rows, bar):
    """Some rows at a time by the compiled loop."""
    n_rows, n = weights.shape
    step, max_iter = max(1, PART // n), start.options["max_iter"]
    options = (
        float(start.options["gamma"]),
        bool(start.options["revise"]),
        -1 if max_iter is None else max_iter,
        float(start.options["tol"]),
    )

    def of_part(first):
        part = slice(first, min(first + step, n_rows))
        values = flat_array(weights[part]).reshape(-1, n)
        mass = None if sample_weight is None else _masses(sample_weight[part], first)
        in_order, order = _sorted(values, mass, first)
        initial = start.of(in_order, order, mass, part)
        theirs = Rows(*(array[part] for array in rows))
        known = (values, in_order, order, mass)
        cluster_sorted_rows(*known, initial, start.is_optimal, start.ranks, *options, theirs)
        bar.update(len(values))

    threads.run(of_part, range(0, n_rows, step))


class _Start:
    """Initial centers of rows, and the options of `cluster`."""

    def __init__(self, shape, n_clusters, init, options):
        self.n_clusters, self.init, self.options = n_clusters, init, options
        self.ranks = logit_ranks(shape[1])
        by_name = init if isinstance(init, str) else None
        self.is_optimal = by_name == "optimal" and shape[1] <= N_EXACT
        self.is_compiled = self.is_optimal or by_name == "weight-distribution"
        if isinstance(init, str) or callable(init):
            return
        centers = init.detach().cpu().double().numpy() if torch.is_tensor(init) else init
        self.init = np.asarray(centers, dtype=np.float64)
        if self.init.shape == (n_clusters,):
            self.init = np.broadcast_to(self.init, (shape[0], n_clusters))
        if self.init.shape != (shape[0], n_clusters):
            raise ValueError(
                f"init has shape {self.init.shape}: expected ({n_clusters},) or "
                f"({shape[0]}, {n_clusters})."
            )

    def init_of(self, row):
        """What `cluster` takes for a row."""
        return self.init[row] if isinstance(self.init, np.ndarray) else self.init

    def of(self, in_order, order, mass, part):
        """Initial centers of some rows; None for those that the compiled loop finds."""
        if self.is_compiled and (mass is None or mass.all()):
            return None
        initial = np.empty((len(in_order), self.n_clusters))
        options = {name: self.options[name] for name in ("gamma", "seed")}
        for i, row in enumerate(range(part.start, part.stop)):
            known = (in_order[i], None)
            if mass is not None:
                known = sorted_used(in_order[i], mass[i], order[i])
            with _naming(row):
                init, ordered = self.init_of(row), SortedWeights(*known)
                initial[i] = initial_centers(ordered, self.n_clusters, init, **options)
        return initial


@contextmanager
def _naming(row):
    """Name a row in the errors of a block."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise type(error)(f"row {row}: {error}") from error


def _empty(shape, n_clusters):
    n_rows, _ = shape
    return Rows(
        np.empty((n_rows, n_clusters)),
        np.empty(shape, np.uint8 if n_clusters <= 256 else np.uint16),
        np.empty((n_rows, n_clusters), np.int64),
        np.empty(n_rows),
        np.empty(n_rows, np.int64),
        np.empty(n_rows, bool),
    )


def _masses(sample_weight, first):
    """Sample weights of some rows, float64; checked."""
    if torch.is_tensor(sample_weight):
        sample_weight = sample_weight.detach().cpu().double().numpy()
    masses = np.ascontiguousarray(sample_weight, dtype=np.float64)
    for row, mass in enumerate(masses, first):
        with _naming(row):
            check_masses(mass)
    return masses


def _sorted(values, mass, first):
    """Each row ascending, or the rows as they are and their orders for sample weights; checked."""
    if mass is None:
        in_order, order = np.sort(values, axis=1), None
        ends = in_order[:, [0, -1]]
    else:
        in_order, order = values, stable_order(values)
        ends = np.take_along_axis(values, order[:, [0, -1]], 1)
    for row in np.flatnonzero(~(np.abs(ends.astype(np.float64)) <= MAX_MAGNITUDE).all(axis=1)):
        with _naming(first + row):
            for extreme in ends[row]:
                check_extreme(float(extreme))
    return in_order, order
