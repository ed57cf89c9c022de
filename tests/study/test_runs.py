"""Runs of fixture notebooks in a small repository of their own."""

import json
import os
import signal

import nbformat
import psutil
import pytest
from processes import Command, is_running, pid_in, wait_for

from lib import files
from lib.study import __main__ as command_line
from lib.study import paths, provenance, runs
from lib.study.runs import execution

PARAMETERS = """\
experiment: str = "toy"  # folder of the results
seed: int = 0  # of everything
rate: float = 0.1  # of learning
name: str = "a = b"  # any text
budgets: list[int | None] = [20, None]  # None: until converged
flags = [True]  # type shown by the default
limit: int | None = None  # of nothing"""

WRITES = """\
from pathlib import Path
from lib import helper
folder = Path("results") / experiment / "tables"
folder.mkdir(parents=True, exist_ok=True)
(folder / f"{helper.PREFIX}{STEM}.csv").write_text(repr([seed, rate, name, budgets, limit]))"""


def make_notebook(path, *sources, parameters=PARAMETERS):
    """Write a notebook of a parameters cell and plain cells."""
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    if parameters is not None:
        tagged = nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})
        cells = [tagged, *cells]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    return path


def write(path, text):
    """Write a text file, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """Make a repository with a library of two modules and two notebooks."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.delenv("RESULTS", raising=False)
    write(tmp_path / "lib/__init__.py", "")
    write(tmp_path / "lib/helper.py", "from .prefix import PREFIX\n")
    write(tmp_path / "lib/prefix.py", 'PREFIX = "table-"\n')
    write(tmp_path / "lib/unused.py", "")
    write(tmp_path / "requirements.txt", "numpy\n")
    write(tmp_path / "data/SHA256SUMS", "")
    for stem in ("01-first", "02-second"):
        make_notebook(tmp_path / f"notebooks/{stem}.ipynb", WRITES.replace("STEM", repr(stem)))
    set_parameters(tmp_path, "{seed: 1}")
    return tmp_path


def set_parameters(repository, first):
    """Write the toy experiment's parameter file."""
    text = f"description: toy\nnotebooks:\n  01-first: {first}\n  02-second: {{}}\n"
    write(repository / "notebooks/experiments/toy.yml", text)


@pytest.fixture
def never_runs(monkeypatch):
    """Fail the test as soon as papermill would be started."""
    monkeypatch.setattr(execution, "_papermill", lambda *_: pytest.fail("papermill was started"))


@pytest.fixture
def stub(monkeypatch):
    """Replace papermill by a stub that writes each notebook's output; list what was run."""
    ran = []

    def papermill(notebook, output, parameters, timeout):
        ran.append(notebook.stem)
        write(output, notebook.read_text())
        folder = paths.results_folder(parameters["experiment"])
        files.write_atomically(folder / f"tables/{notebook.stem}.csv", str(parameters))
        return 0

    monkeypatch.setattr(execution, "_papermill", papermill)
    return ran


# ------------------------------------------------------------------------ parameters


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("{sead: 7}", "unknown parameter 'sead' (did you mean 'seed'?)"),
        ("{seed: '7'}", "seed must be int, got '7' (str)"),
        ("{seed: true}", "seed must be int, got True (bool)"),
        ("{seed: null}", "seed must be int, got None"),
        ("{rate: 1e-3 s}", "rate must be float, got '1e-3 s' (str)"),
        ("{seed: 7, seed: 8}", 'line 3: found duplicate key "seed"'),
        ("{name: 08.0}", "name must be str, got 8.0 (float)"),
        ("{budgets: 20}", "budgets must be list[int | None], got 20 (int)"),
        ("{budgets: [20, '30']}", "budgets must be list[int | None]"),
        ("{flags: [1]}", "flags must be list[bool], got [1] (list)"),
        ("{experiment: full}", "experiment must be 'toy'"),
    ],
)
def test_bad_parameters_are_refused_before_anything_runs(repository, never_runs, given, message):
    set_parameters(repository, given)
    with pytest.raises(runs.ParameterError) as caught:
        runs.reproduce("toy")
    assert message in str(caught.value)
    assert not (repository / "results").exists()


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (None, "needs one cell tagged 'parameters', has 0"),
        ("experiment = 'toy'\nseed = 1 + 2 * 3", "seed must be a literal"),
        ("experiment = 'toy'\nimport os", "not a parameter: import os"),
    ],
)
def test_bad_parameter_cells_are_refused(repository, never_runs, cell, message):
    make_notebook(repository / "notebooks/02-second.ipynb", "1", parameters=cell)
    with pytest.raises(runs.ParameterError, match="02-second") as caught:
        runs.reproduce("toy")
    assert message in str(caught.value)


def test_a_whole_number_and_None_are_accepted_where_declared(repository):
    given = {"rate": 1, "limit": None, "budgets": [None, 3], "flags": []}
    notebook = repository / "notebooks/01-first.ipynb"
    assert runs.check_parameters(notebook, given) == given


def test_names_in_mappings_are_text(repository):
    notebook = make_notebook(
        repository / "notebooks/03-map.ipynb", "1", parameters="labels: dict | None = None"
    )
    mixed = {"labels": {0: 3, "cat": 1, 1.5: [{2: "dog"}]}}
    found = runs.check_parameters(notebook, mixed)
    assert found == {"labels": {"0": 3, "cat": 1, "1.5": [{"2": "dog"}]}}
    assert runs.fingerprint(notebook, found) != runs.fingerprint(notebook, {"labels": {"0": 3}})
    with pytest.raises(runs.ParameterError, match="03-map: labels has the name '0' twice"):
        runs.check_parameters(notebook, {"labels": {0: 3, "0": 4}})
    with pytest.raises(runs.ParameterError, match="has the name False: YAML reads true"):
        runs.check_parameters(notebook, {"labels": {False: 3}})


RECIPES = 'recipes: list[dict] = [{"cells": "a", "bits": 3}, {"cells": "b", "bits": 4, "rate": 1}]'


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("{cells: a, bit: 3}", "unknown 'bit' in {'cells': 'a', 'bit': 3} of recipes"),
        ("{cells: a, rate: 1}", "missing 'bits' in {'cells': 'a', 'rate': 1} of recipes"),
        ("[a, 3]", "recipes must be list[dict], got [['a', 3]]"),
    ],
)
def test_values_by_name_are_checked_before_anything_runs(repository, never_runs, given, problem):
    make_notebook(
        repository / "notebooks/01-first.ipynb", "1", parameters=f"{PARAMETERS}\n{RECIPES}"
    )
    set_parameters(repository, f"{{recipes: [{given}]}}")
    with pytest.raises(runs.ParameterError) as caught:
        runs.reproduce("toy")
    assert problem in str(caught.value)
    set_parameters(repository, "{recipes: [{bits: 1, cells: c, rate: 2}, {cells: d, bits: 2}]}")
    assert len(runs.load_experiment("toy").notebooks["01-first"]["recipes"]) == 2


@pytest.mark.parametrize("name", ["toi", "../toy"])
def test_unknown_experiments_list_the_known_ones(repository, name):
    with pytest.raises(runs.ParameterError, match="the experiments are toy"):
        runs.load_experiment(name)


# ----------------------------------------------------------------------- fingerprint


def test_modules_are_followed_through_imports(repository):
    source = "%matplotlib inline\n!ls\nimport numpy\nfrom lib import helper"
    notebook = make_notebook(repository / "notebooks/03-magic.ipynb", source)
    found = [path.name for path in runs.imported_modules(notebook)]
    assert found == ["__init__.py", "helper.py", "prefix.py"]


def test_what_is_up_to_date_is_skipped_and_what_changed_is_run_again(repository, stub):
    def ran():
        stub.clear()
        runs.reproduce("toy")
        return list(stub)

    both = ["01-first", "02-second"]
    assert ran() == both
    assert ran() == []
    write(repository / "lib/unused.py", "x = 1\n")
    os.utime(repository / "lib/prefix.py")
    assert ran() == []
    write(repository / "lib/prefix.py", 'PREFIX = "other-"\n')
    assert ran() == both
    set_parameters(repository, "{seed: 2}")
    assert ran() == both
    make_notebook(repository / "notebooks/02-second.ipynb", "1 + 1")
    assert ran() == ["02-second"]
    write(repository / "data/SHA256SUMS", "changed")
    assert ran() == both
    (repository / "results/toy/tables/01-first.csv").unlink()
    assert ran() == ["01-first"]
    write(repository / "results/toy/tables/02-second.csv", "damaged")
    assert ran() == ["02-second"]
    (repository / "results/toy/notebooks/02-second.ipynb").unlink()
    assert ran() == ["02-second"]


def test_force_and_only(repository, stub):
    runs.reproduce("toy", only="01-first")
    assert stub == ["01-first"]
    assert not (repository / "results/toy/manifest.json").exists()
    runs.reproduce("toy", only="02-second", force=True)
    assert stub == ["01-first", "02-second"]
    runs.reproduce("toy", force=True)
    assert stub[2:] == ["01-first", "02-second"]
    with pytest.raises(runs.ParameterError, match="it has 01-first, 02-second"):
        runs.reproduce("toy", only="03-third")


def test_the_first_line_says_what_is_run(repository, stub, capsys):
    runs.reproduce("toy")
    assert capsys.readouterr().out.splitlines()[0] == "toy: toy; 2 notebooks"


def test_an_interrupted_reproduction_goes_on_where_it_stopped(repository, stub, monkeypatch):
    papermill = execution._papermill

    def interrupted(notebook, *rest):
        papermill(notebook, *rest)
        if notebook.stem == "02-second":
            raise KeyboardInterrupt
        return 0

    monkeypatch.setattr(execution, "_papermill", interrupted)
    with pytest.raises(KeyboardInterrupt):
        runs.reproduce("toy")
    assert not list((repository / "results/toy/notebooks").glob("02*"))
    monkeypatch.setattr(execution, "_papermill", papermill)
    write(repository / ".cache/networks/one.safetensors", "")
    runs.reproduce("toy")
    assert stub == ["01-first", "02-second", "02-second"]
    began_with = {"finished": ["01-first"], "cached": {"networks": 1}}
    assert provenance.read_manifest("toy")["began_with"] == began_with
    runs.reproduce("toy")  # nothing runs: the manifest stays that of the run
    assert provenance.read_manifest("toy")["began_with"] == began_with


def test_a_second_run_in_the_same_folder_is_refused(repository, stub):
    with (
        runs.folder_lock(paths.results_folder("toy")),
        pytest.raises(RuntimeError, match="another run is writing to"),
    ):
        runs.reproduce("toy")


# --------------------------------------------------------------- runs with a real kernel


def test_values_arrive_exactly_and_the_run_is_recorded(repository, capfd):
    values = {"rate": 1e-05, "budgets": [None, 7], "limit": 3}
    values["name"] = "08 é \\ ' \" 1e-3\n" + "x" * 200_000  # more than a command line holds
    make_notebook(
        repository / "notebooks/01-first.ipynb",
        WRITES.replace("STEM", "'x'"),
        "print('a line of progress')",
    )
    text = json.dumps(values).replace("1e-05", "1.0e-05")  # JSON is YAML
    write(
        repository / "notebooks/experiments/toy.yml",
        f"description: toy\nnotebooks: {{01-first: {text}}}\n",
    )
    runs.reproduce("toy")
    out, errors = capfd.readouterr()
    assert "01-first  done in" in out
    assert "a line of progress" in out
    assert "unknown parameter" not in out + errors  # as papermill says of limit
    folder = repository / "results/toy"
    expected = [0, 1e-05, values["name"], [None, 7], 3]
    assert (folder / "tables/table-x.csv").read_text() == repr(expected)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["parameters"]["01-first"] == {"experiment": "toy"} | values
    assert set(manifest["outputs"]) == {"tables/table-x.csv", "notebooks/01-first.ipynb"}
    assert set(manifest["seconds"]) == {"01-first"}
    assert "lib/prefix.py" in manifest["inputs"]
    assert str(repository) not in (folder / "manifest.json").read_text()


def test_a_failing_notebook_keeps_its_traceback_and_no_record(repository, capfd):
    make_notebook(repository / "notebooks/01-first.ipynb", "raise ValueError('one\\nlast line')")
    assert command_line.main(["reproduce", "toy"]) == 1
    last = capfd.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: 01-first failed: ValueError: last line; executed copy: ")
    folder = repository / "results/toy"
    assert [path.name for path in (folder / "notebooks").iterdir()] == ["01-first.failed.ipynb"]
    assert "ValueError" in (folder / "notebooks/01-first.failed.ipynb").read_text()
    assert not list(folder.glob(".records/*"))
    assert not (folder / "manifest.json").exists()


def test_a_dead_kernel_is_a_failure(repository):
    source = "print('', file=open('runs', 'a')); import os, signal; os.kill(os.getpid(), 9)"
    notebook = make_notebook(repository / "notebooks/01-first.ipynb", source, "1 + 1")
    with pytest.raises(runs.NotebookFailed, match="01-first failed: its kernel died"):
        runs.run_notebook(notebook, {}, "toy", "print")
    assert (repository / "runs").read_text() == "\n"  # once
    assert not list((repository / "results/toy").glob(".records/*"))
    assert not (repository / "results/toy/notebooks/01-first.ipynb").exists()


def test_a_kernel_waits_at_no_port_that_another_could_take(repository):
    source = """
import os
from pathlib import Path
from ipykernel.kernelapp import IPKernelApp
kernel = IPKernelApp.instance()
assert kernel.transport == "ipc"
assert Path(f"{kernel.ip}-{kernel.iopub_port}").is_socket()
os.symlink(Path(kernel.ip).parent, "link")"""
    notebook = make_notebook(repository / "notebooks/01-first.ipynb", source)
    runs.run_notebook(notebook, {}, "toy", "print")
    link = repository / "link"
    assert link.is_symlink() and not link.exists()  # the folder was this run's own


# ------------------------------------------------------ processes: ended, stopped, killed


SLEEPS = """\
import os, time
from pathlib import Path
Path("kernel.pid").write_text(str(os.getpid()))
time.sleep(60)"""


@pytest.fixture
def sleeper(executor, repository):
    """A notebook that sleeps, run by plain Python and, in the long tests, by papermill."""
    return make_notebook(repository / "notebooks/01-first.ipynb", SLEEPS)


def kernel_of(repository):
    """Wait for the sleeping notebook and return the process of its kernel."""
    return wait_for(lambda: pid_in(repository / "kernel.pid"))


def test_a_run_past_its_time_is_ended(sleeper, repository):
    before = set(psutil.Process().children(recursive=True))  # of other tests' clusters
    with pytest.raises(runs.NotebookFailed, match="01-first failed: it reached its time limit"):
        runs.run_notebook(sleeper, {}, "toy", "print", timeout=1)
    assert set(psutil.Process().children(recursive=True)) <= before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.usefixtures("sleeper")
def test_a_stopped_run_leaves_no_kernel_and_no_record(repository, number):
    command = Command(repository, "reproduce", "toy")
    kernel = kernel_of(repository)
    command.send(number)
    assert command.wait() == 128 + number
    wait_for(lambda: not is_running(kernel), 5)
    assert not list((repository / "results/toy").glob(".records/*"))
    assert not list((repository / "results/toy/notebooks").iterdir())


@pytest.mark.usefixtures("sleeper")
def test_what_a_killed_run_started_ends_with_it_and_frees_the_folder(repository):
    command = Command(repository, "reproduce", "toy")
    kernel = kernel_of(repository)
    papermill = psutil.Process(kernel).ppid()
    command.send(signal.SIGKILL)
    assert command.wait() == -signal.SIGKILL
    wait_for(lambda: not is_running(papermill) and not is_running(kernel), 5)
    with runs.folder_lock(paths.results_folder("toy"), wait=True):
        pass
