"""An experiment's executed notebooks as a small static site, with its figures as the gallery.

Pages make no outside request: formulas are MathML, figures lie beside them.
"""

import re
import shutil
from typing import NamedTuple

import nbformat
from latex2mathml.converter import convert
from markupsafe import Markup
from nbconvert import HTMLExporter
from nbconvert.filters import markdown2html
from pygments.formatters import HtmlFormatter

from ... import files
from .. import paths
from ..provenance import read_manifest
from . import report

FORMULA = re.compile(r"\$\$([^$]+)\$\$|\$([^$\n]+)\$")  # on a line of its own, or in one
TIMING = re.compile(r"^.*, about \d+ s left\n?", re.M)  # of progress: nothing for a reader


class Page(NamedTuple):
    """A notebook to be read: the name of its file, its title, its question and text as HTML."""

    name: str
    title: str
    question: Markup
    body: Markup


def write_site(experiment):
    """Write ``site/``: ``index.html``, the report, figures, and a page for each notebook.

    Parameters
    ----------
    experiment : str

    Returns
    -------
    pathlib.Path
        ``index.html``. All links are relative: any server of files can show the folder.

    Raises
    ------
    FileNotFoundError
        If results or executed notebooks are missing, naming the command that makes them.
    """
    folder = paths.results_folder(experiment)
    names = list(read_manifest(experiment)["parameters"])
    executed = {name: folder / "notebooks" / f"{name}.ipynb" for name in names}
    missing = [name for name, path in executed.items() if not path.exists()]
    if missing:
        raise FileNotFoundError(
            f"executed copies of {', '.join(missing)} are not in {folder / 'notebooks'}: "
            f"`make reproduce EXPERIMENT={experiment}` makes them."
        )
    pages = [read_page(name, path) for name, path in executed.items()]
    site = folder / "site"
    shutil.rmtree(site, ignore_errors=True)
    for path in (folder / "figures").iterdir():
        files.write_atomically(site / "figures" / path.name, path.read_bytes())
    files.write_atomically(site / "report.html", report.write_report(experiment).read_text())
    colors = {"light": _colors("default"), "dark": _colors("github-dark")}
    for i, page in enumerate(pages):
        around = {"before": pages[i - 1] if i else None, "after": (*pages, None)[i + 1]}
        html = report.template("notebook.html").render(page=page, colors=colors, **around)
        files.write_atomically(site / f"{page.name}.html", html)
    index = site / "index.html"
    shown = [(path.stem, report.caption(path.stem)) for path in report.gallery(folder / "figures")]
    html = report.template("index.html").render(experiment=experiment, pages=pages, figures=shown)
    files.write_atomically(index, html)
    return index


def read_page(name, path):
    """An executed notebook as a :class:`Page`."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = FORMULA.sub(_mathml, cell.source)
        for output in cell.get("outputs", []):
            if output.output_type == "stream":
                output.text = TIMING.sub("", output.text)
        if "outputs" in cell:
            cell.outputs = [output for output in cell.outputs if output.get("text") != ""]
    exporter = HTMLExporter(
        template_name="basic",
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        exclude_anchor_links=True,
    )
    body, _ = exporter.from_notebook_node(notebook)
    first = notebook.cells[0].source
    title = re.match(r"# (.+)", first)
    question = re.search(r"\*\*Question\.\*\* (.+)", first)
    asked = markdown2html(question[1]) if question else ""
    asked = asked.removeprefix("<p>").removesuffix("</p>\n").removesuffix("</p>")
    return Page(name, title[1] if title else name, Markup(asked), Markup(body))


def _mathml(match):
    displayed, inline = match.groups()
    return convert(displayed.strip(), display="block") if displayed else convert(inline)


def _colors(style):
    """Rules of CSS for the code's words."""
    return Markup(HtmlFormatter(style=style).get_style_defs(".highlight"))
