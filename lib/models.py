"""From a name to a model: the one resolver that every command and notebook uses."""

import os
import pkgutil
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from . import checkpoints

CHECKPOINTS = checkpoints.SUFFIXES
TIMM = "timm:"


class ModelError(ValueError):
    """A name that no model can be made of; the message says what is missing."""


def resolve(name: str, *, arch: str | None = None, weights: str | None = "DEFAULT") -> nn.Module:
    """The model of a name, in evaluation mode.

    Parameters
    ----------
    name : str
        A name of `torchvision.models`, such as "alexnet"; "timm:NAME", if timm is installed;
        "package.module:function", which is called without arguments; or the path of a checkpoint,
        a file of weights, with one of the suffixes of `CHECKPOINTS`.
    arch : str, optional
        The architecture of a checkpoint: a name of the other three kinds.
    weights : str or None, default "DEFAULT"
        Which of torchvision's weights; None leaves its models, and timm's, random.

    Returns
    -------
    nn.Module

    Raises
    ------
    ModelError
        If there is no such model or file, its weights cannot be downloaded or do not fit.

    Examples
    --------
    >>> resolve("torch.nn:Identity")
    Identity()
    >>> resolve("squeezenet1_1", weights=None).num_classes
    1000
    """
    if name.lower().endswith(CHECKPOINTS):
        if arch is None:
            raise ModelError(f"{name} holds weights only: say of which architecture (--arch).")
        model = resolve(arch, weights=None)
        try:
            return checkpoints.load_checkpoint(name, model).eval()
        except checkpoints.CheckpointError as error:
            raise ModelError(str(error)) from error
    if arch is not None:
        raise ModelError(f"an architecture is for files {', '.join(CHECKPOINTS)}, not {name!r}.")
    if name.startswith(TIMM):
        model = _from_timm(name.removeprefix(TIMM), pretrained=weights is not None)
    else:
        model = _called(name) if ":" in name else _from_torchvision(name, weights)
    return model.eval()


def function_of(name: str) -> Callable[..., Any]:
    """The function of a name "package.module:function".

    Raises
    ------
    ModelError
        If it is no such name, or there is no such module or function.

    Examples
    --------
    >>> function_of("math:sqrt")(9)
    3.0
    """
    try:
        return pkgutil.resolve_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ModelError(
            f"{name} cannot be called: {error}. Modules are looked for in the working folder, "
            f"{os.getcwd()}, in PYTHONPATH and among the installed packages."
        ) from error


def _called(name):
    model = function_of(name)()
    if not isinstance(model, nn.Module):
        raise ModelError(f"{name} returned a {type(model).__name__}, not a torch.nn.Module.")
    return model


def _from_timm(name, pretrained):
    try:
        import timm
    except ModuleNotFoundError as error:
        raise ModelError(f"{TIMM}{name} needs timm: pip install timm") from error
    try:
        return timm.create_model(name, pretrained=pretrained)
    except (OSError, RuntimeError, ValueError) as error:
        raise ModelError(f"timm cannot make {name!r}: {error}") from error


def _from_torchvision(name, weights):
    from .vision import torchvision

    known = _torchvision_names()
    if name not in known:
        raise ModelError(
            f"unknown model {name!r}: give 'package.module:function', '{TIMM}NAME', a file with "
            f"--arch, or one of torchvision's: {', '.join(known)}."
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


def torchvision_weights(name: str, weights: str = "DEFAULT") -> Any:
    """Torchvision's record of a model's weights: preprocessing, categories, published accuracy.

    None for models that are not torchvision's.

    Raises
    ------
    ModelError
        If the model has no weights of that name.

    Examples
    --------
    >>> torchvision_weights("resnet18").meta["categories"][574]
    'golf ball'
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
