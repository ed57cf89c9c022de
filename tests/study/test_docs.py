"""README and documentation: numbers, links, snippets and commands that hold; the built pages."""

import contextlib
import io
import re
import shlex

import numpy as np
import pytest
import torch
from torch import nn

from lib import __main__ as method_commands
from lib.study import __main__ as study_commands
from lib.study import paths
from lib.study.publish import readme

README = paths.ROOT / "README.md"
PAGES = readme.pages()
OTHERS = [paths.ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md", "data/README.md")]
PROGRAMS = {"lib": method_commands, "lib.study": study_commands}

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
        ValueError, match=r"no block is named 'clams': choose from columns, findings, claims"
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


@pytest.mark.parametrize(
    "path", [p for p in PAGES if snippets(p)], ids=[p.stem for p in PAGES if snippets(p)]
)
def test_python_snippets_run(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10))
    weights = np.random.default_rng(0).normal(size=10_000).astype(np.float32)
    names = {"model": model, "inputs": torch.randn(2, 3, 8, 8), "weights": weights}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(snippets(path), path, "exec"), names)
    assert set(names) > {"model", "inputs", "weights"}


def help_of(program, command):
    """What a command's --help prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), pytest.raises(SystemExit) as ended:
        program.main([command, "--help"])
    assert ended.value.code == 0, command
    return printed.getvalue()


@pytest.mark.parametrize("path", PAGES + OTHERS[:1], ids=[p.stem for p in PAGES + OTHERS[:1]])
def test_commands_and_their_options_exist(path):
    targets = set(re.findall(r"^([\w-]+):", (paths.ROOT / "Makefile").read_text(), re.M))
    for words in commands(path.read_text()):
        if words[:1] == ["make"] and len(words) > 1:
            called = [word for word in words[1:] if "=" not in word]
            assert set(called) <= targets, words
        if "-m" in words and words[words.index("-m") + 1] in PROGRAMS:
            start = words.index("-m") + 1
            program, rest = PROGRAMS[words[start]], words[start + 1 :]
            if rest and re.fullmatch(r"\w+", rest[0]):
                text = help_of(program, rest[0])
                options = [word for word in rest if word.startswith("--")]
                assert [option for option in options if option not in text] == [], words
