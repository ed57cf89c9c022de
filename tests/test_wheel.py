"""The method as others install it: a wheel with a name of its own, without the study."""

import ast
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAME = "weightshare"
MODEL = """\
from torch import nn

def net():
    return nn.Sequential(nn.Conv2d(3, 16, 3), nn.Flatten(), nn.Linear(144, 100))
"""
IMAGES = """\
import torch

def images():
    return [(torch.randn(32, 3, 5, 5), torch.arange(32)) for _ in range(4)]
"""


def run(*command, folder, **variables):
    """Run a program that does not find the repository; what it prints."""
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    found = subprocess.run(
        [*map(str, command)],
        cwd=folder,
        env=environment | variables,
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """Built from a copy, since setuptools builds inside the folder."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    shutil.copytree(ROOT / "lib", source / "lib", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = ("pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source)
    run(sys.executable, "-m", *build, folder=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def installed(wheel, tmp_path_factory):
    """A folder with the wheel in it, for this environment's packages."""
    target = tmp_path_factory.mktemp("installed")
    install = ("pip", "install", "--no-deps", "--no-index", "--target", target, wheel)
    run(sys.executable, "-m", *install, folder=target)
    return target


@pytest.fixture
def example(tmp_path):
    """The README's example, on a model, with the name of the wheel."""
    (found,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    found = found.replace("from lib", f"from {NAME}")
    (tmp_path / "mine.py").write_text(MODEL + IMAGES)
    ending = "import sys\nassert not any(n == 'lib' or n.startswith('lib.') for n in sys.modules)\n"
    made = "import mine\nmodel = mine.net()\nbatches = [inputs for inputs, _ in mine.images()]\n"
    (tmp_path / "example.py").write_text(f"{made}{found}\n{ending}")
    return tmp_path


def commands(example, program, **variables):
    """Go through all commands of a program on the example's model; what they print."""
    file, model = "model.safetensors", ("--arch", "mine:net")
    export = ("export", file, *model, "--input-shape", "1,3,5,5", "--out")
    return "".join(
        run(*program, *arguments, folder=example, **variables)
        for arguments in (
            ("compress", "mine:net", "--bits", "2", "--out", file),
            ("inspect", file),
            ("evaluate", file, *model, "--images", "mine:images"),
            (*export, "model.onnx"),
        )
    )


def test_it_holds_the_method_alone(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    method = [
        path for path in (ROOT / "lib").rglob("*") if path.suffix in (".py", ".csv", ".typed")
    ]
    relative = [path.relative_to(ROOT / "lib") for path in method]
    expected = {f"{NAME}/{path.as_posix()}" for path in relative if path.parts[0] != "study"}
    assert names == expected
    assert {Path(name).name for name in names if not name.endswith(".py")} == {
        "imagenet-classes.csv",
        "py.typed",
    }


def test_it_says_what_it_needs(wheel):
    with zipfile.ZipFile(wheel) as opened:
        (path,) = [name for name in opened.namelist() if name.endswith("/METADATA")]
        metadata = opened.read(path).decode()
    needs = re.findall(r"^Requires-Dist: ([\w-]+)(\S*)(.*)$", metadata, re.M)
    assert {name for name, _, rest in needs if "extra" not in rest} == {
        "constriction",
        "numba",
        "numpy",
        "safetensors",
        "torch",
        "tqdm",
    }
    assert all(">=" in bounds and "==" not in bounds for _, bounds, _ in needs)
    assert "Requires-Python: >=3.11\n" in metadata
    assert {*re.findall(r"^Provides-Extra: (\w+)$", metadata, re.M)} == {"export", "images", "timm"}


def strings(path):
    """Texts of a module that it may print: constants that are no documentation."""
    tree = ast.parse(path.read_text())
    documented = [n for n in ast.walk(tree) if isinstance(n, ast.Expr)]
    told = {id(n.value) for n in documented}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
            yield node.value


def test_no_text_or_import_of_the_method_has_the_repositorys_name():
    for path in (ROOT / "lib").rglob("*.py"):
        if "study" not in path.relative_to(ROOT / "lib").parts:
            assert [text for text in strings(path) if re.search(r"\blib\b", text)] == [], path
            assert not re.search(r"^\s*(from|import) lib\b", path.read_text(), re.M), path


def test_the_readmes_example_runs_under_the_wheels_name(installed, example):
    run(sys.executable, "example.py", folder=example, PYTHONPATH=str(installed))
    assert (example / "model.safetensors").is_file()


@pytest.mark.slow
def test_its_console_script(installed, example):
    script = installed / "bin" / NAME
    found = {"PYTHONPATH": str(installed)}
    assert run(script, "--help", folder=example, **found).startswith(f"usage: {NAME} [-h] COMMAND")
    module = run(sys.executable, "-m", NAME, "--help", folder=example, **found)
    assert module.startswith(f"usage: python -m {NAME} [-h] COMMAND")
    printed = commands(example, [script], **found)
    assert "on 128 images" in printed
    assert "the weights of 2 layers are equal bit by bit" in printed


@pytest.mark.slow
def test_a_fresh_environment_needs_nothing_else(wheel, example):
    """torch is the one of requirements.txt, since that is what `TORCH_INDEX` is for."""
    folder = example / "fresh"
    venv.create(folder, with_pip=True, symlinks=True)
    (torch,) = re.findall(r"^torch==\S+", (ROOT / "requirements.txt").read_text(), re.M)
    python, install = folder / "bin/python", ("-m", "pip", "install", "--quiet")
    if index := os.environ.get("TORCH_INDEX"):
        run(python, *install, "--no-deps", "--index-url", index, torch, folder=example)
    run(python, *install, torch, wheel, folder=example)
    run(python, "example.py", folder=example)
    run(python, *install, f"{wheel}[export,images]", torch, folder=example)
    printed = commands(example, [folder / "bin" / NAME])
    assert "the weights of 2 layers are equal bit by bit" in printed
