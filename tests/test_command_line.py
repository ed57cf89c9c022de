"""Commands on files of models: compress, inspect, evaluate, export."""

import pytest
import torch
from torch import nn

from lib import __main__ as command_line
from lib.compression import load


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
    assert "bytes" in out


def test_a_file_does_not_choose_what_code_runs(path, capsys):
    status, _, err = run(capsys, "evaluate", path)
    assert status == 1
    assert f"say so, if you trust it: --arch {NAME}" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inspect", "missing.safetensors"], "missing.safetensors"),
        (["compress", "nothing", "--out", "it"], "unknown model 'nothing'"),
        (["compress", NAME, "--bits", "17", "--out", "it"], "n_clusters=131072"),
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
