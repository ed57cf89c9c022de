"""Core ML packages: weights bit by bit as coremltools reads them back, and how small they are."""

import pytest
import torch
from torch import nn

import lib
from lib.compression import coreml, export_coreml

NUMBERS = [13, *(pytest.param(k, marks=pytest.mark.slow) for k in (1, 2, 5, 20, 70))]


@pytest.mark.parametrize("k", NUMBERS)
@pytest.mark.parametrize("scale", [False, True])
def test_weights_are_equal_bit_by_bit(network, tmp_path, k, scale):
    model = network(k, scale)
    size = export_coreml(model, tmp_path / "it.mlpackage", torch.randn(1, 1, 5, 5))
    files = [path for path in (tmp_path / "it.mlpackage").rglob("*") if path.is_file()]
    assert size == sum(path.stat().st_size for path in files)
    found = coreml.audit_coreml(tmp_path / "it.mlpackage", model)
    assert [layer["layer"] for layer in found] == ["0", "3"]
    assert all(layer["equal"] for layer in found)
    assert all(layer["values_in_file"] == layer["values_in_model"] for layer in found)


@pytest.mark.parametrize("bits", [4, *(pytest.param(b, marks=pytest.mark.slow) for b in (1, 8))])
def test_a_label_takes_its_bits(tmp_path, bits):
    shared = lib.share_weights(nn.Sequential(nn.Linear(256, 512)).eval(), 2**bits).model
    size = export_coreml(shared, tmp_path / "it.mlpackage", torch.randn(1, 256))
    labels = 256 * 512 * bits // 8
    assert labels < size < labels + 12_000
    assert size == export_coreml(shared, tmp_path / "it.mlpackage", torch.randn(1, 256))


def test_a_layer_that_is_used_twice_is_found(tmp_path):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(8, 8)

        def forward(self, inputs):
            return self.layer(self.layer(inputs).relu())

    shared = lib.share_weights(Twice().eval(), 4).model
    export_coreml(shared, tmp_path / "it.mlpackage", torch.randn(1, 8))
    (layer,) = coreml.audit_coreml(tmp_path / "it.mlpackage", shared)
    assert layer["equal"]


def test_an_audit_finds_what_is_wrong(network, tmp_path):
    model = network(5)
    export_coreml(model, tmp_path / "it.mlpackage", torch.randn(1, 1, 5, 5))
    with torch.no_grad():
        model[3].parametrizations.weight.original[0] += 1
    found = coreml.audit_coreml(tmp_path / "it.mlpackage", model)
    assert [layer["equal"] for layer in found] == [True, False]


def test_what_cannot_be_exported(network, tmp_path):
    plain = nn.Sequential(nn.Linear(4, 3))
    with pytest.raises(ValueError, match="share_weights first"):
        export_coreml(plain, tmp_path / "it.mlpackage", torch.randn(1, 4))
    rows = lib.share_weights(plain, 2, granularity="per_channel").model
    with pytest.raises(ValueError, match="one codebook of at most 256"):
        export_coreml(rows, tmp_path / "it.mlpackage", torch.randn(1, 4))
    with pytest.raises(ValueError, match=r"ends in \.mlpackage"):
        export_coreml(network(2), tmp_path / "it.onnx", torch.randn(1, 1, 5, 5))
    assert not list(tmp_path.iterdir())
