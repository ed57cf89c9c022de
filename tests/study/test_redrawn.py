"""Figures drawn again, and their record, of a run of one table."""

import json

import matplotlib.pyplot as plt
import pytest

from lib import files
from lib.study import figures, paths, provenance, tables
from lib.study.publish import redrawn
from lib.study.tables import comparison


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run that drew one figure from a committed table."""
    plt.switch_backend("agg")
    frame = tables.read_table("bench", "training")
    monkeypatch.setenv("RESULTS", str(tmp_path))
    tables.write_table(frame, "toy", "training")
    folder = paths.results_folder("toy")
    figures.save_figure(figures.plot_training(frame), "toy", "training")
    names = ["tables/training.csv", "figures/training.png", "figures/training.pdf"]
    outputs = {name: files.sha256(folder / name) for name in names}
    provenance.write_manifest("toy", {"01-train": {"seconds": 1.0, "outputs": outputs}}, {})
    return folder


def test_a_figure_that_is_drawn_alike_is_the_runs(run):
    assert redrawn.redraw("toy") == []
    assert json.loads((run / provenance.REDRAWN).read_text())["figures"] == {}


def test_a_figure_that_is_drawn_otherwise_has_a_record_of_its_own(run):
    manifest = (run / "manifest.json").read_text()
    was = json.loads(manifest)["outputs"]
    frame = tables.read_table("toy", "training")
    with figures.look(3.0, {}):  # as other code would have drawn it
        figures.save_figure(figures.plot_training(frame), "toy", "training")
    other = {name: files.sha256(run / name) for name in was if name.startswith("figures/")}
    text = manifest
    for name, digest in other.items():
        text = text.replace(was[name], digest)
    (run / "manifest.json").write_text(text)
    assert set(redrawn.redraw("toy")) == set(other)
    record = json.loads((run / provenance.REDRAWN).read_text())
    assert record["figures"] == {name: was[name] for name in other}
    assert record["tables"] == {"tables/training.csv": was["tables/training.csv"]}
    assert record["code"].keys() == {"commit", "clean"}
    assert (run / "manifest.json").read_text() == text  # which runs alone write
    provenance.write_manifest("toy", {}, {})
    assert not (run / provenance.REDRAWN).exists()


def test_only_figures_of_the_run_are_drawn(run):
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["outputs"] = {"tables/training.csv": manifest["outputs"]["tables/training.csv"]}
    (run / "manifest.json").write_text(json.dumps(manifest))
    (run / "figures/training.png").unlink()
    assert redrawn.redraw("toy") == []
    assert not (run / "figures/training.png").exists()


def test_committed_records_are_of_committed_tables():
    for experiment in comparison.COMMITTED:
        record = paths.results_folder(experiment) / provenance.REDRAWN
        if record.exists():
            for name, digest in json.loads(record.read_text())["tables"].items():
                assert files.sha256(record.parent / name) == digest
