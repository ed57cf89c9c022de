"""Figures of the compressed network: files, retraining, rates, allocations, remedies."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator

from ...initialization import named
from ..tables import inits_of
from .style import (
    CELLS,
    FLOATS,
    METHODS,
    drawing,
    font_size,
    init_legend,
    layers_of,
    legend,
    narrow,
    panels,
    width,
)

WEIGHTED = {"inputs": "inputs", "fisher": "Fisher"}  # what weights the squared error


def plot_frontier(frontier):
    """Size against accuracy, a panel a scope: every way to compress; float networks are lines."""
    scopes = [scope for scope in ("conv", "all") if scope in set(frontier["scope"])]
    with drawing():
        figure, axes = panels(len(scopes), 2, 3.6, sharey=True)
        for axis, scope in zip(axes, scopes, strict=True):
            rows = frontier[frontier["scope"] == scope]
            files = rows[rows["file"].notna()]
            for method, style in FLOATS.items():
                for top1 in rows.loc[rows["method"] == method, "top1"]:
                    axis.axhline(top1, color="0.4", linestyle=style, linewidth=1)
            for method, part in files.groupby("method", sort=False):
                _frontier_line(axis, method, part.sort_values("ratio"))
            axis.set(xscale="log", title=scope, xlabel="times smaller than float32")
            wide = files["ratio"].max() > 20 * files["ratio"].min()
            axis.xaxis.set_major_locator(
                LogLocator(subs=(1, 2, 5) if wide else (1, 1.5, 2, 3, 5, 8))
            )
            axis.xaxis.set_major_formatter("{x:g}")
            axis.minorticks_off()
            if axis.get_subplotspec().is_first_col():
                axis.set_ylabel("top-1 (%)")
        lowest = frontier["top1"].max() - 12
        bottom, top = max(lowest, frontier["top1"].min() - 0.5), frontier["high"].max() + 0.5
        axes[0].set_ylim(bottom, top)  # not by points that are out of sight
        present = set(frontier["method"])
        retrained = set(frontier.loc[frontier["retrained"], "method"])
        handles = [
            Line2D(
                *([], []),
                color=color,
                marker=marker,
                markerfacecolor=color if name in retrained else "white",
                label=name,
            )
            for name, (color, marker) in METHODS.items()
            if name in present
        ]
        handles += [
            Line2D([], [], color="0.4", linestyle=style, label=name)
            for name, style in FLOATS.items()
            if name in present
        ]
        legend(figure, handles, 3)
    return figure


def _frontier_line(axis, method, rows):
    color, marker = METHODS[method]
    axis.plot(rows["ratio"], rows["top1"], "-", color=color, linewidth=0.8, alpha=0.7)
    axis.vlines(rows["ratio"], rows["low"], rows["high"], color=color, alpha=0.5, linewidth=0.8)
    for x, y, filled in zip(rows["ratio"], rows["top1"], rows["retrained"], strict=True):
        face = color if filled else "white"
        axis.plot(x, y, marker, color=color, markerfacecolor=face, zorder=3)


def plot_retraining(retraining):
    """Top-1 by epoch of retraining, a panel each for bits (columns) and ways (rows)."""
    ways, bits = list(dict.fromkeys(retraining["way"])), sorted(retraining["bits"].unique())
    inits = inits_of(retraining)
    with drawing():
        turned = narrow()  # the shorter side across
        rows, columns = (bits, ways) if turned else (ways, bits)
        figure, axes = plt.subplots(
            len(rows),
            len(columns),
            figsize=(width(), 0.6 + 2.1 * len(rows)),
            sharex=True,
            sharey="row" if turned else "col",
            squeeze=False,
        )
        for line, way in zip(axes.T if turned else axes, ways, strict=True):
            for axis, b in zip(line, bits, strict=True):
                chosen = retraining[(retraining["way"] == way) & (retraining["bits"] == b)]
                for init in inits:
                    part = chosen[chosen["init"] == init.name]
                    axis.plot(part["epoch"], part["test_top1"], init.marker + "-", color=init.color)
                axis.set(title=f"{way}, {b} bits")
                axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        figure.supxlabel("epochs of retraining", fontsize=font_size())
        figure.supylabel("top-1 (%)", fontsize=font_size())
        init_legend(figure, inits)
    return figure


def plot_rates(rates):
    """Error against real bits a weight, a panel a layer, by kind of cells."""
    layers = layers_of(rates)
    with drawing():
        figure, axes = panels(len(layers), 4, 1.5)
        for axis, layer in zip(axes, layers, strict=True):
            for name, (color, marker) in CELLS.items():
                rows = rates[(rates["layer"] == layer) & (rates["cells"] == name)]
                axis.plot(
                    rows["bits_per_weight"],
                    rows["relative_distortion"],
                    marker + "-",
                    color=color,
                    markerfacecolor="none",  # lines lie on each other where nothing is gained
                    markersize=5 if name == "uniform" else 3,
                )
            axis.set(yscale="log", title=layer)
            axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        figure.supxlabel("bits a weight, labels coded with one table", fontsize=font_size())
        figure.supylabel("squared error / variance", fontsize=font_size())
        handles = [
            Line2D([], [], color=color, marker=marker, label=name)
            for name, (color, marker) in CELLS.items()
        ]
        legend(figure, handles, 3)
    return figure


def plot_allocation(allocation):
    """Bits of each layer by budget, and what they are worth: a row a scope."""
    rows = allocation[allocation["bits"].notna()]
    scopes = [scope for scope in ("conv", "all") if scope in set(rows["scope"])]
    looks = {
        ("uniform", "squared error"): (named("linear").color, "s", "uniform"),
        ("uniform", "fisher"): (named("density").color, "D", "uniform, Fisher"),
        ("allocated", "squared error"): (named("optimal").color, "*", "allocated"),
        ("allocated", "fisher"): (named("random").color, "o", "allocated, Fisher"),
    }
    with drawing():
        figure, axes = plt.subplots(
            len(scopes), 2, figsize=(width(), 0.5 + 2.1 * len(scopes)), squeeze=False
        )
        for line, scope in zip(axes, scopes, strict=True):
            part = rows[rows["scope"] == scope]
            layers, least = layers_of(part), part["bits"].min()
            for i, ((how, criterion), (color, marker, _)) in enumerate(looks.items()):
                same = part[(part["allocation"] == how) & (part["criterion"] == criterion)]
                first = same[same["bits"] == least].set_index("layer").reindex(layers)
                aside = (i - 1.5) * 0.1  # equal ones stand beside each other
                line[0].plot(
                    np.arange(len(layers)) + aside,
                    np.log2(first["n_clusters"]),
                    marker,
                    color=color,
                )
                whole = same.drop_duplicates("bits").sort_values("bits")
                bits = whole["bits"] + aside / 2
                line[1].plot(bits, whole["top1"], marker + "-", color=color)
                line[1].vlines(bits, whole["low"], whole["high"], color=color, alpha=0.5)
            line[0].set_xticks(range(len(layers)), layers)
            line[0].tick_params("x", rotation=90)
            line[0].set(title=f"{scope}, {least:.0f} bits on average", ylabel="log2 of the centers")
            line[1].set(title=scope, xlabel="bits a weight", ylabel="top-1 (%)")
            line[1].set_xlim(least - 0.5, rows["bits"].max() + 0.5)
            line[1].set_xticks(sorted(rows["bits"].unique()))
        handles = [
            Line2D([], [], color=color, marker=marker, linestyle="", label=label)
            for color, marker, label in looks.values()
        ]
        legend(figure, handles, 4)
    return figure


def plot_distortion(distortion):
    """Top-1 of every combination of remedies, a panel a scope and number of bits."""
    rows = distortion.assign(
        remedy=[
            " + ".join(
                ([] if weighting == "none" else [WEIGHTED[weighting]])
                + ["comp."] * compensated
                + ["corr."] * corrected
            )
            or "plain"
            for weighting, compensated, corrected in zip(
                distortion["weighting"],
                distortion["compensated"],
                distortion["corrected"],
                strict=True,
            )
        ]
    )
    remedies = list(dict.fromkeys(rows["remedy"]))
    shown = sorted(set(zip(rows["bits"], rows["scope"], strict=True)))
    with drawing():
        figure, axes = panels(len(shown), 4, 0.4 + 0.19 * len(remedies), sharey=True)
        for axis, (bits, scope) in zip(axes, shown, strict=True):
            part = rows[(rows["bits"] == bits) & (rows["scope"] == scope)].set_index("remedy")
            part = part.reindex(remedies)
            height = np.arange(len(remedies))
            axis.hlines(height, part["low"], part["high"], color="0.6", linewidth=1)
            axis.plot(part["top1"], height, "o", color=named("weight-distribution").color)
            axis.set(title=f"{scope}, {bits} bits")
        axes[0].set_yticks(range(len(remedies)), remedies)
        axes[0].invert_yaxis()
        figure.supxlabel("top-1 (%)", fontsize=font_size())
    return figure
