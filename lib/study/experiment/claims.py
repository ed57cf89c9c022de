"""The paper's claims, each judged by the interval of an endpoint that was fixed beforehand.

Ours is the weight-distribution initialization with revision; the baselines are random and linear
initialization without revision. C1 compares textbook k-means to convergence, in operations and then
in seconds (`passes`), C2 top-1 under a budget of iterations, both at 4 bits.
"""

import numpy as np

from .evaluation import settings
from .network import SCOPES
from .statistics import accuracy_gain, cost_saving, verdict

OURS, BASELINES = "weight-distribution", ("random", "linear")
PAPER = {"C1": 5.0, "C2": 6.0}  # the abstract's lower figure in percent, and its points
PAPER |= dict.fromkeys(("C1, counted", "C1, timed"), PAPER["C1"])
# It does not say whether anything was retrained, or how labels are stored.
PAPER |= dict.fromkeys(("C2, retrained", "C2, compressed", "C2, compressed, trained"), PAPER["C2"])
MEASURES = {"C1, counted": "operations", "C1, timed": "seconds"}  # columns of the table `passes`
TOGETHER = "together"  # in place of a network: all of them


def claim_rows(networks, passes, evaluation, endpoints, scopes):
    """Rows of the table `claims`: C1 counted, C1 timed, and C2, for every scope and network.

    Parameters
    ----------
    networks : sequence of str
        Names, the headline one first.
    passes : pandas.DataFrame
        The table `passes`.
    evaluation : lib.study.experiment.evaluation.Evaluation
        Of these networks.
    endpoints : dict of str to list of Setting
        As of `endpoint_settings`.
    scopes : sequence of {"conv", "all"}
    """
    networks, bits = list(networks), endpoints[OURS][0].bits
    rows = [
        row
        for claim in MEASURES
        for scope in scopes
        for row in speed_claims(passes, claim, scope, networks, bits)
    ]
    correct = correct_by_seed(evaluation, endpoints, scopes)
    for network in networks:
        for scope in scopes:
            rows += accuracy_claims(correct[network, scope], scope, network)
    return rows


def endpoint_settings(bits, max_iter, seeds, gamma=1 / 3):
    """Settings of the endpoints, by initialization."""
    return {
        init: settings([init], [bits], [max_iter], seeds, gamma=gamma)
        for init in (OURS, *BASELINES)
    }


def speed_claims(passes, claim, scope, networks, bits):
    """Rows of C1 for one scope.

    The networks share their convolutions, which are therefore judged once. Of `all` each network
    has a row; the verdict is that of several networks together. Seconds have no verdict, since
    another machine has others.

    Parameters
    ----------
    passes : pandas.DataFrame
        The table `passes`.
    claim : {"C1, counted", "C1, timed"}
        Whether operations or seconds are compared.
    scope : {"conv", "all"}
    networks : list of str
        Names, the headline one first, whose linear layers have no prefix.
    bits : int
    """
    headline, *others = networks
    prefixes = {headline: ""} | {name: f"{name}/" for name in others if scope == "all"}
    column = MEASURES[claim]
    costs = {
        name: _cost_by_seed(passes[passes["bits"] == bits], column, scope, prefix)
        for name, prefix in prefixes.items()
    }
    groups = {name: [name] for name in costs}
    if len(costs) > 1:
        groups[TOGETHER] = list(costs)
    judged = headline if scope == "conv" else TOGETHER
    rows = []
    for name, members in groups.items():
        for baseline in BASELINES:
            pairs = [(costs[member][OURS], costs[member][baseline]) for member in members]
            row = _row(claim, scope, name, baseline, cost_saving(pairs))
            rows.append(row if (claim, name) == ("C1, counted", judged) else row | {"verdict": ""})
    return rows


def _cost_by_seed(rows, column, scope, prefix):
    """Cost of all layers of a scope, by initialization: float arrays of shape (n_seeds,)."""
    layers = [name if name.startswith("conv") else prefix + name for name in SCOPES[scope]]
    rows = rows[rows["layer"].isin(layers)]
    costs = {}
    for init in (OURS, *BASELINES):
        part = rows[(rows["init"] == init) & (rows["revise"].astype(bool) == (init == OURS))]
        missing = set(layers) - set(part["layer"])
        if missing:
            raise ValueError(f"passes has no rows of {init} for {sorted(missing)} at these bits.")
        costs[init] = part.groupby("seed")[column].sum().to_numpy(float)
    return costs


def accuracy_claims(correct, scope, network, claim="C2"):
    """Rows of C2 for one scope.

    Parameters
    ----------
    correct : dict of str to bool array of shape (n_seeds, n_images)
        By initialization: whether each image is classified correctly.
    scope, network : str
    claim : {"C2", "C2, retrained", "C2, compressed", "C2, compressed, trained"}
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
