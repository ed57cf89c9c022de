"""One HTML page of an experiment's results that makes no outside request.

Everything shown is read from the tables, figures and manifest; nothing is computed here.
"""

import base64
import functools
import re
from pathlib import Path

import jinja2
import pandas as pd
from latex2mathml.converter import convert
from markupsafe import Markup

from ... import files
from .. import paths
from ..provenance import read_manifest

PAGES = Path(__file__).with_name("pages")
MOST_ROWS = 400  # a longer table is named, with the file that has it
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
CAPTIONS = {
    "claims": "The claims: what was measured with its 95 % interval, beside the paper's figure.",
    "accuracy": "Top-1 by bits and initialization; the float network dotted, 95 % intervals.",
    "densities": "Density of every layer's weights over their range, on a logarithmic scale.",
    "iterations": "Iterations of Lloyd's algorithm until no label changes.",
    "inertia": "Inertia over the optimal one after a budget of iterations.",
    "training": "Held-out accuracy of the classifier by epoch of training.",
    "bench": "Seconds a weight beside other packages and a copy; hollow: fewer weights.",
    "growth": "Seconds by number of weights.",
    "frontier": "Size of files against accuracy; filled marks are retrained.",
    "retraining": "Top-1 by epoch of retraining from every initialization.",
    "rates": "Squared error against bits a weight in the file.",
    "allocation": "Centers of each layer, and accuracy, under a budget of bytes.",
    "distortion": "Top-1 of every combination of remedies against distortion.",
    "models": "Top-1 of each model by bits and initialization.",
}
ORDER = tuple(CAPTIONS)
TABLES = {
    "claims": "The claims: what was measured, its 95 % interval, and the paper's figure.",
    "claims_retrained": "What is left of the second claim after retraining.",
    "frontier": "Files of every way to compress, loaded back and evaluated on all test images.",
    "accuracy": "Top-1 in % without retraining.",
    "chosen": "Points lost on held-out images, by which files are chosen.",
    "sizes": "Bytes of the headline file by layer.",
    "retraining": "Top-1 in % by epoch of retraining from every initialization.",
    "distortion": "Top-1 in % of every combination of remedies against distortion.",
    "allocation": "Centers of each layer under a budget of bytes, and what they are worth.",
    "rates": "Squared error over the variance, and bits a weight, of each layer by kind of cells.",
    "runtimes": "The network in onnxruntime in every form.",
    "models": "Top-1 in % of each model.",
    "speed": "Iterations until no label changes.",
    "bench": "Seconds from the weights to centers and labels.",
    "ratios": "What clusterings take beside something simpler.",
    "gaps": "Inertia of the optimal centers, and how far it is from the best possible at most.",
    "layers": "The layers' weights: how many, spread, tails, and whether training made them.",
    "training": "Training of the classifier by epoch.",
}
TABLES_FIRST = ("claims", "claims_retrained", "frontier", "accuracy")


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
    tables = {path.stem: pd.read_csv(path) for path in sorted((folder / "tables").glob("*.csv"))}
    page = template("report.html").render(
        experiment=experiment,
        manifest=manifest,
        minutes=sum(manifest["seconds"].values()) / 60,
        claims=[
            row
            for name in ("claims", "claims_retrained")
            if name in tables
            for row in tables[name].to_dict("records")
        ],
        method=[(text, Markup(convert(tex, display="block"))) for text, tex in METHOD],
        figures=_figures(folder / "figures"),
        tables=_shown(tables),
    )
    path = folder / "report.html"
    files.write_atomically(path, page)
    return path


@functools.cache
def template(name):
    """A page of ``lib/pages``; what is put into it is escaped, and a misspelt name an error."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, loader=jinja2.FileSystemLoader(PAGES)
    )
    environment.filters["number"] = number
    return environment.get_template(name)


def _figures(folder):
    """Name, caption and data of every figure, the most telling first."""
    found = []
    for path in gallery(folder):
        data = base64.b64encode(path.read_bytes()).decode()
        found.append({"name": path.stem, "caption": caption(path.stem), "data": data})
    return found


def gallery(folder):
    """Paths of a folder's figures, the most telling first."""
    return sorted(folder.glob("*.png"), key=lambda path: _place(path.stem))


def _place(name):
    return (ORDER.index(name) if name in ORDER else len(ORDER), name)


def caption(name):
    """What a figure of this name shows, in a sentence."""
    if match := re.fullmatch(r"centers-(\w+)-(\d+)bits", name):
        return (
            f"{match[1]} at {match[2]} bits: density, bulk and whole range; below it each "
            "initialization's centers, hollow before Lloyd's algorithm and filled after."
        )
    return CAPTIONS.get(name, name)


def _shown(tables):
    """Tables to be shown, the verdicts first."""
    first = [name for name in TABLES_FIRST if name in tables]
    names = [*first, *(name for name in tables if name not in first)]
    return [
        {
            "name": name,
            "caption": TABLES.get(name, ""),
            "n_rows": len(tables[name]),
            "columns": list(tables[name].columns),
            "rows": tables[name].to_numpy(dtype=object).tolist()
            if len(tables[name]) <= MOST_ROWS
            else None,
        }
        for name in names
    ]


def number(value):
    """A cell for readers: at most four significant digits, nothing where there is no value."""
    if value is None or value != value:  # NaN
        return ""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}" if abs(value) >= 10_000 else str(int(value))
    return f"{value:.4g}"
