"""Weights as matrices, and what they are multiplied by: of any call, group by group.

A weight becomes an array of shape (groups, rows, columns): a row computes one output channel, and
its columns multiply one input each. Of an embedding, a row is a word.
"""

import itertools
import math
from collections.abc import Sequence

import torch
from torch.nn import functional

from .calls import Call


def to_matrix(weight: torch.Tensor, call: Call) -> torch.Tensor:
    """A weight, or labels of its shape, as (groups, rows, columns)."""
    if not call.is_transposed:
        return weight.reshape(call.groups, len(weight) // call.groups, -1)
    # As a convolution: output channels first, kernels the other way round.
    parts = weight.reshape(call.groups, -1, *weight.shape[1:])
    parts = parts.flip(tuple(range(3, parts.dim()))).transpose(1, 2)
    return parts.reshape(call.groups, weight.shape[1], -1)


def from_matrix(matrix: torch.Tensor, shape: Sequence[int], call: Call) -> torch.Tensor:
    """The weight of a shape that `to_matrix` made this matrix of; contiguous."""
    if not call.is_transposed:
        return matrix.reshape(shape).contiguous()
    parts = matrix.reshape(call.groups, shape[1], shape[0] // call.groups, *shape[2:])
    parts = parts.transpose(1, 2).flip(tuple(range(3, parts.dim())))
    return parts.reshape(shape).contiguous()


def inputs_of(call: Call, at_most: float, generator: torch.Generator | None = None) -> torch.Tensor:
    """Inputs that the rows of a call's weight are multiplied by.

    Parameters
    ----------
    call : Call
        Not of an embedding.
    at_most : int
        Inputs; of more, as many are drawn with replacement. Neighbors of a convolution are much
        alike.
    generator : torch.Generator, optional

    Returns
    -------
    float32 tensor of shape (groups, n, columns), on the CPU
    """
    inputs = call.input.detach()
    if not call.is_convolution:
        inputs = inputs.reshape(-1, inputs.shape[-1])
        return _drawn(inputs, at_most, generator).float().cpu()[None]
    if inputs.dim() == call.spatial + 1:
        inputs = inputs[None]
    windows = _windows(inputs, call)
    counts = [windows.shape[0], *windows.shape[2 : 2 + call.spatial]]
    places = torch.arange(math.prod(counts))
    if len(places) > at_most:
        places = torch.randint(len(places), (int(at_most),), generator=generator)
    image, *position = (place.to(inputs.device) for place in torch.unravel_index(places, counts))
    found = windows[(image, slice(None), *position)].float().cpu()  # (n, channels, *kernel)
    found = found.reshape(len(found), call.groups, -1)
    return found.transpose(0, 1).contiguous()


def _drawn(inputs, at_most, generator):
    if len(inputs) <= at_most:
        return inputs
    places = torch.randint(len(inputs), (at_most,), generator=generator)
    return inputs[places.to(inputs.device)]


def _windows(inputs, call):
    """A view of shape (n, channels, *positions, *kernel)."""
    weight, given = call.arguments["weight"], call.arguments
    kernel, n = weight.shape[2:], call.spatial
    dilation = _each(given.get("dilation", 1), n)
    stride = _each(given.get("stride", 1), n)
    padding = given.get("padding", 0)
    if isinstance(padding, str):
        spare = [
            d * (k - 1) if padding == "same" else 0 for d, k in zip(dilation, kernel, strict=True)
        ]
        pads = [(s // 2, s - s // 2) for s in spare]
    else:
        pads = [(p, p) for p in _each(padding, n)]
    if call.is_transposed:
        more = _each(given.get("output_padding", 0), n)
        inputs = _spread(inputs, stride)
        spare = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        pads = [(s - a, s - b + m) for s, (a, b), m in zip(spare, pads, more, strict=True)]
        stride = (1,) * n
    windows = functional.pad(inputs, list(itertools.chain(*reversed(pads))))
    for axis in range(n):
        size = dilation[axis] * (kernel[axis] - 1) + 1
        windows = windows.unfold(2 + axis, size, stride[axis])[..., :: dilation[axis]]
    return windows


def _spread(inputs, stride):
    """Zeros between the inputs, as a transposed convolution of this stride sees them."""
    shape = [(size - 1) * step + 1 for size, step in zip(inputs.shape[2:], stride, strict=True)]
    found = inputs.new_zeros(*inputs.shape[:2], *shape)
    found[(..., *(slice(None, None, step) for step in stride))] = inputs
    return found


def _each(value, n):
    """A number of every spatial axis."""
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * n if len(values) == 1 else values
