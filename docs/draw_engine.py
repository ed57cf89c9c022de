"""Draw docs/images/engine.svg: passes, leaves and a look-up, on forty weights.

    PYTHONPATH=. python docs/draw_engine.py

The leaves are those of the engine, but of floats with one leading digit, so that they can be seen.
"""

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.patches import ConnectionPatch, Rectangle

COLORS = ["#4477aa", "#66ccee", "#ee7733", "#aa3377"]
NEEDED, GREY = "#eecc66", "#dddddd"
OPTIONS = {"svg.hashsalt": "engine", "svg.fonttype": "none", "font.size": 9}
CENTERS = np.array([-0.8, -0.2, 0.25, 0.98])


def leaf_edges():
    """Edges of leaves with one digit after the leading one, from 1/16 to 1, of both signs."""
    positive = [2.0**e * (1 + half) for e in range(-4, 0) for half in (0, 0.5)] + [1.0]
    return np.array([-edge for edge in positive[::-1]] + positive)


def main():
    """Draw the figure."""
    rng = np.random.default_rng(4)
    magnitude = rng.uniform(0.07, 1, 40)
    weights = magnitude * rng.choice([-1, 1], 40)
    edges, cuts = leaf_edges(), (CENTERS[1:] + CENTERS[:-1]) / 2
    labels = np.searchsorted(cuts, weights)
    with matplotlib.rc_context(OPTIONS):
        figure, axes = plt.subplots(
            4, 1, figsize=(8, 6.6), height_ratios=[1, 2.6, 1.6, 1.2], constrained_layout=True
        )
        strip(axes[0], weights, [GREY] * 40, "The weights, in the order of memory")
        needed = leaves(axes[1], weights, edges, cuts)
        members(axes[2], weights, edges[needed : needed + 2], cuts)
        strip(axes[3], weights, [COLORS[label] for label in labels], "Labels, by cell")
        arrow(axes[0], axes[1], "a pass tallies the leaves")
        arrow(axes[1], axes[2], "a look-up gathers and sorts the members of the needed leaf")
        arrow(axes[2], axes[3], "a pass compares each weight with the thresholds and writes labels")
        path = Path(__file__).parent / "images" / "engine.svg"
        figure.savefig(path, metadata={"Date": None})


def strip(ax, weights, colors, title):
    """Weights as a row of boxes."""
    for i, (weight, color) in enumerate(zip(weights, colors, strict=True)):
        ax.add_patch(Rectangle((i, 0), 0.9, 1, color=color))
        ax.text(i + 0.45, 0.5, f"{weight:+.1f}", ha="center", va="center", fontsize=5.5)
    ax.set(xlim=(-0.5, 40.5), ylim=(-0.1, 1.1))
    bare(ax, title)


def leaves(ax, weights, edges, cuts):
    """The tally of each leaf, and the thresholds; the number of the leaf that one divides."""
    counts = np.histogram(weights, edges)[0]
    needed = np.searchsorted(edges, cuts[-1]) - 1  # the others are between leaves
    for i, count in enumerate(counts):
        color = NEEDED if i == needed else GREY
        left, width = edges[i], edges[i + 1] - edges[i]
        ax.add_patch(Rectangle((left, 0), width, count, facecolor=color, edgecolor="white"))
        if count and width > 0.1:
            ax.text(left + width / 4, count / 2, str(count), ha="center", va="center")
    for cut in cuts:
        ax.axvline(cut, color="black", linestyle="--")
    for center, color in zip(CENTERS, COLORS, strict=True):
        ax.plot(center, -0.35, "^", color=color, clip_on=False)
    ax.text(cuts[-1] + 0.01, counts.max() + 0.6, "threshold", ha="left", va="center")
    ax.text(edges[needed], counts[needed] + 0.3, "needed")
    ax.text(CENTERS[0], -1.3, "center", ha="center", va="center", color=COLORS[0])
    ax.set(xlim=(-1.03, 1.03), ylim=(-0.8, counts.max() + 1.2))
    bare(ax, "Leaves, by value: each knows its count and its sums")
    return needed


def members(ax, weights, ends, cuts):
    """The sorted weights of one leaf, and the threshold that divides it."""
    inside = np.sort(weights[(weights >= ends[0]) & (weights < ends[1])])
    (cut,) = cuts[(cuts >= ends[0]) & (cuts < ends[1])]
    ax.add_patch(Rectangle((ends[0], 0), ends[1] - ends[0], 1, color=NEEDED))
    for rank, weight in enumerate(inside):
        below = np.searchsorted(cuts, weight)
        ax.plot([weight, weight], [0.15, 0.85], color=COLORS[below], linewidth=2.5)
        ax.text(weight, 1.12, str(rank), ha="center", fontsize=7)
    ax.axvline(cut, color="black", linestyle="--")
    margin = 0.15 * (ends[1] - ends[0])
    ax.set(xlim=(ends[0] - margin, ends[1] + margin), ylim=(-0.1, 1.5))
    bare(ax, "The members of the needed leaf, ascending: now the threshold has an exact rank")


def arrow(above, below, text):
    """An arrow from the bottom of one panel to the top of the next."""
    between = ConnectionPatch(
        (0.02, -0.02),
        (0.02, 1.02),
        above.transAxes,
        below.transAxes,
        arrowstyle="-|>",
        color="black",
        mutation_scale=12,
    )
    above.figure.add_artist(between)
    below.text(0.04, 1.28, text, transform=below.transAxes, va="bottom", style="italic")


def bare(ax, title):
    """A panel without axes."""
    ax.set_title(title, loc="left", fontsize=9, x=0.04)
    ax.axis("off")


if __name__ == "__main__":
    main()
