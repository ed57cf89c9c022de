"""Commands on files of models: compress, inspect, evaluate, export."""

import re

import pytest
import torch
from torch import nn

from lib import __main__ as command_line
from lib import compression
from lib.compression import export_onnx, load
from lib.study import paths, tables


def small():
    """A network of ten classes for images of 224 pixels; called by name."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 8, stride=8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 10),
    )


NAME = "tests.test_command_line:small"


def run(capsys, *arguments):
    status = command_line.main(list(arguments))
    return status, *capsys.readouterr()


@pytest.fixture
def path(tmp_path, capsys):
    path = str(tmp_path / "small.safetensors")
    status, out, _ = run(capsys, "compress", NAME, "--bits", "3", "--out", path)
    assert status == 0
    assert "the whole file" in out
    return path


def test_compressed_and_inspected(path, capsys):
    status, out, _ = run(capsys, "inspect", path)
    assert status == 0
    (row,) = [line.split() for line in out.splitlines() if line.split()[0] == "0"]
    assert row[:4] == ["0", "768", "8", "3"]
    assert len(load(path, small())[0].weight.unique()) == 8


def test_evaluated_and_exported(path, tmp_path, capsys):
    status, out, _ = run(capsys, "evaluate", path, "--arch", NAME, "--n-images", "100")
    assert status == 0
    assert "on 100 test images" in out
    target = str(tmp_path / "small.onnx")
    status, out, _ = run(capsys, "export", path, "--arch", NAME, "--out", target)
    assert status == 0
    assert "read back: the weights of 2 layers are equal bit by bit" in out


def test_an_export_with_other_weights_is_an_error(path, tmp_path, capsys, monkeypatch):
    def rescales(model, target, inputs):
        with torch.no_grad():
            model[4].parametrizations.weight.original.mul_(2)
        size = export_onnx(model, target, inputs)
        model[4].parametrizations.weight.original.data.div_(2)
        return size

    monkeypatch.setattr(compression, "export_onnx", rescales)
    target = str(tmp_path / "small.onnx")
    status, _, err = run(capsys, "export", path, "--arch", NAME, "--out", target)
    assert status == 1
    assert "small.onnx has other weights than the model in 4." in err


@pytest.mark.slow
def test_the_headline_file_is_as_accurate_as_the_frontier_says(capsys):
    """On the first images: half the width of their 95 % interval is 1.4 points."""
    path = paths.ROOT / "results/compress/headline/alexnet.safetensors"
    found = tables.read_table("compress", "frontier")
    (sizes,) = set(tables.read_table("compress", "sizes")["file"])
    (expected,) = found.loc[found["file"] == sizes, "top1"]
    architecture = "lib.study.experiment.network:alexnet"
    arguments = ("evaluate", str(path), "--arch", architecture, "--n-images", "2000")
    status, out, _ = run(capsys, *arguments)
    assert status == 0
    assert abs(float(re.search(r"top-1 ([\d.]+) %", out)[1]) - expected) < 1.4


def test_a_file_does_not_choose_what_code_runs(path, capsys):
    status, _, err = run(capsys, "evaluate", path)
    assert status == 1
    assert f"say so, if you trust it: --arch {NAME}" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inspect", "missing.safetensors"], "missing.safetensors"),
        (["compress", "nothing", "--out", "it"], "unknown model 'nothing'"),
        (["compress", NAME, "--bits", "17", "--out", "it"], "--bits 17 must be from 1 to 16"),
        (["compress", NAME, "--bits", "-1", "--out", "it"], "--bits -1 must be from 1 to 16"),
        (["compress", NAME, "--init", "nothing", "--out", "it"], "init='nothing' is unknown"),
        (["compress", NAME, "--layers", "9", "--out", "it"], "choose layers from"),
        (["compress", NAME, "--out", "/proc/nothing/it"], "cannot write"),
    ],
)
def test_errors_in_one_line(arguments, message, capsys):
    status, _, err = run(capsys, *arguments)
    assert status == 1
    assert message in err
    assert err.strip().splitlines()[-1].startswith("error: ")
