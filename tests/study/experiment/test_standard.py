"""The standard's coder beside the study's files; what needs it is skipped where it is missing."""

import copy

import pandas as pd
import pytest
import torch

from lib import compression
from lib.study import tables
from lib.study.experiment import readings, standard
from lib.study.experiment.frontier import Compressor
from lib.study.experiment.standard import (
    Setting,
    bytes_at_error,
    coded,
    squared_error,
    standard_files,
    standard_rows,
)

WEIGHTS = {"a": torch.randn(64, 32, generator=torch.Generator().manual_seed(0))}
INSTALLED = pytest.mark.skipif(not standard.PYTHON.exists(), reason="`make standard` installs it")


def row(scope, method, size, held_out_drop, **more):
    accuracy = {"top1": 80.0, "low": 79.0, "high": 81.0}
    accuracy |= {"top1_drop": 0.4, "drop_low": 0.1, "drop_high": 0.7}
    sizes = {"bytes": size, "ratio": 1000 / size, "bits_per_weight": 32 * size / 1000}
    kind = {"retrained": False, "pruned": False, "seconds": 1.0, "file": f"{method} {size}"}
    other = {"held_out_drop": held_out_drop, "held_out_low": 0.0, "held_out_high": 0.9}
    return {"scope": scope, "method": method} | sizes | accuracy | kind | other | more


def test_squared_error_is_relative():
    others = {"a": WEIGHTS["a"] * 1.5}
    assert squared_error(WEIGHTS, others) == pytest.approx(0.25)


def test_without_its_environment_it_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setattr(standard, "PYTHON", tmp_path / "python")
    with pytest.raises(FileNotFoundError, match="make standard"):
        coded(WEIGHTS, Setting(-20, True))


def test_a_coder_that_fails_is_an_error(monkeypatch, tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho no such coder >&2\nexit 3\n")
    python.chmod(0o755)
    monkeypatch.setattr(standard, "PYTHON", python)
    with pytest.raises(RuntimeError, match="no such coder"):
        coded(WEIGHTS, Setting(-20, True))


@INSTALLED
@pytest.mark.parametrize("trellis", [True, False])
def test_decoded_weights_are_near_and_four_more_double_the_step(trellis):
    sizes, errors = [], []
    for qp in (-24, -20):
        size, decoded = coded(WEIGHTS, Setting(qp, trellis))
        assert decoded["a"].shape == WEIGHTS["a"].shape
        sizes.append(size)
        errors.append(squared_error(WEIGHTS, decoded))
    assert 0 < sizes[1] < sizes[0] < 4 * WEIGHTS["a"].numel()
    assert errors[1] == pytest.approx(4 * errors[0], rel=0.25)


def test_cells_of_the_same_squared_error(narrow):
    compressor = Compressor(narrow, "toy-standard", 1, 5, 1, 5)
    wanted = 0.01
    size = bytes_at_error(compressor, "conv", wanted)
    assert bytes_at_error(compressor, "conv", 4 * wanted) < size
    model = compression.load(compressor.folder / "new.safetensors", copy.deepcopy(narrow))
    weights = standard.weights_of(compressor.network, "conv")
    assert squared_error(weights, standard.weights_of(model, "conv")) == pytest.approx(
        4 * wanted, rel=0.01
    )


def test_rows_are_a_table_that_joins_other_files_of_the_same_network(narrow, monkeypatch, capsys):
    monkeypatch.setattr(standard, "coded", lambda weights, setting: (4000 + setting.qp, weights))
    monkeypatch.setattr(standard, "bytes_at_error", lambda *of: 4200)
    compressor = Compressor(narrow, "toy-standard", 1, 10, 1, 10)
    assert standard_files("toy-standard", compressor, ["conv"]) == []
    assert "is not among the files: `make standard`" in capsys.readouterr().out
    rows = standard_rows(compressor, [Setting(-20, True), Setting(-24, False)], ["conv", "all"])
    tables.write_table(pd.DataFrame(rows), "toy-standard", "standard")
    found = standard_files("toy-standard", compressor, ["conv"])
    assert [row["method"] for row in found] == ["standard", "standard, no trellis"]
    assert [row["bytes"] for row in found] == [3980, 3976]
    assert {*tables.TABLES["frontier"].columns, "held_out_drop"} <= set(found[0])
    compressor.float_correct["test"] = compressor.float_correct["test"] ^ True
    assert standard_files("toy-standard", compressor, ["conv"]) == []
    assert "'toy-standard' are of another network or other images" in capsys.readouterr().out


def test_reading():
    more = {"qp": -20, "distortion": 0.01, "cells_bytes": 500}
    rows = [row("conv", "standard", 475, 0.2, **more), row("conv", "standard", 460, 0.9, **more)]
    text = readings.standard(pd.DataFrame(rows))
    assert "-8.0 to -5.0 % of bytes more" in text
    assert "2.1 times smaller" in text
