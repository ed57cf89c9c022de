"""Intervals and verdicts of the claims."""

import numpy as np

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


def time_saving(ours, baseline, *, seed=0, n_resamples=N_RESAMPLES):
    """Share of the baseline's time that ours saves, in percent, with its 95 % interval.

    Parameters
    ----------
    ours, baseline : float arrays of shape (n_seeds, n_repeats)
        Seconds. Repeats are interleaved, so they are resampled together; seeds independently.
    seed : int
    n_resamples : int

    Returns
    -------
    measured, relative, low, high : float
        `relative` is the ratio of times, baseline over ours.
    """
    ours, baseline = np.asarray(ours, float), np.asarray(baseline, float)
    rng = np.random.default_rng(seed)
    n_repeats = ours.shape[1]
    savings = np.empty(n_resamples)
    for i in range(n_resamples):
        repeats = rng.integers(n_repeats, size=n_repeats)
        a = _seeds(np.median(ours[:, repeats], axis=1), rng)
        b = _seeds(np.median(baseline[:, repeats], axis=1), rng)
        savings[i] = 100 * (1 - a / b)
    ours, baseline = (np.median(side, axis=1).mean() for side in (ours, baseline))
    low, high = np.quantile(savings, [0.025, 0.975])
    return 100 * (1 - ours / baseline), baseline / ours, low, high


def _seeds(by_seed, rng):
    """Mean over resampled seeds."""
    return by_seed[rng.integers(len(by_seed), size=len(by_seed))].mean()


def verdict(low, high, paper):
    """Compare the interval of a measured gain with the paper's figure.

    Returns
    -------
    str
        "consistent" if the interval is above 0 and reaches the figure, "partly" if it is above 0
        and below the figure, "inconsistent" if it is below 0, "inconclusive" if it contains 0.
    """
    if high < 0:
        return "inconsistent"
    if not low > 0:  # also if there is no interval
        return "inconclusive"
    return "consistent" if high >= paper else "partly"
