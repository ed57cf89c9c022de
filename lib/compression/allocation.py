"""How many centers each layer gets, chosen by the distribution of its weights.

Every layer offers numbers of centers, each with a size and a distortion. Choosing one offer a layer
under a budget of bytes is a multiple-choice knapsack problem. It is solved exactly where that is
cheap: the offers of one layer after another are merged, and only the Pareto-optimal combinations
are kept. For many layers sizes are counted in units.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ..clustering import Array, Prepared
from ..optimal import inertia_curve
from .coding import packed_bytes
from .entropy import as_prepared

MAX_CLUSTERS = 256
MOST_COMBINATIONS = 1 << 22  # that are merged and sorted at once


@dataclass(frozen=True, eq=False)
class Offers:
    """Numbers of centers for one layer, with their sizes and distortions.

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
    """The Pareto-optimal allocations: sizes ascending, distortions descending.

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
        """The allocation of least distortion within a budget of bytes.

        Returns
        -------
        dict of str to int
            Number of centers by layer.

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
        """The smallest allocation that is accepted, found by bisection.

        Parameters
        ----------
        accepted : callable
            Whether an allocation is good enough, for example by its measured accuracy. Every
            allocation larger than an accepted one is assumed to be accepted.
        tol : float, default 0.0
            The size may exceed the smallest accepted one by this share.

        Returns
        -------
        dict of str to int
            Number of centers by layer.

        Raises
        ------
        ValueError
            If the largest allocation is not accepted.
        """
        low, high = -1, len(self.sizes) - 1
        if not accepted(self.allocation(high)):
            raise ValueError("even the largest allocation is not accepted: offer more centers.")
        while high - low > 1 and self.sizes[high] > (1 + tol) * self.sizes[max(low, 0)]:
            middle = (low + high) // 2
            if accepted(self.allocation(middle)):
                high = middle
            else:
                low = middle
        return self.allocation(high)

    def allocation(self, place: int) -> dict[str, int]:
        """Number of centers by layer, of the allocation at a place in `sizes`."""
        return dict(zip(self.layers, self.n_clusters[place].tolist(), strict=True))


def offers(
    weights: Array | Prepared,
    *,
    sample_weight: Array | None = None,
    max_clusters: int = MAX_CLUSTERS,
    scale: float = 1.0,
) -> Offers:
    """Size and distortion of a layer at every number of centers.

    Sizes are those of packed labels and float32 centers; distortions are the least possible.

    Parameters
    ----------
    weights : NumPy array, torch tensor or Prepared
    sample_weight : array of the weights' shape, optional
        Makes the distortion a weighted squared error.
    max_clusters : int, default 256
        Numbers from 2 to this one are offered, or 1 if all weights are equal.
    scale : float, default 1.0
        Factor of the distortion: how much a squared error in this layer counts.

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


def frontier(by_layer: Mapping[str, Offers], *, tol: float = 1e-3) -> Frontier:
    """The Pareto-optimal allocations of several layers.

    Parameters
    ----------
    by_layer : dict of str to Offers
    tol : float, default 1e-3
        Where there are too many combinations, sizes are counted in units, such that the allocation
        within a budget has no more distortion than the best one within ``budget / (1 + tol)``. 0:
        always exact, whatever it costs.

    Returns
    -------
    Frontier

    Raises
    ------
    ValueError
        If there are no layers, or `tol` is negative.

    Notes
    -----
    Exact for few layers: a dominated combination of some layers stays dominated with any choice for
    the others. For many, dynamic programming over the units, O(layers^2 offers / tol).

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
    if not by_layer or not tol >= 0:
        raise ValueError(
            f"{len(by_layer)} layers and tol={tol}: give layers, and tol of 0 or more."
        )
    sizes, distortions = np.zeros(1, np.int64), np.zeros(1)
    chosen = np.zeros((1, 0), np.int64)
    for offer in by_layer.values():
        kept = _undominated(offer.sizes, offer.distortions)
        if tol > 0 and len(sizes) * len(kept) > MOST_COMBINATIONS:
            return _in_units(by_layer, tol)
        total = np.add.outer(sizes, offer.sizes[kept]).ravel()
        distortion = np.add.outer(distortions, offer.distortions[kept]).ravel()
        best = _undominated(total, distortion)
        before, now = np.divmod(best, len(kept))
        sizes, distortions = total[best], distortion[best]
        chosen = np.column_stack([chosen[before], offer.n_clusters[kept][now]])
    return Frontier(sizes, distortions, chosen, tuple(by_layer))


def _in_units(by_layer, tol):
    """The same with sizes rounded up to units: a table of the least distortion at each."""
    layers = list(by_layer.values())
    unit = tol * sum(int(offer.sizes.min()) for offer in layers) / len(layers)
    units = [np.ceil((offer.sizes - offer.sizes.min()) / unit).astype(np.int64) for offer in layers]
    n_units = 1 + sum(int(each.max()) for each in units)
    least = np.full(n_units, np.inf)
    least[0] = 0.0
    choices = np.empty((len(layers), n_units), np.int32)
    for offer, each, choice in zip(layers, units, choices, strict=True):
        before, least = least, np.full(n_units, np.inf)
        for i in range(len(each)):
            shifted = before[: n_units - each[i]] + offer.distortions[i]
            better = np.flatnonzero(shifted < least[each[i] :]) + each[i]
            least[better] = shifted[better - each[i]]
            choice[better] = i
    return _chosen(by_layer, units, choices, np.flatnonzero(np.isfinite(least)))


def _chosen(by_layer, units, choices, ends):
    """The allocations that a table of choices leads to from its ends, the undominated ones."""
    places, rest = [], ends
    for each, choice in zip(reversed(units), choices[::-1], strict=True):
        places.insert(0, choice[rest])
        rest = rest - each[places[0]]
    pairs = list(zip(by_layer.values(), places, strict=True))
    sizes = sum(offer.sizes[place] for offer, place in pairs)
    distortions = sum(offer.distortions[place] for offer, place in pairs)
    best = _undominated(sizes, distortions)
    n_clusters = np.column_stack([offer.n_clusters[place[best]] for offer, place in pairs])
    return Frontier(sizes[best], distortions[best], n_clusters, tuple(by_layer))


def _undominated(sizes, distortions):
    """Indices of the Pareto-optimal points, by ascending size."""
    order = np.lexsort([distortions, sizes])
    least = np.minimum.accumulate(distortions[order])
    first = np.append(True, least[1:] < least[:-1])
    return order[first]
