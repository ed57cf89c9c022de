"""A small repository with a notebook that is swept, in seconds a point."""

import shutil

import nbformat
import pytest

from lib import files
from lib.study import paths
from lib.study.runs import execution

PARAMETERS = """\
experiment: str = "toy"  # folder of the results
seed: int = 0  # what is written
rate: float = 0.1  # of nothing
names: list = ["a"]  # any
how: str = "well"  # it ends"""

WORK = """\
import os, pathlib, signal, time
from lib import helper
folder = pathlib.Path(os.environ.get("RESULTS", helper.ROOT / "results"), experiment)
(folder / "work.pid").write_text(str(os.getpid()))
with open(helper.ROOT / "executions.txt", "a") as file:
    file.write(f"{experiment}\\n")
if how == "badly":
    raise ValueError("it was to fail")
if how == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if how == "deadly":
    import psutil
    psutil.Process().parent().parent().kill()  # papermill's: the worker
if how == "taking the folder away" and not (helper.ROOT / "aside").exists():
    folder.parent.rename(helper.ROOT / "aside")
    folder.parent.write_text("a file, so that even root cannot write into it")
if how in ("slowly", "deadly"):
    time.sleep(3600)
if how == "once" and not (folder / "tried").exists():
    (folder / "tried").touch()
    raise ValueError("the first attempt fails")
time.sleep(0.2)
(folder / "tables").mkdir(exist_ok=True)
row = f"{10 * seed},{os.environ['OMP_NUM_THREADS']}"
(folder / "tables/toy.csv").write_text(f"value,threads\\n{row}\\n")
pathlib.Path("where.txt").write_text("the working directory")"""


def write_notebook(path, parameters, *sources):
    cells = [nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})]
    cells += [nbformat.v4.new_code_cell(source) for source in sources]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)


@pytest.fixture
def repository(tmp_path, monkeypatch):
    ours = paths.ROOT / "notebooks/sweeps/compare.ipynb"
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.delenv("RESULTS", raising=False)
    for file, text in {
        "lib/__init__.py": "",
        "lib/helper.py": f"from pathlib import Path\nROOT = Path({str(tmp_path)!r})\n",
        "lib/unused.py": "",
        "requirements.txt": "numpy\n",
        "data/SHA256SUMS": "",
    }.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(text)
    write_notebook(tmp_path / "notebooks/toy.ipynb", PARAMETERS, WORK)
    write_notebook(tmp_path / "notebooks/before.ipynb", 'experiment: str = "toy"  # folder')
    (tmp_path / "notebooks/sweeps").mkdir()
    shutil.copy(ours, tmp_path / "notebooks/sweeps")
    return tmp_path


@pytest.fixture
def stub(repository, monkeypatch):
    """Replace papermill by one that takes no time; list the points that it ran."""
    ran = []

    def papermill(notebook, output, parameters, *_, **__):
        ran.append(parameters["experiment"])
        output.write_text(notebook.read_text())
        if parameters.get("how") == "badly":
            return 1
        folder = paths.results_folder(parameters["experiment"])
        files.write_atomically(
            folder / "tables/toy.csv", f"value\n{10 * parameters.get('seed', 0)}\n"
        )
        return 0

    monkeypatch.setattr(execution, "_papermill", papermill)
    return ran


@pytest.fixture
def make_sweep(repository):
    def make(text, name="toy-sweep"):
        path = repository / f"notebooks/sweeps/{name}.yaml"
        path.write_text(text)
        return path

    return make
