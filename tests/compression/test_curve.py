"""The price that suits a layer, against choices among its points and exact slopes."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.compression.curve import Curve, lower_hull


def smooth(n=1000):
    """Half a bit for each octave: the loss is 4 ** -bits, whose slope by bits is the price."""
    bits = np.arange(10, 0.0, -0.5)
    losses = 4.0**-bits
    return Curve(2 * np.log(2) * losses / n, bits * n / 8, losses, n)


def test_where_errors_add_up_the_price_is_the_models():
    curve = smooth()
    for place in np.arange(-24, -14, 0.7):
        assert curve.price(2.0**place) == pytest.approx(2.0**place, rel=0.03)


def test_where_the_loss_grows_faster_the_price_is_lower():
    curve = smooth()
    dearer = Curve(curve.prices, curve.sizes, curve.losses * (1 + 100 * curve.losses), 1000)
    low, high = dearer.prices[2], dearer.prices[-4]
    assert dearer.price(low) == pytest.approx(low, rel=0.05)
    assert dearer.price(high) < 0.3 * high


def test_a_layer_is_not_emptied_before_that_is_worth_its_loss():
    """A little more of the price would empty it, at a loss of 1 for 800 bits."""
    curve = Curve([1e-5, 2e-5, 4e-5], [200.0, 100.0, 0.0], [1e-4, 3e-2, 1.0], 1000)
    assert curve.price(0.95 / 800) == pytest.approx(2e-5)
    assert curve.price(1.3 / 800) == pytest.approx(4e-5)


def test_points_that_are_never_best_are_passed_over():
    sizes, losses = np.array([8.0, 7.0, 6.0, 6.5, 0.0]), np.array([0.0, 5.0, 1.0, 2.0, 10.0])
    assert lower_hull(sizes, losses) == [0, 2, 4]


POINTS = st.lists(
    st.tuples(st.floats(0.01, 1e3), st.floats(0.01, 1e3)), min_size=1, max_size=12, unique=True
)


@given(POINTS, st.lists(st.floats(1e-9, 1e9), min_size=2, max_size=8))
def test_the_hull_is_best_and_the_price_ascends(points, multipliers):
    sizes = np.minimum.accumulate(np.array([size for size, _ in points]))
    losses = np.maximum.accumulate(np.array([loss for _, loss in points]))
    hull = lower_hull(sizes, losses)
    for multiplier in multipliers:
        costs = losses + multiplier * sizes
        assert costs[hull].min() <= costs.min() * (1 + 1e-9)
    curve = Curve(2.0 ** np.arange(len(points)), sizes, losses, 100)
    prices = [curve.price(multiplier) for multiplier in sorted(multipliers)]
    assert all(b >= a * (1 - 1e-9) for a, b in pairwise(prices))
