"""`cluster`: validate the weights, initialize, iterate, label."""

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from .engine import (
    FEW,
    LeafWeights,
    OrderedWeights,
    SortedWeights,
    has_leaves,
    passes_over,
    threads,
)
from .engine.passes import count_sound
from .initialization import named
from .lloyd import lloyd_in_order
from .result import Array as Array
from .result import Clustering as Clustering
from .result import host_array

MAX_CLUSTERS = 65_536
MAX_MAGNITUDE = 1e150  # squares of larger weights overflow float64


def cluster(
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
) -> Clustering:
    """Cluster weights into `n_clusters` shared values by 1-D k-means.

    Parameters
    ----------
    weights : NumPy array or torch tensor of any shape
        float16, bfloat16, float32 or float64; finite. Not modified.
    n_clusters : int
        1 to 65,536. With fewer distinct weights every one becomes a center, unless `init` is an
        array, and the unused centers repeat the largest with a count of 0.
    init : str, array of shape (n_clusters,) or callable, default "weight-distribution"
        A name in `lib.INITIALIZATIONS`, such as "linear" or "k-means++"; the initial centers
        themselves; or a function with the signature of those in `lib.initialization`.
    gamma : float, default 1/3
        Exponent of the density, in [0, 1]; read by "weight-distribution".
    revise : bool, default True
        Revise the centers at every iteration (`lib.lloyd.revised`); otherwise an emptied center
        stays where it is.
    max_iter : int, optional
        At least 0; by default until no label changes.
    tol : float, default 0.0
        At least 0: also stop when an iteration lowers the inertia by no more than this share.
    seed : int, default 0
        Read by the random initializations.
    sample_weight : array of the shape of `weights`, optional
        How much each weight counts: finite, not negative, not all zero. By default 1 each.

    Returns
    -------
    Clustering

    Raises
    ------
    TypeError, ValueError
        On bad input, with the offending value and the remedy.

    Notes
    -----
    Sums are in float64. O(k log n) an iteration. First the weights are put in order: up to a
    million, and all in float64, are sorted on the processor; more of 16 or 32 bits are tallied by
    leaves (`lib.engine`) on the device that has them. At the end one pass writes the labels. Loops
    are compiled at their first call, which takes seconds, and kept on disk.

    Examples
    --------
    >>> import numpy as np
    >>> import lib
    >>> weights = np.array([[-1.0, -0.9], [0.1, 0.2], [0.9, 1.0]])
    >>> found = lib.cluster(weights, 3)
    >>> found.centers
    array([-0.95,  0.15,  0.95])
    >>> found.labels
    array([[0, 0],
           [1, 1],
           [2, 2]], dtype=uint8)
    """
    return Prepared(weights, sample_weight).cluster(
        n_clusters, init=init, gamma=gamma, revise=revise, max_iter=max_iter, tol=tol, seed=seed
    )


class Prepared:
    """Weights prepared once, to be clustered any number of times.

    Parameters
    ----------
    weights, sample_weight
        As of `cluster`. The weights must not change while the object is used: it reads them again
        for look-ups and labels. Not for use by several threads at once.

    Attributes
    ----------
    weights
        As given.

    Examples
    --------
    >>> import numpy as np
    >>> import lib
    >>> prepared = lib.Prepared(np.array([0.0, 1.0, 10.0, 11.0]))
    >>> [prepared.cluster(k).inertia for k in (1, 2, 3)]
    [101.0, 1.0, 0.5]
    """

    def __init__(self, weights: Array, sample_weight: Array | None = None) -> None:
        self.weights = weights
        self.ordered = ordered(weights, sample_weight)
        self._unranked = None  # positions of weights of sample weight 0: they have labels, no rank
        if sample_weight is not None and len(self.ordered) < self.ordered.n_labels:
            self._unranked = np.flatnonzero(host_array(sample_weight) == 0)

    def cluster(
        self,
        n_clusters: int,
        *,
        init: str | Array | Callable = "weight-distribution",
        gamma: float = 1 / 3,
        revise: bool = True,
        max_iter: int | None = None,
        tol: float = 0.0,
        seed: int = 0,
        labels: bool = True,
    ) -> Clustering:
        """As `cluster`; without labels, which saves a pass over the weights, if they are False.

        Examples
        --------
        >>> import numpy as np
        >>> import lib
        >>> lib.Prepared(np.array([0.0, 1.0, 9.0])).cluster(2, labels=False).centers
        array([0.5, 9. ])
        """
        n_clusters = check_n_clusters(n_clusters)
        check_options(gamma, max_iter, tol)
        initial = initial_centers(self.ordered, n_clusters, init, gamma=gamma, seed=seed)
        path = lloyd_in_order(self.ordered, initial, revise=revise, max_iter=max_iter, tol=tol)
        counts = path.counts
        found: Any = None
        if labels or self._unranked is not None:
            found = label(self.ordered, path.centers)
        if self._unranked is not None:
            theirs = host_array(found)[self._unranked]
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
            self.weights.dtype,
        )

    def label(self, cuts: np.ndarray, dtype: Any) -> Array:
        """Number of cuts at or below each weight, in its shape: labels of any cells.

        Parameters
        ----------
        cuts : array of shape (k - 1,), ascending
            float32, or float64 if the weights are.
        dtype : NumPy dtype
            uint8 or uint16.

        Examples
        --------
        >>> import numpy as np
        >>> import lib
        >>> prepared = lib.Prepared(np.array([0.3, -2.0, 0.1]))
        >>> prepared.label(np.array([0.0, 0.2]), np.uint8)
        array([2, 0, 1], dtype=uint8)
        """
        return self._as_given(self.ordered.label(cuts, dtype).reshape(self.weights.shape))

    def _as_given(self, array):
        """Array as a tensor on the weights' device if they are one."""
        if not torch.is_tensor(self.weights):
            return array
        tensor = array if torch.is_tensor(array) else torch.from_numpy(array)
        return tensor if self.weights.is_cpu else tensor.to(self.weights.device)


def flat_array(weights: Array) -> np.ndarray:
    """The weights as a flat float32 or float64 array; raises as `cluster` does."""
    if torch.is_tensor(weights):
        if weights.is_meta:
            raise ValueError("weights are on the meta device, which has no values: load them.")
        values: Any = weights.detach().cpu()
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


def ordered(weights: Array, sample_weight: Array | None = None) -> OrderedWeights:
    """Ordered weights, for any number of initializations and iterations; checks as `cluster`."""
    on_device = torch.is_tensor(weights) and weights.is_cuda
    has_values = not (torch.is_tensor(weights) and weights.is_meta)
    many = on_device or math.prod(getattr(weights, "shape", ())) > FEW
    if many and has_values and has_leaves(weights):
        by_leaves = LeafWeights(passes_over(weights, _checked(sample_weight, weights)))
        if by_leaves.is_fine():
            return by_leaves
    found = SortedWeights(flat_array(weights), _checked(sample_weight, weights))
    for extreme in (found.weights[0], found.weights[-1]):
        check_extreme(float(extreme))
    return found


def initial_centers(
    weights: OrderedWeights,
    n_clusters: int,
    init: str | Array | Callable,
    *,
    gamma: float = 1 / 3,
    seed: int = 0,
) -> np.ndarray:
    """Initial centers of ordered weights; float64, ascending, of shape (n_clusters,)."""
    function = named(init).function if isinstance(init, str) else init
    if callable(function):
        distinct = weights.distinct(n_clusters)
        if distinct is not None:
            return np.pad(distinct, (0, n_clusters - len(distinct)), mode="edge")
        if isinstance(init, str):
            return function(weights, n_clusters, gamma=gamma, seed=seed)
        options = {"gamma": gamma, "seed": seed, "sample_weight": weights.sample_weight}
        init = function(np.asarray(weights), n_clusters, **options)
    if torch.is_tensor(init):
        init = init.detach().cpu().double().numpy()
    centers = np.array(init, dtype=np.float64)
    if centers.shape != (n_clusters,):
        raise ValueError(f"init has shape {centers.shape}: expected ({n_clusters},).")
    if not np.isfinite(centers).all():
        bad = centers[~np.isfinite(centers)][0]
        raise ValueError(f"init holds {bad}: initial centers must be finite.")
    return np.sort(centers)


def label(weights: OrderedWeights, centers: np.ndarray) -> Array:
    """Nearest center of each of the weights, in the smallest unsigned dtype that fits; flat."""
    return weights.nearest(centers, np.uint8 if len(centers) <= 256 else np.uint16)


def check_n_clusters(n_clusters: Any) -> int:
    """`n_clusters` as an int; raises TypeError or ValueError."""
    try:
        whole = operator.index(n_clusters)
    except TypeError:
        raise TypeError(f"n_clusters={n_clusters!r} must be a whole number.") from None
    if isinstance(n_clusters, bool) or not 1 <= whole <= MAX_CLUSTERS:
        raise ValueError(f"n_clusters={n_clusters} must be from 1 to {MAX_CLUSTERS}.")
    return whole


def check_options(gamma: float, max_iter: int | None, tol: float) -> None:
    """Raise TypeError or ValueError for bad options."""
    if not 0 <= gamma <= 1:
        raise ValueError(f"gamma={gamma} must be from 0 (even) to 1 (density).")
    if max_iter is not None and not isinstance(max_iter, (int, np.integer)):
        raise TypeError(f"max_iter={max_iter!r} must be a whole number, or None to converge.")
    if max_iter is not None and max_iter < 0:
        raise ValueError(f"max_iter={max_iter} must be at least 0, or None to converge.")
    if not 0 <= tol < np.inf:
        raise ValueError(f"tol={tol} must be finite and at least 0.")


def _checked(sample_weight, weights):
    """`sample_weight` as a flat float64 array, or None."""
    if sample_weight is None:
        return None
    if torch.is_tensor(sample_weight):
        sample_weight = sample_weight.detach().cpu().double().numpy()
    mass = np.asarray(sample_weight, dtype=np.float64)
    if mass.shape != tuple(weights.shape):
        raise ValueError(
            f"sample_weight has shape {mass.shape}: expected {tuple(weights.shape)}, "
            "that of the weights."
        )
    mass = mass.reshape(-1)
    check_masses(mass)
    return mass


def check_extreme(extreme: float) -> None:
    """Raise ValueError for the smallest or largest weight if it is too large or not finite."""
    if not math.isfinite(extreme):
        raise ValueError(f"weights hold {extreme}: remove or replace what is not finite.")
    if abs(extreme) > MAX_MAGNITUDE:
        raise ValueError(f"weights reach {extreme}: scale them below {MAX_MAGNITUDE:g}.")


def check_masses(mass: np.ndarray) -> None:
    """Raise ValueError for a flat float64 array that cannot be sample weights."""
    counts = threads.run(count_sound, threads.split(mass))
    sound, positive = map(sum, zip(*counts, strict=True))
    if sound < len(mass):
        bad = mass[~((mass >= 0) & np.isfinite(mass))][0]
        raise ValueError(f"sample_weight holds {bad}: it must be finite and not negative.")
    if not positive:
        raise ValueError("sample_weight is 0 everywhere: give at least one weight more.")
