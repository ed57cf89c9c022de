"""What README and documentation say about tables: their numbers, and their columns.

A page holds a block between ``<!-- name -->`` and ``<!-- /name -->``, where the name is one of
`BLOCKS`, or an experiment and a table, as in ``compress/rates``: what papers print of that table.
"""

import math
import re

from ...initialization import INITIALIZATIONS
from .. import paths, tables
from ..tables.comparison import REFERENCE, stated
from ..tables.records import MEANINGS

HEADS = ["Column", "Meaning"]
UNITS = {"C1": "% of time saved", "C2": "points of top-1"}
BLOCK = re.compile(r"(<!-- ([\w/]+) -->\n).*?(<!-- /\2 -->)", re.S)


def pages():
    """Paths of all pages that may have blocks."""
    readmes = [paths.ROOT / "README.md", paths.ROOT / "results/README.md"]
    return [*readmes, *sorted((paths.ROOT / "docs").glob("*.md"))]


def update(text):
    """A page's text with every block made anew from the committed tables and their records.

    Raises
    ------
    ValueError
        For a block of an unknown name.
    """
    return BLOCK.sub(lambda match: f"{match[1]}{_block(match[2])}{match[3]}", text)


def _block(name):
    experiment, _, table = name.partition("/")
    if table in tables.TABLES and tables.TABLES[table].paper:
        return table_block(experiment, table)
    if name not in BLOCKS:
        raise ValueError(
            f"no block is named {name!r}: choose from {', '.join(BLOCKS)}, or name an experiment "
            "and a table, as in compress/rates."
        )
    return BLOCKS[name]()


def table_block(experiment, name):
    """What papers print of a table, and its caption."""
    record = tables.TABLES[name]
    heads, rows, _ = tables.for_readers(record.paper(tables.read_table(experiment, name)))
    return f"{tables.markdown(heads, rows)}\n{record.caption}\n"


def columns_block():
    """Meaning of every column, and how a run's rows are compared with the committed ones."""
    shared = tables.markdown(HEADS, [[f"`{name}`", text] for name, text in MEANINGS.items()])
    sections = "".join(_columns(record) for record in tables.TABLES.values())
    return f"Columns of several tables:\n\n{shared}{sections}"


def _columns(record):
    """The section of one table."""
    own = [
        [", ".join(f"`{name}`" for name in names.split()), meaning]
        for names, meaning in record.meanings.items()
        if meaning is not tables.SHARED
    ]
    keys = ", ".join(f"`{name}`" for name in record.key_columns)
    return (
        f"\n### `{record.name}.csv`\n\n{record.caption} Each row is {record.row}.\n\n"
        f"{tables.markdown(HEADS, own)}\n"
        f"Rows of equal {keys} are compared: {stated(record.tolerances) or 'no column'}.\n"
    )


def findings_block():
    """The claims, and compression beyond them, in words for a newcomer."""
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
        f"{whole['network'].nunique()} networks {_least_and_most(whole)} %. Verdict: "
        f"{_verdicts(speed)} comparisons.",
        "**C2, accuracy.** The paper: 6 % more accurate. Measured at 4 bits after 20 iterations, "
        f"without retraining: {_gains(accuracy, ' points of top-1')}. Verdict: "
        f"{_verdicts(accuracy)} comparisons. After retraining: {_least_and_most(retrained)} "
        f"points, {_verdicts(retrained)}.",
        "**Compression beyond the paper.** With centers chosen for an entropy coder the whole "
        f"network is **{untrained.ratio:.1f} times smaller** without training any weight: top-1 "
        f"{_top1(untrained, ' %')}, where the float network has {_top1(plain, ' %')}. With "
        f"training it is **{trained.ratio:.1f} times smaller**: {_top1(trained, ' %')}.",
    ]
    return "".join(f"- {line}\n" for line in lines)


def _gains(claims, unit):
    """What was gained in the convolutions of the first network, against either baseline."""
    rows = claims[(claims["scope"] == "conv") & (claims["network"] == claims["network"].iloc[0])]
    gains = (f"{_gain(row, unit)} against {row.baseline} centers" for row in rows.itertuples())
    return ", ".join(gains)


def _gain(row, unit=""):
    return f"{row.measured:.1f}{unit} [{row.low:.1f}, {row.high:.1f}]"


def _least_and_most(claims):
    return f"{claims['measured'].min():.1f} to {claims['measured'].max():.1f}"


def _verdicts(claims):
    counts = claims["verdict"].value_counts()
    return ", ".join(f"{word} in {count} of {len(claims)}" for word, count in counts.items())


def _chosen_files(frontier):
    """The smallest files that lose at most half a point on held-out images."""
    chosen = tables.read_table("compress", "chosen")
    return frontier.merge(chosen[chosen["chosen"]], on=["scope", "retrained", "file"])


def claims_block():
    """The claims, one row each, side by side for every trained network."""
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
    return f"{claim}: {_least_and_most(rows)} {UNITS[claim]}, {_verdicts(rows)}"


def _verdict(row):
    return f"{_gain(row)} **{row.verdict}**"


def accuracy_block():
    """Top-1 by bits and budget, `conv` / `all`; each initialization as it is known."""
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
    for init in _inits(shown):
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
    for init in _inits(table):
        cells = (ranges.loc[init, revised] for revised in (False, True))
        lines.append([init, *(f"{cell['min']:.2f} to {cell['max']:.2f}" for cell in cells)])
    note = "Inertia over the optimal one: lowest and highest of the layers, means over seeds"
    return tables.markdown(["init", "Not revised", "Revised"], lines) + f"\n{note}.\n"


def _inits(rows):
    """Names of the initializations in a table, in the order of `INITIALIZATIONS`."""
    return [name for name in INITIALIZATIONS if name in set(rows["init"])]


def _by_bits_and_budget(key):
    bits, budget = key
    return bits, budget < 0, budget


def frontier_block():
    """Every file of the experiment `compress`, the largest first; those chosen are bold."""
    table = tables.read_table("compress", "frontier")
    chosen = tables.read_table("compress", "chosen")
    table = table.merge(chosen, on=["scope", "retrained", "file"], how="left")
    table["chosen"] = table["chosen"].eq(True)  # no file, as of a float network: not chosen
    lines = []
    for scope in ("conv", "all"):
        for row in table[table["scope"] == scope].sort_values("ratio").itertuples():
            bold = "**" if row.chosen else ""
            held_out = "" if math.isnan(row.held_out_drop) else f"{row.held_out_drop:.1f}"
            sizes = [f"{bold}{row.ratio:.1f}{bold}", f"{row.bytes:,}"]
            lost = [f"{row.top1_drop:.2f}", held_out]
            lines.append([row.scope, row.method, *sizes, _top1(row), *lost])
    note = (
        "Bytes of the scope's layers in the file: labels, codebooks and factors. Lost: against the "
        "float network on the same 10,000 test images, and on the 1,000 held-out ones. Bold: the "
        "smallest file of its scope, retrained or not, that loses at most half a point of the "
        "latter"
    )
    heads = ["Scope", "Method", "Times smaller", "Bytes", "Top-1, %", "Lost, points"]
    return tables.markdown([*heads, "Lost, held out"], lines) + f"\n{note}.\n\n{_chosen(table)}\n"


def _top1(row, unit=""):
    return f"{row.top1:.2f}{unit} [{row.low:.1f}, {row.high:.1f}]"


def aims_block():
    """What was aimed for, in points of top-1 on test images, and what came of it."""
    frontier = tables.read_table("compress", "frontier")
    files = frontier.merge(tables.read_table("compress", "chosen"))
    lines = []
    for what, most, how, lost, reached in (*_aims_by_bits(files), *_aims_by_size(files)):
        verdict = "met" if reached and lost <= most else "missed"
        lines.append([what, str(most), how, f"{lost:.2f}", verdict])
    return tables.markdown(["Aim", "At most lost", "Nearest to it", "Lost", ""], lines)


def _aims_by_bits(files):
    distortion = tables.read_table("compress", "distortion")
    for bits, most in ((4, 0.5), (3, 2)):
        for scope, layers in (("conv", "the convolutions"), ("all", "all layers")):
            rows = distortion[(distortion["bits"] == bits) & (distortion["scope"] == scope)]
            row = rows.nsmallest(1, "top1_drop").iloc[0]
            how = [f"weighted {_by(row['weighting'])}"] if row["weighting"] != "none" else []
            how += [remedy for remedy in ("compensated", "corrected") if row[remedy]]
            what = f"{bits} bits in {layers}, nothing retrained"
            yield what, most, ", ".join(["k-means", *how]), row["top1_drop"], True
    trained = files[files["method"] == "k-means, all trained through"].sort_values("ratio")
    for (bits, most), row in zip(((3, 0.5), (2, 1.5)), trained.itertuples(), strict=True):
        yield f"{bits} bits in all layers, retrained", most, row.method, row.top1_drop, True


def _aims_by_size(files):
    whole, retrained = files["scope"] == "all", files["retrained"]
    for ratio, what, among in (
        (8, "the convolutions", ~whole),
        (40, "all layers, no weight pruned or retrained", whole & ~retrained & ~files["pruned"]),
        (100, "all layers, retrained", whole & retrained),
        (150, "all layers, retrained", whole & retrained),
    ):
        enough = files[among & (files["ratio"] >= ratio)]
        rows = (
            enough.nsmallest(1, "held_out_drop")
            if len(enough)
            else files[among].nlargest(1, "ratio")
        )
        row = rows.iloc[0]
        how = f"{row['method']}: {row['ratio']:.1f} times"
        yield f"{ratio} times smaller: {what}", 0.5, how, row["top1_drop"], len(enough) > 0


def _chosen(table):
    """The chosen files in words, beside the float network that was trained as long."""
    parts = []
    for row in table[table["chosen"]].sort_values(["scope", "retrained"]).itertuples():
        how = "trained" if row.retrained else "without training any weight"
        parts.append(
            f"`{row.scope}`, {how}: **{row.ratio:.1f} times smaller**, {row.bytes:,} bytes, "
            f"{_lost(row.top1_drop)}"
        )
    floats = table[table["method"] == "float, trained"]
    alike = [f"`{row.scope}` {_lost(row.top1_drop)}" for row in floats.itertuples()]
    also = f" The float network, trained as in *all trained through*: {'; '.join(alike)}."
    return f"Chosen: {'; '.join(parts)}." + (also if alike else "")


def _lost(points):
    return f"{points:.2f} points lost" if points >= 0 else f"{-points:.2f} points gained"


def retraining_block():
    """Top-1 before and after retraining from every initialization; what is left of C2."""
    table = tables.read_table("compress", "retraining")
    keys = list(dict.fromkeys(zip(table["way"], table["bits"], strict=True)))
    heads = [f"{way}, {bits} bits" for way, bits in keys]
    lines = []
    top1 = table.set_index(["init", "way", "bits", "epoch"])["test_top1"]
    last = table["epoch"].max()
    for init in _inits(table):
        cells = [f"{top1[init, *key, 0]:.1f} → {top1[init, *key, last]:.1f}" for key in keys]
        lines.append([init, *cells])
    claims = tables.read_table("compress", "claims_retrained")
    note = (
        f"Top-1 in % on all test images, before and after {last:.0f} "
        f"epoch{'s' if last > 1 else ''}. C2 after retraining: "
        f"{_least_and_most(claims)} points, {_verdicts(claims)}"
    )
    return tables.markdown(["init", *heads], lines) + f"\n{note}.\n"


def _by(weighting):
    return f"by {weighting.replace('fisher', 'Fisher')}"


def distortion_block():
    """Top-1 of every combination of remedies, without retraining."""
    table = tables.read_table("compress", "distortion")
    keys = sorted(set(zip(table["bits"], table["scope"], strict=True)))
    heads = [f"{bits} bits, {scope}" for bits, scope in keys]
    lines = []
    for how, rows in table.groupby(["weighting", "compensated", "corrected"], sort=False):
        top1 = rows.set_index(["bits", "scope"])["top1"]
        cells = [f"{top1[key]:.2f}" for key in keys]
        weighting = "" if how[0] == "none" else _by(how[0])
        marks = ["yes" if applied else "" for applied in how[1:]]
        lines.append([weighting, *marks, *cells])
    return tables.markdown(["Weighted", "Compensated", "Corrected", *heads], lines)


def allocation_block():
    """What allocating centers to layers is worth, and the smallest allocation that is good."""
    table = tables.read_table("compress", "allocation").fillna({"bits": 0})
    whole = table.groupby(["scope", "criterion", "bits", "allocation"], sort=False).first()
    lines = []
    n_weights = table.drop_duplicates(["scope", "layer"]).groupby("scope")["n_weights"].sum()
    for scope, criterion in dict.fromkeys((key[:2]) for key in whole.index):
        uniform, allocated, smallest = (
            whole.loc[scope, criterion, bits, how]
            for bits, how in ((3, "uniform"), (3, "allocated"), (0, "smallest"))
        )
        ratio = 4 * n_weights[scope] / smallest["total_bytes"]
        what = "squared error" if criterion == "squared error" else "the same, by Fisher"
        lost = [f"{row['top1_drop']:.2f}" for row in (uniform, allocated, smallest)]
        lines.append([scope, what, *lost[:2], f"{ratio:.1f}", lost[2]])
    heads = ["Scope", "Minimized", "3 bits everywhere: lost", "Allocated: lost"]
    return tables.markdown([*heads, "Smallest: times smaller", "Lost"], lines)


def runtimes_block():
    """The network in onnxruntime, in every form."""
    lines = []
    for row in tables.read_table("compress", "runtimes").itertuples():
        sizes = [f"{row.bytes:,}", f"{row.ratio:.1f}", f"{row.load_seconds:.2f}"]
        latency = f"{row.latency_ms:.0f} [{row.latency_ms_low:.0f}, {row.latency_ms_high:.0f}]"
        lines.append([row.form, *sizes, latency, _top1(row), f"{row.agreement:.2f}"])
    heads = ["Form", "Bytes", "Times smaller", "Load, s", "An image, ms", "Top-1, %"]
    return tables.markdown([*heads, "As in torch, %"], lines)


def bench_block():
    """Median seconds of the fastest dedicated package and of ours, and how they compare."""
    table = tables.read_table("bench", "bench")
    table = table[table["n_weights"] == table["n_array"]]
    medians = table.groupby(["array", "n_clusters", "peer"])[
        ["seconds", "relative_inertia"]
    ].median()
    sizes = table.groupby("array")["n_array"].first()
    lines = []
    for array in ("conv4", "fc6", "fc7", "heavy-tailed"):
        for k in (16, 256):
            found = medians.loc[(array, k)]
            other = found.loc["flash1dkmeans"]
            ours = [
                _bench_cell(found.loc[peer], other) if peer in found.index else ""
                for peer in ("ours, weight-distribution", "ours, optimal")
            ]
            theirs = [f"{found.loc['copy', 'seconds']:.2g}", f"{other['seconds']:.3g}"]
            lines.append([array, f"{sizes[array]:,}", str(k), *theirs, *ours])
    note = (
        "In parentheses how many times as fast as flash1dkmeans, and its inertia over ours (above "
        "1 ours is better). A copy goes into memory that was touched before"
    )
    gaps = tables.read_table("bench", "gaps")
    link = "[`gaps.csv`](../results/bench/tables/gaps.csv)"
    *numbers, last = sorted(gaps["n_clusters"].unique())
    least = 10.0 ** math.floor(math.log10(gaps["gap"].max()))
    proven = (
        f"The optimal centers are proven to lie within "
        f"{math.ceil(gaps['gap'].max() / least) * least:.0e} of the best possible inertia, at all "
        f"{gaps['layer'].nunique()} layers and {', '.join(map(str, numbers))} and {last} centers "
        f"({link})"
    )
    heads = ["Array", "Weights", "Centers", "A copy, s", "flash1dkmeans, s", "Ours, s"]
    raced = tables.markdown([*heads, "Ours, optimal, s"], lines)
    return f"{raced}\n{note}. {proven}.\n\n{_ratios()}"


def _ratios():
    """What clusterings take beside something simpler: medians, and the least and most."""
    table, lines = tables.read_table("bench", "ratios"), []
    for (case, beside), rows in table.groupby(["case", "against"], sort=False):
        times = f"**{rows['ratio'].median():.3g}** [{rows['ratio'].min():.3g}, "
        times += f"{rows['ratio'].max():.3g}]"
        sizes = [f"{rows['n_weights'].iloc[0]:,}", str(rows["n_clusters"].iloc[0])]
        lines.append([case, *sizes, f"{rows['seconds'].median():.2g}", beside, times])
    heads = ["Clustered", "Weights", "Centers", "Ours, s", "Beside", "Times its seconds"]
    return tables.markdown(heads, lines)


def _bench_cell(ours, other):
    times = other["seconds"] / ours["seconds"]
    inertia = other["relative_inertia"] / ours["relative_inertia"]
    return f"{ours['seconds']:.2g} (**{times:.3g} times**; {inertia:.3f})"


BLOCKS = {
    "columns": columns_block,
    "findings": findings_block,
    "claims": claims_block,
    "accuracy": accuracy_block,
    "revision": revision_block,
    "frontier": frontier_block,
    "aims": aims_block,
    "retraining": retraining_block,
    "distortion": distortion_block,
    "allocation": allocation_block,
    "runtimes": runtimes_block,
    "bench": bench_block,
}
