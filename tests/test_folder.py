"""A clone works in a folder of any name, and leaves the reader's PYTHONPATH as it is."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
NAME = "a b [c] ü o'd"
LEFT = (
    ".git",
    ".venv",
    ".cache",
    "__pycache__",
    "_build",
    "executed",
    ".*_cache",
    "*.failed.ipynb",
)
STAND_IN = """\
#!/bin/sh
# Writes down how it was called, and does as a Python of 3.11 does that makes an environment.
for argument in "$@"; do printf '<%s>' "$argument"; done >> "$CALLS"
printf ' PYTHONPATH=%s\\n' "$PYTHONPATH" >> "$CALLS"
case "$*" in
  "-m venv "*) mkdir -p "$3/bin" "$3/site"; cp "$0" "$3/bin/python";;
  *purelib*) echo "$PWD/.venv/site";;
esac
"""


@pytest.fixture
def clone(tmp_path):
    """What make reads of a clone."""
    folder = tmp_path / NAME
    folder.mkdir()
    for path in (ROOT / "Makefile", *ROOT.glob("requirements*.txt")):
        shutil.copy(path, folder)
    return folder


def make(folder, *arguments, **variables):
    # Not as a part of the make that runs the tests: that would print the folders it enters.
    own = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = ["make", *arguments]
    found = subprocess.run(command, cwd=folder, env=own | variables, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    return found.stdout


def stand_in(path):
    path.write_text(STAND_IN)
    path.chmod(0o755)
    return str(path)


def installed(clone):
    """Touch what says that nothing needs to be installed."""
    database = make(clone, "-pn", "help")
    for stamp in re.findall(r"^\w*STAMP := (\S+)$", database, re.M):
        (clone / stamp).parent.mkdir(exist_ok=True)
        (clone / stamp).touch()


def test_an_environment_is_made_that_finds_lib(clone, tmp_path):
    calls = tmp_path / "calls"
    python = stand_in(tmp_path / "python 3.11")
    make(clone, "install", f"PYTHON={python}", CALLS=str(calls))
    assert (clone / ".venv/site/root.pth").read_text() == f"{clone}\n"
    assert "<-m><pip><install><-r><requirements.txt>" in calls.read_text()
    before = calls.read_text()
    make(clone, "install", f"PYTHON={python}", CALLS=str(calls))
    assert calls.read_text() == before


TARGETS = {
    "reproduce EXPERIMENT=full": "<-m><lib.study><reproduce><full>",
    "sweep": "<-m><lib.study><sweep><my sweeps/one [1].yaml>",
    "report": "<-m><lib.study><report><full>",
    "figures STYLE=ieee": "<-m><lib.study><figures><full><compress><bench><--style><ieee>",
    "bench": "<-m><lib.study><reproduce><bench>",
    "docs": "<-m><sphinx>",
    "lab": "<-m><jupyter><lab>",
    "lint": "<check>",
    "test": "<-m><pytest>",
    "test-slow": "<-m><pytest>",
}


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_quotes_its_folder_and_extends_the_path(clone, tmp_path, target):
    installed(clone)
    (clone / ".venv/bin").mkdir()
    for program in {"python", *(path.name for path in (ROOT / ".venv/bin").iterdir())}:
        stand_in(clone / ".venv/bin" / program)
    calls = tmp_path / "calls"
    sweep = "SWEEP=my sweeps/one [1].yaml"
    make(clone, *target.split(), sweep, CALLS=str(calls), PYTHONPATH="/of/the reader")
    called = calls.read_text().splitlines()
    (main,) = [line for line in called if line.startswith(TARGETS[target])][:1]
    if target != "lint":
        assert main.endswith(f" PYTHONPATH={clone}:/of/the reader")
    if target == "lab":
        assert f"<--notebook-dir={clone}>" in main
    assert not any(NAME.split()[0] in re.findall("<(.*?)>", line) for line in called)


@pytest.mark.parametrize("given", [None, ""])
def test_without_a_path_of_the_readers_nothing_is_added(clone, tmp_path, given, monkeypatch):
    installed(clone)
    (clone / ".venv/bin").mkdir()
    stand_in(clone / ".venv/bin/python")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    variables = {"CALLS": str(tmp_path / "calls")} | (
        {} if given is None else {"PYTHONPATH": given}
    )
    make(clone, "report", **variables)
    assert (tmp_path / "calls").read_text().endswith(f" PYTHONPATH={clone}\n")


EXPERIMENT = """\
description: a model of the reader's, outside the repository
notebooks:
  12-model:
    models: ["mymodels:net"]
    images: folder
    root: pictures
    label_map: {cat: 1, 0: 0}
    bits: [1]
    inits: [linear]
"""
# Of so many weights that a file of 1 bit a weight is not mostly its header.
MODEL = """\
import torch
from torch import nn

def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.AdaptiveAvgPool2d(8), nn.Flatten(), nn.Linear(192, 8))
"""


@pytest.mark.slow
def test_a_notebook_runs_there_with_a_module_of_the_readers(tmp_path):
    clone = tmp_path / NAME
    shutil.copytree(ROOT, clone, ignore=shutil.ignore_patterns(*LEFT))
    installed(clone)
    for path in (ROOT / ".venv").iterdir():
        if not path.name.startswith("."):
            (clone / ".venv" / path.name).symlink_to(path.resolve())
    (clone / "notebooks/experiments/mine.yml").write_text(EXPERIMENT)
    for i, name in enumerate(("0", "cat")):
        (clone / "pictures" / name).mkdir(parents=True)
        Image.new("L", (8, 8), 99 * i).save(clone / "pictures" / name / "a.png")
    mine = tmp_path / "my models"
    mine.mkdir()
    (mine / "mymodels.py").write_text(MODEL)
    printed = make(clone, "reproduce", "EXPERIMENT=mine", PYTHONPATH=str(mine), RESULTS="results")
    assert "12-model  done" in printed
    table = (clone / "results/mine/tables/models.csv").read_text()
    assert "mymodels:net" in table
    assert make(clone, "report").strip() == "results/full/report.html"
