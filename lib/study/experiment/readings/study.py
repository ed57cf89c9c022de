"""Readings of the study's tables: training, distributions, speed, accuracy, claims, bench."""

import numpy as np

from ...tables import by_default
from ..claims import BASELINES, OURS, TOGETHER
from ..peers import COPY, OPTIMAL
from ..peers import OURS as OUR_PEER
from ..speed import textbook_seconds
from ..words import beside, bits_of, bullets, listed, span

CENTRAL = 0.99  # share of the weights that are the bulk
NEAR = "textbook, to 1 % of optimal"
UNITS = {"C1, counted": "% of the operations saved", "C1, timed": "% of the time saved"}


def float_accuracy(training):
    """Test accuracy of the float networks, from the table `training`."""
    last = training[training["test_top1"].notna()]
    texts = [f"{row.test_top1:.2f} % ({row.network})" for row in last.itertuples()]
    return f"In this run top-1 on the test images is {listed(texts)}."


def learned(layers):
    """How much of the initial weights is left in each layer, from the table `layers`."""
    texts = []
    for layer, rows in layers.groupby("layer", sort=False):
        correlation = rows["correlation_with_init"].abs()
        left = "much" if correlation.max() >= 0.5 else "part"
        left = "hardly anything" if correlation.max() < 0.1 else left
        numbers = f"correlation {span(correlation, 2)}, excess kurtosis {span(rows['kurtosis'])}"
        texts.append(f"{left} in {layer} ({numbers})")
    return f"Left of the initial weights in this run: {listed(texts)}."


def tails(density):
    """How far the farthest weight of each layer is, from the table `density`."""
    texts = [
        f"{_farthest(rows):.0f} in {layer}" for layer, rows in density.groupby("layer", sort=False)
    ]
    return f"In this run the farthest weight's distance in standard deviations is {listed(texts)}."


def _farthest(rows):
    """Largest distance from the mean in standard deviations, of a density in steps."""
    edges, heights = rows["weight"].to_numpy(), rows["density"].to_numpy()[:-1]
    mean = np.sum(heights * np.diff(edges**2)) / 2
    variance = np.sum(heights * np.diff((edges - mean) ** 3)) / 3
    return np.abs(edges - mean).max() / variance**0.5


def spread(density, distribution):
    """How many centers the bulk of the weights has, from `density` and `distribution`."""
    bits = distribution["bits"].min()
    rows = distribution[distribution["bits"] == bits]
    inside = np.zeros(len(rows), bool)
    for layer, steps in density.groupby("layer"):
        cdf = np.append(0, np.cumsum(steps["density"].iloc[:-1] * np.diff(steps["weight"])))
        at_center = np.interp(rows["center"], steps["weight"], cdf / cdf[-1])
        central = np.abs(at_center - 0.5) <= CENTRAL / 2
        inside |= central & (rows["layer"] == layer).to_numpy()
    names = [
        init if np.isnan(gamma) else f"γ = {gamma:.2g}"
        for init, gamma in zip(rows["init"], rows["gamma"].astype(float), strict=True)
    ]
    counted = rows.assign(inside=inside, name=names).groupby(["name", "stage"], sort=False)
    share = (100 * counted["inside"].mean()).unstack("stage")
    texts = [f"{row.Index} {row.initial:.0f} → {row.final:.0f} %" for row in share.itertuples()]
    return (
        f"In this run, at {bits_of(bits)}, the share of the centers among the central "
        f"{100 * CENTRAL:.0f} % of the weights, before → after Lloyd's algorithm, is: "
        f"{', '.join(texts)}."
    )


def iterations(speed, bits):
    """In how many layers ours takes the fewest iterations, from the table `speed`."""
    rows = _sorted_engine(speed, bits)
    rows = by_default(rows[rows["max_iter"].isna() & (rows["init"] != "optimal")])
    if lacking := _lacking(rows, [OURS]):
        return lacking
    mean = rows.groupby(["layer", "init"])["n_iter"].mean().unstack("init")
    rank = mean.rank(axis=1, method="min")[OURS]
    return (
        f"In this run, optimal centers aside, {OURS} takes the fewest iterations in "
        f"{(rank == 1).sum()} of {len(rank)} layers and the second fewest in {(rank == 2).sum()}."
    )


def inertia(speed, bits, budget):
    """Inertia over the optimal one when a budget ends, from the table `speed`."""
    rows = _sorted_engine(speed, bits)
    rows = rows[rows["max_iter"] == budget]
    usual = f"the inertia over the optimal one is {_inertias(by_default(rows))}"
    text = f"In this run, after {budget} iterations, {usual}."
    revised = rows[rows["revise"].astype(bool) & (rows["init"] != OURS)]
    return text + (f" With revision it is {_inertias(revised)}." if len(revised) else "")


def _inertias(rows):
    mean = rows.groupby(["init", "layer"], sort=False)["relative_inertia"].mean()
    by_init = mean.groupby("init", sort=False)
    return listed([f"{span(values, 2)} from {init}" for init, values in by_init])


def _sorted_engine(speed, bits):
    return speed[(speed["engine"] == "sorted") & (speed["bits"] == bits)]


def operations(passes):
    """Operations on the convolutions by initialization, from the table `passes`."""
    rows = passes[passes["layer"].str.startswith("conv")]
    whole = rows.groupby(["init", "seed"], sort=False)["operations"].sum() / 1e9
    texts = [
        f"{span(by_seed)} from {init}"
        + (
            f" ({by_seed.mean():.1f} on average over {len(by_seed)} seeds)"
            if len(by_seed) > 1
            else ""
        )
        for init, by_seed in whole.groupby("init", sort=False)
    ]
    return f"In this run the convolutions take, in billions of operations, {listed(texts)}."


def textbook_time(speed, bits):
    """Textbook seconds of ours beside the baselines', from the table `speed`."""
    seconds = by_default(textbook_seconds(speed, bits).reset_index())
    if lacking := _lacking(seconds):
        return lacking
    mean = seconds.groupby("init")[["textbook", NEAR]].mean()
    saved = 100 * (1 - mean.loc[OURS] / mean)
    whole, near = (
        listed([_less(saved.loc[init, engine], init) for init in BASELINES])
        for engine in ("textbook", NEAR)
    )
    rows = by_default(speed[(speed["engine"] == NEAR) & (speed["bits"] == bits)])
    far = rows[~rows["converged"].astype(bool)].groupby("init", sort=False)["layer"].unique()
    never = [f"{init} ({', '.join(layers)})" for init, layers in far.items()] or ["none"]
    return (
        f"In this run, on average over seeds, {OURS} takes {whole} to the last label, and {near} "
        f"to within 1 % of the optimal inertia. Starts that never come that near: {listed(never)}."
    )


def _less(percent, init):
    return f"{abs(percent):.0f} % {'less' if percent >= 0 else 'more'} time than {init}"


def accuracy(table, n_images):
    """How much the initialization matters at each number of bits, from the table `accuracy`."""
    table = table[table["network"] == table["network"].iloc[0]]
    rows = by_default(table[(table["n_images"] == n_images) & (table["init"] != "float")])
    scope = rows["scope"].iloc[0]
    budget = None if rows["max_iter"].isna().any() else rows["max_iter"].max()
    last = rows["max_iter"].isna() if budget is None else rows["max_iter"] == budget
    mean = rows[last & (rows["scope"] == scope)].groupby(["bits", "init"])["top1_drop"].mean()
    best, worst = mean.groupby("bits").min(), mean.groupby("bits").max()
    apart = [f"{worst[b] - best[b]:.1f} at {bits_of(b)}" for b in best.index]
    drops = [f"{best[b]:.1f} at {bits_of(b)}" for b in best.index]
    when = "converged" if budget is None else f"after {budget:.0f} iterations"
    return (
        f"In this run, {when} and in `{scope}`, the points between the best and the worst "
        f"initialization are {listed(apart)}. Points that the best one is below the float network: "
        f"{listed(drops)}."
    )


def endpoint(table, bits, n_images):
    """Ours beside the baselines at the endpoints' bits, from the table `accuracy`."""
    table = table[table["network"] == table["network"].iloc[0]]
    rows = table[(table["bits"] == bits) & (table["n_images"] == n_images)]
    if lacking := _lacking(rows):
        return lacking
    text = bullets(f"In this run {OURS} is", _gains(by_default(rows)))
    revised = rows[rows["revise"].astype(bool)]
    if not set(BASELINES) <= set(revised["init"]):
        return text
    return text + "\n\n" + bullets("With revision of the baselines, too, it is", _gains(revised))


def _lacking(rows, inits=(OURS, *BASELINES)):
    """What a reading says in place of a comparison that a run cannot make; else nothing."""
    missing = [init for init in inits if init not in set(rows["init"])]
    return f"This run has nothing to compare: no {listed(missing)}." if missing else ""


def _gains(rows):
    rows = rows.assign(max_iter=rows["max_iter"].fillna(-1))
    texts = []
    for (scope, budget), part in rows.groupby(["scope", "max_iter"], sort=False):
        top1 = part.groupby("init")["top1"].mean()
        when = "converged" if budget < 0 else f"after {budget:.0f} iterations"
        gains = [beside(top1[OURS] - top1[init], init) for init in BASELINES]
        texts.append(f"`{scope}`, {when}: {listed(gains)}")
    return texts


def claims(table, n_seeds=None):
    """Verdicts and gains of each claim, from the table `claims` or `claims_retrained`.

    `n_seeds` is the number of seeds of random centers that C2 has.
    """
    texts = []
    for claim, rows in table.groupby("claim", sort=False):
        counts = rows["verdict"].dropna().value_counts(sort=False)
        judged = counts.sum()
        verdicts = [f"*{word}* in {n} of {judged} judged rows" for word, n in counts.items()]
        unit = "points of top-1 gained" if claim.startswith("C2") else UNITS[claim]
        said = listed(verdicts or ["not judged"])
        texts.append(f"{claim}: {said}; {span(rows['measured'])} {unit}")
    notes = []
    if n_seeds == 1:
        notes.append("Against random centers C2 stands on one seed.")
    whole = table[(table["claim"] == "C1, counted") & (table["scope"] == "all")]
    if len(whole) and TOGETHER not in set(whole["network"]):
        notes.append("C1 in `all` is that of one trained network: too few for a verdict.")
    return "\n\n".join([bullets("In this run", texts), *notes])


def peers(bench):
    """Ours beside the fastest other package on equally many weights, from the table `bench`."""
    keys = ["array", "n_weights", "n_clusters"]
    median = bench.groupby([*keys, "peer"])["seconds"].median().unstack("peer")
    fastest = median.drop(columns=[OUR_PEER, OPTIMAL, COPY], errors="ignore").min(axis=1)
    texts = []
    for peer in (OUR_PEER, OPTIMAL):
        times = (fastest / median[peer]).dropna()
        inertia = bench.loc[bench["peer"] == peer, "relative_inertia"].max()
        texts.append(
            f"*{peer}*: faster in {(times > 1).sum()} of {len(times)} cases, {span(times)} times "
            f"as fast; its inertia is at most {inertia:.4f} times the bound"
        )
    return bullets("In this run, beside the fastest other package on equally many weights", texts)


def gaps(table):
    """The largest gap between optimal centers and the proven bound, from the table `gaps`."""
    worst = table.loc[table["gap"].idxmax()]
    return (
        f"In this run the gap is at most {worst['gap']:.1e}, in {worst['layer']} at "
        f"{worst['n_clusters']} centers."
    )


def ratios(table):
    """Seconds of each clustering beside something simpler, from the table `ratios`."""
    median = table.groupby(["case", "against"], sort=False)["ratio"].median()
    texts = [f"{case}: {ratio:.1f} times {other}" for (case, other), ratio in median.items()]
    return bullets("In this run the seconds are", texts)
