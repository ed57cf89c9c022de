"""Blocks about the claims of the paper and accuracy without retraining."""

from ... import tables
from ...experiment.claims import BASELINES, OURS, TOGETHER
from ...tables.comparison import REFERENCE
from .compression import files_of_compress, smallest_accurate
from .words import least_and_most, lost_text, verdict_counts

UNITS = {
    "C1, counted": "% of operations saved",
    "C1, timed": "% of time saved",
    "C2": "points of top-1",
}
PAPER_MOST = 10  # percent: the upper end of what the abstract says of speed
VERDICTS = ("supported", "supported in part", "left open", "contradicted")


def findings_block():
    """What was found about the claims, and the best files, for a newcomer."""
    return verdicts_block() + f"- {_smaller()}\n"


def verdicts_block():
    """What was found about the claims, in words."""
    claims = tables.read_table(REFERENCE, "claims")
    speed, accuracy = (claims[claims["claim"] == claim] for claim in ("C1, counted", "C2"))
    passes, starts = tables.read_table(REFERENCE, "passes"), _accuracy_of_first_network()
    lines = [_faster(speed), _more_accurate(accuracy)]
    lines += [_not_at_once(passes, starts), _revision(passes, starts)]
    return "".join(f"- {line}\n" for line in lines)


def _faster(claims):
    whole = claims[claims["scope"] == "all"]
    single, together = (whole[(whole["network"] == TOGETHER) == pooled] for pooled in (False, True))
    pooled = f", together {_gains(together, ' %')}" if len(together) else ""
    more = ", by more than the paper says" if (claims["low"] > PAPER_MOST).all() else ""
    return (
        f"**C1, speed: {_word(claims)}{more}.** The paper: k-means is 5 to 10 % faster. At 4 bits, "
        f"until no label changes, our centers save operations: {_gains(_headline(claims), ' %')} "
        f"on the five convolutions; {least_and_most(single)} % on all layers of "
        f"{single['network'].nunique()} networks{pooled}."
    )


def _more_accurate(claims):
    retrained = tables.read_table("compress", "claims_retrained")
    retrained = retrained[retrained["claim"] == "C2, retrained"]
    differ = f" ({verdict_counts(claims)})" if claims["verdict"].nunique() > 1 else ""
    return (
        f"**C2, accuracy: {_word(claims)}.** The paper: 6 % more accurate. At 4 bits after 20 "
        f"iterations, without retraining, our centers gain top-1: "
        f"{_gains(_headline(claims), ' points')} in the convolutions; "
        f"{least_and_most(claims)} points over all networks and scopes{differ}. After an epoch of "
        f"retraining the gain is {least_and_most(retrained)} points."
    )


def _not_at_once(passes, accuracy):
    top1 = _top1_in_convolutions(accuracy)
    at_end = [f"{init} ones {top1[init, False, -1]:.1f} %" for init in BASELINES]
    return (
        "**Not both at once.** C1 is judged when no label changes any more, C2 after 20 "
        f"iterations. When no label changes, our centers reach {top1[OURS, True, -1]:.1f} % in "
        f"the convolutions, {' and '.join(at_end)} ({accuracy['n_images'].iloc[0]:,} test "
        f"images). After 20 iterations ours have taken {_dearer(passes):.0f} % more operations, "
        "since they sort the weights first."
    )


def _revision(passes, accuracy):
    ranges, top1 = _revised_inertia(), _top1_in_convolutions(accuracy)
    tried = passes.loc[passes["init"] == OURS, "splits_tried"].sum()
    acts = (
        f"tried {tried} splits after our start"
        if tried
        else "never acted after our start: C1 and C2 measure the start alone"
    )
    errors = [
        f"from {init} centers {_range(ranges.loc[init, False])} without it, "
        f"{_range(ranges.loc[init, True])} with it"
        for init in BASELINES
    ]
    return (
        f"**Revision of the centers** {acts}. "
        "It helps other starts. The squared error after 20 iterations at 4 bits, over the optimal "
        f"one, lowest to highest of the layers: {'; '.join(errors)}; from ours "
        f"{_range(ranges.loc[OURS, True])}. In the convolutions revised linear centers reach "
        f"{top1['linear', True, 20]:.1f} % of top-1 by then, ours {top1[OURS, True, 20]:.1f} %."
    )


def _accuracy_of_first_network():
    """The table `accuracy`; -1 iterations: until no label changes."""
    table = tables.read_table(REFERENCE, "accuracy")
    table = table[table["network"] == table["network"].iloc[0]]
    return table.assign(max_iter=table["max_iter"].fillna(-1))


def _top1_in_convolutions(accuracy):
    """Top-1 at 4 bits, mean of seeds, by initialization, revision and iterations."""
    rows = accuracy[(accuracy["bits"] == 4) & (accuracy["scope"] == "conv")]
    return rows.groupby(["init", "revise", "max_iter"])["top1"].mean()


def _dearer(passes, n_iter=20):
    """Percent of operations in the convolutions that our start costs more than linear centers.

    After so many iterations: without those that the table `passes` has beyond them.
    """
    rows = passes[passes["layer"].str.startswith("conv")]
    beyond = (rows["n_iter"] - n_iter) * rows["n_weights"] * 2 ** rows["bits"]
    costs = (rows["operations"] - beyond).groupby(rows["init"]).sum()
    return 100 * (costs[OURS] / costs["linear"] - 1)


def _smaller():
    files = files_of_compress()
    files = files[files["scope"] == "all"]
    chosen = files[files["chosen"]].set_index("retrained")
    untrained, trained = (chosen.loc[how] for how in (False, True))
    text = (
        "**Compression beyond the paper.** Chosen by held-out images, the whole network is "
        f"**{untrained['ratio']:.0f} times smaller** without training any weight and loses "
        f"{lost_text(untrained)} points of top-1 on test images; with training "
        f"**{trained['ratio']:.0f} times**, {lost_text(trained)} points."
    )
    coded = files[files["method"].str.startswith("standard")]
    if len(coded) == 0:
        return text
    best = smallest_accurate(coded)
    return (
        f"{text} By the standard (ISO/IEC 15938-17), which sees no images, it is "
        f"{best['ratio']:.0f} times smaller and loses {lost_text(best)}."
    )


def _word(claims):
    """The weakest verdict of a claim."""
    return [word for word in VERDICTS if (claims["verdict"] == word).any()][-1]


def _headline(claims):
    """The rows of the convolutions in the first network."""
    return claims[(claims["scope"] == "conv") & (claims["network"] == claims["network"].iloc[0])]


def _gains(rows, unit):
    """Gains against each baseline."""
    gains = (f"{_gain(row, unit)} against {row.baseline} centers" for row in rows.itertuples())
    return ", ".join(gains)


def _gain(row, unit=""):
    exact = row.low == row.high  # counted, and nothing is random
    return f"{row.measured:.1f}{unit}" + ("" if exact else f" [{row.low:.1f}, {row.high:.1f}]")


def claims_block():
    """A row for each claim: what is judged, and the range over the trained networks."""
    table = tables.read_table(REFERENCE, "claims")
    headline, lines = table["network"].iloc[0], []
    for (claim, scope, baseline), rows in table.groupby(["claim", "scope", "baseline"], sort=False):
        named = rows.set_index("network")
        shown = named.loc[TOGETHER if TOGETHER in named.index else headline]
        verdict = f" **{shown.verdict}**" if isinstance(shown.verdict, str) else ""
        single = rows[rows["network"] != TOGETHER]
        every = "the same in all" if len(single) == 1 else least_and_most(single)
        paper = f"{shown.paper:g}"
        cells = [paper, _gain(shown) + verdict, every, verdict_counts(single)]
        lines.append([f"{claim}, {UNITS[claim]}", scope, baseline, *cells])
    heads = ["Claim", "Scope", "Against", "Paper", "Measured", "By network", "Their verdicts"]
    pooled = f" or of all networks {TOGETHER}" if TOGETHER in set(table["network"]) else ""
    note = f"Measured: that of {headline}{pooled}. C1 in `conv` is of the convolutions, which the"
    return tables.markdown(heads, lines) + f"\n{note} networks share. {_relative(table)}\n"


def _relative(table):
    """C2 read as a gain in percent of the baseline's accuracy."""
    rows = table[table["claim"] == "C2"]
    high = rows["high"] * rows["relative"] / rows["measured"]
    reaching = (high >= rows["paper"]).sum()
    return (
        f"Read as a relative gain, C2 is {rows['relative'].min():.1f} to "
        f"{rows['relative'].max():.1f} %, and its interval reaches the paper's 6 % in {reaching} "
        f"of {len(rows)} rows."
    )


def accuracy_block():
    """Top-1 by initialization, bits and budget, `conv` / `all`."""
    table = _accuracy_of_first_network()
    clustered = tables.by_default(table[table["init"] != "float"])
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
    seeds = shown[shown["init"] == "random"].groupby("bits")["seed"].nunique()
    counts = [f"{n} at {bits:.0f} bits" for bits, n in seeds.items()]
    note += f". Random centers and k-means++: means over seeds ({', '.join(counts)})"
    return tables.markdown(["init", *heads], lines) + f"\n{note}.\n"


def revision_block():
    """Inertia after 20 iterations at 4 bits, with and without revision."""
    ranges = _revised_inertia()
    lines = [
        [init, *(_range(ranges.loc[init, revised]) for revised in (False, True))]
        for init in dict.fromkeys(ranges.index.get_level_values("init"))
    ]
    note = "Inertia over the optimal one: lowest and highest of the layers, means over seeds"
    return tables.markdown(["init", "Not revised", "Revised"], lines) + f"\n{note}.\n"


def _revised_inertia():
    """Least and most inertia of the layers by initialization and revision, over the optimal one."""
    table = tables.read_table(REFERENCE, "speed")
    table = table[(table["bits"] == 4) & (table["max_iter"] == 20)]
    means = table.groupby(["init", "revise", "layer"])["relative_inertia"].mean()
    ranges = means.groupby(["init", "revise"]).agg(["min", "max"])
    return ranges.loc[[known.name for known in tables.inits_of(table)]]


def _range(row):
    return f"{row['min']:.2f} to {row['max']:.2f}"


def _by_bits_and_budget(key):
    bits, budget = key
    return bits, budget < 0, budget
