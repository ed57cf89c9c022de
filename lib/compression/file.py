"""A compressed model as one safetensors file: codebooks, coded labels, and all other tensors.

A shared weight (`lib.share_weights`) is stored as

    <name>:centers   the used centers, in float16 where that changes none of them
    <name>:labels    uint8, packed at ceil(log2 k) bits each; or uint32, entropy-coded by one table
                     or by contexts (`lib.compression.contexts`), whichever is smallest
    <name>:counts    uint32, how often each label occurs; only with one table
    <name>:rows      uint8, packed classes of the rows; with contexts, as the next two
    <name>:columns   uint8, packed classes of the columns
    <name>:tables    uint16, frequencies of the labels in each context
    <name>:scale     the channels' factors, if there are any

and every other tensor under its own name. The header's metadata holds the version of this layout,
each weight's shape, dtype and channels, which tensors are tied, and a checksum of every tensor and
of itself. Nothing is unpickled.
"""

import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..shared import as_it_was_on_error, install_all, shared_parameters
from ..text import Columns, text_table
from .container import FileError, Writer, name_of, opened

COLUMNS: Columns = {
    "layer": str,
    "n_weights": "{:,.0f}".format,
    "n_clusters": "{:.0f}".format,
    "coding": str,
    "entropy": "{:.3f}".format,
    "bits_per_weight": "{:.3f}".format,
    "bytes_before": "{:,.0f}".format,
    "label_bytes": "{:,.0f}".format,
    "codebook_bytes": "{:,.0f}".format,
    "bytes": "{:,.0f}".format,
    "ratio": "{:.2f}".format,
}
TOTALS = ("n_weights", "bytes_before", "label_bytes", "codebook_bytes", "bytes")
REST = ("exact", "float16")


def save(model: nn.Module, path: str | os.PathLike, *, rest: str = "exact", about: str = "") -> int:
    """Write a model whose layers share weights to one small file.

    Parameters
    ----------
    model : nn.Module
        Such as `share_weights(...).model`. Not modified.
    path : path-like
        Written whole or not at all.
    rest : {"exact", "float16"}, default "exact"
        How to store the floating-point tensors that are not shared: biases, normalization.
    about : str, default ""
        Kept in the header, such as the name of the model, which the command line reads.

    Returns
    -------
    int
        Bytes of the file.

    Raises
    ------
    ValueError
        If no layer shares weights, one of them has a further parametrization, `rest` is unknown,
        or a tensor holds values that float16 cannot, too large or too near to 0.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import torch
    >>> import lib
    >>> from lib.compression import save
    >>> shared = lib.share_weights(torch.nn.Linear(256, 256), 16).model
    >>> 4 * 256 * 256 / save(shared, "network.safetensors") > 7
    True
    """
    if rest not in REST:
        raise ValueError(f"rest={rest!r} is unknown: choose from {', '.join(REST)}.")
    model = _unwrapped(model)
    shared = shared_parameters(model)
    names: dict[Any, str] = {}  # by what is kept, the name it is kept under
    with Writer(path, about) as file:
        for name, found in shared.items():
            if (first := names.setdefault(id(found.original), name)) != name:
                file.tie(name, first)
            else:
                parametrization: Any = found[0]
                file.add_shared(name, parametrization, found.original)
        for name, tensor in _others(model).items():
            if (first := names.setdefault(_identity(tensor), name)) != name:
                file.tie(name, first)
            else:
                half = rest == "float16" and tensor.is_floating_point()
                file.add(name, _half(name, tensor) if half else tensor)
        return file.finish()


def load(path: str | os.PathLike, model: nn.Module, *, shared: bool = False) -> nn.Module:
    """Load a file of `save` into a model of the same architecture, in place.

    Parameters
    ----------
    path : path-like
    model : nn.Module
        With the names, shapes and dtypes of the saved model. Tensors on the meta device get
        memory on the processor. On an error it is left as it was.
    shared : bool, default False
        Whether the layers go on computing from codebook and labels, and can be trained so;
        otherwise they get plain weights. Either way the weights equal the saved ones bit by bit.

    Returns
    -------
    nn.Module
        The model.

    Raises
    ------
    FileError
        If the file is missing, damaged, of another version, or does not fit the model; before
        anything large is allocated.

    Examples
    --------
    >>> import torch
    >>> import lib
    >>> from lib.compression import load, save
    >>> shared = lib.share_weights(torch.nn.Linear(8, 4), 4).model
    >>> _ = save(shared, "network.safetensors")
    >>> again = load("network.safetensors", torch.nn.Linear(8, 4))
    >>> torch.equal(again.weight, shared.weight)
    True
    """
    inner = _unwrapped(model)
    with opened(path) as file:
        ours = inner.state_dict(keep_vars=True)
        _check_fit(file, inner, ours)
        plain = {name: file.tensor(name) for name in file.plain}
        _check_dtypes(file, plain, ours)
        codebooks = {name: file.shared_weight(name) for name in file.layers}
    written = [tensor for name, tensor in ours.items() if file.same.get(name, name) in plain]
    with as_it_was_on_error(inner, written), torch.no_grad():
        _give_memory(inner)
        ours = inner.state_dict(keep_vars=True)
        for name, tensor in ours.items():
            if (first := file.same.get(name, name)) in plain:
                tensor.copy_(plain[first])
        placed = {
            name: (weight.to(ours[name].device), centers.to(ours[name].device))
            for name, (weight, centers) in codebooks.items()
        }
        if shared:
            install_all(inner, placed)
        else:
            for name, (weight, centers) in placed.items():
                ours[name].data = weight(centers)
    return model


def _give_memory(model):
    """Give tensors on the meta device, which have no values, memory on the processor."""
    filled: dict[int, torch.Tensor] = {}  # a tied one once
    for module in model.modules():
        for table in (module._parameters, module._buffers):
            for name, tensor in table.items():
                if tensor is not None and tensor.is_meta:
                    table[name] = filled.setdefault(id(tensor), _on_processor(tensor))


def _on_processor(tensor):
    empty = torch.empty_like(tensor, device="cpu")
    is_parameter = isinstance(tensor, nn.Parameter)
    return nn.Parameter(empty, tensor.requires_grad) if is_parameter else empty


def _unwrapped(model):
    """The model that DataParallel or torch.compile has wrapped: its names have no prefix."""
    wrappers = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    while isinstance(model, wrappers) or hasattr(model, "_orig_mod"):
        model = model.module if isinstance(model, wrappers) else model._orig_mod
    return model


def describe(path: str | os.PathLike) -> list[dict[str, Any]]:
    """Sizes of what a file holds, layer by layer. Every tensor is compared with its checksum.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    list of dict
        For each clustered weight ``layer, n_weights, n_clusters, coding, entropy`` (bits a label,
        where labels are entropy-coded), ``bytes_before, label_bytes, codebook_bytes, bytes,
        bits_per_weight, ratio``; then totals of all convolutions (where there are linear layers as
        well) and of all layers; then the rest, the header and the whole file.

    Raises
    ------
    FileError

    Examples
    --------
    >>> import torch
    >>> import lib
    >>> from lib.compression import describe, save
    >>> size = save(lib.share_weights(torch.nn.Linear(8, 4), 4).model, "network.safetensors")
    >>> layer, *_, whole = describe("network.safetensors")
    >>> layer["coding"], layer["label_bytes"], whole["bytes"] == size
    ('2 bits', 8, True)
    """
    with opened(path) as file:
        layers = {name: file.row(name) for name in file.layers}
        kernels = [row for name, row in layers.items() if len(file.layers[name]["shape"]) > 2]
        rest = sum(file.tensor(name).nbytes for name in file.plain)
    every = list(layers.values())
    shared = _total("all layers", every)
    header = Path(path).stat().st_size - rest - shared["bytes"]
    others = [
        {"layer": "everything else", "bytes_before": rest, "bytes": rest},
        {"layer": "header", "bytes_before": 0, "bytes": header},
    ]
    whole = _total("the whole file", [*every, *others])
    scopes = [_total("all convolutions", kernels)] if 0 < len(kernels) < len(every) else []
    rows = [*every, *scopes, shared, *others, whole]
    for row in rows:
        if row.get("n_weights"):
            row["bits_per_weight"] = 8 * row["bytes"] / row["n_weights"]
        if row["bytes_before"]:
            row["ratio"] = row["bytes_before"] / row["bytes"]
    return rows


def _total(name, rows):
    """The size table's row of several."""
    return {"layer": name} | {key: sum(row.get(key, 0) for row in rows) for key in TOTALS}


def size_table(path: str | os.PathLike) -> str:
    """The rows of `describe` as a table of plain text.

    Examples
    --------
    >>> import torch
    >>> import lib
    >>> from lib.compression import save, size_table
    >>> _ = save(lib.share_weights(torch.nn.Linear(8, 4), 4).model, "network.safetensors")
    >>> [line.split()[0] for line in size_table("network.safetensors").splitlines()]
    ['layer', 'weight', 'all', 'everything', 'header', 'the']
    """
    return text_table(describe(path), COLUMNS)


def about(path: str | os.PathLike) -> str:
    """The text that `save` was given for a file's header.

    Examples
    --------
    >>> import torch
    >>> import lib
    >>> from lib.compression import about, save
    >>> shared = lib.share_weights(torch.nn.Linear(8, 4), 4).model
    >>> _ = save(shared, "network.safetensors", about="alexnet")
    >>> about("network.safetensors")
    'alexnet'
    """
    with opened(path) as file:
        return file.about


def _half(name, tensor):
    """The tensor in float16, whose values lie within 1/1024 of its own."""
    half = tensor.half()
    lost = (half.to(tensor.dtype) - tensor).abs() > tensor.abs() / 1024  # true where it overflows
    if lost.any():
        value = tensor[lost][0].item()
        raise ValueError(f"{name} holds {value:g}, which float16 cannot: use rest='exact'.")
    return half


def _others(model):
    """By name, the tensors of the state that do not belong to shared weights."""
    shared = {
        f"{path}.parametrizations.{attribute}.".removeprefix(".")
        for path, attribute in (name.rpartition(".")[::2] for name in shared_parameters(model))
    }
    return {
        name: tensor.detach().cpu()
        for name, tensor in model.state_dict(keep_vars=True).items()
        if not name.startswith(tuple(shared))
    }


def _identity(tensor):
    """A key that is equal for tensors in the same memory."""
    if tensor.numel() == 0:
        return id(tensor)
    return (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())


def _check_fit(file, model, ours):
    """Raise FileError unless file and model have the same names, shapes and ties."""
    has = {*file.layers, *file.plain, *file.same}
    if has != set(ours):
        raise FileError(
            f"{file.path} does not fit the model: it lacks {sorted(set(ours) - has)} "
            f"and has {sorted(has - set(ours))}, which the model lacks."
        )
    if not set(file.same.values()) <= {*file.layers, *file.plain}:
        raise FileError(f"{file.path} is damaged: it names tensors that it does not have.")
    for name, layer in file.layers.items():
        theirs, expected = _text(layer["shape"], layer["dtype"]), _text_of(ours[name])
        if theirs != expected:
            raise FileError(f"{file.path}: {name} is {theirs}, the model's {expected}.")
    for name, tensor in ours.items():
        first = file.same.get(name, name)
        if first in file.plain and (shape := file.shape(first)) != list(tensor.shape):
            raise FileError(
                f"{file.path}: {name} has shape {shape}, the model's {[*tensor.shape]}."
            )
    unknown = [name for name, tensor in model.named_buffers() if tensor.is_meta and name not in has]
    if unknown:
        raise FileError(
            f"{file.path} does not hold {unknown}, which the model has on the meta device, without "
            "values: make the model on another device."
        )
    parameters = dict(model.named_parameters(remove_duplicate=False))
    names, aliases = defaultdict(set), defaultdict(set)
    for name, value in parameters.items():
        names[id(value)].add(name)
    for other, first in file.same.items():
        aliases[first].add(other)
    for name in file.layers:
        theirs, tied = aliases[name], names[id(parameters.get(name))]
        if theirs != tied - {name}:
            raise FileError(
                f"{file.path}: {name} is tied to {sorted(theirs)}, the model's to "
                f"{sorted(tied - {name})}."
            )


def _check_dtypes(file, plain, ours):
    """Raise FileError unless other tensors have the model's dtypes, or float16."""
    for name, tensor in ours.items():
        found = plain.get(file.same.get(name, name), tensor).dtype
        half = found == torch.float16 and tensor.is_floating_point()
        if found != tensor.dtype and not half:
            found, expected = name_of(found), name_of(tensor.dtype)
            raise FileError(f"{file.path}: {name} is {found}, the model's {expected}.")


def _text_of(tensor):
    return _text(list(tensor.shape), name_of(tensor.dtype))


def _text(shape, dtype):
    return f"{dtype} {shape}"
