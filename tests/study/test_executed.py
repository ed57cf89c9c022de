"""Executed notebooks as results: equal after equal runs, of their sources' cells, and small."""

import json
import subprocess

import nbformat
import pytest

from lib import files
from lib.study import paths, runs
from lib.study.runs import execution
from lib.study.runs.executed import source_cells

SOURCES = {
    "progress": 'print("layers: 1 of 8, about 20 s left\\nkept\\nlayers: 2 of 8, about 9 s left")',
    "pieces": "import time; print('a', flush=True); time.sleep(0.5); print('b')",
    "address": "object()",
    "path": "import pathlib; print(pathlib.Path('here').resolve())",
    "warning": "import warnings; warnings.warn('careful')",
    "widget": "from ipywidgets import IntSlider; display(IntSlider(number))",
    "table": "from IPython.display import HTML; HTML('<table><tr><td>1</td></tr></table>')",
}


def write_notebook(path, *sources):
    tagged = nbformat.v4.new_code_cell(
        'experiment: str = "toy"  # folder\nnumber: int = 0  # any',
        metadata={"tags": ["parameters"]},
    )
    cells = [nbformat.v4.new_markdown_cell("# Title $x$"), tagged]
    cells += [nbformat.v4.new_code_cell(source) for source in sources]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    return path


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """An empty repository; its notebook was run twice, and the first copy is kept as `before`."""
    root = tmp_path_factory.mktemp("repository")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "ROOT", root)
        patch.delenv("RESULTS", raising=False)
        notebook = write_notebook(root / "notebooks/toy.ipynb", *SOURCES.values())
        executed = root / "results/toy/notebooks/toy.ipynb"
        for kept in ("before.ipynb", "after.ipynb"):
            record = runs.run_notebook(notebook, {"number": 7}, "toy", "print")
            (root / kept).write_bytes(executed.read_bytes())
        assert record["outputs"] == {"notebooks/toy.ipynb": files.sha256(executed)}
    return root


def outputs(repository, name):
    """Outputs of one of the cells of `SOURCES`."""
    cells = nbformat.read(repository / "after.ipynb", as_version=4).cells
    (cell,) = [cell for cell in cells if cell.source == SOURCES[name]]
    return cell.outputs


def test_equal_runs_leave_equal_bytes(repository):
    assert (repository / "before.ipynb").read_bytes() == (repository / "after.ipynb").read_bytes()


def test_it_has_the_cells_of_its_source_and_the_parameters(repository):
    executed = repository / "after.ipynb"
    assert source_cells(executed) == source_cells(repository / "notebooks/toy.ipynb")
    text = executed.read_text()
    assert "number = 7" in text
    assert [cell.execution_count for cell in nbformat.read(executed, 4).cells[1:]] == [
        *range(1, 10)
    ]


def test_nothing_is_left_of_papermill_the_kernel_and_this_machine(repository):
    executed = nbformat.read(repository / "after.ipynb", as_version=4)
    assert set(executed.metadata) == {"kernelspec"}
    assert all(set(cell.metadata) <= {"tags"} for cell in executed.cells)
    assert str(repository) not in json.dumps(executed)


def test_progress_is_left_out_and_pieces_are_joined(repository):
    assert [output.text for output in outputs(repository, "progress")] == ["kept\n"]
    assert [output.text for output in outputs(repository, "pieces")] == ["a\nb\n"]


def test_addresses_paths_and_places_are_the_same_everywhere(repository):
    (shown,) = outputs(repository, "address")
    assert shown.data == {"text/plain": "<object>"}
    (printed,) = outputs(repository, "path")
    assert printed.text == "here\n"
    (warned,) = outputs(repository, "warning")
    assert warned.text.startswith("<cell>:1: UserWarning: careful\n")


def test_widgets_are_left_out_and_tables_kept(repository):
    assert outputs(repository, "widget") == []
    (table,) = outputs(repository, "table")
    assert "<table>" in table.data["text/html"]


def test_a_large_one_is_refused_by_name(tmp_path, monkeypatch):
    """A stand-in for papermill writes what a notebook with large figures leaves."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.delenv("RESULTS", raising=False)
    notebook = write_notebook(tmp_path / "notebooks/large.ipynb", "1 + 1")

    def papermill(notebook, output, parameters, timeout):
        content = nbformat.read(notebook, as_version=4)
        figure = {"image/png": "A" * 2_500_000}
        content.cells[-1].outputs = [nbformat.v4.new_output("display_data", figure)]
        nbformat.write(content, output)
        return 0

    monkeypatch.setattr(execution, "_papermill", papermill)
    with pytest.raises(runs.NotebookFailed, match=r"^large: .* has 2,50\d,\d+ bytes, at most 2,5"):
        runs.run_notebook(notebook, {}, "toy", "print")
    left = sorted(path.name for path in tmp_path.glob("results/toy/*/*"))
    assert left == ["large.failed.ipynb"]


def git(*arguments):
    command = ["git", *arguments]
    return subprocess.run(command, cwd=paths.ROOT, capture_output=True, text=True)


def test_git_keeps_those_of_the_committed_results():
    for experiment, kept in {"full": True, "compress": True, "bench": True, "smoke": False}.items():
        ignored = git("check-ignore", "-q", f"results/{experiment}/notebooks/01-train.ipynb")
        assert (ignored.returncode != 0) == kept, experiment
    assert git("check-ignore", "-q", "results/full/notebooks/01-train.failed.ipynb").returncode == 0


def test_committed_ones_have_the_cells_of_their_sources():
    for name in git("ls-files", "results/*.ipynb").stdout.splitlines():
        source = paths.ROOT / "notebooks" / name.rpartition("/")[2]
        assert source_cells(paths.ROOT / name) == source_cells(source), name
