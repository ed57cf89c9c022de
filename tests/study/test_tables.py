"""Tables, atomic writes, the manifest and the comparison with the committed rows."""

import json
import os
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest

from lib import files
from lib.study import paths, provenance, tables
from lib.study.tables import comparison

COMMITTED = paths.ROOT / "results"


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Make an empty repository."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.delenv("RESULTS", raising=False)
    return tmp_path


def density(n_rows=3):
    """Make a small table of kind density."""
    weight = np.linspace(-1, 1, n_rows)
    return pd.DataFrame({"layer": "conv_1", "weight": weight, "density": weight**2 / 3})


def accuracy(**changed):
    """Make a table of kind accuracy with two rows, converged and not."""
    row = dict.fromkeys(tables.TABLES["accuracy"].columns, 1) | {
        "network": "learned",
        "scope": "conv",
        "init": "linear",
        "gamma": None,
        "revise": False,
        "top1": 88.5,
        "inertia": 2.0,
    }
    return pd.DataFrame([row | {"max_iter": 20}, row | {"max_iter": None} | changed])


# ---------------------------------------------------------------------------- writes


def test_a_write_makes_its_folder_and_leaves_no_other_file(tmp_path):
    path = tmp_path / "a/b/file.txt"
    files.write_atomically(path, "first")
    files.write_atomically(path, b"second")
    assert path.read_text() == "second"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file_and_no_half_one(tmp_path, monkeypatch, failing):
    path = tmp_path / "file.txt"
    files.write_atomically(path, "old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, failing, full)
    with pytest.raises(OSError, match=r"cannot write .*file\.txt: No space left on device"):
        files.write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "folder").write_text("a file, so that even root cannot write into it")
    with pytest.raises(OSError, match=r"cannot write .*folder/table\.csv: "):
        files.write_atomically(tmp_path / "folder/table.csv", "")


def test_the_root_of_results_can_be_moved(root, monkeypatch):
    assert paths.results_folder("smoke") == root / "results/smoke"
    monkeypatch.setenv("RESULTS", "/elsewhere")
    assert str(paths.results_folder("smoke")) == "/elsewhere/smoke"


# ---------------------------------------------------------------------------- tables


def test_a_table_is_written_three_times_and_read_back(root):
    frame = density()
    path = tables.write_table(frame[["density", "layer", "weight"]], "smoke", "density")
    assert path.read_text().splitlines()[:2] == [
        "layer,weight,density",
        "conv_1,-1,0.3333333333",
    ]
    pd.testing.assert_frame_equal(
        tables.read_table("smoke", "density"), frame, check_dtype=False, atol=1e-9
    )
    assert path.with_suffix(".md").read_text().startswith("| layer | weight | density |\n| ---")
    latex = path.with_suffix(".tex").read_text()
    assert r"conv\_1 & -1 & 0.3333333333 \\" in latex
    assert r"\toprule" in latex


def test_a_long_table_is_written_as_csv_only(root):
    path = tables.write_table(density(200), "smoke", "density")
    assert path.with_suffix(".md").exists()
    tables.write_table(density(201), "smoke", "density")
    assert [file.name for file in path.parent.iterdir()] == ["density.csv"]


def test_truth_values_and_missing_ones(root):
    path = tables.write_table(accuracy(revise=True), "smoke", "accuracy")
    first, second = (line.split(",") for line in path.read_text().splitlines()[1:])
    assert first[3:8] == ["", "False", "1", "1", "20"]
    assert second[3:8] == ["", "True", "1", "1", ""]
    assert tables.read_table("smoke", "accuracy")["revise"].tolist() == [False, True]


@pytest.mark.parametrize(
    ("frame", "name", "message"),
    [
        (density().drop(columns="weight"), "density", r"missing columns \['weight'\]"),
        (density().assign(extra=1), "density", r"unexpected columns \['extra'\]"),
        (density(), "densities", "unknown table 'densities'; the tables are claims"),
    ],
)
def test_columns_are_enforced(root, frame, name, message):
    with pytest.raises(ValueError, match=message):
        tables.write_table(frame, "smoke", name)
    assert not (root / "results").exists()


def test_a_missing_table_tells_the_command_that_makes_it(root):
    with pytest.raises(FileNotFoundError, match="make reproduce EXPERIMENT=smoke"):
        tables.read_table("smoke", "density")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"keys": "layer height"}, r"table 'made_up' has no columns \['height'\]"),
        ({"tolerances": {"width": None}}, r"table 'made_up' has no columns \['width'\]"),
        ({"meanings": {"layer depth": tables.SHARED}}, r"no meaning is known of \['depth'\]"),
    ],
)
def test_a_record_of_unknown_columns_is_refused(changed, message):
    record = {
        "row": "one layer",
        "caption": "Made up.",
        "meanings": {"layer": tables.SHARED, "spread": "of its weights"},
        "keys": "layer",
        "tolerances": {"spread": (0, 0.1)},
    }
    with pytest.raises(ValueError, match=message):
        tables.Table("made_up", **record | changed)


@pytest.mark.parametrize("experiment", comparison.COMMITTED)
def test_committed_tables_are_written_to_the_same_bytes(root, experiment):
    folder = COMMITTED / experiment / "tables"
    assert {path.stem for path in folder.glob("*.csv")} <= tables.TABLES.keys()
    shutil.copytree(folder, root / "results" / experiment / "tables")
    for name in tables.tables_of(experiment):
        path = tables.write_table(tables.read_table(experiment, name), experiment, name)
        for written in path.parent.glob(f"{name}.*"):
            assert written.read_bytes() == (folder / written.name).read_bytes(), written.name


def test_numbers_for_readers():
    shown = [tables.number(v) for v in (None, float("nan"), True, "a|b", 3.0, 12345, 0.123456)]
    assert shown == ["", "", "True", "a|b", "3", "12,345", "0.1235"]


def test_latex_has_numbers_to_the_right_and_its_characters_escaped():
    frame = pd.DataFrame({"a_b": ["50 %"], "x": [1.23456789], "sure": [True], "γ": [None]})
    lines = tables.latex(*tables.for_readers(frame)).splitlines()
    assert lines[0] == r"\begin{tabular}{lrll}"
    assert lines[2] == r"a\_b & x & sure & $\gamma$ \\"
    assert lines[4] == r"50 \% & 1.235 & True &  \\"


# ------------------------------------------------------------------------ comparison


def test_what_must_agree_is_compared_within_tolerances(root, capsys):
    tables.write_table(density(), comparison.REFERENCE, "density")
    tables.write_table(density().assign(density=[1 / 3, 0.2, 1 / 3]), "smoke", "density")
    (found,) = comparison.compare_tables("smoke").to_dict("records")
    assert [found[key] for key in ("shared", "must_agree", "agree", "may_vary")] == [3, 3, 2, 0]
    out = capsys.readouterr().out
    assert "2 of 3 rows that must agree do (weight within 1e-06 + 0.001 of it, density" in out
    assert "differs: layer=conv_1: density 0.2, committed 0" in out
    assert out.splitlines()[-1] == "not reproduced: 1 rows of density differ"
    tables.write_table(density(), "smoke", "density")
    comparison.compare_tables("smoke")
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "reproduced: 3 rows that must agree do, 0 vary within their limits"


def test_accuracies_vary_within_their_intervals(root, capsys):
    given = {"low": 85.0, "high": 90.0}
    tables.write_table(accuracy().assign(**given), comparison.REFERENCE, "accuracy")
    for low, within in ((89.9, 2), (90.1, 0)):
        ours = accuracy().assign(low=low, high=95.0)
        tables.write_table(ours, "smoke", "accuracy")
        (found,) = comparison.compare_tables("smoke").to_dict("records")
        assert [found[key] for key in ("must_agree", "may_vary", "within")] == [0, 2, within]
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == "not reproduced: 2 rows of accuracy vary too far"


def test_of_ruined_networks_nothing_is_said(root, capsys):
    ruined = {"low": 29.0, "high": 31.0, "top1_drop": 60.0}
    tables.write_table(accuracy().assign(**ruined), comparison.REFERENCE, "accuracy")
    for top1_drop, may_vary in ((51.0, 0), (49.0, 2)):
        ours = accuracy().assign(low=35.0, high=37.0, top1_drop=top1_drop)
        tables.write_table(ours, "smoke", "accuracy")
        (found,) = comparison.compare_tables("smoke").to_dict("records")
        assert [found[key] for key in ("may_vary", "within")] == [may_vary, 0]
    tables.write_table(accuracy().assign(low=35.0, high=37.0, top1_drop=60.0), "smoke", "accuracy")
    comparison.compare_tables("smoke")
    assert capsys.readouterr().out.splitlines()[-1].startswith("nothing to reproduce")


def iterations(**by_layer):
    """Make a table of kind speed with one row a layer."""
    row = dict.fromkeys(tables.TABLES["speed"].columns, 1)
    row |= {"engine": "textbook", "init": "linear", "revise": False, "converged": True}
    row |= {"gamma": None, "max_iter": None}
    return pd.DataFrame(
        [row | {"layer": name.replace("_", "/"), "n_iter": n} for name, n in by_layer.items()]
    )


# By hand, fc6: the logarithms of 50, 100, 100, 100, 200 have sd ln 2 / sqrt 2; Student's t of 4
# degrees of freedom is 2.776 at 97.5 %; so 100 times or over exp(2.776 x 0.490 x sqrt 1.2) = 4.44.
@pytest.mark.parametrize(("n_iter", "within"), [(23, 1), (444, 1), (22, 0), (445, 0)])
@pytest.mark.parametrize("network", ["", "n1_"])
def test_iterations_vary_within_what_the_committed_networks_predict(
    root, capsys, n_iter, within, network
):
    networks = {"fc6": 50, "n1_fc6": 100, "n2_fc6": 100, "n3_fc6": 100, "n4_fc6": 200}
    reference = iterations(conv1=30, fc7=3, **networks)
    tables.write_table(reference, comparison.REFERENCE, "speed")
    # fc7 is committed of one network only: nothing is said of it.
    ours = iterations(conv1=30, fc7=99, **{f"{network}fc6": n_iter})
    tables.write_table(ours, "smoke", "speed")
    comparison.compare_tables("smoke")
    line = "reproduced: 1 rows that must agree do, 1 vary within their limits"
    if not within:
        line = "not reproduced: 1 rows of speed vary too far"
    assert capsys.readouterr().out.splitlines()[-1] == line


def test_more_predictions_have_wider_limits(root, capsys):
    networks = {"fc6": 50, "n1_fc6": 100, "n2_fc6": 100, "n3_fc6": 100, "n4_fc6": 200}
    tables.write_table(iterations(**networks), comparison.REFERENCE, "speed")
    # Of two, t is 3.495 at 98.75 %: 100 times exp(3.495 x 0.490 x sqrt 1.2) = 6.53.
    for n_iter, wrong in ((653, 1), (654, 2)):  # none at all is too few
        tables.write_table(iterations(fc6=n_iter, n1_fc6=0), "smoke", "speed")
        comparison.compare_tables("smoke")
        line = f"not reproduced: {wrong} rows of speed vary too far"
        assert capsys.readouterr().out.splitlines()[-1] == line


def claim(name, scope, measured, network="normal-0", **changed):
    row = {"claim": name, "scope": scope, "network": network, "baseline": "random", "paper": 5}
    row |= {"measured": measured, "relative": 2, "verdict": "supported"}
    return row | {"low": measured - 2, "high": measured + 2} | changed


@pytest.mark.parametrize(("changed", "line"), [
    ({}, "reproduced: 1 rows that must agree do, 2 vary within their limits"),
    ({"counted": 40.2}, "not reproduced: 1 rows of claims differ"),
    ({"timed": 10}, "reproduced: 1 rows that must agree do, 2 vary within their limits"),
    ({"whole": 31}, "reproduced: 1 rows that must agree do, 2 vary within their limits"),
    ({"whole": 35}, "not reproduced: 1 rows of claims vary too far"),
    ({"gain": 8}, "not reproduced: 1 rows of claims vary too far"),
])  # fmt: skip
def test_counted_claims_agree_and_those_of_networks_vary_within_theirs(root, capsys, changed, line):
    def table(counted=40, timed=40, whole=12, gain=3):
        return [
            claim("C1, counted", "conv", counted),
            claim("C1, timed", "conv", timed),
            claim("C1, counted", "all", whole),
            claim("C2", "conv", gain),
        ]

    others = [claim("C1, counted", "all", 30, "normal-1")]
    tables.write_table(pd.DataFrame(table() + others), comparison.REFERENCE, "claims")
    tables.write_table(pd.DataFrame(table(**changed)), "smoke", "claims")
    comparison.compare_tables("smoke")
    assert capsys.readouterr().out.splitlines()[-1] == line


# Five committed networks, 40 at the mean, sd 10: at 97.5 % and 4 degrees of freedom another one is
# within 2.776 x 10 x sqrt 1.2 = 30.4.
@pytest.mark.parametrize(("measured", "within"), [(70.4, 1), (9.6, 1), (70.5, 0), (9.5, 0)])
def test_counts_of_one_network_vary_within_what_the_committed_predict(root, measured, within):
    gains = [40 - 10 * 2**0.5, 40, 40, 40, 40 + 10 * 2**0.5]
    rows = [claim("C1, counted", "all", x, f"n{i}", verdict="") for i, x in enumerate(gains)]
    together = claim("C1, counted", "all", 40, "together")
    # Seconds are not judged, and are no further prediction.
    rows += [row | {"claim": "C1, timed"} for row in rows]
    tables.write_table(pd.DataFrame([*rows, together]), comparison.REFERENCE, "claims")
    ours = [claim("C1, counted", "all", measured, "n0", verdict=""), together]
    ours.append(claim("C1, timed", "all", 0, "n0", verdict=""))
    tables.write_table(pd.DataFrame(ours), "smoke", "claims")
    (found,) = comparison.compare_tables("smoke").to_dict("records")
    assert (found["may_vary"], found["within"]) == (2, 1 + within)


def test_rows_of_one_side_are_counted(root):
    tables.write_table(accuracy(max_iter=100), comparison.REFERENCE, "accuracy")
    tables.write_table(pd.concat([accuracy(), accuracy(seed=7)]), "smoke", "accuracy")
    (found,) = comparison.compare_tables("smoke").to_dict("records")
    assert [found[key] for key in ("shared", "only_here", "only_there")] == [1, 3, 1]


def test_repeated_keys_are_compared_in_their_order(root, capsys):
    tables.write_table(density(), comparison.REFERENCE, "density")
    tables.write_table(density().assign(weight=[-1, 0.5, 1]), "smoke", "density")
    (found,) = comparison.compare_tables("smoke").to_dict("records")
    assert (found["shared"], found["agree"]) == (3, 2)


def test_rows_of_which_nothing_is_compared_reproduce_nothing(root, capsys):
    row = dict.fromkeys(tables.TABLES["ratios"].columns, 1)
    for name in ("smoke", comparison.REFERENCE):
        tables.write_table(pd.DataFrame([row | {"repeat": i} for i in range(3)]), name, "ratios")
    (found,) = comparison.compare_tables("smoke").to_dict("records")
    assert (found["shared"], found["must_agree"], found["may_vary"]) == (3, 0, 0)
    assert "nothing to reproduce" in capsys.readouterr().out


def test_rows_of_a_classifier_trained_otherwise_are_not_compared(root, capsys):
    layers = pd.DataFrame({"layer": ["conv1", "fc6"], "weight": 0.0, "density": 1.0})
    for name, given in (("smoke", {"epochs": 1}), (comparison.REFERENCE, {"n_test": 10_000})):
        tables.write_table(layers, name, "density")
        tables.write_table(accuracy(), name, "accuracy")
        provenance.write_manifest(name, {}, {"01-train": given})
    found = comparison.compare_tables("smoke").set_index("table")["shared"]
    assert found.to_dict() == {"density": 1, "accuracy": 0}
    assert "trained otherwise" in capsys.readouterr().out


def test_the_reference_itself_is_compared_with_its_last_commit(root):
    def git(*arguments):
        identity = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        subprocess.run(("git", *identity, *arguments), cwd=root, check=True, capture_output=True)

    tables.write_table(accuracy(), comparison.REFERENCE, "accuracy")
    assert comparison.compare_tables(comparison.REFERENCE).empty
    git("init", ".")
    git("add", ".")
    git("commit", "-m", "results")
    ours = accuracy().assign(low=[1, 2], high=[1, 3])
    tables.write_table(ours, comparison.REFERENCE, "accuracy")
    assert comparison.compare_tables(comparison.REFERENCE)["within"].tolist() == [1]
    assert provenance.provenance()["code"]["clean"] is True
    (root / "new.py").write_text("")
    assert provenance.provenance()["code"]["clean"] is False


# -------------------------------------------------------------------------- manifest


def test_the_manifest_names_inputs_and_outputs_without_the_machine(root, monkeypatch):
    monkeypatch.setenv("RESULTS", str(root / "moved"))
    for name in ("requirements.txt", "lib/a.py", "lib/__pycache__/a.py", "data/x.bin", "data/.y"):
        files.write_atomically(root / name, name)
    outputs = {"tables/density.csv": "1234"}
    records = {"01-first": {"seconds": 1.5, "outputs": outputs}}
    written = provenance.write_manifest("smoke", records, {"01-first": {"seed": 0}})
    text = (root / "moved/smoke/manifest.json").read_text()
    assert json.loads(text) == written
    assert str(root) not in text
    assert list(written["inputs"]) == ["data/x.bin", "lib/a.py", "requirements.txt"]
    assert written["inputs"]["lib/a.py"] == files.sha256(root / "lib/a.py")
    assert (written["outputs"], written["seconds"]) == (outputs, {"01-first": 1.5})
    assert written["hardware"]["cores"] >= 1
    assert written["packages"]["numpy"] == np.__version__
    assert written["code"] == {"commit": None, "clean": None}
