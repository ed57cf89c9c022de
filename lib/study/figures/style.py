"""How every figure looks: widths, fonts, and the marks that never change their meaning."""

import contextlib
import contextvars
import io

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.lines import Line2D

from ...files import write_atomically
from ..paths import results_folder

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
    "svg.fonttype": "none",
    "svg.hashsalt": "fixed",
}
NARROW_IN = 5.0  # below it panels stand above each other
# Every initialization keeps its color and marker in every figure.
INITS = ("random", "linear", "density", "k-means++", "weight-distribution", "optimal")
COLORS = dict(zip(INITS, sns.color_palette("colorblind", len(INITS)), strict=True))
MARKERS = dict(zip(INITS, "osD^P*", strict=True))
# The clustering's peers: ours, a copy of the weights, the others.
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
    "k-means, trained through": (COLORS["weight-distribution"], "^"),
    "k-means, all trained through": (COLORS["weight-distribution"], "p"),
    "trained through": (COLORS["random"], "^"),
    "pruned, trained through": (COLORS["density"], "^"),
    "all trained through": (COLORS["random"], "p"),
}
FLOATS = {"float": ":", "float, trained": "--"}  # networks without shared weights: lines
CELLS = {
    "k-means": (COLORS["weight-distribution"], "P"),
    "uniform": (COLORS["linear"], "s"),
    "entropy-constrained": (COLORS["optimal"], "o"),
}
LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")

_look = contextvars.ContextVar("look", default=(WIDTH_IN, {}))


@contextlib.contextmanager
def look(width_in, settings):
    """Draw figures of a width in inches and with settings of matplotlib besides ours."""
    token = _look.set((width_in, settings))
    try:
        yield
    finally:
        _look.reset(token)


def width():
    """Inches that a figure is wide."""
    return _look.get()[0]


def narrow():
    """Whether panels stand above each other: a figure of one column of two."""
    return width() < NARROW_IN


def drawing():
    """The settings of matplotlib that every figure is made with."""
    return plt.rc_context(STYLE | _look.get()[1])


def font_size():
    """Of labels, in points."""
    return (STYLE | _look.get()[1])["font.size"]


def fitting(columns):
    """So many columns of a legend or of panels, or as many as there is room for."""
    return max(1, round(columns * min(1.0, width() / WIDTH_IN)))


def panels(n, columns, row_height, **options):
    """A figure with n panels, at most so many beside each other; a flat list of axes."""
    columns = min(n, fitting(columns))
    rows = -(-n // columns)
    size = (width(), 0.5 + row_height * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, **options)
    for axis in axes.flat[n:]:
        axis.remove()
    return figure, list(axes.flat[:n])


def save_figure(figure, experiment, name):
    """Write a figure as figures/<name>.pdf and .png, the same bytes for the same figure."""
    for kind, metadata in (("pdf", {"CreationDate": None}), ("png", {"Software": None})):
        buffer = io.BytesIO()
        with drawing():  # the type of fonts is read here
            figure.savefig(buffer, format=kind, dpi=200, metadata=metadata)
        write_atomically(
            results_folder(experiment) / "figures" / f"{name}.{kind}", buffer.getvalue()
        )


def layers_of(rows):
    """The layers of a table in the network's order."""
    present = set(rows["layer"])
    return [layer for layer in LAYERS if layer in present]


def init_legend(figure, extra=()):
    """The initializations above the panels."""
    handles = [
        Line2D([], [], color=COLORS[name], marker=MARKERS[name], linestyle="", label=name)
        for name in INITS
    ]
    legend(figure, [*handles, *extra], 7)


def legend(figure, handles, columns):
    """Handles above the panels, in as many columns as there is room for."""
    figure.legend(
        handles=handles, loc="outside upper center", ncols=fitting(columns), columnspacing=1
    )
