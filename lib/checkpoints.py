"""People's checkpoints: the weights in files of the usual trainers, under a model's own names.

Trainers wrap a state dict in others (``{"state_dict": ..., "epoch": 7}``) and put prefixes before
its names (``module.`` by DataParallel, ``_orig_mod.`` by `torch.compile`, ``model.`` by Lightning).
This is the one place that takes both off again.
"""

import os
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".tar")
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params")
INSERTED = ("module", "_orig_mod")  # by DataParallel and by torch.compile, before any part's name
DAMAGED = (  # what torch and safetensors raise for files that are not theirs
    OSError,
    RuntimeError,
    AssertionError,
    EOFError,
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    pickle.UnpicklingError,
    SafetensorError,
)


class CheckpointError(ValueError):
    """A file that holds no weights, or not those of the model."""


def load_checkpoint(path: str | os.PathLike[str], model: nn.Module) -> nn.Module:
    """Load a file of weights into a model of its architecture, in place.

    Parameters
    ----------
    path : path-like
        Of one of `SUFFIXES`; ``~`` is the home folder. Nothing but tensors and plain values is
        unpickled (`weights_only` of `torch.load`).
    model : nn.Module
        On an error it is left as it was.

    Returns
    -------
    nn.Module
        The model.

    Raises
    ------
    CheckpointError
        If the file is missing, unreadable, holds no state dict or several, or has other names or
        shapes than the model.

    Warns
    -----
    UserWarning
        If the file has tensors beside the model's, such as those of a loss.
    """
    path = Path(path).expanduser()
    state = fitted(read_state(path), model.state_dict(), path)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:  # states of other kinds than tensors, of any module
        raise CheckpointError(f"{path} does not fit the model: {_line(error)}") from error
    return model


def read_state(path: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """The state dict in a file, without what its trainer wrapped around it.

    Returns
    -------
    dict of str to torch.Tensor

    Raises
    ------
    CheckpointError
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path} is not there, or is no file.")
    try:
        if path.suffix.lower() == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL (\S+)", str(error))
        raise CheckpointError(
            f"{path} is no checkpoint, or holds more than tensors and plain values"
            f"{f' ({asked[1]})' if asked else ''}, which could run any code when loaded. If you "
            "trust it, load it with torch and save its state dict alone: "
            "torch.save(model.state_dict(), path)."
        ) from error
    except DAMAGED as error:
        raise CheckpointError(f"{path} cannot be read as weights: {_line(error)[:300]}") from error
    return _unwrapped(content, path)


def _unwrapped(content, path):
    while isinstance(content, Mapping):
        inside = [key for key in WRAPPERS if isinstance(content.get(key), Mapping)]
        if len(inside) > 1:
            raise CheckpointError(
                f"{path} holds several state dicts, {', '.join(inside)}: save the one that is "
                "meant alone."
            )
        if not inside:
            tensors = {k: v for k, v in content.items() if isinstance(v, torch.Tensor)}
            if tensors and all(isinstance(key, str) for key in tensors):
                return tensors
            break
        content = content[inside[0]]
    has = f"has {', '.join(map(repr, [*content][:8]))}" if isinstance(content, Mapping) else ""
    raise CheckpointError(
        f"{path} {has or f'is a {type(content).__name__}'}: expected a state dict, names to "
        f"tensors, itself or under one of {', '.join(WRAPPERS)}."
    )


def fitted(
    state: Mapping[str, torch.Tensor],
    ours: Mapping[str, torch.Tensor],
    path: str | os.PathLike[str],
) -> dict[str, torch.Tensor]:
    """A checkpoint's tensors under the names of a model.

    Parameters
    ----------
    state, ours : dict of str to torch.Tensor
        The checkpoint's and the model's.
    path : path-like
        Named in errors.

    Raises
    ------
    CheckpointError
        Naming what is missing, is too much or has another shape.

    Examples
    --------
    >>> ours = torch.nn.Linear(2, 1).state_dict()
    >>> state = {f"module.{name}": torch.ones_like(tensor) for name, tensor in ours.items()}
    >>> fitted(state, ours, "last.pth.tar")
    {'weight': tensor([[1., 1.]]), 'bias': tensor([1.])}
    """
    names = _plain_names(state, ours, path)
    prefix = _prefix(names, ours, path)
    found = {n.removeprefix(prefix): state[names[n]] for n in names if n.startswith(prefix)}
    if beside := [names[name] for name in names if not name.startswith(prefix)]:
        warnings.warn(f"{path}: left out, not of the model: {_some(beside)}.", stacklevel=4)
    missing = [name for name in _needed(ours) if name not in found]
    unknown = [name for name in found if name not in ours]
    if missing or unknown:
        reasons = [f"it lacks {_some(missing)}"] * bool(missing)
        reasons += [f"it has {_some(unknown)}, which the model has not"] * bool(unknown)
        raise CheckpointError(
            f"{path} does not fit the model: {'; '.join(reasons)}. Is it of this architecture, "
            "with as many classes?"
        )
    shapes = {name: (list(found[name].shape), list(ours[name].shape)) for name in found}
    # torch reads a number into a tensor of one element, as old checkpoints have it.
    if odd := {n: both for n, both in shapes.items() if both[0] != both[1] and both != ([], [1])}:
        told = (f"{name} is {theirs}, the model's {mine}" for name, (theirs, mine) in odd.items())
        raise CheckpointError(f"{path} does not fit the model: {_some([*told], 3)}.")
    return found


def _plain_names(state, ours, path):
    """By name without what wrappers inserted, the checkpoint's own."""
    known = {part for name in ours for part in name.split(".")}
    inserted = [part for part in INSERTED if part not in known]
    names = {}
    for name in state:
        plain = ".".join(part for part in name.split(".") if part not in inserted)
        if plain in names:
            raise CheckpointError(f"{path} has {names[plain]} and {name}: save one of them alone.")
        names[plain] = name
    return names


def _prefix(names, ours, path):
    """What stands before the model's names; where none fits, what comes nearest."""
    needed = _needed(ours)
    longest = max(needed, key=len, default="")
    before = [name.removesuffix(longest) for name in names if name.endswith(f".{longest}")]
    first = next(iter(names), "")
    starts = [first[: dot.end()] for dot in re.finditer(r"\.", first)]
    common = [start for start in starts if all(name.startswith(start) for name in names)]
    candidates = {"", *before, *common}
    fits = {c: sum(c + name in names for name in needed) for c in sorted(candidates)}
    whole = [prefix for prefix, n_fitting in fits.items() if n_fitting == len(needed)]
    if len(whole) > 1 and "" not in whole:
        raise CheckpointError(
            f"{path} has all weights of the model several times, under {', '.join(whole)}: save "
            "the ones that are meant alone."
        )
    return max(fits, key=fits.get)


def _needed(ours):
    """Names that a checkpoint must have: torch makes up the counters that old ones lack."""
    tensors = [name for name, value in ours.items() if isinstance(value, torch.Tensor)]
    return [name for name in tensors if not name.endswith("num_batches_tracked")]


def _some(names, most=5):
    names = [*names]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if names[most:] else "")


def _line(error):
    return " ".join(str(error).split())
