"""The paper's claims, each judged by the interval of an endpoint that was fixed beforehand.

Ours is the weight-distribution initialization with revision; the baselines are random and linear
initialization without revision. C1 compares the time of textbook k-means to convergence, C2 top-1
under a budget of iterations, both at 4 bits.
"""

import numpy as np

from .evaluation import settings
from .network import SCOPES
from .statistics import accuracy_gain, time_saving, verdict

OURS, BASELINES = "weight-distribution", ("random", "linear")
PAPER = {"C1": 5.0, "C2": 6.0}  # the abstract's lower figure in percent, and its points
PAPER["C2, retrained"] = PAPER["C2"]  # it does not say whether anything was retrained


def claim_rows(networks, speed, evaluation, endpoints, scopes):
    """Rows of the table `claims`: C1, then C2, for every network and scope.

    The networks share their convolutions, whose time is therefore judged once.

    Parameters
    ----------
    networks : sequence of str
        Names, the headline one first.
    speed : pandas.DataFrame
        The table `speed`.
    evaluation : lib.study.experiment.evaluation.Evaluation
        Of these networks.
    endpoints : dict of str to list of Setting
        As of `endpoint_settings`.
    scopes : sequence of {"conv", "all"}
    """
    headline, *_ = networks
    bits = endpoints[OURS][0].bits
    correct = correct_by_seed(evaluation, endpoints, scopes)
    timed, judged = [], []
    for network in networks:
        for scope in scopes:
            if scope == "all" or network == headline:
                prefix = "" if network == headline else f"{network}/"
                timed += speed_claims(speed, scope, network, bits, prefix)
            judged += accuracy_claims(correct[network, scope], scope, network)
    return timed + judged


def endpoint_settings(bits, max_iter, seeds, gamma=1 / 3):
    """Settings of the endpoints, by initialization."""
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
        Of the names that the network's linear layers have in `speed`.
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
    """Rows of C2 for one scope.

    Parameters
    ----------
    correct : dict of str to bool array of shape (n_seeds, n_images)
        By initialization: whether each image is classified correctly.
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
    """Whether each test image is classified correctly.

    Returns
    -------
    dict of (str, str) to dict of str to bool array of shape (n_seeds, n_images)
        By network and scope, then by initialization.
    """
    correct = {}
    for init, grid in endpoints.items():
        for setting in grid:  # one pass of the convolutions serves all networks and scopes
            for network, scope, top, _ in evaluation.run(setting, scopes):
                right = (top[:, 0] == evaluation.images.labels).numpy()
                correct.setdefault((network, scope), {}).setdefault(init, []).append(right)
    return {
        key: {init: np.stack(seeds) for init, seeds in by_init.items()}
        for key, by_init in correct.items()
    }
