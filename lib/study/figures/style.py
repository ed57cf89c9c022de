"""The look of every figure: widths, fonts, and colors and markers with a fixed meaning."""

import contextlib
import contextvars
import io

import matplotlib.pyplot as plt
from matplotlib.lines import Line2D

from ...files import write_atomically
from ...initialization import named
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
NARROW_IN = 5.0  # in narrower figures panels stand above each other
# Packages beside which the clustering is timed, and a copy of the weights.
PEERS = {
    "ours, weight-distribution": (named("weight-distribution").color, "P"),
    "ours, optimal": (named("optimal").color, "*"),
    "copy": ("0.6", "_"),
    "flash1dkmeans": ("tab:blue", "o"),
    "kmeans1d": ("tab:orange", "s"),
    "ckwrap": ("tab:green", "D"),
    "coremltools": ("tab:red", "^"),
    "scikit-learn": ("tab:purple", "v"),
    "scikit-learn, our start": ("tab:pink", "<"),
    "faiss": ("tab:olive", ">"),
}
# Ways to compress: color and marker. Retrained ones are filled, the others hollow.
METHODS = {
    "k-means": (named("weight-distribution").color, "P"),
    "k-means, corrected": (named("weight-distribution").color, "X"),
    "pruned": (named("density").color, "<"),
    "pruned, corrected": (named("density").color, "v"),
    "uniform": (named("linear").color, "s"),
    "uniform, corrected": (named("linear").color, "D"),
    "entropy-constrained": (named("optimal").color, "o"),
    "entropy-constrained, corrected": (named("optimal").color, "*"),
    "compensated": (named("k-means++").color, "P"),
    "compensated, centers trained": (named("k-means++").color, "^"),
    "compensated, all centers trained": (named("k-means++").color, "p"),
    "compress": ("0.1", "*"),
    "compress from linear": (named("linear").color, "*"),
    "compress from random": (named("random").color, "*"),
    "standard": ("tab:olive", "h"),
    "standard, no trellis": ("tab:olive", "s"),
    "compress, centers trained": ("0.1", "^"),
    "compress, all centers trained": ("0.1", "p"),
    "compress, trained through": ("0.1", "v"),
    "compress, all trained through": ("0.1", "D"),
    "k-means, trained through": (named("weight-distribution").color, "^"),
    "k-means, all trained through": (named("weight-distribution").color, "p"),
    "trained through": (named("random").color, "^"),
    "pruned, trained through": (named("density").color, "^"),
    "all trained through": (named("random").color, "p"),
}
FLOATS = {"float": ":", "float, trained": "--"}  # networks without shared weights: lines
CELLS = {
    "k-means": (named("weight-distribution").color, "P"),
    "uniform": (named("linear").color, "s"),
    "entropy-constrained": (named("optimal").color, "o"),
}
LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")

_look = contextvars.ContextVar("look", default=(WIDTH_IN, {}))


@contextlib.contextmanager
def look(width_in, settings):
    """Within this context, figures have this width and these settings on top of `STYLE`."""
    token = _look.set((width_in, settings))
    try:
        yield
    finally:
        _look.reset(token)


def width():
    """Width of a figure, in inches."""
    return _look.get()[0]


def narrow():
    """Whether the figure is as narrow as one of two columns, so that panels are stacked."""
    return width() < NARROW_IN


def drawing():
    """A context with the settings of matplotlib that every figure has."""
    return plt.rc_context(STYLE | _look.get()[1])


def font_size():
    """Size of labels, in points."""
    return (STYLE | _look.get()[1])["font.size"]


def fitting(columns):
    """Number of columns of a legend or of panels: as asked for, or fewer in a narrow figure."""
    return max(1, round(columns * min(1.0, width() / WIDTH_IN)))


def panels(n, columns, row_height, **options):
    """A figure with `n` panels, at most `columns` side by side, and a flat list of its axes."""
    columns = min(n, fitting(columns))
    rows = -(-n // columns)
    size = (width(), 0.5 + row_height * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, **options)
    for axis in axes.flat[n:]:
        axis.remove()
    return figure, list(axes.flat[:n])


def save_figure(figure, experiment, name):
    """Write ``figures/<name>.pdf`` and ``.png``; the same figure always gives the same bytes."""
    for kind, metadata in (("pdf", {"CreationDate": None}), ("png", {"Software": None})):
        buffer = io.BytesIO()
        with drawing():  # the type of fonts is read here
            figure.savefig(buffer, format=kind, dpi=200, metadata=metadata)
        write_atomically(
            results_folder(experiment) / "figures" / f"{name}.{kind}", buffer.getvalue()
        )


def layers_of(rows):
    """Names of the layers in a table, in the network's order."""
    present = set(rows["layer"])
    return [layer for layer in LAYERS if layer in present]


def init_legend(figure, inits, extra=()):
    """Put a legend of initializations above the panels."""
    handles = [
        Line2D([], [], color=init.color, marker=init.marker, linestyle="", label=init.name)
        for init in inits
    ]
    legend(figure, [*handles, *extra], 7)


def legend(figure, handles, columns):
    """Put a legend above the panels, in as many columns as there is room for."""
    figure.legend(
        handles=handles, loc="outside upper center", ncols=fitting(columns), columnspacing=1
    )
