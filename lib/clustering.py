"""`cluster`: validate the weights, initialize, iterate, label."""

import math
import operator
from dataclasses import dataclass

import numpy as np
import torch

from .engine import FEW, BinnedWeights, SortedWeights, has_bins, passes_over, threads
from .engine.keys import thresholds
from .engine.passes import count_sound
from .initialization import named
from .lloyd import lloyd_in_order

MAX_CLUSTERS = 65_536
MAX_MAGNITUDE = 1e150  # squares of larger weights overflow float64


@dataclass(frozen=True, eq=False)
class Clustering:
    """The result of `cluster`.

    Arrays are of the kind that went in: NumPy arrays, or torch tensors on the weights' device.

    Attributes
    ----------
    centers : float64, shape (n_clusters,)
        The codebook, ascending. Unused centers repeat another.
    counts : int64, shape (n_clusters,)
        Number of weights of each center.
    labels : uint8 or uint16, shape of the weights
        Index of each weight's nearest center; of two equally near the lower.
    inertia : float
        Sum of squared distances of the weights to their centers, times `sample_weight`.
    n_iter : int
        Number of times that the centers were moved.
    history : float64 NumPy array of shape (n_iter + 1,)
        Inertia of the initial centers and after each iteration.
    converged : bool
        False when `max_iter` ended the iteration.
    initial_centers : float64, shape (n_clusters,)
    """

    centers: np.ndarray | torch.Tensor
    counts: np.ndarray | torch.Tensor
    labels: np.ndarray | torch.Tensor
    inertia: float
    n_iter: int
    history: np.ndarray
    converged: bool
    initial_centers: np.ndarray | torch.Tensor


def cluster(
    weights,
    n_clusters,
    *,
    init="weight-distribution",
    gamma=1 / 3,
    revise=True,
    max_iter=None,
    tol=0.0,
    seed=0,
    sample_weight=None,
):
    """Cluster weights into `n_clusters` shared values by 1-D k-means.

    Parameters
    ----------
    weights : NumPy array or torch tensor of any shape
        float16, bfloat16, float32 or float64; finite. Not modified.
    n_clusters : int
        1 to 65,536. With fewer distinct weights every one becomes a center, unless `init` is an
        array, and the unused centers repeat the largest with a count of 0.
    init : str, array of shape (n_clusters,) or callable
        A name in `lib.INITIALIZATIONS`, such as "linear" or "k-means++"; the initial centers
        themselves; or a function with the signature of those in `lib.initialization`.
    gamma : float
        Exponent of the density, in [0, 1]; read by "weight-distribution".
    revise : bool
        Revise the centers at every iteration (`lib.lloyd.revised`); otherwise an emptied center
        stays where it is.
    max_iter : int, optional
        At least 0; by default until no label changes.
    tol : float
        At least 0: stop, too, when an iteration lowers the inertia by no more than this share.
    seed : int
        Read by the random initializations.
    sample_weight : array of the shape of `weights`, optional
        Importance of each weight: finite, not negative, not all zero.

    Returns
    -------
    Clustering

    Raises
    ------
    TypeError, ValueError
        On bad input, with the offending value and the remedy.

    Notes
    -----
    Sums are in float64. O(k log n) an iteration; before and after it a pass over the weights puts
    them in order, and one writes the labels: of more than a million 16- or 32-bit floats by the
    bins of their bits, where they are, on the processor or a CUDA device; of fewer, and of float64,
    by sorting them on the processor. Loops are compiled at their first call, which takes seconds,
    and kept on disk.
    """
    return Prepared(weights, sample_weight).cluster(
        n_clusters, init=init, gamma=gamma, revise=revise, max_iter=max_iter, tol=tol, seed=seed
    )


class Prepared:
    """Weights prepared once, to be clustered any number of times.

    Parameters
    ----------
    weights, sample_weight
        As of `cluster`. The weights must not change as long as the object is used: their labels
        are looked up in them. Not for use by several threads at once.

    Attributes
    ----------
    weights
        As given.
    """

    def __init__(self, weights, sample_weight=None):
        self.weights = weights
        self.ordered = ordered(weights, sample_weight)
        self._unranked = None
        if len(self.ordered) < self.ordered.n_labels:  # importance 0: they have labels, but no rank
            self._unranked = np.flatnonzero(_host(sample_weight) == 0)

    def cluster(
        self,
        n_clusters,
        *,
        init="weight-distribution",
        gamma=1 / 3,
        revise=True,
        max_iter=None,
        tol=0.0,
        seed=0,
        labels=True,
    ):
        """As `cluster`; the labels are None if `labels` is False."""
        n_clusters = check_n_clusters(n_clusters)
        _check_options(gamma, max_iter, tol)
        initial = initial_centers(self.ordered, n_clusters, init, gamma=gamma, seed=seed)
        path = lloyd_in_order(self.ordered, initial, revise=revise, max_iter=max_iter, tol=tol)
        counts, found = path.counts, None
        if labels or self._unranked is not None:
            found = label(self.ordered, path.centers)
        if self._unranked is not None:
            theirs = _host(found)[self._unranked]
            counts = counts + np.bincount(theirs, minlength=n_clusters)
        return Clustering(
            self._as_given(path.centers),
            self._as_given(counts),
            self._as_given(found.reshape(self.weights.shape)) if labels else None,
            float(path.history[-1]),
            path.n_iter,
            path.history,
            path.converged,
            self._as_given(initial),
        )

    def label(self, cuts, dtype):
        """Number of cuts at or below each weight, in its shape: labels of any cells.

        Parameters
        ----------
        cuts : array of shape (k - 1,), ascending
            float32, or float64 if the weights are.
        dtype : NumPy dtype
            uint8 or uint16.
        """
        return self._as_given(self.ordered.label(cuts, dtype).reshape(self.weights.shape))

    def _as_given(self, array):
        """Array as a tensor on the weights' device if they are one."""
        like = self.weights
        return torch.as_tensor(array, device=like.device) if torch.is_tensor(like) else array


def _host(array):
    """Array or tensor as a flat NumPy array."""
    return np.asarray(array.detach().cpu() if torch.is_tensor(array) else array).reshape(-1)


def flat_array(weights):
    """The weights as a flat float32 or float64 array; raises as `cluster` does."""
    if torch.is_tensor(weights):
        values = weights.detach().cpu()
        if values.dtype in (torch.float16, torch.bfloat16):
            values = values.float()
        fits = values.dtype in (torch.float32, torch.float64)
    elif isinstance(weights, np.ndarray):
        values = weights if weights.dtype.isnative else weights.astype(weights.dtype.newbyteorder())
        values = values.astype(np.float32) if values.dtype == np.float16 else values
        fits = values.dtype in (np.float32, np.float64)
    else:
        raise TypeError(
            f"weights are a {type(weights).__name__}: pass a NumPy array or torch tensor."
        )
    if not fits:
        raise TypeError(
            f"weights have dtype {weights.dtype}: "
            "convert them to float16, bfloat16, float32 or float64."
        )
    if math.prod(weights.shape) == 0:
        raise ValueError(f"weights are empty (shape {tuple(weights.shape)}): pass at least one.")
    return np.ascontiguousarray(np.asarray(values).reshape(-1))


def ordered(weights, sample_weight=None):
    """Weights in order, for any number of initializations and iterations; checks as `cluster`."""
    on_device = torch.is_tensor(weights) and weights.is_cuda
    many = on_device or math.prod(getattr(weights, "shape", ())) > FEW
    if many and has_bins(weights):
        found = BinnedWeights(passes_over(weights, _importance(sample_weight, weights)))
        if found.is_fine():
            return found
    found = SortedWeights(flat_array(weights), _importance(sample_weight, weights))
    for extreme in found[[0, len(found) - 1]]:
        if abs(extreme) > MAX_MAGNITUDE:
            raise ValueError(f"weights reach {extreme}: scale them below {MAX_MAGNITUDE:g}.")
    return found


def initial_centers(weights, n_clusters, init, *, gamma=1 / 3, seed=0):
    """Initial centers for weights in order; float64, ascending, of shape (n_clusters,)."""
    given = callable(init)
    if isinstance(init, str):
        init = named(init).function
    if callable(init):
        distinct = weights.distinct(n_clusters)
        if distinct is not None:
            return np.pad(distinct, (0, n_clusters - len(distinct)), mode="edge")
        options = {"gamma": gamma, "seed": seed}
        if given:
            options["sample_weight"] = weights.sample_weight
        init = init(np.asarray(weights) if given else weights, n_clusters, **options)
    if torch.is_tensor(init):
        init = init.detach().cpu().double().numpy()
    centers = np.array(init, dtype=np.float64)
    if centers.shape != (n_clusters,):
        raise ValueError(f"init has shape {centers.shape}: expected ({n_clusters},).")
    if not np.isfinite(centers).all():
        bad = centers[~np.isfinite(centers)][0]
        raise ValueError(f"init holds {bad}: initial centers must be finite.")
    return np.sort(centers)


def label(weights, centers):
    """Nearest center of each of the weights, in the smallest unsigned dtype that fits; flat."""
    first = np.flatnonzero(np.append(True, centers[1:] > centers[:-1]))
    distinct, dtype = centers[first], np.uint8 if len(centers) <= 256 else np.uint16
    labels = weights.label(thresholds(distinct, weights.dtype), dtype)
    if len(distinct) == len(centers):
        return labels
    if torch.is_tensor(labels):
        return torch.from_numpy(first).to(labels.device)[labels.int()].to(labels.dtype)
    return first.astype(dtype)[labels]


def check_n_clusters(n_clusters):
    """`n_clusters` as an int; raises TypeError or ValueError."""
    try:
        whole = operator.index(n_clusters)
    except TypeError:
        raise TypeError(f"n_clusters={n_clusters!r} must be a whole number.") from None
    if isinstance(n_clusters, bool) or not 1 <= whole <= MAX_CLUSTERS:
        raise ValueError(f"n_clusters={n_clusters} must be from 1 to {MAX_CLUSTERS}.")
    return whole


def _check_options(gamma, max_iter, tol):
    if not 0 <= gamma <= 1:
        raise ValueError(f"gamma={gamma} must be from 0 (even) to 1 (density).")
    if max_iter is not None and not isinstance(max_iter, (int, np.integer)):
        raise TypeError(f"max_iter={max_iter!r} must be a whole number, or None to converge.")
    if max_iter is not None and max_iter < 0:
        raise ValueError(f"max_iter={max_iter} must be at least 0, or None to converge.")
    if not 0 <= tol < np.inf:
        raise ValueError(f"tol={tol} must be finite and at least 0.")


def _importance(sample_weight, weights):
    """`sample_weight` as a flat float64 array, or None."""
    if sample_weight is None:
        return None
    if torch.is_tensor(sample_weight):
        sample_weight = sample_weight.detach().cpu().double().numpy()
    importance = np.asarray(sample_weight, dtype=np.float64)
    if importance.shape != tuple(weights.shape):
        raise ValueError(
            f"sample_weight has shape {importance.shape}: expected {tuple(weights.shape)}, "
            "that of the weights."
        )
    importance = importance.reshape(-1)
    sound, positive = np.sum(threads.run(count_sound, threads.split(importance)), axis=0)
    if sound < len(importance):
        bad = importance[~((importance >= 0) & np.isfinite(importance))][0]
        raise ValueError(f"sample_weight holds {bad}: it must be finite and not negative.")
    if not positive:
        raise ValueError("sample_weight is 0 everywhere: give at least one weight importance.")
    return importance
