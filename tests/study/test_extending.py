"""What CONTRIBUTING says of adding an initialization and a table: one edit, and all of it works."""

import re

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import lib
from lib import initialization
from lib.study import explore, figures, paths, provenance, tables
from lib.study.experiment.evaluation import settings
from lib.study.publish import blocks, paper, readme, report
from lib.study.tables import comparison, records

CONTRIBUTING = (paths.ROOT / "CONTRIBUTING.md").read_text()


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Make an empty repository."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.delenv("RESULTS", raising=False)
    return tmp_path


def written_in_contributing(section, module):
    """What the code of a section of CONTRIBUTING defines when it stands in a module."""
    code = re.search(rf"^## {section}\n.*?```python\n(.*?)```", CONTRIBUTING, re.M | re.S)[1]
    defined = dict(vars(module))
    exec(code, defined)
    return defined


@pytest.fixture
def three_sigma(monkeypatch):
    """Register CONTRIBUTING's initialization."""
    defined = written_in_contributing("Add an initialization", initialization)
    (record,) = defined["INITIALIZATIONS"].values()
    monkeypatch.setitem(initialization.INITIALIZATIONS, record.name, record)
    return record


@pytest.fixture
def outliers(monkeypatch):
    """Register CONTRIBUTING's table."""
    (record,) = written_in_contributing("Add a table", records)["TABLES"].values()
    monkeypatch.setitem(tables.TABLES, record.name, record)
    return record


class TestInitialization:
    def test_it_clusters(self, three_sigma):
        weights = np.random.default_rng(0).normal(size=1000)
        found = lib.cluster(weights, 5, init="three-sigma", max_iter=0)
        mean, spread = weights.mean(), weights.std()
        expected = np.linspace(mean - 3 * spread, mean + 3 * spread, 5)
        np.testing.assert_allclose(found.initial_centers, expected.clip(weights.min()))
        assert lib.cluster(weights, 5, init="three-sigma").converged

    def test_experiments_run_it_as_its_record_says(self, three_sigma):
        grid = settings(None, [3], [None], seeds=[0, 1])
        (found,) = (setting for setting in grid if setting.init == "three-sigma")
        assert (found.revise, found.seed, found.row()["gamma"]) == (False, 0, None)

    def test_figures_draw_it_and_name_it(self, three_sigma, root):
        plt.switch_backend("agg")
        blank = dict.fromkeys(tables.TABLES["accuracy"].columns)
        shared = blank | {"network": "normal-0", "n_images": 100, "revise": False, "bits": 4}
        inits = {"linear": 70, "three-sigma": 80, "float": 90}
        rows = [
            shared | {"scope": scope, "init": init, "top1": top1, "low": top1, "high": top1}
            for scope in ("conv", "all")
            for init, top1 in inits.items()
        ]
        tables.write_table(pd.DataFrame(rows), "toy", "accuracy")
        figure = figures.plot_accuracy(tables.read_table("toy", "accuracy"), 100)
        labels = [text.get_text() for text in figure.legends[0].get_texts()]
        assert labels == ["linear", "three-sigma", "float network"]
        lines = {line.get_label(): line for line in figure.axes[0].lines}
        assert lines["three-sigma"].get_color() == three_sigma.color
        assert lines["three-sigma"].get_marker() == three_sigma.marker
        assert list(lines["three-sigma"].get_ydata()) == [80]
        plt.close(figure)

    def test_the_sliders_offer_it(self, three_sigma):
        weights = {"layer": np.random.default_rng(0).normal(size=200).astype(np.float32)}
        box = explore.Explorer(weights).controls(layer="layer", bits=1)
        (choice,) = (child for child in box.children[0].children if child.description == "init")
        assert "three-sigma" in choice.options
        choice.value = "three-sigma"


class TestTable:
    @pytest.fixture
    def experiments(self, root, outliers):
        """Write the table in two experiments that differ in one row."""
        for name, farthest in (("full", 40.0), ("smoke", 41.0)):
            rows = {"layer": ["conv1", "conv2"], "n_weights": 10, "farthest": [12.0, farthest]}
            tables.write_table(pd.DataFrame(rows), name, "outliers")
            provenance.write_manifest(name, {}, {})

    def test_it_is_written_and_read(self, root, experiments):
        folder = root / "results/full/tables"
        assert (folder / "outliers.csv").read_text().startswith("layer,n_weights,farthest\n")
        assert {path.suffix for path in folder.iterdir()} == {".csv", ".md", ".tex"}
        assert tables.read_table("full", "outliers")["farthest"].tolist() == [12, 40]
        with pytest.raises(ValueError, match=r"missing columns \['farthest'\]"):
            tables.write_table(pd.DataFrame({"layer": [], "n_weights": []}), "full", "outliers")

    def test_it_is_compared_within_its_tolerance(self, experiments, capsys):
        (found,) = comparison.compare_tables("smoke").to_dict("records")
        assert (found["table"], found["must_agree"], found["agree"]) == ("outliers", 2, 1)
        assert "layer=conv2: farthest 41, committed 40" in capsys.readouterr().out

    def test_report_and_papers_show_it(self, experiments, outliers):
        page = report.write_report("full").read_text()
        assert 'id="table-outliers"' in page
        assert outliers.caption in page
        ((name, printed),) = paper.every_table("full")
        assert (name, len(printed)) == ("outliers", 2)

    def test_pages_explain_and_show_it(self, experiments, outliers):
        (meaning,) = filter(None, outliers.meanings.values())
        assert f"| `farthest` | {meaning} |" in blocks.BLOCKS["columns"]()
        page = readme.update("<!-- full/outliers -->\n<!-- /full/outliers -->")
        assert "| conv2 | 10 | 40 |" in page
        assert outliers.caption in page
