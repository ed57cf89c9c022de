"""Explore one layer's clustering with sliders: where the centers go, and why."""

import functools
import html
import io
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator
from PIL import Image

from ..clustering import Prepared
from ..compression.entropy import cells_of_centers
from ..density import adaptive_density
from ..files import write_atomically
from ..initialization import INITIALIZATIONS, named
from ..optimal import inertia_bound
from .figures import LAYERS, STYLE, bulk

N_RANKS = 256  # of the drawn density
BOUND_BINS = 8192  # of the bound: quick; a tight bound takes ten times as many
DPI = 100
RARE = 1e-3  # share of the weights below which a center serves hardly any
SIZE_IN = (9.0, 5.2)


class Look(NamedTuple):
    """One layer's clustering after some iterations.

    Attributes
    ----------
    layer, init : str
    initial, centers : float64 arrays of shape (k,)
        Before the first iteration, and after `step` iterations.
    cuts : float64 array of shape (m - 1,)
        Boundaries between the m cells that hold weights.
    losses : float64 array of shape (m,)
        Squared error of each of these cells.
    cell_centers : float64 array of shape (m,)
        Their centers.
    shares : float64 array of shape (m,)
        Their shares of the weights.
    history : float64 array of shape (n_iter + 1,)
        Inertia of the initial centers and after each iteration.
    step : int
    optimal, bound : float
        Inertia of the optimal centers, and a lower bound of the inertia of any centers; the bound
        is 0 if there are no more distinct weights than centers.
    size, size_before : int
        Bytes of packed labels and float32 centers; of the weights.
    """

    layer: str
    init: str
    initial: np.ndarray
    centers: np.ndarray
    cuts: np.ndarray
    losses: np.ndarray
    cell_centers: np.ndarray
    shares: np.ndarray
    history: np.ndarray
    step: int
    optimal: float
    bound: float
    size: int
    size_before: int

    @property
    def n_rare(self):
        """Number of centers that fewer than one weight in a thousand belongs to."""
        return len(self.centers) - int(np.sum(self.shares >= RARE))

    @property
    def summary(self):
        """The numbers, in a line."""
        now, worst, error = self.history[self.step], np.argmax(self.losses), self.losses.sum()
        inertia = f"inertia {now:.3g}"
        if self.bound:
            inertia = (
                f"inertia {now / self.bound:.3f} times the proven bound (optimal centers: "
                f"{self.optimal / self.bound:.4f})"
            )
        where = "no error"
        if error:
            share = f"{100 * self.losses[worst] / error:.0f} %"
            where = f"the cell around {self.cell_centers[worst]:.3f} has {share} of the error"
        return (
            f"{self.layer}: {len(self.centers)} centers, iteration {self.step} of "
            f"{len(self.history) - 1}; {inertia}; {self.size:,} bytes, "
            f"{self.size_before / self.size:.1f} times smaller; {where}"
        )


def reading(looks):
    """Sentences on where Lloyd's algorithm ends, from converged looks at one layer."""
    return " ".join(
        f"From *{look.init}* {_inertia(look)} in {len(look.history) - 1} iterations; at "
        f"the end {look.n_rare} of {len(look.centers)} centers have fewer than one weight in a "
        "thousand each."
        for look in looks
    )


def _inertia(look):
    first, last = look.history[0], look.history[-1]
    if not look.bound:
        return f"the inertia goes from {first:.3g} to {last:.3g}"
    first, last = first / look.optimal, last / look.optimal
    return f"the inertia goes from {first:.2f} to {last:.2f} times that of the optimal centers"


class Explorer:
    """Layers that are prepared once, then clustered and drawn as the controls ask.

    Parameters
    ----------
    weights : dict of str to torch.Tensor or NumPy array
        Layers by name.
    """

    def __init__(self, weights):
        self.weights = weights
        self.layers = [name for name in LAYERS if name in weights]
        self.layers += [name for name in weights if name not in self.layers]
        self.prepared = functools.cache(lambda layer: Prepared(self.weights[layer]))
        self.density = functools.cache(self._density)
        self._path, self._best = functools.cache(self._clustered), functools.cache(self._bounded)
        self._drawn = None

    def look(self, layer, bits, init="weight-distribution", gamma=1 / 3, revise=True, step=None):
        """One layer's clustering after some iterations.

        Parameters
        ----------
        layer : str
        bits : int
            The layer gets 2 ** bits centers.
        init : str
        gamma : float
            Has an effect on "weight-distribution" alone.
        revise : bool
        step : int, optional
            Number of iterations; until convergence by default, or if that takes fewer.

        Returns
        -------
        Look
        """
        prepared, k = self.prepared(layer), 2**bits
        gamma = gamma if named(init).reads_gamma else 1 / 3
        whole = self._path(layer, k, init, gamma, revise, None)
        step = whole.n_iter if step is None else min(step, whole.n_iter)
        part = self._path(layer, k, init, gamma, revise, step) if step < whole.n_iter else whole
        centers, initial = np.asarray(part.centers), np.asarray(whole.initial_centers)
        cells = cells_of_centers(prepared, centers)
        ordered = prepared.ordered
        bounds = np.concatenate([[0], ordered.rank(cells.cuts), [len(ordered)]])
        mass, total, square = ordered.ranges(bounds[:-1], bounds[1:]).T
        cell_centers = centers[np.abs(cells.centers[:, None] - centers).argmin(1)]
        offset = cell_centers - ordered.origin
        losses = np.maximum(0.0, square + offset * (offset * mass - 2 * total))
        optimal, bound = self._best(layer, k)
        n = ordered.n_labels
        size = -(-n * bits // 8) + 4 * k
        return Look(
            layer=layer,
            init=init,
            initial=initial,
            centers=centers,
            cuts=cells.cuts.astype(float),
            losses=losses,
            cell_centers=cell_centers,
            shares=mass / mass.sum(),
            history=whole.history,
            step=step,
            optimal=optimal,
            bound=bound,
            size=size,
            size_before=4 * n,
        )

    def usual(self, layer, bits, init, step=None):
        """As `look`, with revision if the study revises this initialization by default."""
        return self.look(layer, bits, init, revise=named(init).revised, step=step)

    def _clustered(self, layer, k, init, gamma, revise, max_iter):
        return self.prepared(layer).cluster(
            k, init=init, gamma=gamma, revise=revise, max_iter=max_iter, labels=False
        )

    def _bounded(self, layer, k):
        best = self._path(layer, k, "optimal", 1 / 3, True, None)
        bound = inertia_bound(self.prepared(layer).ordered, k, n_bins=max(BOUND_BINS, 32 * k))
        return best.inertia, bound

    def _density(self, layer):
        density = adaptive_density(self.prepared(layer).ordered, n_ranks=N_RANKS)
        return density.edges, np.append(density.heights, 0.0)

    def picture(self, look):
        """A matplotlib figure of a look; always the same object, with its changed parts redrawn."""
        if self._drawn is None:
            self._drawn = _Picture()
        self._drawn.draw(look, self.density(look.layer), named(look.init).color)
        return self._drawn.figure

    def png(self, look):
        """The picture as the bytes of a PNG."""
        buffer = io.BytesIO()
        self.picture(look).savefig(buffer, format="png", dpi=DPI)
        return buffer.getvalue()

    def animation(self, path, layer, bits, seconds=0.25, **options):
        """Write the centers' path as an animated GIF, one frame an iteration.

        Parameters
        ----------
        path : path-like
        layer, bits
            As of `look`.
        seconds : float
            Duration of a frame; the last one stays for two seconds.
        **options
            ``init``, ``gamma``, ``revise`` of `look`.

        Returns
        -------
        int
            Number of frames.
        """
        n_iter = len(self.look(layer, bits, **options).history) - 1
        frames = [
            Image.open(io.BytesIO(self.png(self.look(layer, bits, step=step, **options))))
            for step in range(n_iter + 1)
        ]
        first, *others = [frame.convert("P", palette=Image.Palette.ADAPTIVE) for frame in frames]
        durations = [int(1000 * seconds)] * len(others) + [2000]
        buffer = io.BytesIO()
        first.save(buffer, "GIF", save_all=True, append_images=others, duration=durations, loop=0)
        write_atomically(path, buffer.getvalue())
        return len(frames)

    def controls(self, accuracy=None, layer="conv2", bits=4):
        """Sliders and a picture that follows them; an ipywidgets box.

        Parameters
        ----------
        accuracy : callable, optional
            From bits, init, gamma and revise to a line of text. A button calls it, since it takes
            seconds.
        layer : str
        bits : int
        """
        import ipywidgets as widgets

        layer = layer if layer in self.layers else self.layers[0]
        choose = {
            "layer": widgets.Dropdown(options=self.layers, value=layer, description="layer"),
            "bits": widgets.IntSlider(bits, 1, 8, description="bits"),
            "init": widgets.Dropdown(
                options=list(INITIALIZATIONS), value="weight-distribution", description="init"
            ),
            "gamma": widgets.FloatSlider(1 / 3, min=0, max=1, step=1 / 12, description="γ"),
            "revise": widgets.Checkbox(True, description="revise"),
            "step": widgets.IntSlider(0, 0, 0, description="iteration"),
        }
        image, summary = widgets.Image(format="png"), widgets.HTML()
        changing = []  # not empty while the code itself moves a control

        def show(step):
            given = {name: choose[name].value for name in ("layer", "bits", "init", "gamma")}
            look = self.look(**given, revise=choose["revise"].value, step=step)
            changing.append(True)
            choose["step"].max = len(look.history) - 1
            choose["step"].value = look.step
            changing.pop()
            choose["gamma"].disabled = not named(given["init"]).reads_gamma
            image.value, summary.value = self.png(look), look.summary

        def follow(change):
            if changing:
                return
            if change["owner"] is choose["init"]:
                changing.append(True)
                choose["revise"].value = named(choose["init"].value).revised
                changing.pop()
            show(choose["step"].value if change["owner"] is choose["step"] else None)

        for control in choose.values():
            control.observe(follow, "value")
        show(None)
        rows = [widgets.HBox(list(choose.values())[:3]), widgets.HBox(list(choose.values())[3:])]
        if accuracy is not None:
            rows.append(_accuracy_row(widgets, choose, accuracy))
        return widgets.VBox([*rows, summary, image])


def _accuracy_row(widgets, choose, accuracy):
    button = widgets.Button(description="measure the accuracy", layout={"width": "12rem"})
    message = widgets.HTML()

    def measure(_):
        button.disabled, message.value = True, "measuring ..."
        names = ("bits", "init", "gamma", "revise")
        try:
            message.value = accuracy(**{name: choose[name].value for name in names})
        except (OSError, RuntimeError, TypeError, ValueError) as error:
            message.value = html.escape(f"{type(error).__name__}: {error}")
            raise
        finally:
            button.disabled = False

    button.on_click(measure)
    return widgets.HBox([button, message])


class _Picture:
    """A figure whose axes are made once; a new look changes the data in them."""

    def __init__(self):
        with mpl.rc_context(STYLE | {"figure.constrained_layout.use": False}):
            self._make()

    def _make(self):
        self.figure = Figure(SIZE_IN)
        FigureCanvasAgg(self.figure)
        axes = self.figure.subplots(2, 2)
        self.figure.subplots_adjust(0.075, 0.09, 0.985, 0.94, 0.2, 0.42)
        (self.linear, self.log), (self.path, self.loss) = axes
        self.layer = None
        self.marks = {}
        for axis in (self.linear, self.log):
            self.marks[axis] = [
                axis.add_collection(LineCollection([], linewidths=width, linestyles=style))
                for width, style in ((1.1, "-"), (0.5, ":"))
            ]
            (self.marks[axis, "density"],) = axis.step([], [], where="post", color="0.2", lw=0.9)
            axis.set_xlabel("weight")
        self.linear.set(ylabel="density", title="the bulk: centers, and cuts (dotted)")
        self.log.set(yscale="log", title="the whole range")
        (self.history,) = self.path.plot([], [], "o-", markersize=3)
        (self.now,) = self.path.plot([], [], "o", markersize=8, markerfacecolor="none")
        self.best = self.path.axhline(1.0, color="0.4", linestyle=":")
        self.path.set(xlabel="iteration")
        self.path.xaxis.set_major_locator(MaxNLocator(integer=True))
        self.loss.set(
            xlabel="cell, from the lowest", title="share of the squared error by cell (%)"
        )
        self.loss.xaxis.set_major_locator(MaxNLocator(integer=True))
        self.bars = None

    def draw(self, look, density, color):
        """Show a look."""
        edges, heights = density
        if look.layer != self.layer:
            self.layer = look.layer
            for axis in (self.linear, self.log):
                self.marks[axis, "density"].set_data(edges, heights)
            self.linear.set_xlim(bulk(edges, heights))
            self.linear.set_ylim(0, 1.05 * heights.max())
            positive = heights[heights > 0]
            self.log.set_xlim(edges[0], edges[-1])
            self.log.set_ylim(positive.min() / 2, 2 * positive.max())
        for axis in (self.linear, self.log):
            centers, cuts = self.marks[axis]
            low, high = axis.get_ylim()
            centers.set_segments([[(x, low), (x, high)] for x in look.centers])
            cuts.set_segments([[(x, low), (x, high)] for x in look.cuts])
            centers.set_color(color)
            cuts.set_color("0.4")
        self._draw_path(look, color)
        if self.bars is not None:
            self.bars.remove()
        share = 100 * look.losses / max(look.losses.sum(), np.finfo(float).tiny)
        self.bars = self.loss.bar(np.arange(len(share)), share, color=color, width=0.8)
        self.loss.set_xlim(-1, len(share))
        self.loss.set_ylim(0, 1.08 * max(share.max(), 1e-9))
        self.figure.suptitle(look.layer, x=0.01, y=0.99, ha="left", fontsize=9)

    def _draw_path(self, look, color):
        unit, over = (look.bound, " / proven bound") if look.bound else (1.0, "")
        ratio, optimal = look.history / unit, look.optimal / unit
        steps = np.arange(len(ratio))
        self.path.title.set_text(f"inertia{over} (dotted: optimal)")
        self.history.set(data=(steps, ratio), color=color)
        self.now.set(data=([look.step], [ratio[look.step]]), color=color)
        self.best.set_ydata([optimal, optimal])
        self.path.set_xlim(-0.5, max(1, len(ratio) - 0.5))
        top, low = max(ratio.max(), optimal), min(ratio.min(), optimal)
        self.path.set_yscale("log" if look.bound else "linear")
        if look.bound:
            margin = max(top / low, 1.02) ** 0.06
            self.path.set_ylim(low / margin, top * margin**2)
        else:
            self.path.set_ylim(-0.05 * top, 1.1 * top or 1)
        wide = look.bound and top > 5 * low
        self.path.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if wide else MaxNLocator(5))
        self.path.yaxis.set_major_formatter("{x:g}")
        self.path.minorticks_off()
