"""Figures of the study: the trained networks, their weights, centers, speed, accuracy, claims."""

from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, ScalarFormatter

from ...initialization import INITIALIZATIONS, named
from ..tables import by_default, inits_of
from .style import (
    drawing,
    font_size,
    init_legend,
    layers_of,
    legend,
    narrow,
    panels,
    width,
)


def plot_training(training):
    """Held-out accuracy by epoch, one line a network."""
    with drawing():
        figure, axis = plt.subplots(figsize=(width(), 2.4))
        looks = cycle(INITIALIZATIONS.values()), cycle(("-", "--", ":"))
        networks = training.groupby("network", sort=False)
        for (name, rows), known, dash in zip(networks, *looks, strict=False):
            look = {"color": known.color, "marker": known.marker, "linestyle": dash}
            axis.plot(rows["epoch"], rows["held_out_top1"], label=name, **look)
        axis.set(xlabel="epoch", ylabel="held-out top-1 (%)")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.legend(title="network")
    return figure


def plot_densities(density):
    """Density of every layer over its range, on a logarithmic scale."""
    layers = layers_of(density)
    with drawing():
        figure, axes = panels(len(layers), 4, 1.35)
        for axis, layer in zip(axes, layers, strict=True):
            rows = density[density["layer"] == layer]
            axis.step(rows["weight"], rows["density"], where="post", color="0.2", linewidth=0.8)
            axis.set(yscale="log", title=layer)
            axis.xaxis.set_major_locator(MaxNLocator(3))
        figure.supxlabel("weight", fontsize=font_size())
        figure.supylabel("density", fontsize=font_size())
    return figure


def plot_centers(density, distribution, layer, bits):
    """A layer's density with each initialization's centers below it.

    Left the bulk on a linear scale, right the whole range on a logarithmic one. Hollow: initial
    centers; filled: after Lloyd's algorithm.
    """
    rows = density[density["layer"] == layer]
    centers = distribution[(distribution["layer"] == layer) & (distribution["bits"] == bits)]
    names = _curves(centers)
    with drawing():
        axes = _centers_axes((0.17 if narrow() else 0.28) * len(names))
        figure = axes[0, 0].figure
        ranges = {"linear": "bulk", "log": "whole range"}
        for axis, (scale, name) in zip(axes[0], ranges.items(), strict=True):
            axis.step(rows["weight"], rows["density"], where="post", color="0.2", linewidth=0.8)
            axis.set(yscale=scale, title=f"{layer}, {name}")
        axes[0, 0].set_ylabel("density")
        axes[0, 0].set_ylim(bottom=0)
        for axis in axes[1]:
            _strip_centers(axis, centers, names)
            axis.xaxis.set_major_locator(MaxNLocator(5))
            axis.set_xlabel("weight")
            axis.tick_params(labelleft=narrow() or axis is axes[1, 0])
        axes[0, 0].set_xlim(bulk(rows["weight"].to_numpy(), rows["density"].to_numpy()))
        marks = {"initial centers": "none", "after Lloyd's algorithm": "0.2"}
        handles = [
            Line2D([], [], color="0.2", marker="o", linestyle="", markerfacecolor=face, label=label)
            for label, face in marks.items()
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def _centers_axes(height):
    """Axes of densities (first row) and of centers: bulk and range, beside or below each other."""
    heights = [1.5, height]
    if narrow():
        size = (width(), 2 * (sum(heights) + 0.5))
        _, (top, low, top2, low2) = plt.subplots(4, figsize=size, height_ratios=2 * heights)
        for axis, below in ((top, low), (top2, low2)):
            axis.sharex(below)
            axis.tick_params(labelbottom=False)
        return np.array([[top, top2], [low, low2]])
    size = (width(), sum(heights) + 0.4)
    return plt.subplots(2, 2, figsize=size, sharex="col", height_ratios=heights)[1]


def _strip_centers(axis, centers, names):
    labelled = centers.assign(curve=_curve_names(centers))
    for y, name in enumerate(names):
        for stage, offset in (("initial", -0.18), ("final", 0.18)):
            rows = labelled[(labelled["curve"] == name) & (labelled["stage"] == stage)]
            color = named(rows["init"].iloc[0]).color
            face = "none" if stage == "initial" else color
            height = np.full(len(rows), y + offset)
            axis.scatter(
                rows["center"], height, s=9, facecolors=face, edgecolors=[color], linewidths=0.7
            )
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.5, -0.5)


def _curve_names(centers):
    """Name of each row's initialization, with gamma where it is read."""
    return [
        init if np.isnan(gamma) else rf"$\gamma$ = {gamma:.2g}"
        for init, gamma in zip(centers["init"], centers["gamma"].astype(float), strict=True)
    ]


def _curves(centers):
    """Names in the order of `INITIALIZATIONS`."""
    place = list(INITIALIZATIONS).index
    ordered = centers.sort_values("init", key=lambda column: column.map(place), kind="stable")
    return list(dict.fromkeys(_curve_names(ordered)))


def bulk(weight, density, share=0.998):
    """Range that holds the central share of the weights of a density in steps."""
    mass = np.concatenate([[0], np.cumsum(density[:-1] * np.diff(weight))])
    return tuple(np.interp([(1 - share) / 2, (1 + share) / 2], mass / mass[-1], weight))


def plot_iterations(speed, bits):
    """Iterations to converge, by layer and initialization, on the sorted engine."""
    rows = speed[(speed["engine"] == "sorted") & (speed["bits"] == bits) & speed["max_iter"].isna()]
    return _dots(rows, "n_iter", f"iterations to converge, {bits} bits", "log")


def plot_inertia(speed, bits, max_iter):
    """Inertia over the optimal one after a budget of iterations, by layer and initialization."""
    rows = speed[
        (speed["engine"] == "sorted") & (speed["bits"] == bits) & (speed["max_iter"] == max_iter)
    ]
    label = f"inertia / optimal after {max_iter} iterations, {bits} bits"
    return _dots(rows, "relative_inertia", label, "linear")


def _dots(rows, column, label, scale):
    """One row of dots a layer; a panel for revision off and one for on where both were run."""
    inits = inits_of(rows)
    both = rows.groupby("init")["revise"].nunique().max() > 1
    shown = {"not revised": ~rows["revise"], "revised": rows["revise"]}
    if not both:
        revised = " and ".join(init.name for init in inits if init.revised)
        shown = {f"{revised} revised, the others not": rows["revise"].notna()}
    with drawing():
        figure, axes = panels(len(shown), 2, 2.3, sharex=True, sharey=True)
        layers = layers_of(rows)
        for axis, (title, chosen) in zip(axes, shown.items(), strict=True):
            for init, offset in _beside(inits, 0.12):
                part = rows[chosen & (rows["init"] == init.name)]
                means = part.groupby("layer")[column].mean().reindex(layers)
                height = np.arange(len(layers)) + offset
                axis.plot(means, height, init.marker, color=init.color, label=init.name)
            axis.set(xscale=scale, title=title)
            axis.xaxis.set_major_formatter(ScalarFormatter())
        axes[0].set_yticks(range(len(layers)), layers)
        axes[0].invert_yaxis()
        figure.supxlabel(label, fontsize=font_size())
        init_legend(figure, inits)
    return figure


def plot_accuracy(accuracy, n_images):
    """Top-1 of the whole network by bits: a column a scope, a row a budget of iterations."""
    network = accuracy["network"].iloc[0]
    rows = accuracy[(accuracy["n_images"] == n_images) & (accuracy["network"] == network)]
    clustered = rows[rows["init"] != "float"]
    clustered = by_default(clustered)
    inits = inits_of(clustered)
    converged = [None] if clustered["max_iter"].isna().any() else []
    budgets = [*clustered["max_iter"].dropna().unique(), *converged]
    with drawing():
        figure, axes = plt.subplots(
            len(budgets),
            2,
            figsize=(width(), 2.3 * len(budgets)),
            sharex=True,
            sharey=True,
            squeeze=False,
        )
        for line, budget in zip(axes, budgets, strict=True):
            for axis, scope in zip(line, ("conv", "all"), strict=True):
                same = (
                    clustered["max_iter"].isna()
                    if budget is None
                    else (clustered["max_iter"] == budget)
                )
                _accuracy_lines(axis, clustered[same & (clustered["scope"] == scope)], inits)
                reference = rows[(rows["init"] == "float") & (rows["scope"] == scope)]["top1"]
                axis.axhline(reference.iloc[0], color="0.4", linestyle=":", linewidth=1)
                title = "converged" if budget is None else f"{budget:.0f} iterations"
                axis.set(title=f"{scope}, {title}")
                axis.xaxis.get_major_locator().set_params(integer=True)
        figure.supxlabel("bits a weight", fontsize=font_size())
        figure.supylabel("top-1 (%)", fontsize=font_size())
        init_legend(figure, inits, [_float_handle()])
    return figure


def _accuracy_lines(axis, rows, inits):
    for init, offset in _beside(inits, 0.03):
        part = rows[rows["init"] == init.name].groupby("bits")[["top1", "low", "high"]].mean()
        bits = part.index + offset
        axis.plot(bits, part["top1"], init.marker + "-", color=init.color, label=init.name)
        axis.vlines(bits, part["low"], part["high"], color=init.color, alpha=0.5, linewidth=0.8)


def _beside(inits, step):
    """Pairs of an initialization and its offset; the offsets are `step` apart and centered."""
    return [(init, (i - (len(inits) - 1) / 2) * step) for i, init in enumerate(inits)]


def _float_handle():
    return Line2D([], [], color="0.4", linestyle=":", label="float network")


def plot_claims(claims):
    """Measured gain of every claim with its interval, beside the paper's figure."""
    units = {"C1, counted": "operations saved (%)", "C2": "top-1 gained (points)"}
    most = claims["claim"].value_counts().max()
    with drawing():
        row_height = 0.17 if narrow() else 0.27  # narrow panels stand below each other on one page
        figure, axes = panels(2, 2, 0.5 + row_height * most)
        for axis, (claim, unit) in zip(axes, units.items(), strict=True):
            rows = claims[claims["claim"] == claim].reset_index(drop=True)
            error = [rows["measured"] - rows["low"], rows["high"] - rows["measured"]]
            axis.errorbar(
                rows["measured"], rows.index, xerr=np.maximum(error, 0), fmt="o", color="0.2"
            )
            axis.axvline(0, color="0.6", linewidth=0.8)
            axis.axvline(rows["paper"].iloc[0], color=named("linear").color, linestyle="--")
            names = rows["scope"] + ", " + rows["baseline"] + ", " + rows["network"]
            axis.set_yticks(rows.index, names)
            axis.invert_yaxis()
            axis.set(xlabel=unit, title=f"{claim} (dashed: the paper)")
    return figure


def plot_models(models):
    """Size against top-1, a panel a model: every method and initialization; float is dotted."""
    names = list(dict.fromkeys(models["model"]))
    with drawing():
        figure, axes = panels(len(names), 2, 2.6)
        for axis, name in zip(axes, names, strict=True):
            rows = models[models["model"] == name]
            axis.axhline(rows.loc[rows["method"] == "float", "top1"].iloc[0], color="0.4", ls=":")
            for (method, init), part in _lines_of(rows):
                _model_line(axis, part.sort_values("ratio"), **_look_of(method, init))
            axis.set(title=f"{name.split(':')[-1]}, {rows['images'].iloc[0]}")
        figure.supxlabel("times smaller", fontsize=font_size())
        figure.supylabel("top-1 (%)", fontsize=font_size())
        lines = list(dict.fromkeys(key for key, _ in _lines_of(models)))
        handles = [Line2D([], [], label=_name_of(*key), **_look_of(*key)) for key in lines]
        legend(figure, [*handles, _float_handle()], 3)
    return figure


def _lines_of(models):
    """The rows of each method and initialization; random initializations have a row a seed."""
    made = models[models["method"] != "float"]
    return list(made.assign(init=made["init"].fillna("")).groupby(["method", "init"], sort=False))


def _model_line(axis, rows, **look):
    rows = rows.groupby("bits")[["ratio", "top1", "low", "high"]].mean().sort_values("ratio")
    axis.plot(rows["ratio"], rows["top1"], **look)
    axis.vlines(rows["ratio"], rows["low"], rows["high"], color=look["color"], alpha=0.4, lw=0.8)


def _look_of(method, init):
    """k-means has its initialization's color; the other methods have their own lines."""
    known = INITIALIZATIONS.get(init)
    color, marker = (known.color, known.marker) if known else ("0.1", "*")
    lines = {"k-means": "-", "k-means by channel": "--", "compress": "-" if not init else "-."}
    return {"color": color, "marker": marker, "linestyle": lines[method], "markersize": 4}


def _name_of(method, init):
    return f"{method}, {init}" if init else method
