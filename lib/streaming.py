"""Cluster the tensors of a file that may be larger than memory."""

import json
import math
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from .clustering import Clustering, check_n_clusters, cluster

FLOATS = {  # by safetensors' names, the dtypes that can be clustered
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}
DTYPES = FLOATS | {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "U16": torch.uint16,
    "U32": torch.uint32,
    "U64": torch.uint64,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}


class Stored(NamedTuple):
    """A tensor in a safetensors file.

    Attributes
    ----------
    dtype : str
        safetensors' name of it.
    shape : list of int
    start : int
        Its first byte in the file.
    """

    dtype: str
    shape: list[int]
    start: int

    def is_weight(self, at_least: int = 2) -> bool:
        """Whether it has floating-point values and so many dimensions."""
        return self.dtype in FLOATS and len(self.shape) >= at_least

    def read(self, path: str | os.PathLike) -> torch.Tensor:
        """The tensor, mapped from its file; not writable."""
        dtype = DTYPES[self.dtype]
        size = dtype.itemsize * math.prod(self.shape)
        if size == 0:
            return torch.empty(self.shape, dtype=dtype)
        data = np.memmap(path, np.uint8, "r", self.start, size)
        if self.start % dtype.itemsize:
            data = data.copy()  # of a file that is not aligned
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            return torch.from_numpy(data).view(dtype).view(self.shape)


def cluster_file(
    path: str | os.PathLike,
    n_clusters: int,
    *,
    names: Sequence[str] | None = None,
    at_least: int = 2,
    progress: Callable = iter,
    **options: Any,
) -> Iterator[tuple[str, Clustering]]:
    """Cluster the tensors of a safetensors file, one after another.

    Only one tensor is worked on at a time, its weights mapped from the file. Its labels, the memory
    that clustering needs and the previous result together take less than twice the largest tensor,
    if the caller keeps no other results.

    Parameters
    ----------
    path : path-like
    n_clusters : int
        Number of centers of each tensor.
    names : sequence of str, optional
        By default every floating-point tensor of at least `at_least` dimensions.
    at_least : int, default 2
    progress : callable, default iter
        Wraps the names, to show progress: `tqdm`, for example.
    **options
        Passed to `cluster`.

    Yields
    ------
    tuple of (str, Clustering)

    Raises
    ------
    ValueError
        If the file is not in the safetensors format, lacks a name, or a tensor cannot be clustered;
        the message has the tensor's name.

    Examples
    --------
    >>> import torch
    >>> from safetensors.torch import save_file
    >>> from lib.streaming import cluster_file
    >>> save_file({"fc.weight": torch.eye(4), "fc.bias": torch.ones(4)}, "network.safetensors")
    >>> [(name, found.counts.tolist()) for name, found in cluster_file("network.safetensors", 2)]
    [('fc.weight', [12, 4])]
    """
    check_n_clusters(n_clusters)
    tensors = tensors_of(path)
    if names is None:
        names = [name for name, tensor in tensors.items() if tensor.is_weight(at_least)]
    if unknown := [name for name in names if name not in tensors]:
        raise ValueError(f"{path} lacks the tensors {unknown}; it has {list(tensors)}.")
    for name in progress(names):
        try:
            weights = _weights(path, tensors[name])
            yield name, cluster(weights, n_clusters, **options)
        except (TypeError, ValueError) as error:
            raise type(error)(f"tensor {name!r}: {error}") from error


def tensors_of(path: str | os.PathLike) -> dict[str, Stored]:
    """The tensors of a safetensors file by name; none is read.

    Raises
    ------
    ValueError
        If the file is not in the safetensors format.
    """
    try:
        with safe_open(Path(path), "numpy"):  # "pt" would reserve memory for the whole file
            pass  # opening checks the header
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} cannot be read as safetensors: {error}") from error
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        entries = json.loads(file.read(size))
    entries.pop("__metadata__", None)
    return {
        name: Stored(entry["dtype"], entry["shape"], 8 + size + entry["data_offsets"][0])
        for name, entry in entries.items()
    }


def _weights(path, tensor):
    if tensor.dtype not in FLOATS:
        raise TypeError(f"weights have dtype {tensor.dtype}, must be one of {', '.join(FLOATS)}.")
    return tensor.read(path)
