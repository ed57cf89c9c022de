"""Blocks about files of the network: size, accuracy, retraining, remedies, a runtime."""

from ... import tables
from ...experiment.recipes import MOST_LOST
from .words import least_and_most, lost_text, top1_text, verdict_counts

MOST_SHOWN = 12  # points lost, as in the figure


def frontier_block():
    """Every file of the experiment `compress`, largest first; the chosen ones are bold."""
    table = files_of_compress()
    table = table[table["top1_drop"] <= MOST_SHOWN]
    lines = []
    for scope in ("conv", "all"):
        for row in table[table["scope"] == scope].sort_values("ratio").itertuples():
            bold = "**" if row.chosen else ""
            sizes = [f"{bold}{row.ratio:.1f}{bold}", f"{row.bytes:,}"]
            of_file = [lost_text(row), f"{row.held_out:.2f}"]
            lost = ["0", ""] if row.method == "float" else of_file
            lines.append([row.scope, row.method, *sizes, top1_text(row), *lost])
    note = (
        "Bytes of the scope's layers in the file: labels, codebooks and factors. Lost: against the "
        "float network on the same 10,000 test images with a 95 % interval, and on 5,000 held-out "
        "ones. Bold: the smallest file of its scope, trained or not, that loses at most half a "
        f"point of the latter. Files that lose more than {MOST_SHOWN} points are in the CSV alone"
    )
    heads = ["Scope", "Method", "Times smaller", "Bytes", "Top-1, %", "Lost, points"]
    return tables.markdown([*heads, "Lost, held out"], lines) + f"\n{note}.\n\n{_chosen(table)}\n"


def files_of_compress():
    """The table `frontier` with what each file loses, and whether it is chosen.

    Columns `lost`, `lost_low` and `lost_high` are of the test images, `held_out` is of the
    held-out ones; of a float network they are missing.
    """
    kind = ["scope", "method", "retrained", "file"]
    losses = tables.read_table("compress", "losses").set_index("split")
    on_test = losses.loc["test"].rename(columns={"low": "lost_low", "high": "lost_high"})
    held_out = losses.loc["held-out"].rename(columns={"lost": "held_out"})
    chosen = tables.read_table("compress", "chosen")[["scope", "retrained", "file", "chosen"]]
    files = tables.read_table("compress", "frontier")
    files = files.merge(on_test, "left", kind).merge(held_out[[*kind, "held_out"]], "left", kind)
    files = files.merge(chosen, "left", ["scope", "retrained", "file"])
    return files.assign(chosen=files["chosen"].eq(True))  # no file, or the standard's: not chosen


def smallest_accurate(files):
    """The smallest of some files that loses at most half a point on held-out images."""
    return files[files["held_out"] <= MOST_LOST].nsmallest(1, "bytes").iloc[0]


# Times smaller: the target and the aim beyond it, by scope and whether weights are trained.
SMALLER = {
    ("conv", False): (24, 32),
    ("conv", True): (32, 45),
    ("all", False): (130, 200),
    ("all", True): (250, 400),
}
# Points that every layer at so many bits may lose, by whether weights are trained.
FIXED = {(3, False): 0.2, (2, False): 1.0, (3, True): 0.2, (2, True): 0.5}
SCOPES = {"conv": "the convolutions", "all": "all layers"}
TRAINED = {False: "nothing trained", True: "trained"}


def aims_block():
    """Targets in points of top-1 on the test images, and whether they were met."""
    files = files_of_compress()
    files = files[files["file"].notna() & ~files["method"].str.startswith("standard")]
    lines = []
    for what, most, row, reached in (*_aims_by_size(files), *_aims_by_bits(files)):
        how = f"{row['method']}, {row['ratio']:.1f} times"
        verdict = "met" if reached and row["lost"] <= most else "missed"
        lines.append([what, f"{most}", how, lost_text(row), f"{row['held_out']:.2f}", verdict])
    heads = ["Target", "At most lost", "Nearest to it", "Lost, points", "Lost, held out", ""]
    return tables.markdown(heads, lines)


def _aims_by_size(files):
    """The file of at least so many times that is most accurate on held-out images."""
    for (scope, trained), ratios in SMALLER.items():
        among = files[(files["scope"] == scope) & (files["retrained"] == trained)]
        for ratio in ratios:
            enough = among[among["ratio"] >= ratio]
            best = enough.nsmallest(1, "held_out") if len(enough) else among.nlargest(1, "ratio")
            what = f"{ratio} times: {SCOPES[scope]}, {TRAINED[trained]}"
            yield what, MOST_LOST, best.iloc[0], len(enough) > 0


def _aims_by_bits(files):
    """The file of compensated cells of so many bits."""
    for (bits, trained), most in FIXED.items():
        method = "compensated" + ", all centers trained" * trained
        rows = files[(files["scope"] == "all") & (files["method"] == method)]
        row = rows.sort_values("ratio").iloc[{3: 0, 2: 1}[bits]]
        yield f"{bits} bits everywhere: {SCOPES['all']}, {TRAINED[trained]}", most, row, True


def standard_block():
    """The standard's files beside ours, at equal accuracy and at equal squared error."""
    files = files_of_compress()
    files = files[files["file"].notna()]
    standards = files["method"].str.startswith("standard")
    lines = []
    for scope, what in SCOPES.items():
        coded = files[standards & (files["scope"] == scope)]
        best = smallest_accurate(coded)
        next_one = coded[(coded["method"] == best["method"]) & (coded["bytes"] < best["bytes"])]
        ours = files[files["chosen"] & (files["scope"] == scope)].sort_values("retrained")
        shown = [best, *(row for _, row in next_one.nlargest(1, "bytes").iterrows())]
        for row in (*shown, *(row for _, row in ours.iterrows())):
            cells = [f"{row['ratio']:.1f}", f"{row['bytes'] / best['bytes']:.2f}"]
            lines.append([what, row["method"], *cells, lost_text(row), f"{row['held_out']:.2f}"])
    heads = ["Layers", "Coded by", "Times smaller", "Bytes, over the standard's"]
    table = tables.markdown([*heads, "Lost, points", "Lost, held out"], lines)
    return f"{table}\n{_at_equal_error()}\n"


def _at_equal_error():
    """The standard's bytes over those of our cells with the same squared error."""
    table = tables.read_table("standard", "standard")
    parts = []
    for (scope, method), rows in table.groupby(["scope", "method"], sort=False):
        more = 100 * (rows["bytes"] / rows["cells_bytes"] - 1)
        parts.append(f"{method}, {SCOPES[scope]}: {more.min():+.0f} to {more.max():+.0f} %")
    return (
        "Bytes of the standard against those of entropy-constrained cells with the same squared "
        f"error, neither of which sees an image: {'; '.join(parts)}."
    )


def _chosen(table):
    """A sentence on the chosen files, and on the float network trained for as long."""
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
    """Top-1 before and after retraining, by initialization; verdicts of C2 after it."""
    table = tables.read_table("compress", "retraining")
    keys = list(dict.fromkeys(zip(table["way"], table["bits"], strict=True)))
    heads = [f"{way}, {bits} bits" for way, bits in keys]
    lines = []
    top1 = table.set_index(["init", "way", "bits", "epoch"])["test_top1"]
    last = table["epoch"].max()
    for init in (known.name for known in tables.inits_of(table)):
        cells = [f"{top1[init, *key, 0]:.1f} → {top1[init, *key, last]:.1f}" for key in keys]
        lines.append([init, *cells])
    claims = tables.read_table("compress", "claims_retrained")
    gains = "; ".join(
        f"{claim}: {least_and_most(rows)} points, {verdict_counts(rows)}"
        for claim, rows in claims.groupby("claim", sort=False)
    )
    note = (
        f"Top-1 in % on all test images, before and after {last:.0f} "
        f"epoch{'s' if last > 1 else ''}. {gains}"
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
    """Points lost by the uniform and the best allocation, and the smallest good allocation."""
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
    """Each form of the network in onnxruntime."""
    lines = []
    for row in tables.read_table("compress", "runtimes").itertuples():
        sizes = [f"{row.bytes:,}", f"{row.ratio:.1f}", f"{row.load_seconds:.2f}"]
        latency = f"{row.latency_ms:.0f} [{row.latency_ms_low:.0f}, {row.latency_ms_high:.0f}]"
        lines.append([row.form, *sizes, latency, top1_text(row), f"{row.agreement:.2f}"])
    heads = ["Form", "Bytes", "Times smaller", "Load, s", "An image, ms", "Top-1, %"]
    return tables.markdown([*heads, "As in torch, %"], lines)
