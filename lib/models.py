"""From a name to a model: the one resolver that every command and notebook uses."""

import importlib
import urllib.error
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

CHECKPOINTS = (".safetensors", ".pt", ".pth")


class ModelError(ValueError):
    """A name that no model can be made of; the message says what is missing."""


def resolve(name, *, arch=None, weights="DEFAULT"):
    """The model of a name, in evaluation mode.

    Parameters
    ----------
    name : str
        A name of `torchvision.models`, such as "alexnet"; "package.module:function", which is
        called without arguments; or the path of a state dict, `.safetensors` or, read with
        `weights_only`, `.pt` or `.pth`.
    arch : str, optional
        Of a state dict the architecture: a name of the other two kinds.
    weights : str or None
        Of torchvision's models which weights; None leaves them random.

    Returns
    -------
    nn.Module

    Raises
    ------
    ModelError
        If there is no such model or file, its weights cannot be downloaded or do not fit.
    """
    if name.endswith(CHECKPOINTS):
        if arch is None:
            raise ModelError(f"{name} holds weights only: say of which architecture (--arch).")
        return _with_state(resolve(arch, weights=None), name)
    if arch is not None:
        raise ModelError(f"an architecture is for files {', '.join(CHECKPOINTS)}, not {name!r}.")
    model = _called(name) if ":" in name else _from_torchvision(name, weights)
    return model.eval()


def _with_state(model, path):
    file = Path(path)
    if not file.is_file():
        raise ModelError(f"{path} is not there.")
    try:
        if path.endswith(".safetensors"):
            state = load_file(file)
        else:
            state = torch.load(file, map_location="cpu", weights_only=True)
        model.load_state_dict(state.get("state_dict", state))
    except Exception as error:  # of many kinds, none of which says which file
        raise ModelError(f"{path} does not fit the architecture: {error}") from error
    return model.eval()


def _called(name):
    module, _, function = name.partition(":")
    try:
        model = getattr(importlib.import_module(module), function)()
    except (ImportError, AttributeError) as error:
        raise ModelError(f"{name} cannot be called: {error}") from error
    if not isinstance(model, nn.Module):
        raise ModelError(f"{name} returned a {type(model).__name__}, not a torch.nn.Module.")
    return model


def _from_torchvision(name, weights):
    from .vision import torchvision

    known = _torchvision_names()
    if name not in known:
        raise ModelError(
            f"unknown model {name!r}: give 'package.module:function', a file with --arch, "
            f"or one of torchvision's: {', '.join(known)}."
        )
    if weights is None:
        return torchvision.models.get_model(name, weights=None)
    found = torchvision_weights(name, weights)
    try:
        return torchvision.models.get_model(name, weights=found)
    except (urllib.error.URLError, OSError) as error:
        raise ModelError(
            f"the weights of {name} cannot be downloaded ({error}): get {found.url}, of the "
            f"project torchvision, and put it into {Path(torch.hub.get_dir(), 'checkpoints')}."
        ) from error


def torchvision_weights(name, weights="DEFAULT"):
    """Torchvision's record of a model's weights: preprocessing, categories, published accuracy.

    None for models that are not torchvision's.

    Raises
    ------
    ModelError
        If the model has no weights of that name.
    """
    if name not in _torchvision_names():
        return None
    from .vision import torchvision

    kind = torchvision.models.get_model_weights(name)
    try:
        return kind[weights]
    except KeyError:
        choices = ", ".join(w.name for w in kind)
        raise ModelError(f"{name} has no weights {weights!r}: choose from {choices}.") from None


def _torchvision_names():
    from .vision import torchvision

    return torchvision.models.list_models(module=torchvision.models)
