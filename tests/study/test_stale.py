"""Which committed results are older than the code."""

import json
import subprocess

import nbformat
import pytest

from lib.study import __main__, paths
from lib.study.runs import stale

MODULE = '"""Words."""\n\n\ndef f(x):\n    """More words."""\n    return x + 1\n'


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A repository with one committed experiment of one notebook and two modules."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.delenv("RESULTS", raising=False)
    cells = [
        nbformat.v4.new_markdown_cell("Words."),
        nbformat.v4.new_code_cell('experiment: str = "full"', metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell("from lib import used  # of course"),
    ]
    for name, text in {
        "lib/__init__.py": "",
        "lib/used.py": MODULE,
        "lib/unused.py": MODULE,
        "requirements.txt": "numpy  # arrays\n",
        "data/SHA256SUMS": "a  b\n",
        "notebooks/experiments/full.yml": "description: all\nnotebooks:\n  01-one: {}\n",
        "notebooks/01-one.ipynb": nbformat.writes(nbformat.v4.new_notebook(cells=cells)),
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    git(tmp_path, "init", ".")
    commit(tmp_path)
    return tmp_path


def git(root, *arguments):
    identity = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    command = ("git", *identity, *arguments)
    return subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout


def commit(root):
    """Commit all, and write the manifest of a run of this commit."""
    git(root, "add", ".")
    git(root, "commit", "-m", "one")
    made = {"code": {"commit": git(root, "rev-parse", "HEAD").strip()}}
    (root / "results/full").mkdir(parents=True, exist_ok=True)
    (root / "results/full/manifest.json").write_text(json.dumps(made))


def replaced(root, name, before, after):
    path = root / name
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after))


@pytest.mark.parametrize(
    ("name", "before", "after", "counts"),
    [
        ("lib/used.py", "x + 1", "x + 2", True),
        ("lib/used.py", "More words", "Other words", False),
        ("lib/used.py", "def f", "# a comment\ndef f", False),
        ("lib/unused.py", "x + 1", "x + 2", False),
        ("notebooks/01-one.ipynb", "Words.", "Other words.", False),
        ("notebooks/01-one.ipynb", "of course", "perhaps", False),
        ("notebooks/01-one.ipynb", "import used", "import used, unused", True),
        ("notebooks/experiments/full.yml", "01-one: {}", "01-one: {experiment: full}", True),
        ("notebooks/experiments/full.yml", "description: all", "description: some", False),
        ("requirements.txt", "numpy", "numpy==2", True),
        ("data/SHA256SUMS", "a  b", "c  b", True),
    ],
)
def test_what_counts_is_more_than_words(root, name, before, after, counts):
    assert stale.age("full").changed == []
    replaced(root, name, before, after)
    changed = stale.age("full").changed
    assert (name in changed) == counts
    assert bool(changed) == counts


def test_a_module_that_is_new(root):
    (root / "lib/more.py").write_text(MODULE)
    replaced(root, "lib/used.py", "def f", "from . import more\n\n\ndef f")
    assert stale.age("full").changed == ["lib/more.py", "lib/used.py"]
    commit(root)
    assert stale.age("full").changed == []


def test_what_draws_is_compared_with_what_drew_last(root):
    (root / "lib/study/figures").mkdir(parents=True)
    for folder in ("lib/study", "lib/study/figures"):
        (root / folder / "__init__.py").write_text(MODULE)
    replaced(root, "lib/used.py", "def f", "from .study import figures\n\n\ndef f")
    commit(root)
    replaced(root, "lib/study/figures/__init__.py", "x + 1", "x + 2")
    assert stale.age("full").changed == ["lib/study/figures/__init__.py"]
    git(root, "commit", "-a", "-m", "two")
    record = {"code": {"commit": git(root, "rev-parse", "HEAD").strip()}}
    (root / "results/full/redrawn.json").write_text(json.dumps(record))
    assert stale.age("full").changed == []
    replaced(root, "lib/study/figures/__init__.py", "x + 2", "x + 3")
    replaced(root, "lib/used.py", "x + 1", "x + 2")
    assert stale.age("full").changed == ["lib/study/figures/__init__.py", "lib/used.py"]


def test_the_command_lists_what_is_old_alone(root, capsys):
    assert __main__.main(["stale"]) == 0
    assert capsys.readouterr().out == ""
    replaced(root, "lib/used.py", "x + 1", "x + 2")
    assert __main__.main(["stale"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("full: of ")
    assert first.endswith(", 1 input changed since")
    assert second == "  lib/used.py"


def test_a_commit_that_is_not_here(root):
    path = root / "results/full/manifest.json"
    path.write_text(json.dumps({"code": {"commit": "0" * 40}}))
    assert str(stale.age("full")) == "full: of 0000000, which git does not have here"
    path.write_text(json.dumps({"code": {"commit": None}}))
    assert "an unknown commit" in str(stale.age("full"))
