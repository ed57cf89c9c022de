"""The frozen results of `cluster` and `cluster_rows`."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .engine.keys import thresholds

Array = np.ndarray | torch.Tensor


@dataclass(frozen=True, eq=False, repr=False)
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
        Index of each weight's nearest center; of two equally near the lower. uint8 for up to 256
        centers, uint16 for more. NumPy indexes by them: ``centers[labels]``. torch does not: it
        takes uint8 for a mask and refuses uint16, so convert first, ``centers[labels.int()]``, or
        call `reconstruct`. None if the clustering was asked for no labels.
    inertia : float
        Sum of squared distances of the weights to their centers, times `sample_weight`.
    n_iter : int
        Number of times that the centers were moved.
    history : float64 NumPy array of shape (n_iter + 1,)
        Inertia of the initial centers and after each iteration.
    converged : bool
        False when `max_iter` ended the iteration.
    initial_centers : float64, shape (n_clusters,)
    dtype : NumPy or torch dtype
        That of the weights.

    Examples
    --------
    >>> import numpy as np
    >>> import lib
    >>> lib.cluster(np.array([0.0, 1.0, 10.0, 11.0]), 2)
    Clustering(n_clusters=2, centers=[0.5, 10.5], inertia=1, n_iter=1, converged=True)
    """

    centers: Array
    counts: Array
    labels: Array | None
    inertia: float
    n_iter: int
    history: np.ndarray
    converged: bool
    initial_centers: Array
    dtype: np.dtype | torch.dtype

    def reconstruct(self) -> Array:
        """The weights, each replaced by its center.

        Returns
        -------
        NumPy array or torch tensor
            Of the weights' shape, dtype and device.

        Raises
        ------
        ValueError
            If the clustering was asked for no labels.

        Examples
        --------
        >>> import numpy as np
        >>> import lib
        >>> lib.cluster(np.array([0.0, 1.0, 10.0, 11.0], np.float32), 2).reconstruct()
        array([ 0.5,  0.5, 10.5, 10.5], dtype=float32)
        """
        if self.labels is None:
            raise ValueError("the clustering has no labels: call cluster with labels=True.")
        centers: Any = self.centers
        labels: Any = self.labels
        dtype: Any = self.dtype
        if torch.is_tensor(centers):
            return centers.to(dtype)[labels.int()]
        return centers.astype(dtype)[labels]

    def predict(self, values: Any) -> Array:
        """Label of the nearest center of each value; of two equally near the lower.

        Parameters
        ----------
        values : NumPy array, torch tensor on any device, or what NumPy makes an array of
            Of any shape and real dtype; finite.

        Returns
        -------
        NumPy array or torch tensor
            The labels, of the values' shape and device, in the dtype of `labels`. For the weights
            themselves they equal `labels`.

        Raises
        ------
        TypeError
            If the values are not real numbers.
        ValueError
            If a value is not finite.

        Examples
        --------
        >>> import numpy as np
        >>> import lib
        >>> lib.cluster(np.array([0.0, 1.0, 10.0, 11.0]), 2).predict([-3, 6, 5.5])
        array([0, 1, 0], dtype=uint8)
        """
        values = _as_floats(values)
        centers = host_array(self.centers)
        first = _first_of_each(centers)
        if torch.is_tensor(values):
            cuts = thresholds(centers[first], np.float32 if values.itemsize == 4 else np.float64)
            cuts = torch.from_numpy(cuts).to(values.device)
            cells = torch.bucketize(values, cuts, right=True, out_int32=True)
            dtype = torch.uint8 if len(centers) <= 256 else torch.uint16
            return torch.from_numpy(first).to(values.device)[cells].to(dtype)
        cells = np.searchsorted(thresholds(centers[first], values.dtype), values, side="right")
        return first.astype(np.uint8 if len(centers) <= 256 else np.uint16)[cells]

    def __repr__(self) -> str:
        centers = [f"{center:.4g}" for center in self.centers.tolist()]
        if len(centers) > 6:
            centers = [*centers[:2], "...", *centers[-2:]]
        return (
            f"Clustering(n_clusters={len(self.centers)}, centers=[{', '.join(centers)}], "
            f"inertia={self.inertia:.6g}, n_iter={self.n_iter}, converged={self.converged})"
        )


@dataclass(frozen=True, eq=False)
class RowClustering:
    """The result of `cluster_rows`, for r rows of n weights.

    Arrays are of the kind that went in: NumPy arrays, or torch tensors on the weights' device.

    Attributes
    ----------
    centers : float64, shape (r, n_clusters)
        Each row ascending; unused centers repeat another.
    labels : uint8 or uint16, shape (r, n)
        Index of each weight's center in its row.
    counts : int64, shape (r, n_clusters)
        Number of weights of each center.
    inertia : float64, shape (r,)
    n_iter : int64, shape (r,)
    converged : bool, shape (r,)

    Examples
    --------
    >>> import numpy as np
    >>> import lib
    >>> lib.cluster_rows(np.array([[0.0, 1.0, 9.0], [5.0, 5.0, 7.0]]), 2)
    RowClustering(2 rows, 2 centers each, inertia=0.5)
    """

    centers: Array
    labels: Array
    counts: Array
    inertia: Array
    n_iter: Array
    converged: Array

    def __repr__(self) -> str:
        rows, n_clusters = self.centers.shape
        return (
            f"RowClustering({rows} rows, {n_clusters} centers each, "
            f"inertia={float(self.inertia.sum()):.6g})"
        )


def _as_floats(values):
    """Finite float32 or float64 values, as an array or tensor, from what `predict` takes."""
    tensor = torch.is_tensor(values)
    values = values.detach() if tensor else np.asarray(values)
    if values.is_complex() if tensor else values.dtype.kind not in "iuf":
        raise TypeError(f"values have dtype {values.dtype}: they must be real numbers.")
    if tensor:
        single = values.dtype in (torch.float16, torch.bfloat16, torch.float32)
        values = values.to(torch.float32 if single else torch.float64)
        finite = torch.isfinite(values)
    else:
        single = values.dtype in (np.float16, np.float32)
        values = values.astype(np.float32 if single else np.float64, copy=False)
        finite = np.isfinite(values)
    if not finite.all():
        raise ValueError(f"values hold {values[~finite][0].item()}: they must be finite.")
    return values


def _first_of_each(centers):
    """Indices of the ascending centers that do not repeat the one before."""
    return np.flatnonzero(np.append(True, centers[1:] > centers[:-1]))


def host_array(array: Array) -> np.ndarray:
    """Array or tensor as a flat NumPy array."""
    return np.asarray(array.detach().cpu() if torch.is_tensor(array) else array).reshape(-1)
