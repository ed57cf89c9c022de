"""What becomes of a layer by the price of a bit, and the price that suits it.

A layer's labels are chosen at one price of a bit, in units of errors that add up (`rate_aware`).
What these errors do to the model's outputs grows faster than they do (`Use.loss`), and how far they
make up for each other changes with the price. So the price is looked up: on the lower convex hull
of the losses over the bits, it is the one at which the last bit saved cost what the model pays for
one, the equal slopes of Shoham and Gersho (1988). Where errors leap before they have saved their
worth, as when a layer is about to be emptied, a layer stays on this side of the leap. A leap takes
a few hundredths of an octave, so that the bytes on its way can be had by who asks for them.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

LEAP = 0.01  # octaves of the multiplier on either side


@dataclass(frozen=True, eq=False)
class Curve:
    """A layer at several prices of a bit.

    Parameters
    ----------
    prices : float array of shape (points,)
        Ascending.
    sizes : float array of shape (points,)
        Bytes.
    losses : float array of shape (points,)
        What the layer's error costs.
    n_weights : int

    Examples
    --------
    >>> curve = Curve([1.0, 2.0, 4.0], [4.0, 2.0, 1.0], [0.0, 16.0, 80.0], 8)
    >>> [round(curve.price(multiplier), 2) for multiplier in (0.25, 2.8284, 16)]
    [0.5, 2.0, 4.0]
    >>> curve.n_bytes(1.0)
    4.0
    """

    prices: np.ndarray
    sizes: np.ndarray
    losses: np.ndarray
    n_weights: int

    def price(self, multiplier: float) -> float:
        """The layer's own price, where a bit is worth `multiplier` in losses; ascending."""
        place = math.log2(multiplier)
        lower = np.interp(place, *self._knots)
        return 2.0 ** (place - float(lower))

    def n_bytes(self, price: float) -> float:
        """Bytes at the layer's own price."""
        place, points = math.log2(price), np.log2(self.prices)
        more = max(0.0, points[0] - place) / 2 * self.n_weights / 8  # half a bit for each octave
        return float(np.interp(place, points, self.sizes)) + more

    @cached_property
    def _knots(self):
        """Multipliers, ascending, and by how much the price is lower at each; logarithms."""
        prices = np.log2(self.prices)
        hull = lower_hull(self.sizes, self.losses)
        if len(hull) == 1:
            return [0.0], [0.0]
        # Between two points of the hull, what a bit that the second one saves costs.
        worth = [math.log2(_a_byte(self.sizes, self.losses, i, j) / 8) for i, j in pairwise(hull)]
        leaps = [j > i + 1 or j == len(prices) - 1 for i, j in pairwise(hull)]
        middles = [(a + b) / 2 for a, b in pairwise([worth[0] - 2, *worth, worth[-1] + 2])]
        places, own = [], []
        for n, i in enumerate(hull):
            before = [worth[n - 1] + LEAP] if n > 0 and leaps[n - 1] else []
            after = [worth[n] - LEAP] if n < len(worth) and leaps[n] else []
            places += [*before, *([] if before and after else [middles[n]]), *after]
            own += [prices[i]] * (len(places) - len(own))
        places = np.maximum.accumulate(places)
        return places, np.subtract(places, own)


def lower_hull(sizes: np.ndarray, losses: np.ndarray) -> list[int]:
    """Indices of the points with the least loss + price * size at some price, by ascending loss."""
    hull: list[int] = []
    for i in np.lexsort([sizes, losses]):
        if hull and sizes[i] >= sizes[hull[-1]]:
            continue
        while len(hull) > 1 and (
            _a_byte(sizes, losses, *hull[-2:]) >= _a_byte(sizes, losses, hull[-1], i)
        ):
            hull.pop()
        hull.append(int(i))
    return hull


def _a_byte(sizes, losses, i, j):
    """What each byte costs that the second point saves."""
    return (losses[j] - losses[i]) / (sizes[i] - sizes[j])
