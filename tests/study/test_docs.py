"""README and documentation: numbers, links, snippets and commands that hold; the built pages."""

import base64
import contextlib
import io
import pkgutil
import re
import shlex
import shutil
import subprocess
import sys

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import lib
from lib import __main__ as method_commands
from lib import compression
from lib.study import __main__ as study_commands
from lib.study import paths
from lib.study.publish import readme

README = paths.ROOT / "README.md"
PAGES = readme.pages()
OTHERS = [paths.ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md", "data/README.md")]
PROGRAMS = {"lib": method_commands, "lib.study": study_commands}
WITHOUT_TEXT = ("search.html", "genindex.html", "py-modindex.html")

each_page = pytest.mark.parametrize("path", PAGES, ids=[path.stem for path in PAGES])


def without_fences(text):
    """A page without its fenced code."""
    return re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)


def slugs(text):
    """Anchors of a page's headings, as GitHub and MyST make them."""
    heads = re.findall(r"^#+ (.+)$", without_fences(text), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def links(text):
    """Targets of links and pictures."""
    text = re.sub(r"`[^`\n]*`", "", without_fences(text))
    return re.findall(r"\]\(([^)\s]+)\)", text)


def snippets(path):
    """The Python code of a page, one block after the other."""
    return "\n".join(re.findall(r"^```python\n(.*?)^```", path.read_text(), re.M | re.S))


def commands(text):
    """Calls of make and of our command lines: indented, or within a sentence."""
    text = without_fences(text).replace("\\\n", " ")
    lines = re.findall(r"^    (.+)$|`([^`\n]+)`", text, re.M)
    called = [line for pair in lines for line in pair if re.match(r"make \w|.*-m lib[. ]", line)]
    return [shlex.split(line, comments=True) for line in called]


class TestReadme:
    def test_it_is_short(self):
        assert README.stat().st_size <= 10_240

    def test_it_shows_a_committed_figure_and_the_test_command(self):
        text = README.read_text()
        figures = [link for link in links(text) if link.endswith(".png")]
        assert any(link.startswith("results/") for link in figures)
        assert "`make test`" in text


@each_page
def test_numbers_are_those_of_the_committed_tables(path):
    text = path.read_text()
    assert readme.update(text) == text, "run `python -m lib.study readme`"


def test_every_block_is_on_a_page():
    found = {match[2] for path in PAGES for match in readme.BLOCK.finditer(path.read_text())}
    assert {name for name in found if "/" not in name} == set(readme.BLOCKS)


def test_an_unknown_block_is_refused():
    with pytest.raises(
        ValueError,
        match=r"no block is named 'clams': choose from columns, commits, findings, verdicts",
    ):
        readme.update("<!-- clams -->\n<!-- /clams -->")


@pytest.mark.parametrize("path", PAGES + OTHERS, ids=[path.stem for path in PAGES + OTHERS])
def test_links_lead_somewhere(path):
    text = path.read_text()
    for link in links(text):
        target, _, anchor = link.partition("#")
        if re.match(r"\w+:", link):
            assert link.startswith("https://"), link
            continue
        file = (path.parent / target).resolve() if target else path
        assert file.exists(), link
        assert not anchor or anchor in slugs(file.read_text()), link


def test_every_page_is_in_the_contents():
    listed = re.findall(r"^[\w-]+$", (paths.ROOT / "docs/index.md").read_text(), re.M)
    assert sorted(listed) == sorted({path.stem for path in PAGES} - {"README", "index"})


@pytest.mark.parametrize("path", PAGES + OTHERS[:1], ids=[p.stem for p in PAGES + OTHERS[:1]])
def test_names_of_the_library_exist(path):
    for name in re.findall(r"`(lib(?:\.[A-Za-z_]\w*)+)", path.read_text()):
        pkgutil.resolve_name(name)


def test_the_house_is_as_contributing_draws_it():
    """Two spaces deeper is a folder deeper."""
    (house,) = re.findall(r"^```\n(notebooks/ .*?)^```", OTHERS[0].read_text(), re.M | re.S)
    folders = []
    for indent, name in re.findall(r"^( *)(\S+) ", house, re.M):
        folders[len(indent) // 2 :] = [name]
        assert paths.ROOT.joinpath(*folders).exists(), name


@pytest.mark.parametrize(
    "path", [p for p in PAGES if snippets(p)], ids=[p.stem for p in PAGES if snippets(p)]
)
def test_python_snippets_run(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10))
    weights = np.random.default_rng(0).normal(size=10_000).astype(np.float32)
    names = {"model": model, "inputs": torch.randn(2, 3, 8, 8), "weights": weights}
    names["batches"] = [torch.randn(32, 3, 8, 8) for _ in range(4)]
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(snippets(path), path, "exec"), names)
    assert set(names) > {"model", "inputs", "weights"}


@pytest.mark.parametrize("path", PAGES + OTHERS[:1], ids=[p.stem for p in PAGES + OTHERS[:1]])
def test_commands_can_be_called(path):
    """Targets of make exist, and the parsers take every command with its options."""
    targets = set(re.findall(r"^([\w-]+):", (paths.ROOT / "Makefile").read_text(), re.M))
    for words in commands(path.read_text()):
        if words[0] == "make":
            assert {word for word in words[1:] if "=" not in word} <= targets, words
            continue
        start = words.index("-m") + 1
        program, arguments = PROGRAMS[words[start]], words[start + 1 :]
        arguments = arguments[: min(map(arguments.index, {">", "&&"} & {*arguments}), default=None)]
        if len(arguments) > 1:
            program._parser().parse_args(arguments)  # exits on what it does not take
        elif arguments:  # a command named in a sentence
            with pytest.raises(SystemExit, match=r"^0$"):
                program._parser().parse_args([*arguments, "--help"])


def outputs():
    """A stream, a figure, and a table that is wider than any page."""
    figure = (paths.ROOT / "results/full/figures/accuracy.png").read_bytes()
    wide = pd.DataFrame(np.eye(40)).to_html()
    new = nbformat.v4.new_output
    return [
        new("stream", text="printed\n"),
        new("display_data", {"image/png": base64.b64encode(figure).decode()}),
        new("execute_result", {"text/html": wide}, execution_count=1),
    ]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built pages of a copy of the documentation, in which all notebooks have outputs."""
    root = tmp_path_factory.mktemp("repository")
    ignored = shutil.ignore_patterns("_build", "executed")
    shutil.copytree(paths.ROOT / "docs", root / "docs", ignore=ignored)
    shutil.copytree(paths.ROOT / "results", root / "results")
    for name in ("lib", "notebooks", "pyproject.toml"):
        (root / name).symlink_to(paths.ROOT / name)
    (root / "results/full/notebooks").mkdir(exist_ok=True)
    for path in (paths.ROOT / "notebooks").glob("*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        code = [cell for cell in notebook.cells if cell.cell_type == "code"][-1]
        code.outputs = outputs()
        nbformat.write(notebook, root / "results/full/notebooks" / path.name)
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "docs", "site"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return root / "site"


@pytest.mark.slow
class TestBuilt:
    """Without a warning, which would end the build."""

    def test_every_notebook_is_a_page_with_its_outputs(self, site):
        for path in (paths.ROOT / "notebooks").glob("*.ipynb"):
            page = (site / f"executed/full/{path.stem}.html").read_text()
            assert "printed" in page
            assert page.count('<table border="1"') == 1
            assert page.count('<img alt="') >= 1
            assert "<math" in page
            assert "$" not in re.sub(r"<pre>.*?</pre>|<script.*?</script>", "", page, flags=re.S)

    def test_every_figure_is_shown(self, site):
        for experiment in ("full", "compress", "bench"):
            page = (site / f"executed/{experiment}.html").read_text()
            for path in (paths.ROOT / "results" / experiment / "figures").glob("*.png"):
                assert f"<strong>{path.stem}.</strong>" in page
            assert len(re.findall(r'<img alt="[^"]', page)) == page.count("<figcaption")

    def test_every_public_name_is_documented(self, site):
        page = (site / "api.html").read_text()
        for module in (lib, compression):
            public = [name for name in module.__all__ if callable(getattr(module, name))]
            assert [n for n in public if f'id="{module.__name__}.{n}"' not in page] == []

    def test_nothing_is_loaded_from_outside(self, site):
        loads = r"<(?:script|img|iframe)[^>]+src=\"https?:|<link[^>]+href=\"https?:"
        for path in site.rglob("*.html"):
            assert not re.search(loads, path.read_text()), path.name
        for path in site.rglob("*.css"):
            assert not re.search(r"(?:url\(|@import)\s*['\"]?https?:", path.read_text()), path.name

    @pytest.mark.parametrize("width", [375, 1440])
    def test_a_browser_shows_every_page_at_any_width(self, site, open_page, keep_picture, width):
        first, *others = [p for p in sorted(site.rglob("*.html")) if p.name not in WITHOUT_TEXT]
        assert len(others) > 20
        with open_page(first.as_uri(), width=width) as (page, requests, errors):
            page.on("request", lambda request: requests.append(request.url))
            for path in (first, *others):
                page.goto(path.as_uri())
                overflow = "document.documentElement.scrollWidth - innerWidth"
                assert page.evaluate(overflow) <= 0, path.name
                images = "[...document.images].every(image => image.naturalWidth > 0)"
                assert page.evaluate(images), path.name
                keep_picture(page, f"{path.stem}-{width}")
            outside = [u for u in requests if not u.startswith((site.as_uri(), "data:"))]
            assert (outside, errors) == ([], [])
