"""Every figure from small made-up tables, as the notebooks draw them: read back from disk."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from lib.initialization import INITIALIZATIONS
from lib.study import figures, tables

LAYERS = ("conv1", "conv4", "fc8")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS", str(tmp_path))
    plt.switch_backend("agg")
    yield tmp_path / "toy" / "figures"
    plt.close("all")


def table(name, rows):
    """A table as a notebook sees it: written, with its columns checked, and read."""
    blank = dict.fromkeys(tables.TABLES[name].columns)
    tables.write_table(pd.DataFrame([blank | row for row in rows]), "toy", name)
    return tables.read_table("toy", name)


def gamma_of(init):
    return 1 / 3 if INITIALIZATIONS[init].reads_gamma else None


def training():
    return table(
        "training",
        [
            {"network": network, "epoch": epoch, "held_out_top1": 80 + epoch}
            for network in ("normal-0", "torch-0")
            for epoch in (1, 2, 3)
        ],
    )


def density(layers=LAYERS):
    weight = np.linspace(-2, 2, 41)
    height = np.append(np.exp(-(weight[:-1] ** 2)), 0)
    return table(
        "density",
        [
            {"layer": layer, "weight": w, "density": h}
            for layer in layers
            for w, h in zip(weight, height, strict=True)
        ],
    )


def distribution():
    curves = [(init, gamma_of(init)) for init in INITIALIZATIONS]
    curves += [("weight-distribution", gamma) for gamma in (0.0, 1.0)]
    return table(
        "distribution",
        [
            {"layer": layer, "init": init, "gamma": gamma, "bits": 2, "stage": stage, "center": c}
            for layer in LAYERS
            for init, gamma in curves
            for stage, reach in (("initial", 2), ("final", 1))
            for c in np.linspace(-reach, reach, 4)
        ],
    )


def speed(revisions=(False, True)):
    return table(
        "speed",
        [
            {
                "layer": layer,
                "engine": "sorted",
                "init": init,
                "gamma": gamma_of(init),
                "revise": revise,
                "bits": 4,
                "max_iter": budget,
                "n_iter": 20 if budget else 100 + i,
                "relative_inertia": 1 + i / 10,
            }
            for layer in LAYERS
            for i, init in enumerate(INITIALIZATIONS)
            for revise in revisions
            for budget in (20, None)
        ],
    )


def accuracy(budgets=(20, None)):
    shared = {"network": "normal-0", "n_images": 100}
    rows = [
        {
            **shared,
            "scope": scope,
            "init": init,
            "gamma": gamma_of(init),
            "revise": INITIALIZATIONS[init].revised,
            "bits": bits,
            "max_iter": budget,
            "top1": 60 + 5 * bits + i,
            "low": 55 + 5 * bits,
            "high": 70 + 5 * bits,
        }
        for scope in ("conv", "all")
        for i, init in enumerate(INITIALIZATIONS)
        for bits in (3, 4)
        for budget in budgets
    ]
    rows += [{**shared, "scope": scope, "init": "float", "top1": 90} for scope in ("conv", "all")]
    return table("accuracy", rows)


def claims():
    return table(
        "claims",
        [
            {
                "claim": claim,
                "scope": scope,
                "network": "normal-0",
                "baseline": baseline,
                "paper": paper,
                "measured": 4,
                "low": -1,
                "high": 7,
            }
            for claim, paper in (("C1, counted", 5), ("C2", 6))
            for scope in ("conv", "all")
            for baseline in ("random", "linear")
        ],
    )


FIGURES = {
    "training": lambda: figures.plot_training(training()),
    "densities": lambda: figures.plot_densities(density(figures.LAYERS)),
    "centers": lambda: figures.plot_centers(density(), distribution(), "conv4", 2),
    "iterations": lambda: figures.plot_iterations(speed(), 4),
    "inertia": lambda: figures.plot_inertia(speed(revisions=(False,)), 4, 20),
    "accuracy": lambda: figures.plot_accuracy(accuracy(), 100),
    "accuracy-converged": lambda: figures.plot_accuracy(accuracy([None]), 100),
    "accuracy-budget": lambda: figures.plot_accuracy(accuracy([20]), 100),
    "claims": lambda: figures.plot_claims(claims()),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", FIGURES)
def test_figure_is_saved_alike_each_time_without_type_3_fonts(folder, name):
    saved = []
    for _ in range(2):
        figures.save_figure(FIGURES[name](), "toy", name)
        saved.append([(folder / f"{name}.{kind}").read_bytes() for kind in ("pdf", "png")])
    assert saved[0] == saved[1]
    pdf, png = saved[0]
    assert pdf.startswith(b"%PDF")
    assert png.startswith(b"\x89PNG")
    assert b"/Type3" not in pdf
    assert b"/Type42" in pdf or b"/TrueType" in pdf or b"/CIDFontType2" in pdf
    assert sorted(path.name for path in folder.iterdir()) == [f"{name}.pdf", f"{name}.png"]


def test_style_stays_inside():
    before = dict(plt.rcParams)
    figures.save_figure(figures.plot_training(training()), "toy", "training")
    assert dict(plt.rcParams) == before


def test_pages_are_as_wide_as_stated():
    for make in FIGURES.values():
        assert make().get_figwidth() == figures.WIDTH_IN


def test_lines_are_the_rows_of_the_table():
    axis = figures.plot_training(training()).axes[0]
    assert [line.get_label() for line in axis.lines] == ["normal-0", "torch-0"]
    for line in axis.lines:
        assert line.get_xydata().tolist() == [[1, 81], [2, 82], [3, 83]]


def test_layers_are_in_network_order():
    panels = figures.plot_densities(density(LAYERS[::-1])).axes
    assert [panel.get_title() for panel in panels] == list(LAYERS)


def test_centers_are_drawn_hollow_before_and_filled_after():
    figure = figures.plot_centers(density(), distribution(), "conv4", 2)
    strip = figure.axes[2]
    labels = [label.get_text() for label in strip.get_yticklabels()]
    expected = list(INITIALIZATIONS)
    ours = expected.index("weight-distribution")
    expected[ours : ours + 1] = [f"$\\gamma$ = {gamma}" for gamma in ("0.33", "0", "1")]
    assert labels == expected
    initial, final = strip.collections[:2]
    assert len(initial.get_facecolor()) == 0
    assert len(final.get_facecolor()) == 1
    assert initial.get_offsets()[:, 0].tolist() == pytest.approx([-2, -2 / 3, 2 / 3, 2])
    assert final.get_offsets()[:, 0].tolist() == pytest.approx([-1, -1 / 3, 1 / 3, 1])


def test_iterations_are_those_of_the_converged_rows():
    figure = figures.plot_iterations(speed(), 4)
    assert [axis.get_title() for axis in figure.axes] == ["not revised", "revised"]
    for axis in figure.axes:
        drawn = {line.get_label(): list(line.get_xdata()) for line in axis.lines}
        assert drawn == {init: [100 + i] * 3 for i, init in enumerate(INITIALIZATIONS)}


def test_accuracy_has_a_panel_for_each_scope_and_budget():
    titles = [axis.get_title() for axis in figures.plot_accuracy(accuracy(), 100).axes]
    budgets = ("20 iterations", "converged")
    assert titles == [f"{scope}, {budget}" for budget in budgets for scope in ("conv", "all")]


def test_claims_stand_beside_the_papers_figure():
    figure = figures.plot_claims(claims())
    for axis, paper in zip(figure.axes, (5, 6), strict=True):
        assert [label.get_text() for label in axis.get_yticklabels()] == [
            f"{scope}, {baseline}, normal-0"
            for scope in ("conv", "all")
            for baseline in ("random", "linear")
        ]
        assert [paper, paper] in [list(line.get_xdata()) for line in axis.lines]


def frontier(scopes=("conv", "all")):
    rows = []
    for scope in scopes:
        for i, method in enumerate([*figures.METHODS, *figures.FLOATS]):
            for ratio in (1,) if method in figures.FLOATS else (10 + i, 30 + i):
                top1 = 90 - ratio / 20
                rows.append(
                    {
                        "scope": scope,
                        "method": method,
                        "retrained": method in ("trained through", "float, trained"),
                        "file": None if method in figures.FLOATS else f"{method}-{ratio}",
                        "pruned": False,
                        "ratio": ratio,
                        "top1": top1,
                        "low": top1 - 1,
                        "high": top1 + 1,
                    }
                )
    return table("frontier", rows)


def test_frontier(folder):
    rows = frontier()
    figure = figures.plot_frontier(rows)
    figures.save_figure(figure, "toy", "frontier")
    assert [axis.get_title() for axis in figure.axes] == ["conv", "all"]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == [*figures.METHODS, *figures.FLOATS]
    filled = [
        line.get_markerfacecolor() != "white"
        for line in figure.axes[1].lines
        if line.get_marker() not in ("", "None")
    ]
    assert sum(filled) == 2  # the retrained ones
    assert (folder / "frontier.pdf").exists()
