"""The report: what it says, and that a browser shows it without asking anyone for anything."""

import base64
import json
import re
import shutil

import pytest

from lib.study import paths
from lib.study.publish import report
from lib.study.publish.blocks.claims import VERDICTS


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The report of the committed results of `full`."""
    folder = tmp_path_factory.mktemp("report")
    shutil.copytree(paths.ROOT / "results/full", folder / "full")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESULTS", str(folder))
        yield report.write_report("full")


def test_every_table_and_figure_is_in_it(page):
    text = page.read_text()
    for path in (page.parent / "figures").glob("*.png"):
        assert base64.b64encode(path.read_bytes()).decode() in text, path.name
    for path in (page.parent / "tables").glob("*.csv"):
        assert f'id="table-{path.stem}"' in text
    manifest = json.loads((page.parent / "manifest.json").read_text())
    assert f"git checkout {manifest['code']['commit']}" in text
    assert text.index('id="claims"') < text.index('id="figures"') < text.index('id="tables"')
    assert text.count("<math") == len(report.METHOD)


@pytest.mark.parametrize("word", VERDICTS)
def test_every_verdict_is_explained_and_has_a_color(page, word):
    text = page.read_text()
    assert f"<em>{word}</em>" in text.replace("\n", " ")
    assert f".{word.replace(' ', '-')} {{ color:" in text


def test_it_names_nothing_outside(page):
    text = re.sub(r"data:[\w/]+;base64,[\w+/=]+", "", page.read_text())
    addresses = set(re.findall(r"https?://[^\s\"'<]+", text))
    assert addresses <= {"http://www.w3.org/1998/Math/MathML"}  # a name, not an address
    assert not re.search(r"<link(?![^>]*data:)|<script[^>]+src|@import|url\(", text)


def test_it_is_the_same_twice(page):
    before = page.read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESULTS", str(page.parent.parent))
        report.write_report("full")
    assert page.read_bytes() == before


def test_names_are_escaped(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS", str(tmp_path))
    shutil.copytree(paths.ROOT / "results/full", tmp_path / "full")
    claims = tmp_path / "full/tables/claims.csv"
    claims.write_text(claims.read_text().replace("normal-0", "<b>&"))
    assert "&lt;b&gt;&amp;" in report.write_report("full").read_text()


def test_without_results_the_command_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="make reproduce EXPERIMENT=full"):
        report.write_report("full")


@pytest.mark.parametrize("width", [375, 1440])
def test_a_browser_shows_it_at_any_width(page, open_page, width):
    with open_page(page.as_uri(), width=width) as (browser, requests, errors):
        assert requests == [page.as_uri()]
        assert errors == []
        overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert browser.evaluate(overflow) <= 0
        images = "[...document.images].every(image => image.naturalWidth > 0)"
        assert browser.evaluate(images)
        formulas = (
            "[...document.querySelectorAll('math')].map(m => m.getBoundingClientRect().width)"
        )
        assert all(found > 50 for found in browser.evaluate(formulas))


def test_tables_sort_by_the_column_that_is_pressed(page, open_page, keep_picture):
    with open_page(page.as_uri(), width=1080, height=700) as (browser, _, _):
        keep_picture(browser, "report")
        head = browser.locator("#claims th", has_text="measured")
        cells = browser.locator("#claims tbody td:nth-child(5)")
        before = [float(text) for text in cells.all_inner_texts()]
        head.get_by_role("button").click()
        assert [float(text) for text in cells.all_inner_texts()] == sorted(before)
        head.get_by_role("button").click()
        assert [float(text) for text in cells.all_inner_texts()] == sorted(before)[::-1]
        assert head.get_attribute("aria-sort") == "descending"
        browser.locator("#claims th", has_text="scope").get_by_role("button").click()
        assert browser.locator("#claims tbody td:nth-child(2)").first.inner_text() == "all"


def test_on_paper_every_table_is_open(page, open_page):
    with open_page(page.as_uri()) as (browser, _, _):
        tables = "[...document.querySelectorAll('#tables details')].map(table => table.open)"
        assert not all(browser.evaluate(tables))
        browser.pdf()
        assert all(browser.evaluate(tables))
