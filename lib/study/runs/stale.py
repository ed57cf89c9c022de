"""Which committed results are older than the code: it informs, and fails nothing.

An input has changed if it differs in more than comments, docstrings, an experiment's description
and words between the cells of a notebook. Only modules that an experiment's notebooks import count.
What draws figures is compared with the code that drew them last.
"""

import ast
import json
from typing import NamedTuple

import nbformat
import yaml

from .. import paths
from ..provenance import REDRAWN, git, read_manifest
from ..tables.comparison import COMMITTED
from .freshness import imported_modules
from .parameters import load_experiment, notebook_path

READ = ("requirements.txt", "data/SHA256SUMS")
DRAWING = "lib/study/figures/"


class Age(NamedTuple):
    """How old an experiment's committed results are.

    Attributes
    ----------
    experiment : str
    commit : str or None
        Of the code that made them.
    changed : list of str or None
        Inputs that have changed since; None where git does not know the commit.
    """

    experiment: str
    commit: str | None
    changed: list[str] | None

    def __str__(self):
        commit = "an unknown commit" if self.commit is None else self.commit[:7]
        if self.changed is None:
            return f"{self.experiment}: of {commit}, which git does not have here"
        n = len(self.changed)
        what = f"{n} input{'s' * (n != 1)} changed since" if n else "up to date"
        return f"{self.experiment}: of {commit}, {what}"


def ages(experiments=COMMITTED):
    """The `Age` of each experiment that has committed results."""
    return [age(name) for name in experiments if (paths.ROOT / "results" / name).exists()]


def age(experiment):
    """The `Age` of an experiment's results."""
    commit = read_manifest(experiment)["code"]["commit"]
    if commit is None or git("cat-file", "-e", f"{commit}^{{commit}}") is None:
        return Age(experiment, commit, None)
    inputs = sorted(path.relative_to(paths.ROOT).as_posix() for path in _inputs(experiment))
    drawn = _redrawn(experiment) or commit
    since = {name: drawn if name.startswith(DRAWING) else commit for name in inputs}
    return Age(experiment, commit, [name for name in inputs if _changed(since[name], name)])


def _redrawn(experiment):
    """Commit of the code that drew an experiment's figures after its run, if any did."""
    record = paths.results_folder(experiment) / REDRAWN
    return json.loads(record.read_text())["code"]["commit"] if record.exists() else None


def _inputs(experiment):
    """Files that the experiment's results depend on now."""
    found = {paths.ROOT / name for name in READ}
    for name in load_experiment(experiment).notebooks:
        notebook = notebook_path(name)
        found |= {notebook, *imported_modules(notebook)}
    found |= set((paths.ROOT / "notebooks/experiments").glob(f"{experiment}.y*ml"))
    return found


def _changed(commit, name):
    before, now = git("show", f"{commit}:{name}"), (paths.ROOT / name).read_text().strip()
    return before is None or _meaning(before, name) != _meaning(now, name)


def _meaning(text, name):
    """What a file says to a program."""
    if name.endswith(".py"):
        return _code(text)
    if name.endswith(".ipynb"):
        cells = nbformat.reads(text, as_version=4).cells
        return [_code(cell.source) for cell in cells if cell.cell_type == "code"]
    if name.endswith((".yml", ".yaml")):
        return {key: value for key, value in yaml.safe_load(text).items() if key != "description"}
    return [line for line in map(str.strip, text.splitlines()) if line and line[0] != "#"]


def _code(source):
    """Python without comments and docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:]
    return ast.dump(tree)
