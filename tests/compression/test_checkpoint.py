"""Checkpoints compressed without a model, tensor by tensor."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import lib
from lib.compression import FileError, compress_checkpoint, describe, load, save
from lib.compression.entropy import entropy_constrained_cells


def network(dtype=torch.float32):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.Flatten(), nn.Linear(64, 80)
    ).to(dtype)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "network.safetensors"
    save_file(network().state_dict(), path)
    return path


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_k_means_of_a_checkpoint_is_that_of_its_model(tmp_path, dtype):
    model = network(dtype)
    save_file(model.state_dict(), tmp_path / "all")
    compress_checkpoint(tmp_path / "all", tmp_path / "small", 3, init="linear", about="mine")
    save(lib.share_weights(model, 8, init="linear").model, tmp_path / "model", about="mine")
    assert (tmp_path / "small").read_bytes() == (tmp_path / "model").read_bytes()


def test_entropy_constrained_cells_at_the_bits_asked_for(path, tmp_path):
    size = compress_checkpoint(path, tmp_path / "small", 2.5)
    assert size == (tmp_path / "small").stat().st_size
    layers = describe(tmp_path / "small")[:2]
    assert [layer["layer"] for layer in layers] == ["0", "3"]
    assert layers[1]["bits_per_weight"] < 3
    found, model = load(tmp_path / "small", network()), network()
    assert torch.equal(found[1].running_var, model[1].running_var)
    cells = entropy_constrained_cells(model[3].weight, 2.5)
    labels = torch.as_tensor(np.asarray(cells.labels(lib.Prepared(model[3].weight))).astype(int))
    expected = torch.from_numpy(cells.centers)[labels].view_as(found[3].weight).float()
    torch.testing.assert_close(found[3].weight, expected, rtol=2**-10, atol=1e-6)


def test_tensors_of_every_kind_are_kept(tmp_path):
    tensors = {
        "weight": torch.randn(30, 20),
        "empty": torch.empty(0, 3),
        "ids": torch.arange(7),
        "mask": torch.tensor([True, False]),
        "one": torch.tensor(3.0),
        "eighth": torch.randn(4, 4).to(torch.float8_e4m3fn),
        "bytes": torch.arange(5, dtype=torch.uint8),
    }
    save_file(tensors, tmp_path / "all")
    compress_checkpoint(tmp_path / "all", tmp_path / "small", 4)

    class Holder(nn.Module):
        def __init__(self):
            super().__init__()
            for name, value in tensors.items():
                self.register_buffer(name, torch.zeros_like(value))
            self.weight = nn.Parameter(self.weight)

    found = load(tmp_path / "small", Holder())
    for name, value in tensors.items():
        if name != "weight":
            ours, theirs = (v.reshape(-1).view(torch.uint8) for v in (getattr(found, name), value))
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("tensors", "options", "message"),
    [
        ({"bias": torch.ones(3)}, {}, "no floating-point tensor of 2 dimensions"),
        ({"w": torch.full((3, 3), torch.nan)}, {}, "tensor 'w': weights hold nan"),
        ({"w": torch.ones(3, 3)}, {"bits": 0}, "bits=0 must be above 0, at most 16"),
        ({"w": torch.ones(3, 3)}, {"bits": 17}, "bits=17 must be"),
        ({"w": torch.ones(3, 3)}, {"bits": 2.5, "init": "linear"}, "a whole number from 1 to 16"),
        ({"w": torch.ones(3, 3)}, {"bits": 2, "init": "liner"}, "'liner' is unknown"),
    ],
)
def test_what_cannot_be_compressed(tmp_path, tensors, options, message):
    save_file(tensors, tmp_path / "all")
    with pytest.raises(ValueError, match=message):
        compress_checkpoint(tmp_path / "all", tmp_path / "small", **({"bits": 4} | options))
    assert not (tmp_path / "small").exists()


def test_no_checkpoint(tmp_path):
    with pytest.raises(ValueError, match="cannot be read as safetensors"):
        compress_checkpoint(tmp_path / "nothing", tmp_path / "small", 4)
    with pytest.raises(FileError, match="cannot read"):
        load(tmp_path / "small", network())


def test_an_interrupted_run_leaves_no_file(path, tmp_path):
    def interrupted(names):
        yield from list(names)[:1]
        raise KeyboardInterrupt

    out = tmp_path / "folder" / "small"
    with pytest.raises(KeyboardInterrupt):
        compress_checkpoint(path, out, 4, progress=interrupted)
    assert list(out.parent.iterdir()) == []
