"""A checkpoint compressed without its model: tensor by tensor, by the weights alone."""

import os
from collections.abc import Callable

import numpy as np
import torch

from ..clustering import Prepared, cluster
from ..codebook import SharedWeight
from ..streaming import DTYPES, tensors_of
from .container import Writer
from .entropy import entropy_constrained_cells
from .retraining import half_centers


def compress_checkpoint(
    path: str | os.PathLike,
    out: str | os.PathLike,
    bits: float,
    *,
    init: str | None = None,
    at_least: int = 2,
    about: str = "",
    progress: Callable = iter,
) -> int:
    """Compress the tensors of a safetensors file, one after another, into one file of `save`.

    No inputs are needed, and no model: every floating-point tensor of enough dimensions gets the
    centers and labels with the least squared error at so many bits, all others are kept exactly.
    `load` reads the file into a model with the checkpoint's names. Only one tensor is in memory at
    a time, with what clustering it needs.

    Parameters
    ----------
    path : path-like
        Of safetensors; ``~`` is the home folder.
    out : path-like
        Written whole or not at all.
    bits : float
        Of a label, above 0 and at most 16: by entropy-constrained cells, or with `init` packed.
    init : str, optional
        A name in `lib.INITIALIZATIONS`: plain k-means of ``2 ** bits`` centers.
    at_least : int, default 2
        Dimensions of the tensors that are compressed.
    about : str, default ""
        Kept in the header, such as the name of the model.
    progress : callable, default iter
        Wraps the names, to show progress: `tqdm`, for example.

    Returns
    -------
    int
        Bytes of the file.

    Raises
    ------
    ValueError
        If the file is not in the safetensors format, has no tensor to compress or one that cannot
        be, which is named; or `bits` is not in range, or not whole beside `init`.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import torch
    >>> from safetensors.torch import save_file
    >>> from lib.compression import compress_checkpoint, load
    >>> layer = torch.nn.Linear(64, 64)
    >>> save_file(layer.state_dict(), "layer.safetensors")
    >>> compress_checkpoint("layer.safetensors", "small.safetensors", 3) < 64 * 64
    True
    >>> len(load("small.safetensors", torch.nn.Linear(64, 64)).weight.unique()) < 64
    True
    """
    if not 0 < bits <= 16 or (init is not None and bits != int(bits)):
        wanted = "a whole number from 1 to 16" if init is not None else "above 0, at most 16"
        raise ValueError(f"bits={bits} must be {wanted}.")
    path = os.path.expanduser(path)
    tensors = tensors_of(path)
    chosen = {name for name, tensor in tensors.items() if tensor.is_weight(at_least)}
    chosen -= {name for name in chosen if 0 in tensors[name].shape}
    if not chosen:
        raise ValueError(f"{path} has no floating-point tensor of {at_least} dimensions or more.")
    if unknown := [name for name, tensor in tensors.items() if tensor.dtype not in DTYPES]:
        raise ValueError(f"{path}: {unknown[0]} has dtype {tensors[unknown[0]].dtype}, not known.")
    with Writer(os.path.expanduser(out), about) as file:
        for name in progress(tensors):
            weights = tensors[name].read(path)
            if name not in chosen:
                file.add(name, weights)
                continue
            try:
                labels, centers = _codebook(weights, bits, init)
            except (TypeError, ValueError) as error:
                raise type(error)(f"tensor {name!r}: {error}") from error
            file.add_shared(name, SharedWeight(labels, len(centers)), centers.to(weights.dtype))
        return file.finish()


def _codebook(weights, bits, init):
    """Labels of the weights' shape, and the centers."""
    if init is not None:
        found = cluster(weights, 2 ** int(bits), init=init)
        return found.labels, found.centers
    prepared = Prepared(weights)
    cells = entropy_constrained_cells(prepared, bits)
    labels = torch.as_tensor(np.asarray(cells.labels(prepared)).astype(np.int32))
    try:
        centers = half_centers(cells)
    except ValueError:  # beyond float16: the file has them in the weights' dtype
        centers = cells.centers
    return labels.view(weights.shape), torch.from_numpy(np.asarray(centers))
