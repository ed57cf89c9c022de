"""The static site of an experiment: its notebooks as pages, in a browser."""

import base64
import re
import shutil

import nbformat
import numpy as np
import pandas as pd
import pytest

from lib.study import paths
from lib.study.provenance import read_manifest
from lib.study.publish import site


def outputs():
    """Progress, text, a figure and a table that is wider than any page."""
    figure = (paths.ROOT / "results/full/figures/accuracy.png").read_bytes()
    wide = pd.DataFrame(np.eye(40)).to_html()
    new = nbformat.v4.new_output
    return [
        new("stream", text="layers: 1 of 8, about 20 s left\n"),
        new("stream", text="kept\nlayers: 2 of 8, about 9 s left\n"),
        new("display_data", {"image/png": base64.b64encode(figure).decode()}),
        new("execute_result", {"text/html": wide}, execution_count=1),
    ]


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """A site of the committed `full`, whose notebooks have outputs of every kind."""
    folder = tmp_path_factory.mktemp("results")
    shutil.copytree(paths.ROOT / "results/full", folder / "full")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESULTS", str(folder))
        for name in read_manifest("full")["parameters"]:
            notebook = nbformat.read(paths.ROOT / f"notebooks/{name}.ipynb", as_version=4)
            code = [cell for cell in notebook.cells if cell.cell_type == "code"][-1]
            code.outputs = outputs()
            (folder / "full/notebooks").mkdir(exist_ok=True)
            nbformat.write(notebook, folder / f"full/notebooks/{name}.ipynb")
        return site.write_site("full")


def test_every_notebook_is_a_page_and_every_figure_in_the_gallery(index):
    text = index.read_text()
    for path in (index.parent.parent / "notebooks").glob("*.ipynb"):
        assert f'href="{path.stem}.html"' in text
        page = (index.parent / f"{path.stem}.html").read_text()
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "markdown":
                assert page.count("<math") >= len(site.FORMULA.findall(cell.source))
    for path in (index.parent.parent / "figures").glob("*.png"):
        assert f'src="figures/{path.name}"' in text
    assert (index.parent / "report.html").exists()


def test_links_lead_to_files(index):
    for page in index.parent.glob("*.html"):
        for link in re.findall(r'(?:href|src)="([^"#]+)', page.read_text()):
            assert link.startswith("data:") or (index.parent / link).exists(), (page.name, link)


def test_progress_is_left_out_and_other_output_kept(index):
    page = (index.parent / "02-distributions.html").read_text()
    assert "s left" not in page
    assert "kept" in page
    assert page.count('src="data:image/png;base64,') == page.count('<table border="1"') == 1


def test_questions_are_written_as_in_their_notebooks(index):
    text = index.read_text()
    assert (
        "found <em>linear</em> best"
        in site.read_page("08", paths.ROOT / "notebooks/08-retraining.ipynb").question
    )
    assert not re.search(r"\*\w+\*|<p>\s*</span>", text)


def test_formulas_are_mathml(index):
    page = (index.parent / "02-distributions.html").read_text()
    assert "\\gamma" not in page
    assert "<mi>γ</mi>" in page or "&#x003B3;" in page


def test_formulas_on_a_line_of_their_own(tmp_path):
    text = "# Title\n\nWith $x$:\n\n$$\\frac{a}{b},$$\n\nand $y$."
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text)])
    nbformat.write(notebook, tmp_path / "it.ipynb")
    page = site.read_page("it", tmp_path / "it.ipynb")
    assert page.body.count("<math") == 3
    assert page.body.count('display="block"') == 1
    assert "$" not in page.body


def test_without_executed_notebooks_the_command_is_named(tmp_path, monkeypatch):
    shutil.copytree(paths.ROOT / "results/full", tmp_path / "full")
    monkeypatch.setenv("RESULTS", str(tmp_path))
    shutil.rmtree(tmp_path / "full/notebooks", ignore_errors=True)
    with pytest.raises(FileNotFoundError, match=r"01-train, .*make reproduce EXPERIMENT=full"):
        site.write_site("full")


@pytest.mark.slow
@pytest.mark.parametrize("width", [375, 1440])
def test_a_browser_shows_every_page_at_any_width(index, open_page, width):
    for path in index.parent.glob("*.html"):
        with open_page(path.as_uri(), width=width) as (page, requests, errors):
            assert all(url.startswith(index.parent.as_uri()) for url in requests)
            assert errors == []
            root = "document.documentElement"
            assert page.evaluate(f"{root}.scrollWidth - {root}.clientWidth") <= 0, path.name
            assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
