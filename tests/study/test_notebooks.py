"""The notebooks, the parameter files, what they write, and what of it is committed."""

import ast
import csv
import importlib
import json
import os
import re
import subprocess
import sys

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager

from lib import files
from lib.study import paths, provenance, runs, tables
from lib.study.tables import comparison

NOTEBOOKS = sorted((paths.ROOT / "notebooks").glob("*.ipynb"))
EXPERIMENTS = sorted(path.stem for path in (paths.ROOT / "notebooks/experiments").glob("*.yml"))
NAMES = [path.stem for path in NOTEBOOKS]
EVERYWHERE = [name for name in NAMES if name != "13-standard"]  # which needs `make standard`
OTHERS = [paths.ROOT / f"notebooks/{name}.ipynb" for name in ("colab/start", "sweeps/compare")]
ARTICLES = NOTEBOOKS + OTHERS

each_notebook = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=NAMES)
each_article = pytest.mark.parametrize("notebook", ARTICLES, ids=[p.stem for p in ARTICLES])
each_experiment = pytest.mark.parametrize("experiment", EXPERIMENTS)


def cells(notebook):
    return nbformat.read(notebook, as_version=4).cells


def prose(notebook):
    """The Markdown of a notebook."""
    return "\n".join(cell.source for cell in cells(notebook) if cell.cell_type == "markdown")


def n_pictures(notebook):
    """How many pictures an executed notebook shows."""
    outputs = [output for cell in cells(notebook) for output in cell.get("outputs", [])]
    return sum("image/png" in output.get("data", {}) for output in outputs)


def tracked(folder):
    """Names of the committed files in a folder, relative to the root."""
    command = ["git", "ls-files", "-z", "--", folder]
    listed = subprocess.run(command, cwd=paths.ROOT, capture_output=True, text=True, check=True)
    return set(listed.stdout.split("\0")) - {""}


class TestSources:
    def test_there_are_notebooks_and_experiments(self):
        assert len(NOTEBOOKS) >= 6
        assert {"smoke", "embedded", "full", "bench", "compress"} <= set(EXPERIMENTS)

    @each_notebook
    def test_no_outputs(self, notebook):
        for cell in cells(notebook):
            if cell.cell_type == "code":
                assert not cell.outputs
                assert cell.execution_count is None

    @each_notebook
    def test_kernel_is_plain_python(self, notebook):
        kernel = nbformat.read(notebook, as_version=4).metadata.kernelspec
        assert (kernel.name, kernel.language) == ("python3", "python")

    @each_notebook
    def test_title_and_question_come_first(self, notebook):
        first = cells(notebook)[0]
        assert first.cell_type == "markdown"
        assert first.source.startswith("# ")
        assert "**Question.**" in first.source

    @each_article
    def test_every_part_of_an_article_is_there(self, notebook):
        text = prose(notebook)
        parts = ["**Question.**", "$$", "**Reading.**", "**Limits.**", "**References.**"]
        assert [part for part in parts if part not in text] == []

    @each_article
    def test_every_cited_work_is_in_the_bibliography(self, notebook):
        entries = (paths.ROOT / "docs/references.bib").read_text().lower().split("\n@")
        listed = [re.sub(r"[{}]| \(\{.*?\}\)", "", entry) for entry in entries]
        references = prose(notebook).partition("**References.**")[2]
        works = re.findall(r"\*([^*]+)\* \((?:[^()]* )?(\d{4})\b", references)
        assert 0 < len(works) == references.count("*") // 2
        for title, year in works:
            found = [entry for entry in listed if f"title = {title.lower()}" in entry]
            assert any(f"year = {year}" in entry for entry in found), title

    @each_notebook
    def test_nothing_but_saved_metadata_of_ours(self, notebook):
        content = nbformat.read(notebook, as_version=4)
        assert set(content.metadata) <= {"kernelspec", "language_info"}
        assert all(set(cell.metadata) <= {"tags"} for cell in content.cells)
        assert "/home/" not in notebook.read_text()

    @each_notebook
    def test_one_cell_of_parameters_each_explained(self, notebook):
        tagged = [c for c in cells(notebook) if "parameters" in c.metadata.get("tags", ())]
        assert len(tagged) == 1
        declared = runs.declared_parameters(notebook)
        assert "experiment" in declared
        assert tagged[0].source.count("  # ") == len(declared)


class TestParameterFiles:
    @each_experiment
    def test_notebooks_are_run_in_order(self, experiment):
        listed = list(runs.load_experiment(experiment).notebooks)
        assert listed == sorted(listed)
        assert set(listed) <= set(NAMES)

    def test_smoke_runs_every_notebook(self):
        assert list(runs.load_experiment("smoke").notebooks) == EVERYWHERE

    @pytest.mark.parametrize("experiment", ["embedded", "full"])
    def test_the_study_is_all_that_reads_the_paper(self, experiment):
        listed = list(runs.load_experiment(experiment).notebooks)
        assert [name for name in listed if name < "06"] == NAMES[:6]

    @pytest.mark.parametrize("experiment", ["smoke", "embedded", "full"])
    def test_a_figure_that_needs_no_training_comes_first(self, experiment):
        first = next(iter(runs.load_experiment(experiment).notebooks))
        code = "\n".join(c.source for c in cells(runs.notebook_path(first)))
        assert "save_figure" in code
        assert "load_networks" not in code

    @each_experiment
    def test_description_and_experiment(self, experiment):
        plan = runs.load_experiment(experiment)
        assert re.search("minutes|hour", plan.description)
        assert all(given["experiment"] == experiment for given in plan.notebooks.values())

    @pytest.mark.parametrize("experiment", ["smoke", "embedded", "full"])
    def test_claims_are_judged_where_they_are_measured(self, experiment):
        plan = runs.load_experiment(experiment).notebooks
        speed, claims = plan["03-speed"], plan["05-claims"]
        assert speed["endpoint_bits"] == claims["endpoint_bits"]
        assert speed.get("seeds") == claims.get("seeds")

    @pytest.mark.parametrize("experiment", ["embedded", "full"])
    def test_endpoints_are_those_fixed_beforehand(self, experiment):
        claims = runs.load_experiment(experiment).notebooks["05-claims"]
        assert (claims["endpoint_bits"], claims["max_iter"]) == (4, 20)

    @each_notebook
    def test_unknown_parameter_is_refused(self, notebook):
        with pytest.raises(runs.ParameterError, match=r"unknown parameter 'experimet'.*experiment"):
            runs.check_parameters(notebook, {"experimet": "smoke"})

    @each_notebook
    def test_mistyped_parameter_is_refused(self, notebook):
        for name in runs.declared_parameters(notebook):
            with pytest.raises(runs.ParameterError, match=f"{name} must be"):
                runs.check_parameters(notebook, {name: ("not", "this")})

    def test_number_as_text_is_refused(self):
        with pytest.raises(runs.ParameterError, match="endpoint_bits must be int, got '4'"):
            runs.check_parameters(runs.notebook_path("05-claims"), {"endpoint_bits": "4"})


@each_article
def test_what_notebooks_import_exists(notebook):
    plain = TransformerManager().transform_cell  # so that lines with % or ! parse
    sources = [plain(cell.source) for cell in cells(notebook) if cell.cell_type == "code"]
    for node in ast.walk(ast.parse("\n".join(sources))):
        if isinstance(node, ast.ImportFrom) and node.module.partition(".")[0] == "lib":
            for alias in node.names:
                module = importlib.import_module(node.module)
                submodule = f"{node.module}.{alias.name}"
                assert hasattr(module, alias.name) or importlib.util.find_spec(submodule), submodule


@pytest.mark.slow
def test_an_article_runs_by_itself(tmp_path, monkeypatch):
    """The one that needs no trained network; all others run in the smoke experiment."""
    monkeypatch.setenv("RESULTS", str(tmp_path))
    given = runs.load_experiment("smoke").notebooks["explore"]
    runs.run_notebook(runs.notebook_path("explore"), given, "smoke", "print")
    assert n_pictures(tmp_path / "smoke/notebooks/explore.ipynb") == 3


@pytest.mark.slow
def test_smoke_runs_from_end_to_end(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RESULTS", str(tmp_path))
    runs.reproduce("smoke")
    folder = tmp_path / "smoke"
    executed = sorted(path.stem for path in (folder / "notebooks").iterdir())
    assert executed == EVERYWHERE
    printed = capsys.readouterr().out
    assert all(re.search(rf"^{name}  done in \d+ s$", printed, re.M) for name in EVERYWHERE)

    for name in tables.TABLES.keys() - {"standard"}:
        record = tables.TABLES[name]
        table = tables.read_table("smoke", name)  # which checks the columns
        assert tuple(table.columns) == record.columns
        assert len(table) > 0
    drawn = {path.name for path in (folder / "figures").iterdir()}
    names = "training densities iterations inertia accuracy claims bench growth frontier "
    names += "retraining rates allocation distortion models"
    for name in names.split():
        assert {f"{name}.pdf", f"{name}.png"} <= drawn
    for layer in ("conv1", "conv2", "fc8"):
        assert {f"centers-{layer}-2bits.pdf", f"centers-{layer}-2bits.png"} <= drawn
    assert n_pictures(folder / "notebooks/explore.ipynb") == 3

    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["experiment"] == "smoke"
    assert list(manifest["parameters"]) == list(manifest["seconds"]) == EVERYWHERE
    assert {"python", "packages", "hardware", "code"} <= set(manifest)
    written = {
        path.relative_to(folder).as_posix(): files.sha256(path)
        for kind in ("tables", "figures", "headline", "notebooks")
        for path in (folder / kind).iterdir()
    }
    assert manifest["outputs"] == written
    needed = {
        "requirements.txt",
        "notebooks/experiments/smoke.yml",
        "lib/study/experiment/speed.py",
    }
    assert needed | {f"notebooks/{name}.ipynb" for name in EVERYWHERE} <= set(manifest["inputs"])

    runs.reproduce("smoke")
    printed = capsys.readouterr().out
    assert all(f"{name}  up to date" in printed for name in EVERYWHERE)
    assert "runs" not in printed


class TestColab:
    """A fresh machine: nothing of the project but the notebook, in an empty folder."""

    NOTEBOOK = paths.ROOT / "notebooks/colab/start.ipynb"

    @pytest.mark.slow
    def test_it_reaches_the_first_figure(self, tmp_path):
        command = [sys.executable, "-m", "papermill", self.NOTEBOOK, "out.ipynb", "-k", "python3"]
        command += ["-p", "repository", paths.ROOT.as_uri()]
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-2000:]
        assert n_pictures(tmp_path / "out.ipynb") == 2
        assert (tmp_path / "kmeans-weight-sharing/lib").is_dir()

    def test_without_an_address_it_says_what_to_write(self):
        parameters, first, *_ = [c.source for c in cells(self.NOTEBOOK) if c.cell_type == "code"]
        with pytest.raises(ValueError, match="write the address of this repository above"):
            exec(f"{parameters}\n{first}", {})


class TestCommitted:
    def test_every_table_is_committed_with_its_columns(self):
        found = [name for name in tracked("results") if name.endswith(".csv")]
        ours = {name for name, record in tables.TABLES.items() if not record.of_users}
        assert {name.split("/")[-1] for name in found} == {f"{name}.csv" for name in ours}
        assert {name.split("/")[1] for name in found} == set(comparison.COMMITTED)
        for path in found:
            with open(paths.ROOT / path, newline="") as file:
                rows = list(csv.reader(file))
            name = path.split("/")[-1].removesuffix(".csv")
            assert tuple(rows[0]) == tables.TABLES[name].columns, path
            assert len(rows) > 1, path

    def test_committed_manifest_is_of_the_committed_files(self):
        kept = {name for name in tracked("results") if name.count("/") > 1}
        manifests = [name for name in kept if name.endswith("/manifest.json")]
        assert manifests, "no manifest is committed"
        for name in manifests:
            folder = paths.ROOT / name.removesuffix("/manifest.json")
            outputs = json.loads((paths.ROOT / name).read_text())["outputs"]
            relative = folder.relative_to(paths.ROOT).as_posix()
            listed = {f"{relative}/{output}" for output in outputs} | {name}
            if (record := folder / provenance.REDRAWN).exists():
                outputs |= json.loads(record.read_text())["figures"]
                listed.add(f"{relative}/{provenance.REDRAWN}")
            for output, digest in outputs.items():
                assert files.sha256(folder / output) == digest, output
            assert {file for file in kept if file.startswith(f"{relative}/")} == listed
