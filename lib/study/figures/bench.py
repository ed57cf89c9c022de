"""Figures of the clustering beside other packages."""

import matplotlib.pyplot as plt
from matplotlib.lines import Line2D

from .style import PEERS, drawing, font_size, legend, panels, width


def plot_bench(bench):
    """Seconds a weight of every peer by number of centers, a panel an array.

    Hollow where a peer got fewer weights than there are.
    """
    rows = bench[~bench["array"].str.endswith("growth")]
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
    """Seconds of every peer by number of weights."""
    rows = bench[bench["array"].str.endswith("growth")]
    rows = rows[rows["n_weights"] == rows["n_array"]]
    with drawing():
        figure, axis = plt.subplots(figsize=(width(), 3.4))
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
    legend(figure, handles, 5)
