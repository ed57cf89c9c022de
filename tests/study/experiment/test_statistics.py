"""Intervals and verdicts on samples whose answer is known."""

import numpy as np
import pytest

from lib.study.experiment.statistics import accuracy_gain, cost_saving, verdict

FEW = {"n_resamples": 500}


def answers(n_seeds=2, n_images=200, share=0.6, seed=1):
    return np.random.default_rng(seed).random((n_seeds, n_images)) < share


def costs(n_seeds=5, seed=1):
    return np.random.default_rng(seed).uniform(1, 2, n_seeds)


def test_identical_answers_gain_nothing():
    side = answers()
    measured, relative, low, high = accuracy_gain(side, side, **FEW)
    assert measured == relative == 0
    assert low <= 0 <= high


def test_identical_answers_of_one_seed_have_no_spread_since_images_are_paired():
    side = answers(n_seeds=1)
    assert accuracy_gain(side, side, **FEW) == pytest.approx((0, 0, 0, 0), abs=1e-12)


def test_gain_in_every_image_is_certain():
    right, wrong = np.ones((3, 50), bool), np.zeros((2, 50), bool)
    right_in_half = np.tile([True, False], (2, 25))
    with np.errstate(divide="ignore"):
        measured, _, low, high = accuracy_gain(right, wrong, **FEW)
    assert (measured, low, high) == pytest.approx((100, 100, 100))
    measured, relative, low, high = accuracy_gain(right, right_in_half, **FEW)
    assert (measured, relative) == pytest.approx((50, 100))
    assert low < 50 < high


def test_gain_of_one_seed_has_the_binomial_interval():
    # Ours is right where the baseline is, and in 36 of 100 images more.
    ours, baseline = np.zeros((2, 1, 100), bool)
    ours[:, :46] = baseline[:, :10] = True
    measured, relative, low, high = accuracy_gain(ours, baseline, n_resamples=4000)
    half = 196 * np.sqrt(0.36 * 0.64 / 100)
    assert measured == pytest.approx(36)
    assert relative == pytest.approx(360)
    assert (low, high) == pytest.approx((36 - half, 36 + half), abs=1.1)


def test_spread_of_seeds_widens_the_interval():
    baseline = np.tile(answers(n_seeds=1), (5, 1))
    steady, varied = np.ones((2, 5, 200), bool)
    varied[0] = False
    widths = [np.diff(accuracy_gain(side, baseline, **FEW)[2:]).item() for side in (steady, varied)]
    assert widths[1] > 2 * widths[0]


def test_number_of_seeds_may_differ():
    measured, *_ = accuracy_gain(np.ones((1, 20), bool), answers(5, 20), **FEW)
    assert measured == pytest.approx(100 * (1 - answers(5, 20).mean()))
    measured, *_ = cost_saving([(np.ones(1), np.full(5, 2.0))], **FEW)
    assert measured == pytest.approx(50)


def test_equal_costs_save_nothing():
    assert cost_saving([([2], [2])], **FEW) == pytest.approx((0, 1, 0, 0), abs=1e-12)


def test_one_seed_of_one_network_is_certain():
    assert cost_saving([([4], [5])], **FEW) == pytest.approx((20, 1.25, 20, 20))
    assert cost_saving([([3], [2])], **FEW) == pytest.approx((-50, 2 / 3, -50, -50))


def test_interval_is_over_the_seeds_of_either_side():
    measured, relative, low, high = cost_saving([([1], [2, 6])], **FEW)
    assert (measured, relative) == pytest.approx((75, 4))
    assert (low, high) == pytest.approx((50, 100 * (1 - 1 / 6)))


def test_interval_of_several_networks_is_student_s():
    measured, relative, low, high = cost_saving([([1], [2]), ([3], [4])], **FEW)
    half = 12.706 * 12.5  # of two values, t(1) times their standard error
    assert (measured, relative) == pytest.approx((37.5, 1.6))
    assert (low, high) == pytest.approx((37.5 - half, 37.5 + half), abs=0.01)


def test_interval_of_several_networks_covers_the_true_mean():
    rng = np.random.default_rng(0)
    savings = rng.normal(30, 5, (2000, 5))
    found = [cost_saving([([100 - s], [100]) for s in five], **FEW) for five in savings]
    inside = np.mean([low <= 30 <= high for _, _, low, high in found])
    assert 0.935 < inside < 0.965


@pytest.mark.parametrize(
    ("estimate", "sides"),
    [
        (accuracy_gain, (answers(seed=1), answers(seed=2))),
        (cost_saving, ([(costs(seed=1), costs(seed=2))],)),
    ],
)
def test_seed_decides_the_interval(estimate, sides):
    first, again, other = (estimate(*sides, seed=seed, n_resamples=100) for seed in (0, 0, 1))
    assert first == again
    assert first[:2] == other[:2]
    assert first[2:] != other[2:]


def test_estimates_leave_the_global_generator_and_their_input_alone():
    before, side = np.random.get_state()[1].copy(), costs()  # noqa: NPY002
    kept = side.copy()
    cost_saving([(side, side)], **FEW)
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    assert np.array_equal(side, kept)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (1, 7, "supported"),
        (1, 6, "supported"),  # reaches the figure
        (7, 9, "supported"),
        (1, 5.99, "supported in part"),
        (1e-9, 1, "supported in part"),
        (-3, -1, "contradicted"),
        (-3, -1e-9, "contradicted"),
        (-3, 0, "left open"),  # contains 0
        (0, 9, "left open"),
        (-1, 9, "left open"),
        (0, 0, "left open"),
        (np.nan, np.nan, "left open"),
    ],
)
def test_verdict(low, high, expected):
    assert verdict(low, high, paper=6) == expected
