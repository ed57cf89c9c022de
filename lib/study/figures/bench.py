"""Figures of the clustering beside other packages."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.lines import Line2D

from ..tables.raced import growing, is_growing, is_of_rows, of_rows
from .style import PEERS, drawing, font_size, legend, panels, width


def plot_bench(bench):
    """Seconds a weight of every peer by number of centers, a panel an array.

    Hollow where a peer got fewer weights than there are.
    """
    rows = bench[~is_growing(bench) & ~is_of_rows(bench)]
    arrays = list(dict.fromkeys(rows["array"]))
    with drawing():
        figure, axes = panels(len(arrays), 4, 2.7, sharey=True)
        for axis, name in zip(axes, arrays, strict=True):
            part = rows[rows["array"] == name]
            for _, shown in part.groupby("peer", sort=False):
                _lines_of_peer(axis, shown, "n_clusters", shown["seconds"] / shown["n_weights"])
            axis.set(xscale="log", yscale="log", title=f"{name}, {_short(part['n_array'].iloc[0])}")
            ticks = sorted(part["n_clusters"].unique())
            axis.set_xticks(ticks, ticks)
            axis.minorticks_off()
        figure.supxlabel("centers", fontsize=font_size())
        figure.supylabel("seconds a weight", fontsize=font_size())
        _peer_legend(figure, rows)
    return figure


def plot_growth(bench):
    """Seconds of every peer by number of weights, at 16 centers or the number next to it."""
    rows = growing(bench)
    counts = sorted(set(rows["n_clusters"]), key=lambda count: abs(count - 16))
    rows = rows[rows["n_clusters"] == counts[0]]
    with drawing():
        figure, axis = plt.subplots(figsize=(width(), 3.4))
        for _, shown in rows.groupby("peer", sort=False):
            _lines_of_peer(axis, shown, "n_weights", shown["seconds"])
        centers = rows["n_clusters"].iloc[0]
        axis.set(xscale="log", yscale="log", xlabel="weights", ylabel=f"seconds, {centers} centers")
        _peer_legend(figure, rows)
    return figure


EXACT = ("kmeans1d", "ckwrap", "coremltools")
OURS, OPTIMAL = "ours, weight-distribution", "ours, optimal"
FLASH_SORTED = "flash1dkmeans, sorted by NumPy"


def plot_ahead(bench):
    """How many times as fast ours is as the fastest peer, by number of weights and of centers.

    Three panels: ours from the weight-distribution start and the optimal centers beside whichever
    peer is fastest on all of the same weights, and the optimal centers beside exact peers alone.
    Below 1 a peer is faster. Empty where no peer can have all weights within the limits.
    """
    rows = growing(bench)
    seconds = rows.groupby(["peer", "n_clusters", "n_weights"])["seconds"].median()
    peers = [name for name in seconds.index.unique("peer") if name not in (OURS, OPTIMAL, "copy")]
    exact = [name for name in peers if name in EXACT]
    pairs = (
        (OURS, peers, "any peer"),
        (OPTIMAL, peers, "any peer"),
        (OPTIMAL, exact, "exact peers"),
    )
    with drawing():
        figure, axes = panels(len(pairs), 3, 2.4)
        for axis, (ours, others, beside) in zip(axes, pairs, strict=True):
            theirs = seconds[seconds.index.isin(others, "peer")]
            best = theirs.groupby(["n_clusters", "n_weights"]).min()
            _tiles(axis, (best / seconds[ours]).unstack("n_weights"))
            axis.set_title(f"{ours.removeprefix('ours, ')}, beside {beside}")
        figure.supxlabel("weights", fontsize=font_size())
        figure.supylabel("centers", fontsize=font_size())
    return figure


def plot_rows(bench):
    """A codebook a row: times as fast as flash1dkmeans, a panel a kind of weights, a line a case.

    Filled beside its function with all in the loop, hollow beside the one after NumPy's sort.
    """
    rows = of_rows(bench)
    cases = rows["shape"] + " at " + rows["n_clusters"].astype(str)
    rows = rows.assign(case=cases + rows["weighted"].map({False: "", True: ", weighted"}))
    seconds = rows.groupby(["kind", "case", "peer"], sort=False)["seconds"].median()
    kinds, cases = (list(dict.fromkeys(rows[column])) for column in ("kind", "case"))
    with drawing():
        figure, axes = panels(len(kinds), 2, 0.4 + 0.2 * len(cases), sharex=True, sharey=True)
        for axis, kind in zip(axes, kinds, strict=True):
            for peer in (OURS, OPTIMAL):
                color, marker = PEERS[peer]
                for beside, face in (("flash1dkmeans", color), (FLASH_SORTED, "white")):
                    ratios = [
                        seconds[kind, case, beside] / seconds[kind, case, peer] for case in cases
                    ]
                    axis.plot(ratios, range(len(cases)), marker, color=color, markerfacecolor=face)
            axis.axvline(1, color="0.6", linewidth=0.9)
            axis.set(xscale="log", title=kind)
            ticks = [0.2, 0.5, 1, 2, 5]
            axis.set_xticks(ticks, ticks)
            axis.minorticks_off()
        axes[0].set_yticks(range(len(cases)), cases)
        axes[0].invert_yaxis()
        label = "times as fast as flash1dkmeans over the rows"
        figure.supxlabel(label, fontsize=font_size())
        _peer_legend(figure, rows[rows["peer"].isin([OURS, OPTIMAL])])
    return figure


def has_several_centers(bench):
    """Whether the growing arrays were raced at more than one number of centers."""
    return bench.loc[is_growing(bench), "n_clusters"].nunique() > 1


def has_rows(bench):
    """Whether matrices were raced, each of whose rows gets a codebook of its own."""
    return bool(is_of_rows(bench).any())


def _tiles(axis, ratios):
    """A tile for each ratio, blue above 1 and red below, with the number in it."""
    shown = np.log10(ratios.to_numpy())
    axis.imshow(shown, cmap="RdBu", vmin=-2, vmax=2, aspect="auto")
    for (i, j), value in np.ndenumerate(ratios.to_numpy()):
        if not np.isnan(value):
            color = "white" if abs(shown[i, j]) > 1.2 else "black"
            text = f"{value:.1f}" if value < 10 else f"{value:.0f}"
            axis.text(j, i, text, ha="center", va="center", color=color, size=font_size() - 2)
    axis.set_xticks(range(ratios.shape[1]), [_short(n) for n in ratios.columns], rotation=90)
    axis.set_yticks(range(ratios.shape[0]), ratios.index)
    axis.grid(False)


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
    legend(figure, handles, 5)
