"""Figures and tables of an experiment in the form that a venue asks for, from its tables alone."""

import base64
import functools
import html
import io
import re
import shutil
from typing import NamedTuple

import matplotlib as mpl
import matplotlib.pyplot as plt
from fontTools.subset import Subsetter
from fontTools.ttLib import TTFont
from matplotlib.font_manager import findfont
from tueplots import figsizes, fontsizes

from ... import files
from .. import figures, paths, tables
from ..provenance import read_manifest
from .report import caption

SUFFIXES = ("pdf", "svg")
FONT = "DejaVu Serif"  # comes with matplotlib: the same bytes everywhere
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
        Width of one column and of the whole text, in inches; equal if there is one column.
    sizes : dict
        Settings of matplotlib for the size of each kind of text, in points.
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


POINTS = 72.27  # of TeX in an inch
# From tueplots if it has the venue, else the widths in the venue's class: IEEEtran.cls (21 and
# 43 picas of 12 points), acmart.cls with sigconf.
VENUES = {
    "icml": Venue(
        _inches(figsizes.icml2024_half()), _inches(figsizes.icml2024_full()), fontsizes.icml2024()
    ),
    "neurips": Venue(
        _inches(figsizes.neurips2024()), _inches(figsizes.neurips2024()), fontsizes.neurips2024()
    ),
    "ieee": Venue(21 * 12 / POINTS, 43 * 12 / POINTS, _sizes(8, 7)),
    "acm": Venue(241.14749 / POINTS, 506.295 / POINTS, _sizes(8, 7)),
}


def write_paper(experiment, style, columns):
    """Write ``paper/<style>-<columns>/``: figures, LaTeX tables, and snippets that include them.

    Parameters
    ----------
    experiment : str
    style : {"icml", "neurips", "ieee", "acm"}
    columns : {1, 2}
        Width of a figure, in columns of the page.

    Returns
    -------
    pathlib.Path
        The folder. The same tables always give the same bytes.

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
    folder = paths.results_folder(experiment) / "paper" / f"{style}-{columns}"
    made = list(every_figure(experiment))
    shutil.rmtree(folder, ignore_errors=True)
    across = columns == 2 and venue.column < venue.text
    snippets = []
    with figures.look(width, settings(venue)):
        for name, draw in made:
            figure = draw()
            for suffix in _suffixes():
                files.write_atomically(folder / f"{name}.{suffix}", _bytes(figure, suffix))
            plt.close(figure)
            snippets.append(_figure_snippet(name, across))
    for name, frame in every_table(experiment):
        text = tables.latex(*tables.for_readers(frame))
        files.write_atomically(folder / f"table-{name}.tex", text)
        snippets.append(_table_snippet(name, across))
    files.write_atomically(folder / "include.tex", "\n".join([HEADER, *snippets]))
    return folder


def settings(venue):
    """Settings of matplotlib on top of the study's: the venue's sizes, and a font with serifs."""
    return venue.sizes | {
        "font.family": "serif",
        "font.serif": [FONT],
        "mathtext.fontset": "dejavuserif",
        "lines.markersize": 3.5,
    }


def every_figure(experiment):
    """Name and drawing function of each figure for which an experiment has the tables."""
    parameters = read_manifest(experiment)["parameters"]
    frames = {name: tables.read_table(experiment, name) for name in tables.tables_of(experiment)}
    for figure in figures.FIGURES.values():
        if figure.table in frames and figure.can(frames[figure.table]):
            yield figure.name, functools.partial(figure.draw, frames[figure.table], parameters)
    if "distribution" in frames:
        centers = frames["distribution"]
        for layer, bits in sorted(set(zip(centers["layer"], centers["bits"], strict=True))):
            draw = functools.partial(figures.plot_centers, frames["density"], centers, layer, bits)
            yield f"centers-{layer}-{bits}bits", draw


def every_table(experiment):
    """Name and printed rows of each table that papers print."""
    for name in tables.tables_of(experiment):
        if printed := tables.TABLES[name].paper:
            yield name, printed(tables.read_table(experiment, name))


def _suffixes():
    """PDF and SVG; PGF where TeX is installed, which matplotlib needs to measure its text."""
    return (*SUFFIXES, "pgf") if shutil.which("xelatex") else SUFFIXES


def _bytes(figure, suffix):
    buffer = io.BytesIO()
    with mpl.rc_context(figures.STYLE):  # the type of fonts is read here
        figure.savefig(buffer, format=suffix, **DATELESS[suffix])
    return FINISHED.get(suffix, bytes)(buffer.getvalue())


def _numbered(svg):
    """An SVG with its ids renumbered, since matplotlib makes some from memory addresses."""
    names = dict.fromkeys(re.findall(rb'id="([a-z][0-9a-f]{10})"', svg))
    numbers = {name: b"n%d" % number for number, name in enumerate(names)}
    return re.sub(rb"\b[a-z][0-9a-f]{10}\b", lambda m: numbers.get(m[0], m[0]), svg)


def _with_font(svg):
    """An SVG with the letters that it uses embedded, as a TrueType font."""
    texts = re.findall(r"<(?:text|tspan)[^>]*>([^<]+)", svg.decode())
    subsetter = Subsetter()
    subsetter.populate(text=html.unescape("".join(texts)))
    font, buffer = TTFont(findfont(FONT), recalcTimestamp=False), io.BytesIO()
    del font["FFTM"]  # the times of FontForge, which a subset cannot keep
    subsetter.subset(font)
    font.save(buffer)
    data = base64.b64encode(buffer.getvalue()).decode()
    face = f"@font-face{{font-family:'{FONT}';src:url(data:font/ttf;base64,{data})}}"
    style = b'<style type="text/css">'
    return svg.replace(style, style + face.encode(), 1)


def _anywhere(pgf):
    """A PGF without the comments that name this machine's paths to fonts."""
    return re.sub(rb"(?m)^%%.*Path=.*\n", b"", pgf)


FINISHED = {"svg": lambda svg: _with_font(_numbered(svg)), "pgf": _anywhere}

HEADER = """\
% Include what you need; the preamble needs \\usepackage{graphicx,booktabs}.
% Figures have their final width: do not scale them, and their text has the size of a caption.
% If <name>.pgf exists, \\input{<name>.pgf} draws the figure in the document's own font; the
% preamble then also needs \\usepackage{pgf} and \\providecommand{\\mathdefault}[1]{#1}."""


def _figure_snippet(name, across):
    star, words = "*" * across, tables.latex_text(caption(name))
    return (
        f"\\begin{{figure{star}}}\n  \\centering\n  \\includegraphics{{{name}.pdf}}\n"
        f"  \\caption{{{words}}}\n  \\label{{fig:{name}}}\n\\end{{figure{star}}}\n"
    )


def _table_snippet(name, across):
    star, words = "*" * across, tables.latex_text(tables.TABLES[name].caption)
    width = "\\textwidth" if across else "\\columnwidth"
    return (  # scaled down if it is wider or higher than its place
        f"\\begin{{table{star}}}\n  \\centering\n  \\caption{{{words}}}\n"
        f"  \\label{{tab:{name}}}\n  \\sbox0{{\\input{{table-{name}.tex}}}}\n"
        f"  \\ifdim\\wd0>{width} \\sbox0{{\\resizebox{{{width}}}{{!}}{{\\usebox0}}}}\\fi\n"
        "  \\ifdim\\dimexpr\\ht0+\\dp0>0.85\\textheight "
        "\\sbox0{\\resizebox*{!}{0.85\\textheight}{\\usebox0}}\\fi\n"
        f"  \\usebox0\n\\end{{table{star}}}\n"
    )
