"""Figures of the study: tidy tables in, figures out. Nothing here computes or trains."""

import io

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, ScalarFormatter

from .results import results_folder, write_atomically

WIDTH_IN = 7.0
STYLE = {
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "lines.markersize": 4,
    "lines.linewidth": 1.2,
    "figure.constrained_layout.use": True,
    "pdf.fonttype": 42,  # TrueType: many venues refuse matplotlib's default Type 3
    "svg.hashsalt": "fixed",
}
# Every initialization keeps its color and marker in every figure.
INITS = ("random", "linear", "density", "k-means++", "weight-distribution", "optimal")
COLORS = dict(zip(INITS, sns.color_palette("colorblind", len(INITS)), strict=True))
MARKERS = dict(zip(INITS, "osD^P*", strict=True))
# The clustering's peers: ours, the copy that no clustering can beat, the others.
PEERS = {
    "ours, weight-distribution": (COLORS["weight-distribution"], "P"),
    "ours, optimal": (COLORS["optimal"], "*"),
    "copy": ("0.6", "_"),
    "flash1dkmeans": ("tab:blue", "o"),
    "kmeans1d": ("tab:orange", "s"),
    "ckwrap": ("tab:green", "D"),
    "coremltools": ("tab:red", "^"),
    "scikit-learn": ("tab:purple", "v"),
    "scikit-learn, our start": ("tab:pink", "<"),
    "faiss": ("tab:olive", ">"),
}
# Ways to compress keep theirs; whatever is retrained is filled, else hollow.
METHODS = {
    "k-means": (COLORS["weight-distribution"], "P"),
    "k-means, corrected": (COLORS["weight-distribution"], "X"),
    "pruned": (COLORS["density"], "<"),
    "pruned, corrected": (COLORS["density"], "v"),
    "uniform": (COLORS["linear"], "s"),
    "uniform, corrected": (COLORS["linear"], "D"),
    "entropy-constrained": (COLORS["optimal"], "o"),
    "entropy-constrained, corrected": (COLORS["optimal"], "*"),
    "classifier trained": (COLORS["random"], "^"),
    "pruned, classifier trained": (COLORS["density"], "^"),
    "trained": (COLORS["random"], "p"),
}
FLOATS = {"float": ":", "float, trained": "--"}  # networks without shared weights: lines
CELLS = {
    "k-means": (COLORS["weight-distribution"], "P"),
    "uniform": (COLORS["linear"], "s"),
    "entropy-constrained": (COLORS["optimal"], "o"),
}
LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")


def save_figure(figure, experiment, name):
    """Write a figure as figures/<name>.pdf and .png, the same bytes for the same figure."""
    for kind, metadata in (("pdf", {"CreationDate": None}), ("png", {"Software": None})):
        buffer = io.BytesIO()
        with plt.rc_context(STYLE):  # the type of fonts is read here
            figure.savefig(buffer, format=kind, dpi=200, metadata=metadata)
        write_atomically(
            results_folder(experiment) / "figures" / f"{name}.{kind}", buffer.getvalue()
        )


def plot_training(training):
    """Held-out accuracy by epoch, one line a network."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(WIDTH_IN / 2, 2.4))
        for name, rows in training.groupby("network", sort=False):
            axis.plot(rows["epoch"], rows["held_out_top1"], "o-", label=name)
        axis.set(xlabel="epoch", ylabel="held-out top-1 (%)")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.legend(title="network")
    return figure


def plot_densities(density):
    """Density of every layer over its range, on a logarithmic scale."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(2, 4, figsize=(WIDTH_IN, 3.2), sharey=False)
        for axis, layer in zip(axes.flat, _layers(density), strict=False):
            rows = density[density["layer"] == layer]
            axis.step(rows["weight"], rows["density"], where="post", color="0.2", linewidth=0.8)
            axis.set(yscale="log", title=layer)
            axis.xaxis.set_major_locator(MaxNLocator(3))
        for axis in axes.flat[len(_layers(density)) :]:
            axis.remove()
        figure.supxlabel("weight")
        figure.supylabel("density")
    return figure


def plot_centers(density, distribution, layer, bits):
    """A layer's density with each initialization's centers below it.

    Left the bulk on a linear scale, right the whole range on a logarithmic one. Hollow: initial
    centers; filled: after Lloyd's algorithm.
    """
    rows = density[density["layer"] == layer]
    centers = distribution[(distribution["layer"] == layer) & (distribution["bits"] == bits)]
    names = _curves(centers)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            2,
            2,
            figsize=(WIDTH_IN, 1.9 + 0.28 * len(names)),
            sharex="col",
            height_ratios=[1.5, 0.28 * len(names)],
        )
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
        axes[1, 1].tick_params(labelleft=False)
        axes[0, 0].set_xlim(bulk(rows["weight"].to_numpy(), rows["density"].to_numpy()))
        marks = {"initial centers": "none", "after Lloyd's algorithm": "0.2"}
        handles = [
            Line2D([], [], color="0.2", marker="o", linestyle="", markerfacecolor=face, label=label)
            for label, face in marks.items()
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def _strip_centers(axis, centers, names):
    labelled = centers.assign(curve=_curve_names(centers))
    for y, name in enumerate(names):
        for stage, offset in (("initial", -0.18), ("final", 0.18)):
            rows = labelled[(labelled["curve"] == name) & (labelled["stage"] == stage)]
            color = COLORS[rows["init"].iloc[0]]
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
        init if np.isnan(gamma) else f"γ = {gamma:.2g}"
        for init, gamma in zip(centers["init"], centers["gamma"].astype(float), strict=True)
    ]


def _curves(centers):
    """Names in the order of INITS."""
    ordered = centers.sort_values("init", key=lambda column: column.map(INITS.index), kind="stable")
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
    both = rows.groupby("init")["revise"].nunique().max() > 1
    panels = {"not revised": ~rows["revise"], "revised": rows["revise"]}
    if not both:
        panels = {"weight-distribution revised, the others not": rows["revise"].notna()}
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            1, len(panels), figsize=(WIDTH_IN, 2.8), sharex=True, sharey=True, squeeze=False
        )
        layers = _layers(rows)
        for axis, (title, shown) in zip(axes[0], panels.items(), strict=True):
            for i, init in enumerate(INITS):
                part = rows[shown & (rows["init"] == init)]
                means = part.groupby("layer")[column].mean().reindex(layers)
                height = np.arange(len(layers)) + (i - 2.5) * 0.12
                axis.plot(means, height, MARKERS[init], color=COLORS[init], label=init)
            axis.set(xscale=scale, title=title)
            axis.xaxis.set_major_formatter(ScalarFormatter())
        axes[0, 0].set_yticks(range(len(layers)), layers)
        axes[0, 0].invert_yaxis()
        figure.supxlabel(label, fontsize=8)
        _legend(figure)
    return figure


def plot_accuracy(accuracy, n_images):
    """Top-1 of the whole network by bits: a column a scope, a row a budget of iterations."""
    network = accuracy["network"].iloc[0]
    rows = accuracy[(accuracy["n_images"] == n_images) & (accuracy["network"] == network)]
    clustered = rows[rows["init"] != "float"]
    usual = clustered["revise"].astype(bool) == (clustered["init"] == "weight-distribution")
    clustered = clustered[usual]
    converged = [None] if clustered["max_iter"].isna().any() else []
    budgets = [*clustered["max_iter"].dropna().unique(), *converged]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            len(budgets),
            2,
            figsize=(WIDTH_IN, 2.3 * len(budgets)),
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
                _accuracy_lines(axis, clustered[same & (clustered["scope"] == scope)])
                reference = rows[(rows["init"] == "float") & (rows["scope"] == scope)]["top1"]
                axis.axhline(reference.iloc[0], color="0.4", linestyle=":", linewidth=1)
                title = "converged" if budget is None else f"{budget:.0f} iterations"
                axis.set(title=f"{scope}, {title}")
                axis.xaxis.get_major_locator().set_params(integer=True)
        figure.supxlabel("bits a weight", fontsize=8)
        figure.supylabel("top-1 (%)", fontsize=8)
        _legend(figure, extra=[Line2D([], [], color="0.4", linestyle=":", label="float network")])
    return figure


def _accuracy_lines(axis, rows):
    for i, init in enumerate(INITS):
        part = rows[rows["init"] == init].groupby("bits")[["top1", "low", "high"]].mean()
        bits = part.index + (i - 2.5) * 0.03
        axis.plot(bits, part["top1"], MARKERS[init] + "-", color=COLORS[init], label=init)
        axis.vlines(bits, part["low"], part["high"], color=COLORS[init], alpha=0.5, linewidth=0.8)


def plot_claims(claims):
    """Measured gain of every claim with its interval, beside the paper's figure."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(WIDTH_IN, 0.9 + 0.24 * len(claims) / 2))
        units = {"C1": "time saved (%)", "C2": "top-1 gained (points)"}
        for axis, (claim, unit) in zip(axes, units.items(), strict=True):
            rows = claims[claims["claim"] == claim].reset_index(drop=True)
            error = [rows["measured"] - rows["low"], rows["high"] - rows["measured"]]
            axis.errorbar(
                rows["measured"], rows.index, xerr=np.maximum(error, 0), fmt="o", color="0.2"
            )
            axis.axvline(0, color="0.6", linewidth=0.8)
            axis.axvline(rows["paper"].iloc[0], color=COLORS["linear"], linestyle="--")
            names = rows["scope"] + ", " + rows["baseline"] + ", " + rows["network"]
            axis.set_yticks(rows.index, names)
            axis.invert_yaxis()
            axis.set(xlabel=unit, title=f"{claim} (dashed: the paper)")
    return figure


def plot_bench(bench):
    """Nanoseconds a weight of every peer by number of centers, a panel an array.

    Hollow where a peer got fewer weights than there are.
    """
    rows = bench[~bench["array"].str.endswith("growth")]
    arrays = list(dict.fromkeys(rows["array"]))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            1, len(arrays), figsize=(WIDTH_IN, 3.2), sharey=True, squeeze=False
        )
        for axis, name in zip(axes[0], arrays, strict=True):
            part = rows[rows["array"] == name]
            for _, shown in part.groupby("peer", sort=False):
                _lines_of_peer(axis, shown, "n_clusters", shown["seconds"] / shown["n_weights"])
            axis.set(xscale="log", yscale="log", title=f"{name}, {_short(part['n_array'].iloc[0])}")
            ticks = sorted(part["n_clusters"].unique())
            axis.set_xticks(ticks, ticks)
            axis.minorticks_off()
        figure.supxlabel("centers", fontsize=8)
        axes[0, 0].set_ylabel("seconds a weight")
        _peer_legend(figure, rows)
    return figure


def plot_growth(bench):
    """Seconds of every peer by number of weights."""
    rows = bench[bench["array"].str.endswith("growth")]
    rows = rows[rows["n_weights"] == rows["n_array"]]
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(WIDTH_IN, 3.4))
        for _, shown in rows.groupby("peer", sort=False):
            _lines_of_peer(axis, shown, "n_weights", shown["seconds"])
        centers = rows["n_clusters"].iloc[0]
        axis.set(xscale="log", yscale="log", xlabel="weights", ylabel=f"seconds, {centers} centers")
        _peer_legend(figure, rows)
    return figure


def _lines_of_peer(axis, rows, x, y):
    """Medians of a peer joined by a line, from the least to the most."""
    color, marker = PEERS[rows["peer"].iloc[0]]
    found = rows.assign(y=y).groupby(x)["y"].agg(["median", "min", "max"])
    fewer = (rows["n_weights"] < rows["n_array"]).groupby(rows[x]).any()
    axis.plot(found.index, found["median"], "-", color=color, linewidth=0.9)
    axis.vlines(found.index, found["min"], found["max"], color=color, linewidth=0.9)
    for hollow, part in found.groupby(fewer):
        face = "white" if hollow else color
        axis.plot(part.index, part["median"], marker, color=color, markerfacecolor=face, zorder=3)


def _short(number):
    for size, unit in ((10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return str(number)


def _peer_legend(figure, rows):
    handles = [
        Line2D([], [], color=color, marker=marker, label=name)
        for name, (color, marker) in PEERS.items()
        if name in set(rows["peer"])
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=5, columnspacing=1)


def _layers(rows):
    present = set(rows["layer"])
    return [layer for layer in LAYERS if layer in present]


def _legend(figure, extra=()):
    handles = [
        Line2D([], [], color=COLORS[name], marker=MARKERS[name], linestyle="", label=name)
        for name in INITS
    ]
    figure.legend(handles=[*handles, *extra], loc="outside upper center", ncols=7, columnspacing=1)


def plot_frontier(frontier):
    """Size against accuracy, a panel a scope: every way to compress; float networks are lines."""
    scopes = [scope for scope in ("conv", "all") if scope in set(frontier["scope"])]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            1, len(scopes), figsize=(WIDTH_IN, 3.3), sharey=True, squeeze=False
        )
        for axis, scope in zip(axes[0], scopes, strict=True):
            rows = frontier[frontier["scope"] == scope]
            files = rows[rows["file"].notna()]
            for method, style in FLOATS.items():
                for top1 in rows.loc[rows["method"] == method, "top1"]:
                    axis.axhline(top1, color="0.4", linestyle=style, linewidth=1)
            for method, part in files.groupby("method", sort=False):
                _frontier_line(axis, method, part.sort_values("ratio"))
            axis.set(xscale="log", title=scope, xlabel="times smaller than float32")
            axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.xaxis.set_major_formatter(ScalarFormatter())
            axis.minorticks_off()
        axes[0, 0].set_ylabel("top-1 (%)")
        lowest = frontier["top1"].max() - 12
        axes[0, 0].set_ylim(bottom=max(lowest, frontier["top1"].min() - 0.5))
        present = set(frontier["method"])
        handles = [
            Line2D([], [], color=color, marker=marker, label=name)
            for name, (color, marker) in METHODS.items()
            if name in present
        ]
        handles += [
            Line2D([], [], color="0.4", linestyle=style, label=name)
            for name, style in FLOATS.items()
            if name in present
        ]
        figure.legend(handles=handles, loc="outside upper center", ncols=3, columnspacing=1)
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
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            len(ways),
            len(bits),
            figsize=(WIDTH_IN, 0.6 + 2.1 * len(ways)),
            sharex=True,
            sharey="col",
            squeeze=False,
        )
        for line, way in zip(axes, ways, strict=True):
            for axis, b in zip(line, bits, strict=True):
                rows = retraining[(retraining["way"] == way) & (retraining["bits"] == b)]
                for init in INITS:
                    part = rows[rows["init"] == init]
                    axis.plot(
                        part["epoch"], part["test_top1"], MARKERS[init] + "-", color=COLORS[init]
                    )
                axis.set(title=f"{way}, {b} bits")
                axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        figure.supxlabel("epochs of retraining", fontsize=8)
        figure.supylabel("top-1 (%)", fontsize=8)
        _legend(figure)
    return figure


def plot_rates(rates):
    """Error against real bits a weight, a panel a layer, by kind of cells."""
    layers = _layers(rates)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            -(-len(layers) // 4), min(4, len(layers)), figsize=(WIDTH_IN, 3.6), squeeze=False
        )
        for axis, layer in zip(axes.flat, layers, strict=False):
            for name, (color, marker) in CELLS.items():
                rows = rates[(rates["layer"] == layer) & (rates["cells"] == name)]
                axis.plot(
                    rows["bits_per_weight"],
                    rows["relative_distortion"],
                    marker + "-",
                    color=color,
                    markersize=3,
                )
            axis.set(yscale="log", title=layer)
            axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        for axis in axes.flat[len(layers) :]:
            axis.remove()
        figure.supxlabel("bits a weight in the file", fontsize=8)
        figure.supylabel("squared error / variance", fontsize=8)
        handles = [
            Line2D([], [], color=color, marker=marker, label=name)
            for name, (color, marker) in CELLS.items()
        ]
        figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure


def plot_allocation(allocation):
    """Bits of each layer by budget, and what they are worth: a row a scope."""
    rows = allocation[allocation["bits"].notna()]
    scopes = [scope for scope in ("conv", "all") if scope in set(rows["scope"])]
    looks = {
        ("uniform", "squared error"): (COLORS["linear"], "s", "uniform"),
        ("uniform", "fisher"): (COLORS["density"], "D", "uniform, Fisher"),
        ("allocated", "squared error"): (COLORS["optimal"], "*", "allocated"),
        ("allocated", "fisher"): (COLORS["random"], "o", "allocated, Fisher"),
    }
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            len(scopes), 2, figsize=(WIDTH_IN, 0.5 + 2.1 * len(scopes)), squeeze=False
        )
        for line, scope in zip(axes, scopes, strict=True):
            part = rows[rows["scope"] == scope]
            layers, least = _layers(part), part["bits"].min()
            for (how, criterion), (color, marker, _) in looks.items():
                same = part[(part["allocation"] == how) & (part["criterion"] == criterion)]
                first = same[same["bits"] == least].set_index("layer").reindex(layers)
                line[0].plot(layers, np.log2(first["n_clusters"]), marker, color=color)
                whole = same.drop_duplicates("bits").sort_values("bits")
                line[1].plot(whole["bits"], whole["top1"], marker + "-", color=color)
                line[1].vlines(whole["bits"], whole["low"], whole["high"], color=color, alpha=0.5)
            line[0].set(title=f"{scope}, {least:.0f} bits on average", ylabel="log2 of the centers")
            line[1].set(title=scope, xlabel="bits a weight of the budget", ylabel="top-1 (%)")
            line[1].xaxis.set_major_locator(MaxNLocator(integer=True))
        handles = [
            Line2D([], [], color=color, marker=marker, linestyle="", label=label)
            for color, marker, label in looks.values()
        ]
        figure.legend(handles=handles, loc="outside upper center", ncols=4)
    return figure


def plot_distortion(distortion):
    """Top-1 of every combination of remedies, a panel a scope and number of bits."""
    rows = distortion.assign(
        remedy=[
            " + ".join(
                ([] if weighting == "none" else [f"{weighting}-weighted"])
                + ["compensated"] * compensated
                + ["corrected"] * corrected
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
    panels = sorted(set(zip(rows["bits"], rows["scope"], strict=True)), key=lambda p: (p[0], p[1]))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            1,
            len(panels),
            figsize=(WIDTH_IN, 0.8 + 0.2 * len(remedies)),
            sharey=True,
            squeeze=False,
        )
        for axis, (bits, scope) in zip(axes[0], panels, strict=True):
            part = rows[(rows["bits"] == bits) & (rows["scope"] == scope)].set_index("remedy")
            part = part.reindex(remedies)
            height = np.arange(len(remedies))
            axis.hlines(height, part["low"], part["high"], color="0.6", linewidth=1)
            axis.plot(part["top1"], height, "o", color=COLORS["weight-distribution"])
            axis.set(title=f"{scope}, {bits} bits")
        axes[0, 0].set_yticks(range(len(remedies)), remedies)
        axes[0, 0].invert_yaxis()
        figure.supxlabel("top-1 (%)", fontsize=8)
    return figure


def plot_models(models):
    """Top-1 by bits and initialization, a panel a model; the float model dotted."""
    names = list(dict.fromkeys(models["model"]))
    n_columns = min(2, len(names))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            -(-len(names) // n_columns),
            n_columns,
            figsize=(WIDTH_IN, 0.5 + 2.3 * -(-len(names) // n_columns)),
            squeeze=False,
        )
        for axis, name in zip(axes.flat, names, strict=False):
            rows = models[models["model"] == name]
            axis.axhline(rows.loc[rows["init"] == "float", "top1"].iloc[0], color="0.4", ls=":")
            _accuracy_lines(axis, rows[rows["init"] != "float"])
            axis.set(title=f"{name.split(':')[-1]}, {rows['images'].iloc[0]}")
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        for axis in axes.flat[len(names) :]:
            axis.remove()
        figure.supxlabel("bits a weight", fontsize=8)
        figure.supylabel("top-1 (%)", fontsize=8)
        _legend(figure, extra=[Line2D([], [], color="0.4", linestyle=":", label="float network")])
    return figure


def plot_sweep(rows, x, y, hue, column=None):
    """Lines of a sweep's table, a panel for each value of a column.

    The bands are 95 % intervals of the mean over the rows that differ in nothing shown: seeds.
    """
    n_panels = 1 if column is None else rows[column].nunique()
    values = list(dict.fromkeys(rows[hue]))
    palette = {v: COLORS[v] for v in values} if set(values) <= set(COLORS) else "colorblind"
    with plt.rc_context(STYLE):
        height = 2.6
        grid = sns.relplot(
            data=rows,
            x=x,
            y=y,
            hue=hue,
            style=hue,
            col=column,
            col_wrap=min(2, n_panels) if column else None,
            kind="line",
            markers=True,
            dashes=False,
            palette=palette,
            errorbar=("ci", 95),
            seed=0,
            height=height,
            aspect=WIDTH_IN / min(2, n_panels) / height * 0.85,
        )
        for axis in grid.axes.flat:
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    return grid.figure
