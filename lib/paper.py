"""Every figure and table of an experiment as a venue wants them, from its tables alone."""

import io
import re
import shutil
from typing import NamedTuple

import matplotlib as mpl
import matplotlib.pyplot as plt
from tueplots import figsizes, fontsizes

from . import figures, results
from .provenance import read_manifest
from .report import caption

SUFFIXES = ("pdf", "svg")
# Without the date the same figure is the same bytes.
DATELESS = {
    "pdf": {"metadata": {"CreationDate": None}},
    "svg": {"metadata": {"Date": None}},
    "pgf": {},
}


class Venue(NamedTuple):
    """What a venue asks of figures.

    Attributes
    ----------
    column, text : float
        Inches of one column, and of the whole text: the same where there is one column.
    sizes : dict
        Settings of matplotlib: the size of every kind of text, in points.
    """

    column: float
    text: float
    sizes: dict


def _inches(figsize):
    return figsize["figure.figsize"][0]


def _sizes(labels, ticks):
    """Sizes of text, in points: labels as large as captions, ticks and legends smaller."""
    large = dict.fromkeys(("font.size", "axes.titlesize", "axes.labelsize"), labels)
    return large | dict.fromkeys(("legend.fontsize", "xtick.labelsize", "ytick.labelsize"), ticks)


# tueplots' where it has the venue; else the widths of the venue's class: IEEEtran.cls (21 and
# 43 picas), acmart.cls of sigconf (241.1 and 506.3 points).
VENUES = {
    "icml": Venue(
        _inches(figsizes.icml2024_half()), _inches(figsizes.icml2024_full()), fontsizes.icml2024()
    ),
    "neurips": Venue(
        _inches(figsizes.neurips2024()), _inches(figsizes.neurips2024()), fontsizes.neurips2024()
    ),
    "ieee": Venue(3.5, 7.16, _sizes(8, 7)),
    "acm": Venue(3.33, 7.0, _sizes(8, 7)),
}


def write_paper(experiment, style, columns):
    """Write ``paper/<style>-<columns>/``: figures, LaTeX tables, and snippets that include them.

    Parameters
    ----------
    experiment : str
    style : {"icml", "neurips", "ieee", "acm"}
    columns : {1, 2}
        How many columns of the page a figure is wide.

    Returns
    -------
    pathlib.Path
        The folder. Its files are the same bytes for the same tables.

    Raises
    ------
    ValueError
        For an unknown style or number of columns.
    FileNotFoundError
        If the experiment has no finished results.
    """
    if style not in VENUES:
        raise ValueError(f"style={style!r} is unknown: choose from {', '.join(VENUES)}.")
    if columns not in (1, 2):
        raise ValueError(f"columns={columns} must be 1 or 2.")
    venue = VENUES[style]
    width = venue.column if columns == 1 else venue.text
    folder = results.results_folder(experiment) / "paper" / f"{style}-{columns}"
    made = list(every_figure(experiment))
    across = columns == 2 and venue.column < venue.text
    snippets = []
    with figures.look(width, settings(venue)):
        for name, draw in made:
            figure = draw()
            for suffix in _suffixes():
                results.write_atomically(folder / f"{name}.{suffix}", _bytes(figure, suffix))
            plt.close(figure)
            snippets.append(_figure_snippet(name, across))
    for table in sorted((results.results_folder(experiment) / "tables").glob("*.tex")):
        results.write_atomically(folder / f"table-{table.name}", table.read_text())
        snippets.append(_table_snippet(table.stem, across))
    results.write_atomically(folder / "include.tex", "\n".join([HEADER, *snippets]))
    return folder


def settings(venue):
    """Settings of matplotlib beside the study's: the venue's sizes, and a font with serifs."""
    return venue.sizes | {
        "font.family": "serif",
        "font.serif": ["DejaVu Serif"],  # comes with matplotlib: the same bytes everywhere
        "mathtext.fontset": "dejavuserif",
        "lines.markersize": 3.5,
    }


def every_figure(experiment):
    """Name and drawing function of each figure that the tables of an experiment allow."""
    folder = results.results_folder(experiment)
    parameters = read_manifest(experiment)["parameters"]
    tables = {
        name: results.read_table(experiment, name)
        for name in results.COLUMNS
        if (folder / "tables" / f"{name}.csv").exists()
    }
    simple = {
        "training": figures.plot_training,
        "claims": figures.plot_claims,
        "frontier": figures.plot_frontier,
        "retraining": figures.plot_retraining,
        "rates": figures.plot_rates,
        "allocation": figures.plot_allocation,
        "distortion": figures.plot_distortion,
        "models": figures.plot_models,
        "bench": figures.plot_bench,
    }
    for name, plot in simple.items():
        if name in tables:
            yield name, lambda plot=plot, name=name: plot(tables[name])
    if "bench" in tables:
        yield "growth", lambda: figures.plot_growth(tables["bench"])
    if "density" in tables:
        yield "densities", lambda: figures.plot_densities(tables["density"])
    if "distribution" in tables:
        centers = tables["distribution"]
        for layer, bits in sorted(set(zip(centers["layer"], centers["bits"], strict=True))):
            yield (
                f"centers-{layer}-{bits}bits",
                lambda layer=layer, bits=bits: figures.plot_centers(
                    tables["density"], centers, layer, bits
                ),
            )
    if "speed" in tables:
        given = parameters["03-speed"]
        bits = given.get("endpoint_bits", 4)
        budget = next(b for b in given.get("budgets", [20, None]) if b is not None)
        yield "iterations", lambda: figures.plot_iterations(tables["speed"], bits)
        yield "inertia", lambda: figures.plot_inertia(tables["speed"], bits, budget)
    if "accuracy" in tables:
        n_images = parameters["04-accuracy"].get("n_images", 2000)
        yield "accuracy", lambda: figures.plot_accuracy(tables["accuracy"], n_images)


def _suffixes():
    """PDF and SVG; PGF where TeX is installed, which matplotlib needs to measure its text."""
    return (*SUFFIXES, "pgf") if shutil.which("xelatex") else SUFFIXES


def _bytes(figure, suffix):
    buffer = io.BytesIO()
    with mpl.rc_context(figures.STYLE):  # the type of fonts is read here
        figure.savefig(buffer, format=suffix, **DATELESS[suffix])
    return _numbered(buffer.getvalue()) if suffix == "svg" else buffer.getvalue()


def _numbered(svg):
    """The same drawing with its names in the order in which they come: some are of addresses."""
    names = dict.fromkeys(re.findall(rb'id="([a-z][0-9a-f]{10})"', svg))
    numbers = {name: b"n%d" % number for number, name in enumerate(names)}
    return re.sub(rb"\b[a-z][0-9a-f]{10}\b", lambda m: numbers.get(m[0], m[0]), svg)


HEADER = """\
% Include what you need; the preamble wants \\usepackage{graphicx,booktabs}.
% Figures have their final width: no scaling, so that their text has the size of a caption.
% Where <name>.pgf is there, \\input{<name>.pgf} draws the figure in the document's own font; the
% preamble then wants \\usepackage{pgf} and \\providecommand{\\mathdefault}[1]{#1} too."""


def _figure_snippet(name, across):
    star = "*" * across
    return (
        f"\\begin{{figure{star}}}\n  \\centering\n  \\includegraphics{{{name}.pdf}}\n"
        f"  \\caption{{{_latex(caption(name))}}}\n  \\label{{fig:{name}}}\n\\end{{figure{star}}}\n"
    )


def _table_snippet(name, across):
    star = "*" * across
    width = "\\textwidth" if across else "\\columnwidth"
    return (
        f"\\begin{{table{star}}}\n  \\centering\n  \\resizebox{{{width}}}{{!}}"
        f"{{\\input{{table-{name}.tex}}}}\n"
        f"  \\caption{{Table {_latex(name)}.}}\n  \\label{{tab:{name}}}\n\\end{{table{star}}}\n"
    )


def _latex(text):
    text = re.sub(r"([%&#_$])", r"\\\1", text)
    return text.replace("γ", "$\\gamma$")
