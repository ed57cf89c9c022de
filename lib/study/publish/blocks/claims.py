"""Blocks about the claims of the paper and accuracy without retraining."""

from ... import tables
from ...tables.comparison import REFERENCE
from .words import least_and_most, top1_text, verdict_counts

UNITS = {"C1": "% of time saved", "C2": "points of top-1"}


def findings_block():
    """The claims and the best files in three sentences, for a newcomer."""
    claims = tables.read_table(REFERENCE, "claims")
    retrained = tables.read_table("compress", "claims_retrained")
    frontier = tables.read_table("compress", "frontier")
    files = _chosen_files(frontier)
    untrained, trained = (
        files[(files["scope"] == "all") & (files["retrained"] == how)].iloc[0]
        for how in (False, True)
    )
    plain = frontier[(frontier["scope"] == "all") & (frontier["method"] == "float")].iloc[0]
    speed, accuracy = (claims[claims["claim"] == claim] for claim in ("C1", "C2"))
    whole = speed[speed["scope"] == "all"]
    lines = [
        "**C1, speed.** The paper: its centers save 5 to 10 % of the time of k-means. Measured at "
        f"4 bits on the five convolutions: {_gains(speed, ' %')}; on all layers of "
        f"{whole['network'].nunique()} networks {least_and_most(whole)} %. Verdict: "
        f"{verdict_counts(speed)} comparisons.",
        "**C2, accuracy.** The paper: 6 % more accurate. Measured at 4 bits after 20 iterations, "
        f"without retraining: {_gains(accuracy, ' points of top-1')}. Verdict: "
        f"{verdict_counts(accuracy)} comparisons. After retraining: {least_and_most(retrained)} "
        f"points, {verdict_counts(retrained)}.",
        "**Compression beyond the paper.** With centers chosen for an entropy coder the whole "
        f"network is **{untrained.ratio:.1f} times smaller** without training any weight: top-1 "
        f"{top1_text(untrained, ' %')}, where the float network has {top1_text(plain, ' %')}. With "
        f"training it is **{trained.ratio:.1f} times smaller**: {top1_text(trained, ' %')}.",
    ]
    return "".join(f"- {line}\n" for line in lines)


def _gains(claims, unit):
    """Gains in the convolutions of the first network, against each baseline."""
    rows = claims[(claims["scope"] == "conv") & (claims["network"] == claims["network"].iloc[0])]
    gains = (f"{_gain(row, unit)} against {row.baseline} centers" for row in rows.itertuples())
    return ", ".join(gains)


def _gain(row, unit=""):
    return f"{row.measured:.1f}{unit} [{row.low:.1f}, {row.high:.1f}]"


def _chosen_files(frontier):
    """The smallest files that lose at most half a point on held-out images."""
    chosen = tables.read_table("compress", "chosen")
    return frontier.merge(chosen[chosen["chosen"]], on=["scope", "retrained", "file"])


def claims_block():
    """A row for each claim, a column for each network, and a summary."""
    table = tables.read_table(REFERENCE, "claims")
    networks = list(dict.fromkeys(table["network"]))
    lines = []
    for (claim, scope, baseline), rows in table.groupby(["claim", "scope", "baseline"], sort=False):
        found = {row.network: row for row in rows.itertuples()}
        cells = [_verdict(found[name]) if name in found else "" for name in networks]
        paper = f"{rows['paper'].iloc[0]:g}"
        lines.append([f"{claim}, {UNITS[claim]}", scope, baseline, paper, *cells])
    summary = ". ".join(_summary(claim, rows) for claim, rows in table.groupby("claim"))
    note = f"{summary}. C1 in `conv` times the convolutions, which the networks share."
    heads = ["Claim", "Scope", "Against", "Paper", *networks]
    return tables.markdown(heads, lines) + f"\n{note}\n"


def _summary(claim, rows):
    return f"{claim}: {least_and_most(rows)} {UNITS[claim]}, {verdict_counts(rows)}"


def _verdict(row):
    return f"{_gain(row)} **{row.verdict}**"


def accuracy_block():
    """Top-1 by initialization, bits and budget, `conv` / `all`."""
    table = tables.read_table(REFERENCE, "accuracy")
    table = table[table["network"] == table["network"].iloc[0]]
    clustered = table[table["init"] != "float"]
    clustered = tables.by_default(clustered)
    clustered = clustered.assign(max_iter=clustered["max_iter"].fillna(-1))
    shown = clustered[clustered["bits"].isin([3, 4])]
    keys = sorted(set(zip(shown["bits"], shown["max_iter"], strict=True)), key=_by_bits_and_budget)
    heads = [f"{b:.0f} bits, {'converged' if m < 0 else f'{m:.0f} iterations'}" for b, m in keys]
    lines = []
    means = shown.groupby(["init", "bits", "max_iter", "scope"])["top1"].mean()
    for init in (known.name for known in tables.inits_of(shown)):
        cells = [
            " / ".join(f"{means[init, b, m, s]:.1f}" for s in ("conv", "all")) for b, m in keys
        ]
        lines.append([init, *cells])
    plain = table[table["init"] == "float"].iloc[0]
    note = (
        f"Top-1 in %, `conv` / `all`; float network {plain.top1:.1f}; {plain.n_images} test images"
    )
    note += ". Random initializations: mean over their seeds"
    return tables.markdown(["init", *heads], lines) + f"\n{note}.\n"


def revision_block():
    """Inertia after 20 iterations at 4 bits, with and without revision."""
    table = tables.read_table(REFERENCE, "speed")
    table = table[(table["bits"] == 4) & (table["max_iter"] == 20)]
    means = table.groupby(["init", "revise", "layer"])["relative_inertia"].mean()
    ranges = means.groupby(["init", "revise"]).agg(["min", "max"])
    lines = []
    for init in (known.name for known in tables.inits_of(table)):
        cells = (ranges.loc[init, revised] for revised in (False, True))
        lines.append([init, *(f"{cell['min']:.2f} to {cell['max']:.2f}" for cell in cells)])
    note = "Inertia over the optimal one: lowest and highest of the layers, means over seeds"
    return tables.markdown(["init", "Not revised", "Revised"], lines) + f"\n{note}.\n"


def _by_bits_and_budget(key):
    bits, budget = key
    return bits, budget < 0, budget
