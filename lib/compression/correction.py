"""Without retraining: a factor and a bias a channel, and what a squared error costs.

The weights with the least squared error do not give the best accuracy: rounding shrinks and shifts
what a channel computes. A few hundred images, their labels unused, tell by how much.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.functional import log_softmax, unfold
from torch.nn.utils import parametrize

from ..codebook import SharedWeight
from ..sharing import output_axis, shared_parameters


def correct(
    model: nn.Module,
    reference: nn.Module,
    batches: Iterable[torch.Tensor],
    *,
    progress: Callable = iter,
) -> nn.Module:
    """Give the channels of shared layers a factor and a bias, in place, layer by layer.

    In the order of computation, each channel of a layer is fitted by least squares to the
    reference's: its outputs, from inputs that the corrected layers before it made, get the slope
    and the mean of what the reference computes. The factor goes into the weight's `scale`, the bias
    into the layer's, if it has one (as bias correction of Nagel et al. 2019, with a slope).

    Parameters
    ----------
    model : nn.Module
        With shared convolutions and linear layers, in evaluation mode.
    reference : nn.Module
        The same before its weights were shared, in evaluation mode.
    batches : sequence of torch.Tensor
        Inputs.
    progress : callable, default iter
        Wraps the parts of the model, to show how far it is.

    Returns
    -------
    nn.Module
        The model.

    Raises
    ------
    ValueError
        If no layer shares weights, or a layer's output has no channels.

    Examples
    --------
    >>> import torch
    >>> import lib
    >>> from lib.compression import correct
    >>> model = torch.nn.Sequential(torch.nn.Linear(16, 8), torch.nn.ReLU(), torch.nn.Linear(8, 4))
    >>> shared = lib.share_weights(model, 2).model
    >>> inputs = torch.randn(256, 16)
    >>> before = (shared(inputs) - model(inputs)).square().mean()
    >>> _ = correct(shared, model, inputs.split(64))
    >>> bool((shared(inputs) - model(inputs)).square().mean() < before)
    True
    """
    ours, theirs = list(batches), list(batches)
    for stage, original in progress(_pairs(model, reference)):
        names = _in_order(stage, ours[0])
        if names == [""]:  # the layer itself: what it computes is corrected, not computed again
            ours, theirs = _apply(stage, ours), _apply(original, theirs)
            fit = _correct_layer(stage, ours, theirs)
            ours = [fit(outputs) for outputs in ours]
            continue
        for name in names:
            outputs = [_outputs(m, name, b) for m, b in ((stage, ours), (original, theirs))]
            _correct_layer(stage.get_submodule(name), *outputs)
        ours, theirs = _apply(stage, ours), _apply(original, theirs)
    return model


def _pairs(model, reference):
    """Parts of a model that shares weights, each with the reference's."""
    shared_parameters(model)  # raises where there are none
    return list(zip(_stages(model), _stages(reference), strict=True))


def _stages(model):
    """Modules that a model applies one after another, so that each computes once; or itself."""
    if isinstance(model, nn.Sequential):
        return [stage for child in model for stage in _stages(child)]
    if _is_chain(model):
        return _stages(
            nn.Sequential(model.features, model.avgpool, nn.Flatten(1), model.classifier)
        )
    return [model]


def _is_chain(model):
    """Whether it is torchvision's AlexNet or VGG; torchvision is not imported to ask."""
    names = {(kind.__module__.split(".")[0], kind.__name__) for kind in type(model).__mro__}
    return not names.isdisjoint({("torchvision", "AlexNet"), ("torchvision", "VGG")})


@torch.no_grad()
def _apply(stage, batches):
    with parametrize.cached():
        return [stage(batch) for batch in batches]


@torch.no_grad()
def _in_order(stage, batch):
    """Names of a stage's shared layers, in the order in which they compute."""
    order = []
    hooks = [
        module.register_forward_hook(lambda *_, name=name: order.append(name))
        for name, module in stage.named_modules()
        if _shared(module) is not None
    ]
    try:
        stage(batch[:1])
    finally:
        for hook in hooks:
            hook.remove()
    return list(dict.fromkeys(order))


def _shared(layer):
    """The parametrization of a layer's weight, if it shares weights."""
    found = getattr(layer, "parametrizations", {})
    if "weight" in found and isinstance(found["weight"][0], SharedWeight):
        return found["weight"][0]
    return None


@torch.no_grad()
def _correct_layer(layer, ours, theirs):
    """Fit a layer's outputs to the reference's; returns what that makes of the outputs."""
    axis = output_axis(layer)
    slope, mean, target, _ = least_squares(map(_by_channel, ours), map(_by_channel, theirs))
    # In half precision, as the file keeps it: a factor needs no more digits.
    slope = slope.half().double()
    shared = _shared(layer)
    factor = slope.float().view([-1 if i == axis else 1 for i in range(shared.labels.dim())])
    shared.scale = factor if shared.scale is None else (shared.scale * factor).half().float()
    if layer.bias is None:
        target = slope * mean
    else:
        layer.bias.copy_(target - slope * (mean - layer.bias.double()))

    def apply(outputs):
        shape = [1, -1] + [1] * (outputs.dim() - 2)
        shift = (target - slope * mean).to(outputs.dtype).view(shape)
        return torch.addcmul(shift, outputs, slope.to(outputs.dtype).view(shape))

    return apply


def least_squares(
    ours: Iterable[torch.Tensor], theirs: Iterable[torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Slope of theirs over ours by channel, both means, and our variance.

    Parameters
    ----------
    ours, theirs : iterable of float32 tensors of shape (channels, n)

    Returns
    -------
    tuple of four float64 tensors of shape (channels,)
    """
    n = 0
    sums: Any = 0.0
    origin: Any = None
    for x, y in zip(ours, theirs, strict=True):
        if origin is None:  # sums about a mean keep their digits in float32
            origin = torch.stack([x.mean(1), y.mean(1)])[..., None]
        x, y = x - origin[0], y - origin[1]
        n += x.shape[1]
        sums = sums + torch.stack([x.sum(1), y.sum(1), (x * x).sum(1), (x * y).sum(1)]).double()
    mean, target, square, product = sums / n
    variance = square - mean**2
    slope = (product - mean * target) / variance
    return (
        torch.where(variance > 1e-12 * square, slope, 1.0),
        mean + origin[0, :, 0].double(),
        target + origin[1, :, 0].double(),
        variance,
    )


@torch.no_grad()
def _outputs(model, name, batches):
    """What one layer computes from each batch."""
    with parametrize.cached():
        return [_reached(model, name, batch)[1] for batch in batches]


class _Reached(Exception):
    """The layer that was asked for has computed; the rest need not."""


def _reached(model, name, batch):
    """Input and output of one layer."""
    found = []

    def stop(layer, inputs, output):
        found.extend([inputs[0], output])
        raise _Reached

    hook = model.get_submodule(name).register_forward_hook(stop)
    try:
        model(batch)
    except _Reached:
        return found
    finally:
        hook.remove()
    raise ValueError(f"layer {name!r} computes nothing in the model's forward pass.")


def _by_channel(outputs):
    """(n, channels, ...) as (channels, everything else)."""
    if outputs.dim() < 2:
        raise ValueError(f"outputs of shape {tuple(outputs.shape)} have no channels.")
    return outputs.transpose(0, 1).flatten(1)


def input_moments(
    model: nn.Module, layers: Sequence[str], batches: Iterable[torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Mean square of the input that each weight multiplies: its share of the output's error.

    Parameters
    ----------
    model : nn.Module
        In evaluation mode.
    layers : sequence of str
        Names of Linear and Conv2d modules.
    batches : sequence of torch.Tensor

    Returns
    -------
    dict of str to float32 tensor of the weight's shape
        For `sample_weight`; equal for all output channels.

    Examples
    --------
    >>> import torch
    >>> from lib.compression import input_moments
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 1))
    >>> input_moments(model, ["0"], [torch.tensor([[1.0, 0.0], [3.0, 0.0]])])
    {'0': tensor([[5., 0.]])}
    """
    sums: dict[str, Any] = dict.fromkeys(layers, 0.0)
    counts, hooks = dict.fromkeys(layers, 0), []

    def add(name, layer, inputs):
        columns = _columns(layer, inputs[0].detach())
        sums[name] = sums[name] + columns.double().square().sum(0)
        counts[name] += len(columns)

    for name in layers:
        layer = model.get_submodule(name)
        hooks.append(
            layer.register_forward_pre_hook(lambda m, inputs, name=name: add(name, m, inputs))
        )
    try:
        with torch.no_grad():
            for batch in batches:
                model(batch)
    finally:
        for hook in hooks:
            hook.remove()
    moments = {}
    for name in layers:
        weight: Any = model.get_submodule(name).weight
        mean = (sums[name] / counts[name]).float()
        moments[name] = mean.view(1, *weight.shape[1:]).expand(weight.shape)
    return moments


def compensate(
    model: nn.Module,
    reference: nn.Module,
    batches: Iterable[torch.Tensor],
    *,
    damping: float = 0.01,
    progress: Callable = iter,
) -> nn.Module:
    """Choose the labels again so that errors of a layer's weights make up for each other, in place.

    Column by column of a layer's weight matrix, each weight gets its nearest center and the columns
    that follow take over its error, as the inputs' correlations tell (GPTQ, Frantar et al. 2023,
    algorithm 1; OBQ before it). The codebooks stay as they are.

    Parameters
    ----------
    model : nn.Module
        With shared linear layers and ungrouped 2-d convolutions, of one codebook each, without
        factors; in evaluation mode.
    reference : nn.Module
        The same with the weights before, in evaluation mode.
    batches : sequence of torch.Tensor
        Inputs.
    damping : float, default 0.01
        Added to the diagonal of the inputs' second moments, in units of its mean.
    progress : callable, default iter
        Wraps the parts of the model, to show how far it is.

    Returns
    -------
    nn.Module
        The model.

    Examples
    --------
    >>> import torch
    >>> import lib
    >>> from lib.compression import compensate
    >>> model = torch.nn.Sequential(torch.nn.Linear(64, 8))
    >>> shared = lib.share_weights(model, 4).model
    >>> inputs = torch.randn(256, 8) @ torch.randn(8, 64)  # they depend on each other
    >>> before = (shared(inputs) - model(inputs)).square().mean()
    >>> _ = compensate(shared, model, inputs.split(64))
    >>> bool((shared(inputs) - model(inputs)).square().mean() < before)
    True
    """
    inputs = list(batches)
    for stage, original in progress(_pairs(model, reference)):
        for name in _in_order(stage, inputs[0]):
            layer, shared = stage.get_submodule(name), _shared(stage.get_submodule(name))
            if shared.scale is not None or shared.channels is not None:
                raise ValueError(
                    f"{name or 'layer'}: compensate before correct, with one codebook."
                )
            moments: Any = 0.0
            with torch.no_grad(), parametrize.cached():
                for batch in inputs:
                    columns = _columns(layer, _reached(stage, name, batch)[0])
                    moments = moments + columns.T @ columns
            weight = original.get_submodule(name).weight.detach().flatten(1)
            centers = layer.parametrizations.weight.original.detach()
            labels = compensated_labels(weight, moments, centers, damping)
            shared.labels.copy_(labels.view_as(shared.labels))
        inputs = _apply(stage, inputs)
    return model


@torch.no_grad()
def compensated_labels(
    weight: torch.Tensor,
    moments: torch.Tensor,
    centers: torch.Tensor,
    damping: float = 0.01,
    block: int = 128,
) -> torch.Tensor:
    """Labels of a weight matrix that make the error of its outputs small.

    Parameters
    ----------
    weight : float tensor of shape (out, in)
    moments : float tensor of shape (in, in)
        Sum of products of the inputs.
    centers : float tensor of shape (k,)
        Ascending.
    damping : float, default 0.01
    block : int, default 128
        Columns whose errors are handed on together.

    Returns
    -------
    int32 tensor of shape (out, in)
    """
    weight, moments = weight.clone(), moments.clone()
    dead = moments.diagonal() == 0  # inputs that never occur
    moments.diagonal()[dead] = 1.0
    moments.diagonal().add_(damping * moments.diagonal().mean())
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(moments))
    upper = torch.linalg.cholesky(inverse, upper=True)
    middles = (centers[1:] + centers[:-1]) / 2
    labels = torch.empty(weight.shape, dtype=torch.int32)
    for start in range(0, weight.shape[1], block):
        stop = min(start + block, weight.shape[1])
        part, factors = weight[:, start:stop].clone(), upper[start:stop, start:stop]
        errors = torch.empty_like(part)
        for j in range(stop - start):
            labels[:, start + j] = found = torch.bucketize(part[:, j].contiguous(), middles)
            errors[:, j] = (part[:, j] - centers[found]) / factors[j, j]
            part[:, j:] -= torch.outer(errors[:, j], factors[j, j:])
        weight[:, stop:] -= errors @ upper[start:stop, stop:]
    return labels


def _columns(layer, inputs):
    """Inputs of a layer, one row for each that its weight is applied to; (rows, in)."""
    if isinstance(layer, nn.Linear):
        return inputs.flatten(0, -2)
    if not isinstance(layer, nn.Conv2d) or layer.groups != 1 or isinstance(layer.padding, str):
        raise ValueError(f"{type(layer).__name__} is not supported: Linear and ungrouped Conv2d.")
    patches = unfold(inputs, layer.kernel_size, layer.dilation, layer.padding, layer.stride)
    return patches.transpose(1, 2).flatten(0, 1)


def fisher(
    model: nn.Module,
    layers: Sequence[str],
    batches: Iterable[torch.Tensor],
    *,
    seed: int = 0,
    progress: Callable = iter,
) -> dict[str, torch.Tensor]:
    """Diagonal Fisher information: the mean squared gradient of each weight's log-likelihood.

    Classes are drawn from what the model predicts, so that labels are not needed (Kunstner, Hennig
    and Balles 2019 on why drawn ones); one image at a time, since squares of sums are not sums of
    squares.

    Parameters
    ----------
    model : nn.Module
        That returns class scores of shape (n, classes), in evaluation mode.
    layers : sequence of str
    batches : sequence of torch.Tensor
    seed : int, default 0
        Of the classes drawn.
    progress : callable, default iter
        Wraps the batches.

    Returns
    -------
    dict of str to float32 tensor of the weight's shape
        For `sample_weight`, as SqueezeLLM has it (Kim et al. 2024).

    Examples
    --------
    >>> import torch
    >>> import lib
    >>> from lib.compression import fisher
    >>> model = torch.nn.Sequential(torch.nn.Linear(16, 8), torch.nn.ReLU(), torch.nn.Linear(8, 4))
    >>> importance = fisher(model, ["0", "2"], torch.randn(20, 16).split(10))
    >>> importance["0"].shape
    torch.Size([8, 16])
    >>> shared = lib.share_weights(model, 4, sample_weight=importance)
    """
    weights: list[Any] = [model.get_submodule(name).weight for name in layers]
    before = [weight.requires_grad for weight in weights]
    sums = [torch.zeros_like(weight) for weight in weights]
    generator, n = torch.Generator().manual_seed(seed), 0
    for weight in weights:
        weight.requires_grad_(True)
    try:
        for batch in progress(batches):
            for image in batch.split(1):
                scores = log_softmax(model(image), 1)
                drawn = torch.multinomial(scores.detach().exp().cpu(), 1, generator=generator)
                gradients = torch.autograd.grad(scores[0, int(drawn)], weights)
                for total, gradient in zip(sums, gradients, strict=True):
                    total.addcmul_(gradient, gradient)
                n += 1
    finally:
        for weight, wanted in zip(weights, before, strict=True):
            weight.requires_grad_(wanted)
    return {name: total / n for name, total in zip(layers, sums, strict=True)}
