"""How many centers each layer gets: the paper's "automatically chooses", from their distributions.

Every layer offers numbers of centers, each with a size and a distortion. The best choice of all
layers under a budget is a knapsack with one item from each group; it is solved exactly, by merging
the layers' offers one after another and keeping only what nothing smaller beats.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ..clustering import Array, Prepared
from ..optimal import inertia_curve
from .coding import packed_bytes
from .entropy import as_prepared

MAX_CLUSTERS = 256


@dataclass(frozen=True, eq=False)
class Offers:
    """What one layer can be had for.

    Attributes
    ----------
    n_clusters : int array of shape (m,)
    sizes : int64 array of shape (m,)
        Bytes.
    distortions : float64 array of shape (m,)
    """

    n_clusters: np.ndarray
    sizes: np.ndarray
    distortions: np.ndarray


@dataclass(frozen=True, eq=False)
class Frontier:
    """Every allocation that no smaller one equals: sizes ascending, distortions descending.

    Attributes
    ----------
    sizes : int64 array of shape (m,)
    distortions : float64 array of shape (m,)
    n_clusters : int array of shape (m, n_layers)
    layers : tuple of str
    """

    sizes: np.ndarray
    distortions: np.ndarray
    n_clusters: np.ndarray
    layers: tuple

    def within(self, budget: float) -> dict[str, int]:
        """Number of centers by layer, of the least distortion within a budget of bytes.

        Raises
        ------
        ValueError
            If even the smallest allocation is larger.
        """
        if budget < self.sizes[0]:
            raise ValueError(f"budget={budget} bytes: the smallest allocation has {self.sizes[0]}.")
        return self.allocation(int(np.searchsorted(self.sizes, budget, side="right")) - 1)

    def smallest(
        self, accepted: Callable[[dict[str, int]], bool], tol: float = 0.0
    ) -> dict[str, int]:
        """The same of the smallest allocation that is accepted, by bisection.

        Parameters
        ----------
        accepted : callable
            Tells of an allocation whether it is good enough: by its measured accuracy, say. Taken
            to stay true from some size on.
        tol : float, default 0.0
            A size within this share of the smallest will do.

        Raises
        ------
        ValueError
            If even the largest allocation is not.
        """
        low, high = -1, len(self.sizes) - 1
        if not accepted(self.allocation(high)):
            raise ValueError("not even the largest allocation is accepted.")
        while high - low > 1 and self.sizes[high] > (1 + tol) * self.sizes[max(low, 0)]:
            middle = (low + high) // 2
            if accepted(self.allocation(middle)):
                high = middle
            else:
                low = middle
        return self.allocation(high)

    def allocation(self, place: int) -> dict[str, int]:
        """Number of centers by layer of one point."""
        return dict(zip(self.layers, self.n_clusters[place].tolist(), strict=True))


def offers(
    weights: Array | Prepared,
    *,
    sample_weight: Array | None = None,
    max_clusters: int = MAX_CLUSTERS,
    scale: float = 1.0,
) -> Offers:
    """What a layer's weights can be had for, with packed labels and float32 centers.

    Parameters
    ----------
    weights : NumPy array, torch tensor or Prepared
    sample_weight : array of the weights' shape, optional
        With it the distortion is the weighted squared error.
    max_clusters : int, default 256
        Numbers from 2 to this are offered; 1 where all weights are equal.
    scale : float, default 1.0
        Factor of the distortion: what a squared error in this layer costs beside others.

    Returns
    -------
    Offers

    Examples
    --------
    >>> import numpy as np
    >>> from lib.compression import offers
    >>> found = offers(np.array([0.0, 1.0, 10.0, 11.0]))
    >>> found.n_clusters
    array([2, 3, 4])
    >>> found.distortions
    array([1. , 0.5, 0. ])
    """
    prepared = as_prepared(weights, sample_weight)
    curve = scale * inertia_curve(prepared.ordered, max_clusters)
    n_clusters = np.arange(min(2, len(curve)), len(curve) + 1)
    labels = [packed_bytes(prepared.ordered.n_labels, int(k)) for k in n_clusters]
    sizes = np.array(labels, np.int64) + 4 * n_clusters
    return Offers(n_clusters, sizes, curve[n_clusters - 1])


def frontier(by_layer: Mapping[str, Offers]) -> Frontier:
    """Merge the layers' offers.

    Parameters
    ----------
    by_layer : dict of str to Offers

    Returns
    -------
    Frontier

    Notes
    -----
    Exact: an allocation that is beaten on some layers is beaten on all of them together.

    Examples
    --------
    >>> import numpy as np
    >>> from lib.compression import frontier, offers
    >>> layers = {"a": np.array([0.0, 1.0, 10.0, 11.0]), "b": np.array([0.0, 0.1, 5.0, 5.1])}
    >>> found = frontier({name: offers(weights) for name, weights in layers.items()})
    >>> found.sizes
    array([18, 22, 26, 30, 34])
    >>> found.within(24)
    {'a': 3, 'b': 2}
    """
    sizes, distortions = np.zeros(1, np.int64), np.zeros(1)
    chosen = np.zeros((1, 0), np.int64)
    for offer in by_layer.values():
        kept = _undominated(offer.sizes, offer.distortions)
        total = np.add.outer(sizes, offer.sizes[kept]).ravel()
        distortion = np.add.outer(distortions, offer.distortions[kept]).ravel()
        best = _undominated(total, distortion)
        before, now = np.divmod(best, len(kept))
        sizes, distortions = total[best], distortion[best]
        chosen = np.column_stack([chosen[before], offer.n_clusters[kept][now]])
    return Frontier(sizes, distortions, chosen, tuple(by_layer))


def _undominated(sizes, distortions):
    """Places of the points that no smaller or equal one equals, by size."""
    order = np.lexsort([distortions, sizes])
    least = np.minimum.accumulate(distortions[order])
    first = np.append(True, least[1:] < least[:-1])
    return order[first]
