"""One HTML page of an experiment's results that makes no outside request.

It shows tables, figures and manifest as they are, and computes nothing.
"""

import base64
import functools
import re
from pathlib import Path

import jinja2
from latex2mathml.converter import convert
from markupsafe import Markup

from ... import files
from .. import paths, tables
from ..figures import FIGURES
from ..provenance import read_manifest
from ..runs.stale import age
from ..tables.comparison import COMMITTED

PAGES = Path(__file__).with_name("pages")
MOST_ROWS = 400  # of a longer table the page names only the file
METHOD = (
    (
        "Centers by distribution: the quantiles of a power of the density p of a layer's weights, "
        "and with γ = 1/3 the point density of the best squared-error quantizer.",
        r"\int_{-\infty}^{c_i} p(x)^{\gamma}\,dx = \frac{i + 1/2}{k} "
        r"\int_{-\infty}^{\infty} p(x)^{\gamma}\,dx, \quad i = 0, \dots, k - 1",
    ),
    (
        "Lloyd's algorithm: every weight goes to its nearest center, every center to the mean of "
        "its weights, until no label changes.",
        r"l_j = \mathrm{argmin}_i\; \lvert w_j - c_i \rvert, \quad "
        r"c_i = \frac{1}{\lvert \{j : l_j = i\} \rvert} \sum_{j : l_j = i} w_j",
    ),
    (
        "Revision: the neighbours a and b that are cheapest to merge free one center, which splits "
        "the cell that gains most, if the gain exceeds the cost.",
        r"\frac{n_a n_b}{n_a + n_b} (\mu_a - \mu_b)^2",
    ),
)


def write_report(experiment):
    """Write ``report.html`` into an experiment's folder.

    Parameters
    ----------
    experiment : str

    Returns
    -------
    pathlib.Path

    Raises
    ------
    FileNotFoundError
        If the experiment has no finished results, naming the command that makes them.
    """
    folder = paths.results_folder(experiment)
    manifest = read_manifest(experiment)
    shown = {name: tables.read_table(experiment, name) for name in tables.tables_of(experiment)}
    page = template("report.html").render(
        experiment=experiment,
        manifest=manifest,
        minutes=sum(manifest["seconds"].values()) / 60,
        age=age(experiment) if experiment in COMMITTED else None,
        claims=[
            row
            for name in ("claims", "claims_retrained")
            if name in shown
            for row in shown[name].fillna({"verdict": ""}).to_dict("records")
        ],
        method=[(text, Markup(convert(tex, display="block"))) for text, tex in METHOD],
        figures=_figures(folder / "figures"),
        tables=[_table(name, frame) for name, frame in shown.items()],
    )
    path = folder / "report.html"
    files.write_atomically(path, page)
    return path


@functools.cache
def template(name):
    """A template in ``pages/``: escapes the values it gets, and refuses a misspelt name."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, loader=jinja2.FileSystemLoader(PAGES)
    )
    environment.filters["number"] = tables.number
    return environment.get_template(name)


def _figures(folder):
    """Name, caption and data of every figure, in the order of `FIGURES`."""
    found = []
    for path in gallery(folder):
        data = base64.b64encode(path.read_bytes()).decode()
        found.append({"name": path.stem, "caption": caption(path.stem), "data": data})
    return found


def gallery(folder):
    """Paths of a folder's figures, in the order of `FIGURES`; others follow by name."""
    return sorted(folder.glob("*.png"), key=lambda path: _place(path.stem))


def _place(name):
    names = list(FIGURES)
    return (names.index(name) if name in names else len(names), name)


def caption(name):
    """What a figure of this name shows, in a sentence."""
    if match := re.fullmatch(r"(?:centers|first)-(\w+)-(\d+)bits", name):
        return (
            f"{match[1]} at {match[2]} bits: density, bulk and whole range; below it each "
            "initialization's centers, hollow before Lloyd's algorithm and filled after."
        )
    return FIGURES[name].caption if name in FIGURES else name


def _table(name, frame):
    """What the page shows of a table."""
    rows = frame.to_numpy(dtype=object).tolist() if len(frame) <= MOST_ROWS else None
    return {
        "name": name,
        "caption": tables.TABLES[name].caption,
        "n_rows": len(frame),
        "columns": list(frame.columns),
        "rows": rows,
    }
