"""A compressed model as one safetensors file: codebooks, coded labels, and all other tensors.

A shared weight (`lib.share_weights`) is stored as

    <name>:centers   the used centers, in float16 where that changes none of them
    <name>:labels    uint8, packed at ceil(log2 k) bits each; or uint32, entropy-coded
    <name>:counts    uint32, how often each label occurs; only with entropy-coded labels
    <name>:scale     the channels' factors, if there are any

and every other tensor under its own name. The header's metadata holds the version of this layout,
each weight's shape, dtype and channels, which tensors are tied, and a checksum of every tensor and
of itself. Nothing is unpickled.
"""

import contextlib
import hashlib
import json
import math
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import nn

from ..codebook import Channels, SharedWeight
from ..files import write_atomically
from ..shared import as_it_was_on_error, install_all, shared_parameters
from ..text import Columns, text_table
from .coding import Code, decode, encode, entropy, n_bits

FORMAT, VERSION = "kmeans-weight-sharing", 1
DTYPES = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
}
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
PARTS = ("centers", "labels", "counts", "scale")
WRONG = (SafetensorError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
REST = ("exact", "float16")


class FileError(ValueError):
    """A file that is not a compressed model, is damaged, or does not fit the model.

    Examples
    --------
    >>> import torch
    >>> from lib.compression import load
    >>> load("missing.safetensors", torch.nn.Linear(2, 2))
    Traceback (most recent call last):
        ...
    lib.compression.file.FileError: cannot read missing.safetensors: No such file or directory
    """


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
    tensors: dict[str, torch.Tensor] = {}
    layers: dict[str, dict] = {}
    same: dict[str, str] = {}
    names: dict[Any, str] = {}  # by what is kept, the name it is kept under
    for name, found in shared.items():
        if (first := names.setdefault(id(found.original), name)) != name:
            same[name] = first
            continue
        parts, layers[name] = _coded(found)
        tensors |= {f"{name}:{part}": tensor for part, tensor in parts.items()}
    for name, tensor in _others(model).items():
        if (first := names.setdefault(_identity(tensor), name)) != name:
            same[name] = first
            continue
        half = rest == "float16" and tensor.is_floating_point()
        tensors[name] = (_half(name, tensor) if half else tensor).contiguous()
    content = {
        "about": about,
        "layers": layers,
        "same": same,
        "checksums": {name: _checksum(name, tensor) for name, tensor in tensors.items()},
    }
    text = json.dumps(content, separators=(",", ":"), sort_keys=True)
    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "content": text,
        "checksum": _digest(text.encode()),
    }
    data = to_bytes(tensors, metadata)
    write_atomically(path, data)
    return len(data)


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
    with _opened(path) as file:
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
    filled = {}
    for module in model.modules():
        for table in (module._parameters, module._buffers):
            for name, tensor in table.items():
                if tensor is not None and tensor.is_meta:
                    if id(tensor) not in filled:
                        empty = torch.empty_like(tensor, device="cpu")
                        is_parameter = isinstance(tensor, nn.Parameter)
                        wanted = tensor.requires_grad
                        filled[id(tensor)] = (
                            nn.Parameter(empty, requires_grad=wanted) if is_parameter else empty
                        )
                    table[name] = filled[id(tensor)]


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
    with _opened(path) as file:
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
    with _opened(path) as file:
        return file.about


# ------------------------------------------------------------------------------- writing


def _coded(found):
    """Tensors of one shared weight, and its entry in the header."""
    shared, centers = found[0], found.original.detach().cpu()
    labels, channels = shared.labels.cpu(), shared.channels
    flat = labels.numpy().reshape(-1)
    kinds = {torch.uint8: np.uint8, torch.int16: np.uint16, torch.int32: np.uint16}
    flat = flat.astype(kinds[labels.dtype], copy=False)
    used = np.flatnonzero(np.bincount(flat, minlength=shared.n_clusters))
    if len(used) < shared.n_clusters:
        place = np.zeros(shared.n_clusters, flat.dtype)
        place[used] = np.arange(len(used))
        flat = place[flat]
    code = encode(flat, len(used))
    parts = {
        "centers": _smallest(centers[..., torch.from_numpy(used)]),
        "labels": torch.from_numpy(code.data),
    }
    if code.counts is not None:
        parts["counts"] = torch.from_numpy(code.counts)
    if shared.scale is not None:
        parts["scale"] = _smallest(shared.scale.cpu())
    layer = {"shape": list(labels.shape), "dtype": _name_of(centers.dtype)}
    if channels is not None:
        layer["channels"] = [channels.axis, channels.size]
    if shared.fixed is not None and shared.fixed in used:
        layer["fixed"] = int(np.searchsorted(used, shared.fixed))
    return parts, layer


def _smallest(tensor):
    """The tensor in float16 if that changes no value."""
    half = tensor.half()
    return (half if torch.equal(half.to(tensor.dtype), tensor) else tensor).contiguous()


def _half(name, tensor):
    """The tensor in float16, whose values lie within 1/1024 of its own."""
    half = tensor.half()
    lost = (half.to(tensor.dtype) - tensor).abs() > tensor.abs() / 1024  # false where not finite
    if lost.any() or (half.isinf() & tensor.isfinite()).any():
        value = tensor[lost | (half.isinf() & tensor.isfinite())][0].item()
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


def _digest(data):
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def _checksum(name, tensor):
    """Checksum of a tensor's name, dtype, shape and bytes."""
    kind = json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode()
    return _digest(kind + tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes())


# ------------------------------------------------------------------------------- reading


@contextlib.contextmanager
def _opened(path):
    """A `_File` whose header has been checked; every fault of the file is a `FileError`."""
    try:
        with safe_open(path, "pt") as file:
            yield _File(path, file)
    except FileError:
        raise
    except OSError as error:
        reason = error.strerror or str(error).removesuffix(f": {path}")
        raise FileError(f"cannot read {path}: {reason}") from error
    except WRONG as error:
        raise FileError(f"{path} is not a whole compressed model: {error}") from error


class _File:
    """An open file: its header, checked, and its tensors, checked when they are read."""

    def __init__(self, path, file):
        self.path, self.file = path, file
        metadata = file.metadata() or {}
        if metadata.get("format") != FORMAT:
            raise FileError(f"{path} is a safetensors file, but not of a compressed model.")
        if metadata.get("version") != str(VERSION):
            raise FileError(
                f"{path} is of version {metadata.get('version')} of the format; "
                f"this program reads version {VERSION}."
            )
        if _digest(metadata["content"].encode()) != metadata.get("checksum"):
            raise FileError(f"{path} is damaged: its header fails its checksum.")
        content = json.loads(metadata["content"])
        self.about, self.layers, self.same = content["about"], content["layers"], content["same"]
        self.checksums = content["checksums"]
        if set(file.keys()) != set(self.checksums):
            odd = sorted(set(file.keys()) ^ set(self.checksums))
            raise FileError(f"{path} is damaged: it has or lacks {', '.join(odd)}.")
        parts = {f"{name}:{part}" for name in self.layers for part in PARTS}
        self.plain = [name for name in self.checksums if name not in parts]
        for name, layer in self.layers.items():
            _check_layer(path, name, layer)

    def tensor(self, name):
        """One tensor, compared with its checksum."""
        found = self.file.get_tensor(name)
        if _checksum(name, found) != self.checksums[name]:
            raise FileError(f"{self.path} is damaged: {name} fails its checksum.")
        return found

    def shape(self, name):
        """Shape of a tensor, which is not read."""
        return self.file.get_slice(name).get_shape()

    def parts(self, name):
        """The tensors of one weight."""
        return {
            part: self.tensor(f"{name}:{part}")
            for part in PARTS
            if f"{name}:{part}" in self.checksums
        }

    def shared_weight(self, name):
        """The parametrization of one weight, and its centers."""
        layer, parts = self.layers[name], self.parts(name)
        shape, dtype = layer["shape"], DTYPES[layer["dtype"]]
        channels = Channels(*layer["channels"]) if "channels" in layer else None
        centers, scale = parts["centers"].to(dtype), parts.get("scale")
        books = () if channels is None else (channels.n_groups(shape),)
        if centers.shape[:-1] != books or centers.shape[-1:] == (0,):
            raise FileError(f"{self.path}: {name} has centers of shape {list(centers.shape)}.")
        counts = parts["counts"].numpy() if "counts" in parts else None
        code = Code(parts["labels"].numpy(), counts)
        try:
            labels = decode(code, math.prod(shape), centers.shape[-1])
        except ValueError as error:
            raise FileError(f"{self.path}: {name}: {error}") from error
        if labels.dtype == np.uint16:
            labels = labels.astype(np.int32)
        scale = scale if scale is None else scale.to(dtype)
        labels = torch.from_numpy(labels).view(shape)
        if scale is not None and torch.broadcast_shapes(scale.shape, shape) != torch.Size(shape):
            raise FileError(f"{self.path}: {name} has a scale of shape {list(scale.shape)}.")
        fixed = layer.get("fixed")
        return SharedWeight(labels, centers.shape[-1], channels, scale, fixed), centers

    def row(self, name):
        """The size table's row of one weight."""
        layer, parts = self.layers[name], self.parts(name)
        n_weights, k = math.prod(layer["shape"]), parts["centers"].shape[-1]
        bytes_ = {part: tensor.nbytes for part, tensor in parts.items()}
        counts = parts["counts"].numpy() if "counts" in parts else None
        labels = bytes_["labels"] + bytes_.get("counts", 0)
        return {
            "layer": name.removesuffix(".weight"),
            "n_weights": n_weights,
            "n_clusters": k,
            "coding": f"{n_bits(k)} bits" if counts is None else "entropy",
            "entropy": None if counts is None else entropy(counts),
            "bytes_before": n_weights * DTYPES[layer["dtype"]].itemsize,
            "label_bytes": labels,
            "codebook_bytes": sum(bytes_.values()) - labels,
            "bytes": sum(bytes_.values()),
        }


def _check_layer(path, name, layer):
    """Raise FileError for an entry of the header that `save` cannot have written."""
    shape, channels = layer["shape"], layer.get("channels")
    sound = (
        isinstance(shape, list)
        and all(type(size) is int and 0 < size < 1 << 40 for size in shape)
        and math.prod(shape) < 1 << 40
        and layer["dtype"] in DTYPES
        and (channels is None or _is_channels(channels, shape))
        and type(layer.get("fixed", 0)) is int
    )
    if not sound:
        raise FileError(f"{path}: the header's entry for {name} is impossible: {layer}.")


def _is_channels(found, shape):
    """Whether an entry is an axis of the shape and a number of channels."""
    return (
        isinstance(found, list)
        and len(found) == 2
        and all(type(number) is int for number in found)
        and found[0] in (0, 1)
        and found[0] < len(shape)
        and found[1] > 0
    )


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
            found, expected = _name_of(found), _name_of(tensor.dtype)
            raise FileError(f"{file.path}: {name} is {found}, the model's {expected}.")


def _text_of(tensor):
    return _text(list(tensor.shape), _name_of(tensor.dtype))


def _text(shape, dtype):
    return f"{dtype} {shape}"


def _name_of(dtype):
    return str(dtype).removeprefix("torch.")
