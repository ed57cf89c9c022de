"""Intervals of a proportion."""

import numpy as np
import pytest
from scipy.special import ndtri

from lib.evaluation import wilson_interval


def test_wilsons_interval_is_the_published_one():
    # Newcombe (1998), Statistics in Medicine 17, table I: 81 of 263, and 15 of 148.
    assert wilson_interval(81, 263) == pytest.approx((25.53, 36.62), abs=0.01)
    assert wilson_interval(15, 148) == pytest.approx((6.24, 16.05), abs=0.01)
    # and its borders, 0 of 20 and 1 of 29
    assert wilson_interval(0, 20) == pytest.approx((0, 16.11), abs=0.01)
    assert wilson_interval(1, 29) == pytest.approx((0.61, 17.18), abs=0.01)


@pytest.mark.parametrize("level", [0.95, 0.999])
@pytest.mark.parametrize(("right", "n"), [(0, 20), (1, 29), (8957, 10_000), (2000, 2000)])
def test_wilsons_interval_solves_its_equation(right, n, level):
    """Its ends are the p with |right / n - p| = z sqrt(p (1 - p) / n) (Wilson 1927)."""
    ends, z = np.array(wilson_interval(right, n, level)) / 100, ndtri((1 + level) / 2)
    np.testing.assert_allclose((right / n - ends) ** 2, z**2 * ends * (1 - ends) / n, atol=1e-14)
    assert ends[0] < ends[1]
