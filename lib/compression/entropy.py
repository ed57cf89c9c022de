"""Codebooks for labels that are entropy-coded: cells that pay for their squared error and bits.

Squared-error k-means spends labels evenly; an entropy coder does not ask for that. What matters is

    J = inertia + multiplier * (bits of all labels at their entropy),

whose best cells are intervals still, since a cell's cost is a parabola of one curvature (Chou,
Lookabaugh and Gray 1989; György and Linder 2002).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numba import njit

from ..clustering import MAX_CLUSTERS, Array, Prepared
from ..engine import OrderedWeights
from ..optimal import bin_starts
from .coding import entropy

N_BINS = 4096


class Cells(NamedTuple):
    """Intervals of weights that share a center.

    Attributes
    ----------
    cuts : array of shape (k - 1,) and the weights' dtype (of 16-bit floats float32)
        The smallest weight that a cell but the first may hold.
    centers : float64 array of shape (k,)
        Their means, ascending.
    counts : int64 array of shape (k,)
        Weights in each; of weights with `sample_weight`, those of importance above 0. Positive.
    masses : float64 array of shape (k,)
        Their importance in all: the counts, where there is no `sample_weight`.
    inertia : float
    """

    cuts: np.ndarray
    centers: np.ndarray
    counts: np.ndarray
    masses: np.ndarray
    inertia: float

    @property
    def entropy(self) -> float:
        """Entropy of the labels in bits a weight."""
        return entropy(self.counts)

    def with_zero(self) -> "Cells":
        """The same cells; the center of the one that 0 lies in is exactly 0."""
        centers, zero = self.centers.copy(), np.searchsorted(self.cuts, 0.0, side="right")
        more = self.masses[zero] * centers[zero] ** 2
        centers[zero] = 0.0
        return self._replace(centers=centers, inertia=float(self.inertia + more))

    def labels(self, prepared: Prepared) -> Array:
        """Label of each weight, uint8 or uint16, of the weights' shape and kind."""
        dtype = np.uint8 if len(self.centers) <= 256 else np.uint16
        return prepared.label(self.cuts, dtype)


def entropy_constrained_cells(
    weights: Array | Prepared, multiplier: float, *, cell_bits: float = 0.0, n_bins: int = N_BINS
) -> Cells:
    """Cells that minimize inertia + multiplier * bits of the labels at their entropy.

    The least cost of the weights up to one bin is that up to an earlier bin and of a cell from
    there: a shortest path over bins, O(b^2) for b of them, since the entropy's cost breaks the
    order that k-means' dynamic program rests on. It is the optimum of partitions that do not split
    a bin; alternating between centers and cells on all weights (Chou, Lookabaugh and Gray 1989)
    finishes it.

    Parameters
    ----------
    weights : NumPy array, torch tensor or Prepared
        With `Prepared(weights, sample_weight)` the inertia is weighted.
    multiplier : float
        Squared error that a bit is worth; at least 0. At many bits a uniform quantizer of step s
        has the slope s ** 2 * log(2) / 6.
    cell_bits : float, default 0.0
        What each cell costs besides: its center and its count in a file. It is counted where the
        number of cells is chosen.
    n_bins : int, default 4096
        Of the shortest path.

    Returns
    -------
    Cells

    Examples
    --------
    >>> import torch
    >>> from lib.compression import entropy_constrained_cells
    >>> weights = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    >>> few, many = (entropy_constrained_cells(weights, price) for price in (0.1, 0.001))
    >>> few.entropy < many.entropy and few.inertia > many.inertia
    True
    """
    if not 0 <= multiplier < np.inf:
        raise ValueError(f"multiplier={multiplier} must be finite and at least 0.")
    ordered = as_prepared(weights).ordered
    starts = bin_starts(ordered, n_bins, ordered.rank_near)
    bounds = np.append(starts, len(ordered))
    mass, total, square = ordered.ranges(bounds[:-1], bounds[1:]).T
    path = _shortest_path(mass, total, square, bounds, multiplier, multiplier * cell_bits)
    return _alternate(ordered, bounds[path], multiplier)


def uniform_cells(weights: Array | Prepared, step: float) -> Cells:
    """Cells of equal width around the multiples of a step; each center is its cell's mean.

    Parameters
    ----------
    weights : NumPy array, torch tensor or Prepared
    step : float
        Positive.

    Returns
    -------
    Cells

    Raises
    ------
    ValueError
        If the step is not positive, or so small that there are more than 65,536 cells.

    Examples
    --------
    >>> import numpy as np
    >>> from lib.compression import uniform_cells
    >>> uniform_cells(np.array([0.1, 0.2, 1.1, 3.0]), 1.0).centers
    array([0.15, 1.1 , 3.  ])
    """
    ordered = as_prepared(weights).ordered
    if not 0 < step < np.inf:
        raise ValueError(f"step={step} must be positive and finite.")
    low, high = np.rint(ordered[[0, len(ordered) - 1]] / step)
    if high - low >= MAX_CLUSTERS:
        raise ValueError(f"step={step} makes {high - low:.0f} cells: at most {MAX_CLUSTERS} fit.")
    return cells_between(ordered, (np.arange(low, high) + 0.5) * step)


def cells_of_centers(weights: Array | Prepared, centers: np.ndarray) -> Cells:
    """Cells of the nearest centers, as of k-means; for comparison at equal entropy."""
    centers = np.unique(np.asarray(centers, np.float64))
    return cells_between(as_prepared(weights).ordered, (centers[1:] + centers[:-1]) / 2)


def multiplier_for_bits(
    sizes: Sequence[int],
    bits: float,
    cells_at: Callable[[float], Sequence[Cells]],
    tol: float = 1e-3,
) -> float:
    """The multiplier at which several weights together have so many bits of entropy.

    At their best the slopes of all rate-distortion curves are equal: one multiplier for all.

    Parameters
    ----------
    sizes : sequence of int
        Number of weights of each.
    bits : float
        Mean entropy of the labels, in bits a weight; positive.
    cells_at : callable
        From a multiplier to the `Cells` of each.
    tol : float, default 0.001
        Of the bits, relative.

    Returns
    -------
    float
        With at most `bits`, and within `tol` of it where the curve has no larger step.
    """
    if not bits > 0:
        raise ValueError(f"bits={bits} must be positive.")

    def rate(log_multiplier):
        cells = cells_at(np.exp2(log_multiplier))
        return sum(n * c.entropy for n, c in zip(sizes, cells, strict=True)) / sum(sizes)

    def least(low, high):
        while high - low > 1e-3:
            middle = (low + high) / 2
            found = rate(middle)
            if found > bits:
                low = middle
            else:
                high = middle
                if found > bits * (1 - tol):
                    break
        return high

    low, high = -40.0, 0.0
    while rate(high) > bits:
        low, high = high, high + 8
    found = least(low, high)
    while found < low + 1e-3 and low > -1000:  # all of it has fewer bits: of tiny squared errors
        low, high = low - 40, low
        found = least(low, high)
    return float(np.exp2(found))


def as_prepared(weights: Array | Prepared, sample_weight: Array | None = None) -> Prepared:
    """The weights prepared, if they are not yet."""
    return weights if isinstance(weights, Prepared) else Prepared(weights, sample_weight)


def _alternate(ordered, bounds, multiplier):
    """Cells by codelengths and centers, and these by cells, while the cost falls."""
    n, cuts = len(ordered), ordered[bounds[1:-1]]
    best, kept = np.inf, cuts
    while True:
        bounds = bounds[np.append(True, bounds[1:] > bounds[:-1])]
        counts = np.diff(bounds)
        mass, total, square = ordered.ranges(bounds[:-1], bounds[1:]).T
        means = total / mass
        lengths = -np.log2(counts / n)
        cost = np.sum(square - means * total) + multiplier * np.sum(counts * lengths)
        if not cost < best * (1 - 1e-9):
            return cells_between(ordered, kept)
        best, kept = cost, cuts
        # A bit costs the same for every weight, however important: intervals are our choice then.
        prices = multiplier * lengths * (n / mass.sum())
        cuts = _envelope(means + ordered.origin, prices)
        bounds = np.concatenate([[0], ordered.rank_near(cuts), [n]])


def cells_between(ordered: OrderedWeights, cuts: np.ndarray) -> Cells:
    """Cells of weights in order between float64 cuts; those that hold no weight are left out."""
    grid = cuts.astype(ordered.dtype)
    low = grid < cuts  # a weight at or above a cut belongs to the cell above it
    grid[low] = np.nextafter(grid[low], ordered.dtype.type(np.inf))
    bounds = np.concatenate([[0], ordered.rank(grid), [len(ordered)]])
    filled = bounds[1:] > bounds[:-1]
    cuts = grid[filled[1:] & (np.cumsum(filled)[:-1] > 0)]
    bounds = np.append(bounds[:-1][filled], len(ordered))
    mass, total, square = ordered.ranges(bounds[:-1], bounds[1:]).T
    means = total / mass
    inertia = np.maximum(0.0, square - means * total).sum()
    return Cells(cuts, means + ordered.origin, np.diff(bounds), mass, float(inertia))


def _envelope(centers, prices):
    """Cuts between the cells of (x - center) ** 2 + price; a cell without any weight has none."""
    cuts = np.empty(len(centers) - 1)
    n_cuts = _lower_envelope(centers, prices, cuts)
    return cuts[:n_cuts]


@njit(cache=True)
def _lower_envelope(centers, prices, cuts):
    """Of parabolas of one curvature, ascending in their centers; the number of cuts."""
    kept = np.empty(len(centers), np.int64)
    kept[0], n_kept = 0, 1
    for j in range(1, len(centers)):
        while True:
            i = kept[n_kept - 1]
            cut = (centers[i] + centers[j]) / 2
            cut += (prices[j] - prices[i]) / (2 * (centers[j] - centers[i]))
            if n_kept > 1 and cut <= cuts[n_kept - 2]:
                n_kept -= 1
            else:
                break
        cuts[n_kept - 1] = cut
        kept[n_kept] = j
        n_kept += 1
    return n_kept - 1


@njit(cache=True)
def _shortest_path(mass, total, square, bounds, multiplier, cell_price):
    """Bins at which the best cells begin, and the end; int64."""
    b = len(mass)
    n = bounds[b]
    best, came = np.full(b + 1, np.inf), np.zeros(b + 1, np.int64)
    best[0] = 0.0
    log_n = np.log2(n)
    for j in range(1, b + 1):
        m, t, s = 0.0, 0.0, 0.0
        # From the last bin outward: sums of single cells, not differences of sums of all.
        for i in range(j - 1, -1, -1):
            m += mass[i]
            t += total[i]
            s += square[i]
            count = bounds[j] - bounds[i]
            cost = best[i] + s - t * t / m + multiplier * count * (log_n - np.log2(count))
            cost += cell_price
            if cost < best[j]:
                best[j], came[j] = cost, i
    n_cells, j = 0, b
    while j > 0:
        j = came[j]
        n_cells += 1
    path = np.empty(n_cells + 1, np.int64)
    path[n_cells], j = b, b
    for cell in range(n_cells - 1, -1, -1):
        j = came[j]
        path[cell] = j
    return path
