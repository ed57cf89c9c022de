"""Readings of the compressed network's tables: files, retraining, rates, remedies, runtimes."""

from ..recipes import MOST_LOST
from ..words import bits_of, bullets, listed, lost, span


def frontier(table, chosen, losses):
    """The smallest files that are accurate on held-out images, and what they lose on test images.

    From the tables `frontier`, `chosen` and `losses`.
    """
    on_test = losses[losses["split"] == "test"].drop(columns=["method", "split"])
    keys = ["scope", "retrained", "file"]
    files = table.drop(columns=["low", "high"]).merge(chosen, on=keys).merge(on_test, on=keys)
    texts = []
    for (scope, retrained), rows in files.groupby(["scope", "retrained"], sort=False):
        how = f"`{scope}` {'with' if retrained else 'without'} training"
        good = rows[rows["chosen"].astype(bool)]
        text = "none"
        if len(good):
            row = good.iloc[0]
            interval = f"[{row['low']:.2f}, {row['high']:.2f}]"
            text = f"{row['ratio']:.1f} times smaller, loses {row['lost']:.2f} {interval}"
        texts.append(f"{how}: {text}")
    return bullets(
        "The smallest files of this run that lose at most half a point on held-out images, and "
        "what they lose on test images, in points with a 95 % interval",
        texts,
    )


def standard(table):
    """The standard's files beside cells of the same squared error, from the table `standard`."""
    texts = []
    for (scope, method), rows in table.groupby(["scope", "method"], sort=False):
        more = 100 * (rows["bytes"] / rows["cells_bytes"] - 1)
        text = f"`{scope}`, {method}: {span(more, 1)} % of bytes more than cells of equal error"
        good = rows[rows["held_out_drop"] <= MOST_LOST]
        if len(good):
            best = good.loc[good["bytes"].idxmin()]
            text += (
                f"; {best['ratio']:.1f} times smaller at {lost(best['top1_drop'])} on test images"
            )
        texts.append(text)
    head = (
        "The standard in this run, and its smallest file that loses at most half a point held out"
    )
    return bullets(head, texts)


def sizes(table):
    """Where the bytes of a file are, from the table `sizes`."""
    rows = table.set_index("layer")
    if "all convolutions" not in rows.index:
        bits = rows.loc["all layers", "bits_per_weight"]
        return f"In this run the shared layers take {bits:.2f} bits a weight."
    every, convolutions = rows.loc["all layers"], rows.loc["all convolutions"]
    n_weights, n_bytes = (every[column] - convolutions[column] for column in ("n_weights", "bytes"))
    return (
        f"In this run the classifier has {100 * n_weights / every['n_weights']:.0f} % of the "
        f"weights and {100 * n_bytes / every['bytes']:.0f} % of the bytes, "
        f"{8 * n_bytes / n_weights:.2f} bits a weight; the convolutions take "
        f"{convolutions['bits_per_weight']:.2f} bits a weight."
    )


def retraining(table):
    """Differences between initializations before and after, from the table `retraining`."""
    texts = []
    for (way, bits), rows in table.groupby(["way", "bits"], sort=False):
        top1 = rows.pivot_table(index="init", columns="epoch", values="test_top1")
        first, last = top1.iloc[:, 0], top1.iloc[:, -1]
        texts.append(
            f"{way}, {bits_of(bits)}: {first.max() - first.min():.2f} before and "
            f"{last.max() - last.min():.2f} after retraining, which adds {span(last - first, 2)}"
        )
    return bullets("Points between the best and the worst initialization of this run", texts)


def rates(table):
    """Squared error at the entropy of k-means' labels, from the table `rates`."""
    step = table.groupby(["layer", "cells"]).cumcount()
    error = table.assign(step=step).pivot(
        index=["layer", "step"], columns="cells", values="relative_distortion"
    )
    uniform = error["uniform"] / error["k-means"]
    constrained = error["entropy-constrained"] / error["uniform"]
    return (
        f"In this run, at the entropy of k-means' labels, equal steps leave {span(uniform, 2)} "
        f"times the error of k-means, and entropy-constrained cells {span(constrained, 2)} times "
        "that of equal steps."
    )


def allocation(table):
    """What sharing a budget of bytes is worth, from the table `allocation`."""
    whole = table.drop_duplicates(["scope", "criterion", "bits", "allocation"])
    texts = []
    for (scope, criterion), rows in whole.groupby(["scope", "criterion"], sort=False):
        smallest = rows.loc[rows["allocation"] == "smallest", "top1_drop"].iloc[0]
        drops = rows.pivot_table(index="bits", columns="allocation", values="top1_drop")
        budgets = [
            f"{row.uniform:.2f} with {bits_of(row.Index)} in every layer, {row.allocated:.2f} "
            "allocated to the same bytes"
            for row in drops.itertuples()
        ]
        texts.append(
            f"`{scope}`, {criterion}: {'; '.join(budgets)}; {smallest:.2f} with the smallest "
            "allocation"
        )
    return bullets("Points of top-1 lost on the test images of this run", texts)


def remedies(table):
    """What all remedies together do, by weighting, from the table `distortion`."""
    texts = []
    for (bits, scope), rows in table.groupby(["bits", "scope"]):
        plain = rows[(rows["weighting"] == "none") & ~rows["compensated"] & ~rows["corrected"]]
        both = rows[rows["compensated"] & rows["corrected"]]
        drops = [
            f"{row.top1_drop:.2f} "
            + ("not weighted" if row.weighting == "none" else f"weighted by {row.weighting}")
            for row in both.itertuples()
        ]
        texts.append(
            f"{bits_of(bits)}, `{scope}`: {plain['top1_drop'].iloc[0]:.2f} plain; compensated and "
            f"corrected {listed(drops)}"
        )
    return bullets("Points of top-1 lost in this run", texts)


def runtimes(table):
    """The shared and the int8 network beside float32, from the table `runtimes`."""
    rows = table.set_index("form")
    plain, texts = rows.loc["float32"], []
    for form in ("shared", "int8"):
        row = rows.loc[form]
        apart = (
            row["latency_ms_low"] > plain["latency_ms_high"]
            or row["latency_ms_high"] < plain["latency_ms_low"]
        )
        texts.append(
            f"*{form}*: {row['ratio']:.1f} times smaller in the file; {row['latency_ms']:.1f} ms "
            f"an image beside {plain['latency_ms']:.1f} ms, and the quartiles "
            f"{'do not overlap' if apart else 'overlap'}"
        )
    return bullets("In this run, beside float32", texts)


def models(table):
    """What every method loses at equal bytes, from the table `models`, with paired intervals."""
    texts = []
    for model, rows in table.groupby("model", sort=False):
        plain = rows.loc[rows["method"] == "float", "top1"].iloc[0]
        made = rows[rows["method"] != "float"]
        parts = []
        for bits, part in made.groupby("bits"):
            least = part.loc[part.groupby("method", sort=False)["top1_drop"].idxmin()]
            drops = [f"{row.method} {_loss(row)}" for row in least.itertuples()]
            parts.append(f"at the bytes of {bits_of(bits)}, {listed(drops)}")
        texts.append(f"{model}: {plain:.2f} % in float32; {'; '.join(parts)}")
    head = "Points of top-1 lost in this run by the best of each method on these same images"
    text = bullets(head, texts)
    return "\n\n".join([text, *_starts(table)])


def _loss(row):
    return f"{row.top1_drop:.2f} [{row.drop_low:.2f}, {row.drop_high:.2f}]"


def _starts(table):
    """How much what `compress` starts from matters; nothing where it has one start."""
    made = table[table["method"] == "compress"]
    if made["init"].notna().sum() == 0:
        return []
    top1 = made.groupby(["model", "bits"])["top1"]
    apart = (top1.max() - top1.min()).max()
    starts = made["init"].fillna("its own").unique()
    return [
        f"What compress starts from ({listed(starts)}) moves its top-1 by at most {apart:.2f} "
        "points in this run."
    ]
