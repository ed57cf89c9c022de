"""Blocks about files of the network: size, accuracy, retraining, remedies, a runtime."""

import math

from ... import tables
from .words import least_and_most, top1_text, verdict_counts


def frontier_block():
    """Every file of the experiment `compress`, largest first; the chosen ones are bold."""
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
            lines.append([row.scope, row.method, *sizes, top1_text(row), *lost])
    note = (
        "Bytes of the scope's layers in the file: labels, codebooks and factors. Lost: against the "
        "float network on the same 10,000 test images, and on held-out ones. Bold: the "
        "smallest file of its scope, retrained or not, that loses at most half a point of the "
        "latter"
    )
    heads = ["Scope", "Method", "Times smaller", "Bytes", "Top-1, %", "Lost, points"]
    return tables.markdown([*heads, "Lost, held out"], lines) + f"\n{note}.\n\n{_chosen(table)}\n"


def aims_block():
    """Targets in points of top-1 on the test images, and whether they were met."""
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
