"""The distribution of a layer's weights: an adaptive density, and quantiles of its powers."""

import functools
from typing import NamedTuple

import numpy as np

from .engine import OrderedWeights, in_order

N_RANKS = 8192


class Density(NamedTuple):
    """A piecewise constant density.

    Attributes
    ----------
    edges : float64 array of shape (n_bins + 1,)
        Ascending and distinct. Each is an observed weight; of weights that are known only by their
        leading digits, the largest value with these digits.
    mass : float64 array of shape (n_bins,)
        The share of the weights in each bin; sums to 1.
    """

    edges: np.ndarray
    mass: np.ndarray

    @property
    def heights(self) -> np.ndarray:
        """Density in each bin, in 1 / unit of the weights; float64 of shape (n_bins,)."""
        return self.mass / np.diff(self.edges)


def adaptive_density(
    weights: np.ndarray | OrderedWeights,
    sample_weight: np.ndarray | None = None,
    n_ranks: int = N_RANKS,
) -> Density:
    """Estimate the density of the weights in bins that are fine where it changes.

    The edges are weights whose ranks are evenly spaced in the logit of rank / n: bins hold at most
    0.1 % of the weights in the bulk and single weights in the tails. Bins of equal width would put
    a heavy-tailed layer in one bin; bins of equal count would pool its tails.

    Parameters
    ----------
    weights : array of shape (n,), or OrderedWeights
        Ascending, finite, at least two distinct values.
    sample_weight : float64 array of shape (n,), optional
        Positive, in the order of `weights`.
    n_ranks : int, default 8192
        Number of edges, at most.

    Returns
    -------
    Density

    Notes
    -----
    O(n_ranks log n).

    Examples
    --------
    >>> import numpy as np
    >>> from lib.density import adaptive_density
    >>> adaptive_density(np.array([0.0, 1.0, 1.0, 3.0])).heights
    array([0.75 , 0.125])
    """
    ordered = in_order(weights, sample_weight)
    edges = ordered.value_bounds(logit_ranks(len(ordered), n_ranks))[1]
    edges = edges[np.append(True, edges[1:] > edges[:-1])]
    ends = ordered.rank(edges, side="right")
    ends[0] = 0  # the first bin holds its left edge too
    weighted = ordered.known_sample_weight is not None
    mass = ordered.ranges(ends[:-1], ends[1:])[:, 0] if weighted else np.diff(ends)
    return Density(edges, mass / mass.sum())


@functools.lru_cache(maxsize=64)  # the many channels of a layer have one size
def logit_ranks(n: int, n_ranks: int = N_RANKS) -> np.ndarray:
    """Ranks of n weights, evenly spaced in the logit of rank / n: 0 to n - 1, ascending; int64."""
    logit = np.linspace(-np.log(n), np.log(n), min(n_ranks, n))
    ranks = np.rint((n - 1) / (1 + np.exp(-logit))).astype(np.int64)
    return np.unique(np.append(ranks, [0, n - 1]))


def power_quantiles(density: Density, gamma: float, probabilities: np.ndarray) -> np.ndarray:
    """Quantiles of the distribution proportional to density ** gamma.

    Parameters
    ----------
    density : Density
    gamma : float
        0 gives the uniform distribution on the range, 1 the distribution itself.
    probabilities : float array of shape (k,)
        In [0, 1], ascending.

    Returns
    -------
    float64 array of shape (k,)

    Examples
    --------
    >>> import numpy as np
    >>> from lib.density import adaptive_density, power_quantiles
    >>> density = adaptive_density(np.array([0.0, 1.0, 1.0, 3.0]))
    >>> power_quantiles(density, 0, np.array([0.0, 0.5, 1.0]))
    array([0. , 1.5, 3. ])
    """
    # p ** gamma * width, without dividing by a width that may be denormal
    power = density.mass**gamma * np.diff(density.edges) ** (1 - gamma)
    cumulative = np.concatenate([[0.0], np.cumsum(power)])
    return np.interp(probabilities, cumulative / cumulative[-1], density.edges)
