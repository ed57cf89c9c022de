"""Initial centers of 1-D k-means: one function and one record per initialization.

All functions have the same signature; each docstring says which arguments the function reads.

Parameters
----------
weights : array of shape (n,), or OrderedWeights
    Ascending, finite, with at least `n_clusters` distinct values.
n_clusters : int
sample_weight : float64 array of shape (n,), optional
    Positive, in the order of `weights`.
gamma : float
    In [0, 1].
seed : int

Returns
-------
float64 array of shape (n_clusters,)
    Ascending.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .density import adaptive_density, logit_ranks, power_quantiles
from .engine import SortedWeights, in_order
from .engine.keys import thresholds
from .engine.quantiles import power_quantiles as compiled_quantiles
from .optimal import optimal_centers


def random(
    weights: Any,
    n_clusters: int,
    *,
    sample_weight: np.ndarray | None = None,
    gamma: float | None = None,
    seed: Any = 0,
) -> np.ndarray:
    """`n_clusters` observed weights (Forgy 1965), drawn without replacement by `seed`."""
    weights = in_order(weights, sample_weight)
    sample_weight = weights.sample_weight
    p = None if sample_weight is None else sample_weight / sample_weight.sum()
    drawn = np.random.default_rng(seed).choice(len(weights), n_clusters, replace=False, p=p)
    return np.asarray(weights[np.sort(drawn)], np.float64)


def linear(
    weights: Any,
    n_clusters: int,
    *,
    sample_weight: np.ndarray | None = None,
    gamma: float | None = None,
    seed: Any = None,
) -> np.ndarray:
    """Equal steps from the smallest to the largest weight (Han et al. 2016, section 3.1)."""
    return np.linspace(float(weights[0]), float(weights[len(weights) - 1]), n_clusters)


def density(
    weights: Any,
    n_clusters: int,
    *,
    sample_weight: np.ndarray | None = None,
    gamma: float | None = None,
    seed: Any = None,
) -> np.ndarray:
    """Equal steps of the cumulative distribution (Han et al. 2016, section 3.1)."""
    weights = in_order(weights, sample_weight)
    sample_weight = weights.sample_weight
    probabilities = (np.arange(n_clusters) + 0.5) / n_clusters
    if sample_weight is None:
        ranks = probabilities * len(weights)
    else:
        cumulative = np.cumsum(sample_weight)
        ranks = np.searchsorted(cumulative, probabilities * cumulative[-1])
    return np.asarray(weights[np.minimum(ranks.astype(np.int64), len(weights) - 1)], np.float64)


def k_means_plus_plus(
    weights: Any,
    n_clusters: int,
    *,
    sample_weight: np.ndarray | None = None,
    gamma: float | None = None,
    seed: Any = 0,
) -> np.ndarray:
    """Each next center is drawn from the weights, by squared distance to the nearest center.

    Arthur and Vassilvitskii (2007), without local trials. The draw has two steps: first a cell, by
    its inertia, then a weight in it. A new center changes only the cells of its neighbours.
    """
    order, rng = in_order(weights, sample_weight), np.random.default_rng(seed)
    weights, sample_weight = np.asarray(order), order.sample_weight

    def distances(j):
        members = slice(bounds[j], bounds[j + 1])
        squared = (weights[members] - centers[j]) ** 2
        return squared if sample_weight is None else squared * sample_weight[members]

    def inertias(low, high):
        """Inertia of each cell from `low` to `high` - 1."""
        mass, total, square = order.ranges(bounds[low:high], bounds[low + 1 : high + 1]).T
        offset = centers[low:high] - order.origin
        return np.maximum(0.0, square + offset * (offset * mass - 2 * total))

    centers = random(order, 1, seed=rng)
    bounds = np.array([0, len(weights)])
    costs = inertias(0, 1)
    while len(centers) < n_clusters:
        if costs.sum() > 0:
            j = rng.choice(len(costs), p=costs / costs.sum())
            cumulative = np.cumsum(distances(j))
            if cumulative[-1] == 0:  # its inertia was only a rounding error
                costs[j] = 0.0
                continue
            drawn = np.searchsorted(cumulative, rng.uniform(0, cumulative[-1]), side="right")
            center = float(weights[bounds[j] + min(drawn, len(cumulative) - 1)])
        else:  # the squares have underflowed
            center = float(rng.choice(np.setdiff1d(weights, centers)))
        new = int(np.searchsorted(centers, center))
        centers, costs = np.insert(centers, new, center), np.insert(costs, new, 0.0)
        bounds = np.insert(bounds, new, bounds[new])
        low, high = max(new - 1, 0), min(new + 1, len(centers) - 1)
        bounds[low + 1 : high + 1] = order.rank(thresholds(centers[low : high + 1], weights.dtype))
        costs[low : high + 1] = inertias(low, high + 1)
    return centers


def weight_distribution(
    weights: Any,
    n_clusters: int,
    *,
    sample_weight: np.ndarray | None = None,
    gamma: float = 1 / 3,
    seed: Any = None,
) -> np.ndarray:
    """Quantiles (i + 1/2) / k of the distribution proportional to density ** gamma.

    This is our reading of the paper, which chooses centers by the distribution of the weights.
    gamma = 0 gives the midpoints of k equal cells, gamma = 1 the density initialization. 1/3 is the
    point density of the best squared-error quantizer at high resolution (Bennett 1948; Panter and
    Dite 1951; Gersho and Gray 1992, section 5.6).
    """
    weights = in_order(weights, sample_weight)
    if isinstance(weights, SortedWeights):  # the same, compiled
        known = (weights.weights, weights.sample_weight, logit_ranks(len(weights)))
        return compiled_quantiles(*known, float(gamma), n_clusters)
    probabilities = (np.arange(n_clusters) + 0.5) / n_clusters
    return power_quantiles(adaptive_density(weights), gamma, probabilities)


def optimal(
    weights: Any,
    n_clusters: int,
    *,
    sample_weight: np.ndarray | None = None,
    gamma: float | None = None,
    seed: Any = None,
) -> np.ndarray:
    """Globally optimal centers (`lib.optimal`)."""
    return optimal_centers(weights, n_clusters, sample_weight)


@dataclass(frozen=True)
class Initialization:
    """What the rest of the repository knows about an initialization.

    Attributes
    ----------
    name : str
        As the argument `init` of `lib.cluster`.
    function : callable
        With the signature above.
    color, marker : str
        The color as "#rrggbb" and matplotlib's marker, the same in every figure.
    seeded : bool
        Whether it reads `seed`: an experiment then runs it with several seeds.
    reads_gamma : bool
        Whether it reads `gamma`.
    needs_order : bool
        Whether it reads more of the sorted weights than a few, so that the time to sort them
        counts as its own.
    revised : bool
        Whether the study revises its centers by default (`lib.lloyd.revised`).
    """

    name: str
    function: Callable[..., np.ndarray]
    color: str
    marker: str
    seeded: bool = False
    reads_gamma: bool = False
    needs_order: bool = True
    revised: bool = False


# The colors are seaborn's palette "colorblind".
INITIALIZATIONS = {
    record.name: record
    for record in (
        Initialization("random", random, "#0173b2", "o", seeded=True, needs_order=False),
        Initialization("linear", linear, "#de8f05", "s", needs_order=False),
        Initialization("density", density, "#029e73", "D"),
        Initialization("k-means++", k_means_plus_plus, "#d55e00", "^", seeded=True),
        Initialization(
            "weight-distribution",
            weight_distribution,
            "#cc78bc",
            "P",
            reads_gamma=True,
            revised=True,
        ),
        Initialization("optimal", optimal, "#ca9161", "*"),
    )
}


def named(name: str) -> Initialization:
    """The record of an initialization; ValueError for an unknown name."""
    if name not in INITIALIZATIONS:
        raise ValueError(f"init={name!r} is unknown: choose from {', '.join(INITIALIZATIONS)}.")
    return INITIALIZATIONS[name]
