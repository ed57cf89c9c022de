"""The container of a compressed model: a safetensors file with checksums and a header of its own.

`lib.compression.file` says what is in it. Tensors are written and read one at a time, so that a
file may be larger than memory.
"""

import contextlib
import hashlib
import json
import math
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from ..codebook import Channels, SharedWeight
from ..files import write_atomically
from ..streaming import DTYPES as STORED
from .coding import Code, decode, encode, entropy, n_bits, pack, packed_bytes, unpack
from .contexts import (
    MOST_SYMBOLS,
    N_CLASSES,
    Contexts,
    best_contexts,
    decode_in_contexts,
    encode_in_contexts,
    rows_and_columns,
    tap_of,
)

FORMAT, VERSION = "kmeans-weight-sharing", 2
READS = ("1", "2")  # version 1 had no labels in contexts
DTYPES = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
}
PARTS = ("centers", "labels", "counts", "scale", "rows", "columns", "tables")
SIDE = ("counts", "rows", "columns", "tables")  # of labels, what tells how to read them
WRONG = (SafetensorError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
NAMES = {dtype: name for name, dtype in STORED.items()}
IN_MEMORY = 1 << 28  # bytes of parts that wait in memory; more of them wait on the disk
CHUNK = 1 << 24


class FileError(ValueError):
    """A file that is not a compressed model, is damaged, or does not fit the model.

    Examples
    --------
    >>> import torch
    >>> from lib.compression import load
    >>> load("missing.safetensors", torch.nn.Linear(2, 2))
    Traceback (most recent call last):
        ...
    lib.compression.container.FileError: cannot read missing.safetensors: No such file or directory
    """


class Writer:
    """A file that is written tensor by tensor, whole or not at all.

    Parameters
    ----------
    path : path-like
    about : str, default ""
        Kept in the header.
    """

    def __init__(self, path: str | os.PathLike, about: str = ""):
        self.path, self.about = Path(path), about
        self.layers: dict[str, dict] = {}
        self.same: dict[str, str] = {}
        self._checksums: dict[str, str] = {}
        self._parts: dict[str, tuple[torch.dtype, list[int], int, int]] = {}
        self._size = 0

    def __enter__(self) -> "Writer":
        folder = self.path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._data: Any = tempfile.SpooledTemporaryFile(IN_MEMORY, dir=str(folder))
        except OSError as error:
            reason = error.strerror or error
            raise type(error)(f"cannot write {self.path}: {reason}") from error
        return self

    def __exit__(self, *error: object) -> None:
        self._data.close()

    def add(self, name: str, tensor: torch.Tensor) -> None:
        """A tensor, as it is."""
        if tensor.dtype not in NAMES:
            raise ValueError(f"{name} has dtype {name_of(tensor.dtype)}, which no file holds.")
        tensor = tensor.detach().cpu().contiguous()
        data = tensor.view(-1).view(torch.uint8).numpy()
        self._data.write(data.data)
        self._checksums[name] = checksum(name, tensor)
        self._parts[name] = tensor.dtype, list(tensor.shape), self._size, data.nbytes
        self._size += data.nbytes

    def add_shared(self, name: str, shared: SharedWeight, centers: torch.Tensor) -> None:
        """A weight with a codebook."""
        parts, self.layers[name] = _coded(shared, centers.detach().cpu())
        for part, tensor in parts.items():
            self.add(f"{name}:{part}", tensor)

    def tie(self, name: str, first: str) -> None:
        """A further name of what is stored under another."""
        self.same[name] = first

    def finish(self) -> int:
        """Write the file; return its bytes."""
        header = self._header()
        write_atomically(self.path, self._chunks(header))
        return len(header) + self._size

    def _order(self):
        """Names by falling size of an element, so that all are aligned."""
        return sorted(self._parts, key=lambda name: (-self._parts[name][0].itemsize, name))

    def _header(self):
        content = {
            "about": self.about,
            "layers": self.layers,
            "same": self.same,
            "checksums": self._checksums,
        }
        text = json.dumps(content, separators=(",", ":"), sort_keys=True)
        entries: dict[str, Any] = {
            "__metadata__": {
                "format": FORMAT,
                "version": str(VERSION),
                "content": text,
                "checksum": digest(text.encode()),
            }
        }
        start = 0
        for name in self._order():
            dtype, shape, _, size = self._parts[name]
            offsets = [start, start + size]
            entries[name] = {"dtype": NAMES[dtype], "shape": shape, "data_offsets": offsets}
            start += size
        data = json.dumps(entries, separators=(",", ":")).encode()
        data += b" " * (-len(data) % 8)
        return len(data).to_bytes(8, "little") + data

    def _chunks(self, header):
        yield header
        for name in self._order():
            *_, start, size = self._parts[name]
            self._data.seek(start)
            for begin in range(0, size, CHUNK):
                yield self._data.read(min(CHUNK, size - begin))


def _coded(shared, centers):
    """Tensors of one shared weight, and its entry in the header."""
    labels, channels = shared.labels.cpu(), shared.channels
    flat = labels.numpy().reshape(-1)
    kinds = {torch.uint8: np.uint8, torch.int16: np.uint16, torch.int32: np.uint16}
    flat = flat.astype(kinds[labels.dtype], copy=False)
    used = np.flatnonzero(np.bincount(flat, minlength=shared.n_clusters))
    if len(used) < shared.n_clusters:
        place = np.zeros(shared.n_clusters, flat.dtype)
        place[used] = np.arange(len(used))
        flat = place[flat]
    layer = {"shape": list(labels.shape), "dtype": name_of(centers.dtype)}
    parts, in_contexts = _coded_labels(flat, labels.shape, len(used))
    layer |= in_contexts
    parts["centers"] = _smallest(centers[..., torch.from_numpy(used)])
    if shared.scale is not None:
        parts["scale"] = _smallest(shared.scale.cpu())
    if channels is not None:
        layer["channels"] = [channels.axis, channels.size]
    if shared.fixed is not None and shared.fixed in used:
        layer["fixed"] = int(np.searchsorted(used, shared.fixed))
    return parts, layer


def _coded_labels(labels, shape, k):
    """The smallest code of labels: its tensors, and what the header says of its contexts."""
    code = encode(labels, k)
    if k <= MOST_SYMBOLS and code.counts is not None:  # packed ones are few, or evenly spread
        matrix, tap = labels.reshape(rows_and_columns(shape)), tap_of(shape)
        found, _ = best_contexts(matrix, tap, k)
        words = encode_in_contexts(matrix, tap, found)
        if words.nbytes + found.n_bytes < code.n_bytes:
            packed = {
                name: pack(classes, n_bits(n))
                for name, classes, n in (
                    ("rows", found.rows, found.n_rows),
                    ("columns", found.columns, found.n_columns),
                )
            }
            parts = {"labels": words, "tables": found.tables} | packed
            about = {"classes": [found.n_rows, found.n_columns], "nearby": bool(found.nearby)}
            return {name: torch.from_numpy(part) for name, part in parts.items()}, about
    parts = {"labels": code.data} | ({} if code.counts is None else {"counts": code.counts})
    return {name: torch.from_numpy(part) for name, part in parts.items()}, {}


def _smallest(tensor):
    """The tensor in float16 if that changes no value."""
    half = tensor.half()
    return (half if torch.equal(half.to(tensor.dtype), tensor) else tensor).contiguous()


def digest(data: bytes) -> str:
    """Eight bytes of BLAKE2 of data, in hexadecimal."""
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def checksum(name: str, tensor: torch.Tensor) -> str:
    """Checksum of a tensor's name, dtype, shape and bytes."""
    kind = json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode()
    return digest(kind + tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes())


@contextlib.contextmanager
def opened(path: str | os.PathLike) -> Iterator["StoredFile"]:
    """A `StoredFile` whose header has been checked; every fault of the file is a `FileError`."""
    try:
        with safe_open(path, "pt") as file:
            yield StoredFile(path, file)
    except FileError:
        raise
    except OSError as error:
        reason = error.strerror or str(error).removesuffix(f": {path}")
        raise FileError(f"cannot read {path}: {reason}") from error
    except WRONG as error:
        raise FileError(f"{path} is not a whole compressed model: {error}") from error


class StoredFile:
    """An open file: its header, checked, and its tensors, checked when they are read."""

    def __init__(self, path, file):
        self.path, self.file = path, file
        metadata = file.metadata() or {}
        if metadata.get("format") != FORMAT:
            raise FileError(f"{path} is a safetensors file, but not of a compressed model.")
        if metadata.get("version") not in READS:
            raise FileError(
                f"{path} is of version {metadata.get('version')} of the format; "
                f"this program reads versions {' and '.join(READS)}."
            )
        if digest(metadata["content"].encode()) != metadata.get("checksum"):
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

    def tensor(self, name: str) -> torch.Tensor:
        """One tensor, compared with its checksum."""
        found = self.file.get_tensor(name)
        if checksum(name, found) != self.checksums[name]:
            raise FileError(f"{self.path} is damaged: {name} fails its checksum.")
        return found

    def shape(self, name: str) -> list[int]:
        """Shape of a tensor, which is not read."""
        return self.file.get_slice(name).get_shape()

    def parts(self, name: str) -> dict[str, torch.Tensor]:
        """The tensors of one weight."""
        return {
            part: self.tensor(f"{name}:{part}")
            for part in PARTS
            if f"{name}:{part}" in self.checksums
        }

    def shared_weight(self, name: str) -> tuple[SharedWeight, torch.Tensor]:
        """The parametrization of one weight, and its centers."""
        layer, parts = self.layers[name], self.parts(name)
        shape, dtype = layer["shape"], DTYPES[layer["dtype"]]
        channels = Channels(*layer["channels"]) if "channels" in layer else None
        centers, scale = parts["centers"].to(dtype), parts.get("scale")
        books = () if channels is None else (channels.n_groups(shape),)
        if centers.shape[:-1] != books or centers.shape[-1:] == (0,):
            raise FileError(f"{self.path}: {name} has centers of shape {list(centers.shape)}.")
        try:
            labels = self._labels(layer, parts, centers.shape[-1])
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

    def _labels(self, layer, parts, k):
        shape, words = layer["shape"], parts["labels"].numpy()
        if "classes" not in layer:
            counts = parts["counts"].numpy() if "counts" in parts else None
            return decode(Code(words, counts), math.prod(shape), k)
        n_rows, n_columns = layer["classes"]
        size = rows_and_columns(shape)
        rows, columns = (
            unpack(_packed(parts, name, n, classes), n_bits(classes), n)
            for name, n, classes in zip(("rows", "columns"), size, (n_rows, n_columns), strict=True)
        )
        tables = parts["tables"].numpy()
        if tables.dtype != np.uint16 or tables.ndim != 2 or tables.shape[1] != k:
            raise ValueError(f"the tables of its contexts have shape {list(tables.shape)}.")
        if words.dtype != np.uint32 or words.ndim != 1 or k > MOST_SYMBOLS:
            raise ValueError("the labels are not a code in contexts.")
        found = Contexts(rows, columns, n_rows, n_columns, layer["nearby"], tables)
        return decode_in_contexts(words, size, tap_of(shape), found)

    def row(self, name: str) -> dict[str, Any]:
        """The size table's row of one weight."""
        layer, parts = self.layers[name], self.parts(name)
        n_weights, k = math.prod(layer["shape"]), parts["centers"].shape[-1]
        bytes_ = {part: tensor.nbytes for part, tensor in parts.items()}
        counts = parts["counts"].numpy() if "counts" in parts else None
        labels = bytes_["labels"] + sum(bytes_.get(part, 0) for part in SIDE)
        several = layer.get("classes", [1, 1]) != [1, 1] or layer.get("nearby", False)
        coding = "contexts" if several else "entropy"
        bits = 8 * bytes_["labels"] / n_weights if "classes" in layer else None
        return {
            "layer": name.removesuffix(".weight"),
            "n_weights": n_weights,
            "n_clusters": k,
            "coding": f"{n_bits(k)} bits" if counts is None and bits is None else coding,
            "entropy": bits if counts is None else entropy(counts),
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
        and ("classes" not in layer or _is_classes(layer["classes"], layer.get("nearby")))
    )
    if not sound:
        raise FileError(f"{path}: the header's entry for {name} is impossible: {layer}.")


def _is_classes(found, nearby):
    """Whether an entry is two numbers of classes, and whether neighbours count."""
    return (
        isinstance(found, list)
        and len(found) == 2
        and all(type(number) is int and 1 <= number <= N_CLASSES for number in found)
        and type(nearby) is bool
    )


def _packed(parts, name, n, n_classes):
    """Packed classes of so many rows or columns."""
    found, expected = parts[name].numpy(), packed_bytes(n, n_classes)
    if found.dtype != np.uint8 or found.shape != (expected,):
        raise ValueError(f"{found.nbytes} bytes of classes of {name}: {n} need {expected}.")
    return found


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


def name_of(dtype: torch.dtype) -> str:
    """A dtype's name, such as "float32"."""
    return str(dtype).removeprefix("torch.")
