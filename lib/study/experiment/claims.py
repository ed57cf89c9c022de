"""The claims: endpoints fixed beforehand, measured, and judged with their intervals.

Ours is the weight-distribution initialization with revision; the baselines are random and linear
initialization without. C1 is the time of textbook k-means to convergence, C2 top-1 under a budget
of iterations, both at 4 bits.
"""

import numpy as np

from .evaluation import settings
from .network import SCOPES
from .statistics import accuracy_gain, time_saving, verdict

OURS, BASELINES = "weight-distribution", ("random", "linear")
PAPER = {"C1": 5.0, "C2": 6.0}  # the abstract's lower figure in percent, and its points
PAPER["C2, retrained"] = PAPER["C2"]  # it does not say whether anything was retrained


def endpoint_settings(bits, max_iter, seeds, gamma=1 / 3):
    """The endpoints' settings by initialization."""
    return {
        init: settings([init], [bits], [max_iter], seeds, gamma=gamma)
        for init in (OURS, *BASELINES)
    }


def speed_claims(speed, scope, network, bits, prefix=""):
    """Rows of C1 for one scope, from the table `speed`.

    Parameters
    ----------
    speed : pandas.DataFrame
    scope : str
    network : str
    bits : int
    prefix : str
        Before the names of the network's linear layers in `speed`.
    """
    layers = [name if name.startswith("conv") else prefix + name for name in SCOPES[scope]]
    rows = speed[
        (speed["engine"] == "textbook")
        & (speed["bits"] == bits)
        & speed["max_iter"].isna()
        & speed["extrapolated"].astype(bool)
        & speed["layer"].isin(layers)
    ]
    rows = rows[rows["revise"].astype(bool) == (rows["init"] == OURS)]
    seconds = {}
    for init in (OURS, *BASELINES):
        part = rows[rows["init"] == init]
        missing = set(layers) - set(part["layer"])
        if missing:
            raise ValueError(
                f"speed has no textbook rows of {init} for {sorted(missing)} at {bits} bits."
            )
        seconds[init] = part.pivot_table("seconds", "seed", "repeat", aggfunc="sum")
    return [
        _row("C1", scope, network, baseline, time_saving(seconds[OURS], seconds[baseline]))
        for baseline in BASELINES
    ]


def accuracy_claims(correct, scope, network, claim="C2"):
    """Rows of C2 for one scope, from whether each image is right, by initialization and seed.

    Parameters
    ----------
    correct : dict of str to bool array of shape (n_seeds, n_images)
    scope, network : str
    claim : {"C2", "C2, retrained"}
    """
    return [
        _row(claim, scope, network, baseline, accuracy_gain(correct[OURS], correct[baseline]))
        for baseline in BASELINES
    ]


def _row(claim, scope, network, baseline, estimate):
    measured, relative, low, high = estimate
    return {
        "claim": claim,
        "scope": scope,
        "network": network,
        "baseline": baseline,
        "paper": PAPER[claim],
        "measured": measured,
        "relative": relative,
        "low": low,
        "high": high,
        "verdict": verdict(low, high, PAPER[claim]),
    }


def correct_by_seed(evaluation, endpoints, scopes):
    """Whether each test image is right, for every (network, scope).

    Each is a dict from the initialization to a bool array of shape (n_seeds, n_images).
    """
    found = {}
    for init, grid in endpoints.items():
        for setting in grid:  # one pass of the convolutions serves all networks and scopes
            for network, scope, top, _ in evaluation.run(setting, scopes):
                right = (top[:, 0] == evaluation.images.labels).numpy()
                found.setdefault((network, scope), {}).setdefault(init, []).append(right)
    return {
        place: {init: np.stack(seeds) for init, seeds in by_init.items()}
        for place, by_init in found.items()
    }
