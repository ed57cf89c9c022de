"""Exported models: what a runtime computes, bit by bit and by score, and how small they are."""

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

import lib
from lib.codebook import SharedWeight
from lib.compression.onnx import audit, export_onnx, run_onnx
from lib.shared import install


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 8, 13, 27])
@pytest.mark.parametrize("scale", [False, True])
def test_weights_are_equal_and_scores_agree(network, tmp_path, k, scale):
    model, inputs = network(k, scale), torch.randn(30, 1, 5, 5)
    size = export_onnx(model, tmp_path / "it.onnx", inputs[:1])
    assert size == (tmp_path / "it.onnx").stat().st_size
    found = audit(tmp_path / "it.onnx", model, inputs)
    assert [layer["layer"] for layer in found["layers"]] == ["0", "3"]
    assert all(layer["equal"] for layer in found["layers"])
    assert all(layer["values_in_file"] == layer["values_in_model"] for layer in found["layers"])
    assert found["agreement"] == 1
    with torch.no_grad():
        torch.testing.assert_close(run_onnx(tmp_path / "it.onnx", inputs), model(inputs))


@pytest.mark.parametrize("bits", [1, 3, 4, 8])
def test_a_label_takes_its_bits(tmp_path, bits):
    model = nn.Sequential(nn.Linear(256, 512)).eval()
    shared = lib.share_weights(model, 2**bits).model
    size = export_onnx(shared, tmp_path / "it.onnx", torch.randn(1, 256))
    labels = 256 * 512 * bits // 8
    assert labels < size < labels + 8000
    planes = [t for t in onnx.load(tmp_path / "it.onnx").graph.initializer if ":plane" in t.name]
    assert sum(numpy_helper.to_array(plane).nbytes for plane in planes) == labels


def test_an_audit_finds_what_is_wrong(network, tmp_path):
    model, inputs = network(5), torch.randn(30, 1, 5, 5)
    export_onnx(model, tmp_path / "it.onnx", inputs[:1])
    proto = onnx.load(tmp_path / "it.onnx")
    (centers,) = [t for t in proto.graph.initializer if t.name == "3.weight:centers"]
    wrong = numpy_helper.to_array(centers).copy()
    wrong[0] = wrong[1]
    centers.CopyFrom(numpy_helper.from_array(wrong, centers.name))
    onnx.save(proto, tmp_path / "it.onnx")
    found = audit(tmp_path / "it.onnx", model, inputs)
    assert [layer["equal"] for layer in found["layers"]] == [True, False]
    assert found["layers"][1]["values_in_file"] == 4
    assert found["largest_difference"] > 0


def test_what_cannot_be_exported(tmp_path):
    plain = nn.Sequential(nn.Linear(4, 3))
    with pytest.raises(ValueError, match="share_weights first"):
        export_onnx(plain, tmp_path / "it.onnx", torch.randn(1, 4))
    rows = lib.share_weights(plain, 2, granularity="per_channel").model
    with pytest.raises(ValueError, match="one codebook of at most 256"):
        export_onnx(rows, tmp_path / "it.onnx", torch.randn(1, 4))
    assert not list(tmp_path.iterdir())


def test_the_planes_spell_the_labels():
    labels = np.array([0, 1, 2, 3, 4, 5, 6, 7, 5], np.uint8)
    model = nn.Linear(9, 1, bias=False)
    install(model, "weight", SharedWeight(torch.from_numpy(labels)[None], 8), torch.arange(8.0))
    from lib.compression.onnx import _computed
    from lib.shared import shared_parameters

    _, constants = _computed("w", shared_parameters(model)["weight"])
    planes = {t.name: numpy_helper.to_array(t).ravel() for t in constants if ":plane" in t.name}
    assert planes["w:plane0"].tolist() == [0b10101010, 0b1]
    assert planes["w:plane2"].tolist() == [0b11110000, 0b1]
