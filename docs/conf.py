"""The documentation: guide, API and executed notebooks, built without a network by `make docs`.

Formulas are MathML and notebooks are shown as they ran, so that a page asks for nothing outside.
"""

import os
import shutil
import sys
import tomllib
from pathlib import Path

import yaml
from docutils import nodes
from latex2mathml.converter import convert

ROOT = Path(__file__).resolve().parents[1]
EXECUTED = Path(__file__).with_name("executed")  # pages of the results, made anew by every build
sys.path.insert(0, str(ROOT))

from lib.study.publish import report  # noqa: E402

project = "K-means weight sharing"
author = "the kmeans-weight-sharing authors"
release = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
default_role = "py:obj"  # `name` in a docstring is a link where the name is documented

nb_execution_mode = "off"
nb_ipywidgets_js = {}  # by default from two other sites
myst_enable_extensions = ["amsmath", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say more
napoleon_google_docstring = False
napoleon_use_ivar = True  # a NamedTuple documents its fields already

html_theme = "furo"
html_title = project
html_static_path = ["static"]
html_css_files = ["pages.css"]
html_show_copyright = False
html_copy_source = False
html_show_sourcelink = False
html_math_renderer = "mathml"


def collect_results(app):
    """Write a page for each finished experiment: its executed notebooks and its figures."""
    shutil.rmtree(EXECUTED, ignore_errors=True)
    for manifest in sorted((ROOT / "results").glob("*/manifest.json")):
        folder = manifest.parent
        (EXECUTED / folder.name).mkdir(parents=True)
        done = [path for path in sorted(folder.glob("notebooks/*.ipynb")) if "." not in path.stem]
        for path in done:
            shutil.copy(path, EXECUTED / folder.name)
        page = _page(folder.name, [path.stem for path in done], report.gallery(folder / "figures"))
        (EXECUTED / f"{folder.name}.md").write_text(page)


def _page(experiment, notebooks, figures):
    file = ROOT / f"notebooks/experiments/{experiment}.yml"
    description = yaml.safe_load(file.read_text())["description"] if file.exists() else ""
    listed = "\n".join(f"{experiment}/{name}" for name in notebooks)
    text = f"# {experiment}\n\n{description}\n"
    if notebooks:
        text += f"\n```{{toctree}}\n:maxdepth: 1\n\n{listed}\n```\n"
    for path in figures:
        file, words = os.path.relpath(path, EXECUTED), report.caption(path.stem)
        text += f"\n```{{figure}} {file}\n:alt: {words}\n\n**{path.stem}.** {words}\n```\n"
    return text


def skip_fields(app, what, name, member, skip, options):
    """Leave out the fields of named tuples: the Attributes section describes them."""
    return skip or str(getattr(member, "__doc__", "")).startswith("Alias for field number")


def write_formula(writer, node):
    """A formula within a line, as MathML."""
    writer.body.append(convert(node.astext()))
    raise nodes.SkipNode


def write_equation(writer, node):
    """A formula on a line of its own, as MathML."""
    formula = convert(node.astext().strip(), display="block")
    writer.body.append(f'<div class="math">{formula}</div>')
    raise nodes.SkipNode


def setup(app):
    """Called by Sphinx."""
    app.connect("builder-inited", collect_results)
    app.connect("autodoc-skip-member", skip_fields)
    app.add_html_math_renderer("mathml", (write_formula, None), (write_equation, None))


# Attributes of several records have one name; prose links none of them.
suppress_warnings = ["ref.python"]
