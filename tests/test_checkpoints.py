"""Checkpoints as trainers write them: wrappers, prefixes, suffixes; and what they must not hold."""

import argparse
import contextlib

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from lib.checkpoints import SUFFIXES, CheckpointError, load_checkpoint
from lib.models import ModelError, resolve


def small():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def trained():
    torch.manual_seed(1)
    model = small()
    with torch.no_grad():
        model(torch.randn(8, 3, 3, 3))  # moves the statistics of batch normalization
    return model


def equal(model, other):
    ours, theirs = model.state_dict(), other.state_dict()
    assert list(ours) == list(theirs)
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


def prefixed(state, prefix):
    return {prefix + name: tensor for name, tensor in state.items()}


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".pth.tar", ".PTH"])
def test_every_usual_suffix(tmp_path, suffix):
    path = str(tmp_path / f"best{suffix}")
    save = save_file if suffix == ".safetensors" else torch.save
    save(trained().state_dict(), path)
    assert equal(resolve(path, arch=f"{__name__}:small"), trained())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 7, "best_acc1": torch.tensor(71.2)},
        lambda state: {"model": state, "optimizer": {"state": {}, "param_groups": []}},
        lambda state: {"model_state_dict": state, "loss": 0.5},
        lambda state: {"model": {"state_dict": state}},
        lambda state: {"model": "resnet18", "state_dict": state},
        lambda state: {"model": "resnet18", "args": None, "net": state},
    ],
)
@pytest.mark.parametrize(
    "prefix",
    ["", "module.", "_orig_mod.", "module._orig_mod.", "model.", "model.module.", "my.net."],
)
def test_every_usual_wrapper_and_prefix(tmp_path, wrap, prefix):
    path = tmp_path / "checkpoint.pt"
    torch.save(wrap(prefixed(trained().state_dict(), prefix)), path)
    assert equal(load_checkpoint(path, small()), trained())


def test_prefixes_within_names(tmp_path):
    """As of torchvision's AlexNet whose `features` alone was trained by DataParallel."""
    model = nn.ModuleDict({"features": nn.Sequential(nn.Linear(2, 2)), "head": nn.Linear(2, 2)})
    state = model.state_dict()
    odd = {name.replace("features.", "features.module."): t for name, t in state.items()}
    odd["head._orig_mod.bias"] = odd.pop("head.bias")
    torch.save(odd, tmp_path / "a.pth")
    fresh = nn.ModuleDict({"features": nn.Sequential(nn.Linear(2, 2)), "head": nn.Linear(2, 2)})
    assert equal(load_checkpoint(tmp_path / "a.pth", fresh), model)


def test_a_model_with_a_part_called_module_keeps_its_name(tmp_path):
    model = nn.ModuleDict({"module": nn.Linear(2, 2), "model": nn.Linear(2, 2)})
    torch.save(model.state_dict(), tmp_path / "a.pt")
    fresh = nn.ModuleDict({"module": nn.Linear(2, 2), "model": nn.Linear(2, 2)})
    assert equal(load_checkpoint(tmp_path / "a.pt", fresh), model)


def test_the_counters_that_old_checkpoints_lack(tmp_path):
    state = trained().state_dict()
    del state["1.num_batches_tracked"], state._metadata
    torch.save(prefixed(state, "module."), tmp_path / "a.pt")
    loaded = load_checkpoint(tmp_path / "a.pt", small()).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())


def test_tensors_beside_the_model_are_left_out_and_said(tmp_path):
    state = prefixed(trained().state_dict(), "model.") | {"criterion.weight": torch.ones(2)}
    torch.save({"state_dict": state, "hyper_parameters": {"lr": 0.1}}, tmp_path / "last.ckpt")
    with pytest.warns(UserWarning, match=r"last\.ckpt: left out, not of the model: criterion"):
        loaded = load_checkpoint(tmp_path / "last.ckpt", small())
    assert equal(loaded, trained())


def other(state):
    return {name: tensor + 1 for name, tensor in state.items()}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda s: {"model": s, "state_dict": other(s)}, "several state dicts, state_dict, model"),
        (
            lambda s: prefixed(s, "student.") | prefixed(other(s), "teacher."),
            r"several times, under student\., teacher\.: save the ones that are meant",
        ),
        (lambda s: s | prefixed(s, "module."), r"has 0\.weight and module\.0\.weight"),
        (lambda s: {n: t for n, t in s.items() if n != "3.bias"}, r"it lacks 3\.bias\. Is it"),
        (
            lambda s: prefixed({n: t for n, t in s.items() if n != "3.bias"}, "model."),
            r"it lacks 3\.bias\. Is it",
        ),
        (lambda s: s | {"4.weight": torch.ones(1)}, r"it has 4\.weight, which the model has not"),
        (
            lambda s: s | {"3.weight": torch.ones(7, 4)},
            r"3\.weight is \[7, 4\], the model's \[2, 4\]",
        ),
        (lambda s: {"epoch": 3, "lr": 0.1}, "has 'epoch', 'lr': expected a state dict"),
        (lambda s: [s], "is a list: expected a state dict"),
        (lambda s: torch.ones(2), "is a Tensor: expected a state dict"),
        (lambda s: {}, "expected a state dict"),
        (
            lambda s: {"state_dict": s, "args": argparse.Namespace(lr=0.1)},
            r"values \(argparse\.Namespace\).*save its state dict alone",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name(tmp_path, content, message):
    torch.save(content(trained().state_dict()), tmp_path / "a.pt")
    model = small()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=rf"a\.pt.*{message}"):
        load_checkpoint(tmp_path / "a.pt", model)
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x80\x02}q\x00.", b"PK\x03\x04"])
def test_files_of_something_else(tmp_path, suffix, content):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"a\.\w+ "):
        resolve(str(path), arch=f"{__name__}:small")


def test_files_that_are_cut_off(tmp_path):
    for save, name in ((torch.save, "a.pt"), (save_file, "a.safetensors")):
        save(trained().state_dict(), tmp_path / name)
        whole = (tmp_path / name).read_bytes()
        for length in range(0, len(whole), 97):
            (tmp_path / name).write_bytes(whole[:length])
            with pytest.raises(CheckpointError, match=name):
                load_checkpoint(tmp_path / name, small())


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_files_with_changed_bytes(tmp_path):
    """What is read from them, if anything, has the names and shapes of the model."""
    random, path = np.random.default_rng(0), tmp_path / "a.pth"
    torch.save(trained().state_dict(), path, _use_new_zipfile_serialization=False)
    whole, read = path.read_bytes(), 0
    for _ in range(300):
        changed = bytearray(whole)
        for place in random.integers(0, len(whole) // 2, 3):
            changed[place] = random.integers(256)
        path.write_bytes(changed)
        with contextlib.suppress(CheckpointError):
            load_checkpoint(path, small())
            read += 1
    assert 0 < read < 300


def test_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    torch.save(trained().state_dict(), tmp_path / "a.pt")
    assert equal(resolve("~/a.pt", arch=f"{__name__}:small"), trained())
