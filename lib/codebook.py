"""The parametrization of shared layers: a weight computed from a codebook and labels."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from .engine.labels import reconstruct, sum_by_label


class SharedWeight(nn.Module):
    """The parametrization: `original` holds the centers, and the weight is looked up in them.

    The centers have shape (k,), or (n_codebooks, k) if channels have codebooks of their own. The
    buffer `labels` has the weight's shape. Its dtype is uint8 for up to 256 centers, int16 for up
    to 32,768 and int32 for more. torch takes uint8 for a mask, so index by ``labels.int()``.

    Parameters
    ----------
    labels : torch.Tensor
        Of the weight's shape: indices into the codebook of their channel.
    n_clusters : int
    channels : Channels, optional
        Which output channels share a codebook. By default all do.
    scale : torch.Tensor, optional
        Factor of each channel's weights, broadcast over the weight: for a convolution of shape
        (out, 1, 1, 1). It is a buffer and is not trained.
    fixed : int, optional
        Index of a center that training does not move: the zero of pruned weights.
    """

    labels: torch.Tensor
    scale: torch.Tensor | None

    def __init__(
        self,
        labels: torch.Tensor,
        n_clusters: int,
        channels: "Channels | None" = None,
        scale: torch.Tensor | None = None,
        fixed: int | None = None,
    ) -> None:
        super().__init__()
        self.n_clusters, self.channels, self.fixed = n_clusters, channels, fixed
        wide = torch.int16 if n_clusters <= 2**15 else torch.int32
        self.register_buffer("labels", labels.to(torch.uint8 if n_clusters <= 256 else wide))
        self.register_buffer("scale", scale)

    def forward(self, centers: torch.Tensor) -> torch.Tensor:
        """The weight; a center's gradient is the sum of its weights' gradients."""
        if self.fixed is not None:
            moves = torch.arange(centers.shape[-1], device=centers.device) != self.fixed
            centers = torch.where(moves, centers, centers.detach())
        # Through float32, so that gradients of half-precision weights are summed in it.
        wide = centers.to(torch.promote_types(centers.dtype, torch.float32)).flatten()
        if self._compiled(wide):
            weight = _LookUp.apply(wide, self.labels)
        else:
            weight = wide.index_select(0, self._index()).view(self.labels.shape)
        weight = weight.to(centers.dtype)
        return weight if self.scale is None else weight * self.scale.to(weight.dtype)

    def right_inverse(self, weight: torch.Tensor) -> torch.Tensor:
        """Centers for an assigned weight: the means of each label's weights.

        Unused centers repeat the largest of their codebook.
        """
        if self.scale is not None:
            weight = weight / self.scale
        n_codebooks = 1 if self.channels is None else self.channels.n_groups(self.labels.shape)
        sums = weight.new_zeros(n_codebooks * self.n_clusters, dtype=torch.float64)
        index = self._index()
        sums.index_add_(0, index, weight.detach().flatten().double())
        counts = torch.bincount(index, minlength=len(sums))
        means = (sums / counts).view(n_codebooks, -1)
        largest = means.nan_to_num(-torch.inf).max(dim=1, keepdim=True).values
        means = torch.where(counts.view_as(means) > 0, means, largest).to(weight.dtype)
        return means[0] if self.channels is None else means

    def _compiled(self, centers):
        """Whether to use the compiled loops: on the processor, with one codebook."""
        return (
            self.channels is None
            and self.labels.device.type == centers.device.type == "cpu"
            and self.labels.is_contiguous()
            and not torch.compiler.is_compiling()
        )

    def _index(self):
        index = self.labels.int()
        if self.channels is not None:
            index = index + self.n_clusters * self.channels.group_of_each(index)
        return index.flatten()


class _LookUp(torch.autograd.Function):
    """Look up each label's center; the gradient takes one pass over the weights' gradient.

    Han, Mao and Dally (2016), section 3.3, equation 3.
    """

    @staticmethod
    def forward(ctx, centers, labels):
        ctx.save_for_backward(labels)
        ctx.n_clusters = len(centers)
        weights = reconstruct(centers.detach().numpy(), labels.flatten().numpy())
        return torch.from_numpy(weights).view(labels.shape)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        (labels,) = ctx.saved_tensors
        sums = sum_by_label(gradient.flatten().numpy(), labels.flatten().numpy(), ctx.n_clusters)
        return torch.from_numpy(sums).to(gradient.dtype), None


class Channels(NamedTuple):
    """Groups of output channels, each with a codebook of its own.

    Attributes
    ----------
    axis : int
        The weight's axis of output channels: 0, or 1 in a transposed convolution.
    size : int
        Channels in a group; the last group holds the rest.
    """

    axis: int
    size: int

    def n_groups(self, shape: Sequence[int]) -> int:
        """Number of groups in a weight of this shape."""
        return -(-shape[self.axis] // self.size)

    def group_of_each(self, labels: torch.Tensor) -> torch.Tensor:
        """Index of each channel's group, int32, shaped to be broadcast over the weight."""
        groups = torch.arange(labels.shape[self.axis], device=labels.device) // self.size
        shape = [-1 if axis == self.axis else 1 for axis in range(labels.dim())]
        return groups.int().view(shape)
