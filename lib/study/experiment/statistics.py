"""Intervals and verdicts of the claims."""

import numpy as np
from scipy import stats

N_RESAMPLES = 10_000


def accuracy_gain(ours, baseline, *, seed=0, n_resamples=N_RESAMPLES):
    """Difference of top-1 between two settings, in points, with its 95 % interval.

    Images are resampled, the same ones for both sides, and seeds independently of them and of each
    other: a bootstrap over both sources of chance.

    Parameters
    ----------
    ours, baseline : bool arrays of shape (n_seeds, n_images)
        Whether each image is classified correctly; the same images in the same order.
    seed : int
    n_resamples : int

    Returns
    -------
    measured, relative, low, high : float
        Points; percent of the baseline; the interval in points.
    """
    ours, baseline = np.asarray(ours, float), np.asarray(baseline, float)
    rng = np.random.default_rng(seed)
    n_images = ours.shape[1]
    gains = np.empty(n_resamples)
    for i in range(n_resamples):
        images = rng.multinomial(n_images, np.full(n_images, 1 / n_images)) / n_images
        gains[i] = _seeds(ours @ images, rng) - _seeds(baseline @ images, rng)
    measured = 100 * (ours.mean() - baseline.mean())
    low, high = 100 * np.quantile(gains, [0.025, 0.975])
    relative = measured / baseline.mean() if baseline.any() else np.nan
    return measured, relative, low, high


def cost_saving(pairs, *, seed=0, n_resamples=N_RESAMPLES):
    """Share of the baseline's cost that ours saves, in percent, with its 95 % interval.

    Of one network the seeds of either side are resampled. Of several, the interval is Student's, of
    the mean over networks: how much they differ contains their seeds, and resampling as few as five
    would make it too narrow.

    Parameters
    ----------
    pairs : sequence of (float array of shape (n_seeds,), the same)
        Costs of ours and of the baseline by seed, one pair a network.
    seed : int
    n_resamples : int

    Returns
    -------
    measured, relative, low, high : float
        `relative` is the baseline's cost over ours.
    """
    pairs = [(np.asarray(ours, float), np.asarray(baseline, float)) for ours, baseline in pairs]
    savings = [100 * (1 - ours.mean() / baseline.mean()) for ours, baseline in pairs]
    measured = np.mean(savings)
    if len(pairs) == 1:
        rng = np.random.default_rng(seed)
        resampled = [_resampled_saving(*pairs[0], rng) for _ in range(n_resamples)]
        low, high = np.quantile(resampled, [0.025, 0.975])
    else:
        half = stats.t.ppf(0.975, len(pairs) - 1) * stats.sem(savings)
        low, high = measured - half, measured + half
    return measured, 1 / (1 - measured / 100), low, high


def _resampled_saving(ours, baseline, rng):
    return 100 * (1 - _seeds(ours, rng) / _seeds(baseline, rng))


def _seeds(by_seed, rng):
    """Mean over resampled seeds."""
    return by_seed[rng.integers(len(by_seed), size=len(by_seed))].mean()


def verdict(low, high, paper):
    """Compare the interval of a measured gain with the paper's figure.

    Returns
    -------
    str
        "supported" if the interval is above 0 and reaches the figure, "supported in part" if it is
        above 0 and below the figure, "contradicted" if it is below 0, "left open" if it contains 0.
    """
    if high < 0:
        return "contradicted"
    if not low > 0:  # also if there is no interval
        return "left open"
    return "supported" if high >= paper else "supported in part"
