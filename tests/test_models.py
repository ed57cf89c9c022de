"""From names to models."""

import pytest
import torch
from safetensors.torch import save_file

from lib.models import ModelError, resolve


def test_torchvision_by_name_without_weights():
    model = resolve("squeezenet1_1", weights=None)
    assert type(model).__name__ == "SqueezeNet"
    assert not model.training


def test_a_function_by_its_path():
    model = resolve("lib.study.experiment.network:alexnet")
    assert model.classifier[6].out_features == 10


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("nested", [False, True])
def test_a_state_dict_of_an_architecture(tmp_path, suffix, nested):
    state = {
        name: t.clone() for name, t in resolve("squeezenet1_1", weights=None).state_dict().items()
    }
    path = str(tmp_path / f"weights{suffix}")
    if suffix == ".pt":
        torch.save({"state_dict": state} if nested else state, path)
    else:
        save_file(state, path)
    found = resolve(path, arch="squeezenet1_1").state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())


def test_a_pickle_of_anything_else_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("evil",))

    torch.save({"state_dict": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(ModelError, match=r"evil\.pt .* holds more than tensors .*\(print\)"):
        resolve(str(tmp_path / "evil.pt"), arch="squeezenet1_1")


def test_weights_that_cannot_be_downloaded(monkeypatch):
    import urllib.error

    from lib.vision import torchvision

    def no_network(*_, **__):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(torchvision.models, "get_model", no_network)
    with pytest.raises(ModelError, match=r"get https://.*squeezenet1_1.*put it into .*checkpoints"):
        resolve("squeezenet1_1")


@pytest.mark.parametrize(
    ("name", "arch", "message"),
    [
        ("alexnett", None, "unknown model 'alexnett'.*alexnet, "),
        ("weights.safetensors", None, "say of which architecture"),
        ("missing.safetensors", "squeezenet1_1", "missing.safetensors is not there"),
        ("alexnet", "alexnet", "an architecture is for files"),
        ("nowhere.module:function", None, "cannot be called"),
        ("lib.results:nothing", None, "cannot be called"),
        ("builtins:dict", None, "returned a dict, not a torch.nn.Module"),
    ],
)
def test_names_of_nothing(name, arch, message):
    with pytest.raises(ModelError, match=message):
        resolve(name, arch=arch)


def test_unknown_weights():
    with pytest.raises(ModelError, match="no weights 'IMAGENET1K_V9': choose from IMAGENET1K_V1"):
        resolve("squeezenet1_1", weights="IMAGENET1K_V9")
