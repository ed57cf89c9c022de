"""Without retraining: a factor and a bias a channel, and what a squared error costs.

The weights with the least squared error do not give the best accuracy: rounding shrinks and shifts
what a channel computes. A few hundred inputs, their labels unused, tell by how much.

All of this works on the calls that use a weight (`lib.compression.calls`), so on any model that
`lib.compress` takes: on tokens, attentions, embeddings, and inputs that are tuples or dictionaries.
"""

import contextlib
import copy
import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.functional import log_softmax

from ..shared import as_it_was_on_error, plain_weights, shared_parameters
from .calibration import uses_of
from .calls import Uses, called, evaluating, n_inputs, part, weight_names, weights_of
from .layout import from_matrix, inputs_of, to_matrix
from .lockstep import paired, stops, walks


@torch.no_grad()
def correct(
    model: nn.Module,
    reference: nn.Module,
    batches: Iterable[Any],
    *,
    progress: Callable = iter,
) -> nn.Module:
    """Give the channels of shared layers a factor and a bias, in place, layer by layer.

    In the order of computation, each channel of a layer is fitted by least squares to the
    reference's: its outputs, from inputs that the corrected layers before it made, get the slope
    and the mean of what the reference computes. The factor goes into the weight's `scale`, the bias
    into the layer's, if it has one (as bias correction of Nagel et al. 2019, with a slope). A
    transposed convolution in groups has no axis for factors, and gets a bias alone.

    Parameters
    ----------
    model : nn.Module
        With shared layers; computed in evaluation mode. On an error it is as it was.
    reference : nn.Module
        The same before its weights were shared.
    batches : iterable
        Inputs: tensors, tuples of arguments or dictionaries of keywords.
    progress : callable, default iter
        Wraps the layers, to show how far it is.

    Returns
    -------
    nn.Module
        The model.

    Raises
    ------
    ValueError
        If no layer shares weights, there are no inputs, or the reference is of another kind.

    Warns
    -----
    UserWarning
        Naming the layers that stay as they are: of a weight that is used more than once, by
        something else than a layer, or not at all.

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
    beside = _Beside(model, reference, batches)
    biases: dict[str, torch.Tensor] = {}
    scales: dict[str, torch.Tensor] = {}
    with beside.stops() as found:
        for name, ours, _, theirs in progress(found):
            outputs = [walk.call.output() for walk in ours]
            if name in beside.uses and name not in beside.several:
                outputs = _corrected(beside, name, outputs, theirs, biases, scales)
            for walk, made in zip(ours, outputs, strict=True):
                walk.advance(made)
    _say(beside.left | dict.fromkeys(beside.several, "used more than once"), "corrected")
    with as_it_was_on_error(model, map(model.get_parameter, biases)):
        for name, factors in scales.items():
            shared = beside.shared[name]
            before = 1.0 if shared.scale is None else shared.scale.double()
            shared.scale = (before * factors.to(shared.labels.device)).half().float()
        for name, values in biases.items():
            model.get_parameter(name).copy_(values)
    return model


def _corrected(beside, name, ours, theirs, biases, scales):
    """The outputs of a layer with its channels corrected; how is noted in biases and scales."""
    use, pairs = beside.uses[name], paired(ours, theirs)
    if not pairs:
        return ours
    sides = [[use.call.by_channel(y).float() for y in side] for side in zip(*pairs, strict=True)]
    factors, bias = use.call.has_factors, beside.bias(use)
    slope, shift = fitted(*sides, factors=factors, shifts=bias is not None)
    if factors:
        scales[name] = use.call.factors(slope)
    if bias is not None:
        old = bias.detach().double()
        biases[use.bias] = (slope * old + shift).to(bias)
        shift = biases[use.bias].double() - slope * old  # as the model will have it
    return [use.call.moved(y, slope, shift) for y in ours]


class _Beside:
    """A model that shares weights, as plain weights, and the reference beside it."""

    def __init__(self, model, reference, batches):
        found = shared_parameters(model)
        self.shared = {name: parametrization[0] for name, parametrization in found.items()}
        self.centers = {name: parametrization.original for name, parametrization in found.items()}
        self.plain, self.reference = plain_weights(copy.deepcopy(model)), reference
        self.batches = list(batches)
        if not self.batches:
            raise ValueError("no batches: give a few hundred inputs.")
        ours, theirs = (dict(m.named_parameters()) for m in (self.plain, reference))
        if wrong := [n for n in self.shared if n in ours and _differ(ours[n], theirs.get(n))]:
            raise ValueError(f"the reference has no weights like {wrong}: give the model before.")
        self.weights = [
            {id(weights[name]): name for name in self.shared if name in weights}
            for weights in (ours, theirs)
        ]
        with evaluating(self.plain):
            uses, left = uses_of(self.plain, self.batches[0], self.shared)
        self.uses = uses
        self.several = [name for name, use in uses.items() if use.n_calls > 1]
        self.left = {name: reason for name, reason in left.items() if name in self.shared}

    def bias(self, use):
        """The bias of a layer, if it has one of its own."""
        return None if use.bias is None else self.plain.get_parameter(use.bias)

    @contextlib.contextmanager
    def stops(self):
        """Wherever the passes of both wait, as `lockstep.stops`."""
        models = self.plain, self.reference
        with (
            evaluating(*models),
            walks(models[0], self.batches, self.weights[0]) as ours,
            walks(models[1], self.batches, self.weights[1]) as theirs,
        ):
            yield stops(ours, theirs)


def _differ(ours, theirs):
    return theirs is None or ours.shape != theirs.shape


def _say(left, done):
    """Warn of what was left as it was."""
    if left:
        reasons = "; ".join(f"{name}, {reason}" for name, reason in left.items())
        warnings.warn(f"not {done}: {reasons}.", stacklevel=3)


def fitted(
    ours: Sequence[torch.Tensor],
    theirs: Sequence[torch.Tensor],
    *,
    factors: bool = True,
    shifts: bool = True,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The factor and shift of each channel that bring ours nearest to theirs.

    Parameters
    ----------
    ours, theirs : sequence of float32 tensors of shape (channels, n)
    factors, shifts : bool, default True
        What a channel can have; ones and zeros in the place of the others.

    Returns
    -------
    tuple of two float64 tensors of shape (channels,)
        The factors are exact in half precision, as the file keeps them.
    """
    slope, mean, target, variance = least_squares(ours, theirs)
    if not shifts:  # the line through the origin
        square = variance + mean**2
        slope = torch.where(square > 0, (slope * variance + mean * target) / square, 1.0)
    slope = slope.half().double() if factors else torch.ones_like(slope)
    return slope, target - slope * mean if shifts else torch.zeros_like(slope)


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


def input_moments(
    model: nn.Module, layers: Sequence[str], batches: Iterable[Any]
) -> dict[str, torch.Tensor]:
    """Mean square of the input that each weight multiplies: its share of the output's error.

    Parameters
    ----------
    model : nn.Module
        Computed in evaluation mode.
    layers : sequence of str
        Names of modules, or of their weights, such as "attention.in_proj_weight".
    batches : iterable
        Inputs: tensors, tuples of arguments or dictionaries of keywords.

    Returns
    -------
    dict of str to float32 tensor of the weight's shape
        For `sample_weight`; equal for all output channels. A row of an embedding has the share of
        inputs that read it.

    Raises
    ------
    ValueError
        For an unknown layer, one that the inputs do not reach, or whose weight is used otherwise
        than by a layer.

    Examples
    --------
    >>> import torch
    >>> from lib.compression import input_moments
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 1))
    >>> input_moments(model, ["0"], [torch.tensor([[1.0, 0.0], [3.0, 0.0]])])
    {'0': tensor([[5., 0.]])}
    """
    names = dict(zip(layers, weight_names(model, layers), strict=True))
    sums: dict[str, Any] = dict.fromkeys(names.values(), 0.0)
    counts = dict.fromkeys(names.values(), 0)
    others: dict[str, str] = {}

    def answer(call):
        if call.name in sums:
            found, n = _squares(call)
            sums[call.name] = sums[call.name] + found
            counts[call.name] += n
        return call.output()

    with torch.no_grad(), evaluating(model), Uses(weights_of(model), answer, others.setdefault):
        for batch in batches:
            called(model, batch)
    for layer, name in names.items():
        if name in others or not counts[name]:
            reason = f"used by {others[name]}" if name in others else "reached by no input"
            raise ValueError(f"layer {layer!r} has no moments: its weight is {reason}.")
    return {layer: (sums[name] / counts[name]).float() for layer, name in names.items()}


def _squares(call):
    """Sum of the squares that each weight of a call multiplies, and the number of its outputs."""
    weight = call.arguments["weight"]
    if call.is_embedding:
        words = call.input.flatten()
        found = torch.bincount(words, minlength=len(weight)).double()
        return found[:, None].expand(weight.shape), len(words)
    inputs = inputs_of(call, math.inf)
    matrix = to_matrix(weight, call)
    squares = inputs.double().square().sum(1)[:, None].expand(matrix.shape)
    return from_matrix(squares, weight.shape, call).to(weight.device), inputs.shape[1]


@torch.no_grad()
def compensate(
    model: nn.Module,
    reference: nn.Module,
    batches: Iterable[Any],
    *,
    damping: float = 0.01,
    progress: Callable = iter,
) -> nn.Module:
    """Choose the labels again so that errors of a layer's weights make up for each other, in place.

    Column by column of a layer's weight matrix, each weight gets its nearest center and the columns
    that follow take over its error, as the inputs' correlations tell (GPTQ, Frantar et al. 2023,
    algorithm 1; OBQ before it). The codebooks stay as they are. A weight that several layers share
    is chosen once, by the inputs that all of them have in the reference.

    Parameters
    ----------
    model : nn.Module
        With shared layers of one codebook each, without factors; computed in evaluation mode. On an
        error it is as it was.
    reference : nn.Module
        The same with the weights before.
    batches : iterable
        Inputs: tensors, tuples of arguments or dictionaries of keywords.
    damping : float, default 0.01
        Added to the diagonal of the inputs' second moments, in units of its mean.
    progress : callable, default iter
        Wraps the layers, to show how far it is.

    Returns
    -------
    nn.Module
        The model.

    Raises
    ------
    ValueError
        If no layer shares weights, a layer has factors or several codebooks, there are no inputs,
        or the reference is of another kind.

    Warns
    -----
    UserWarning
        Naming the layers that stay as they are: embeddings, whose errors nothing makes up for, and
        weights that are used by something else than a layer, or not at all.

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
    beside = _Beside(model, reference, batches)
    for name, shared in beside.shared.items():
        if shared.scale is not None or shared.channels is not None:
            raise ValueError(f"{name}: compensate before correct, with one codebook.")
    embeddings = [name for name, use in beside.uses.items() if use.call.is_embedding]
    moments, chosen = _moments_of_several(beside), {}
    with beside.stops() as found:
        for name, ours, *_ in progress(found):
            if ours and name not in chosen and name not in embeddings:
                known = moments[name] if name in moments else sum(map(_moments_at, ours))
                chosen[name] = _compensated(beside, name, known, damping)
            for walk in ours:
                walk.advance(walk.call.output(chosen[name][1] if name in chosen else None))
    _say(beside.left | dict.fromkeys(embeddings, "an embedding"), "compensated")
    with as_it_was_on_error(model, [beside.shared[name].labels for name in chosen]):
        for name, (labels, _) in chosen.items():
            beside.shared[name].labels.copy_(labels)
    return model


def _moments_of_several(beside):
    """Moments of the reference's inputs, of weights that are used more than once."""
    sums: dict[str, Any] = dict.fromkeys(beside.several, 0.0)
    if not sums:
        return sums

    def answer(call):
        if call.name in sums and not call.is_embedding:
            sums[call.name] = sums[call.name] + _moments(call)
        return call.output()

    with evaluating(beside.reference), Uses(beside.weights[1], answer):
        for batch in beside.batches:
            called(beside.reference, batch)
    return sums


def _moments_at(walk):
    return _moments(walk.call)


def _moments(call):
    """Sums of products of a call's inputs; (groups, columns, columns)."""
    inputs = inputs_of(call, math.inf)
    return inputs.transpose(1, 2) @ inputs


def _compensated(beside, name, moments, damping):
    """New labels of a weight, and the weight that they make."""
    call, weight = beside.uses[name].call, beside.reference.get_parameter(name).detach()
    centers = beside.centers[name].detach()
    matrices = to_matrix(weight.float().cpu(), call)
    pairs = zip(matrices, moments, strict=True)
    low = centers.float().cpu()
    labels = torch.stack([compensated_labels(rows, own, low, damping) for rows, own in pairs])
    labels = from_matrix(labels, weight.shape, call).to(centers.device)
    return labels, centers[labels]


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


def fisher(
    model: nn.Module,
    layers: Sequence[str],
    batches: Iterable[Any],
    *,
    loss: Callable[[Any], torch.Tensor] | None = None,
    seed: int = 0,
    progress: Callable = iter,
) -> dict[str, torch.Tensor]:
    """Diagonal Fisher information: the mean squared gradient of each weight's log-likelihood.

    Classes are drawn from what the model predicts, so that labels are not needed (Kunstner, Hennig
    and Balles 2019 on why drawn ones); one input at a time, since squares of sums are not sums of
    squares.

    Parameters
    ----------
    model : nn.Module
        In evaluation mode. Returns class scores of shape (n, classes) unless there is a `loss`.
    layers : sequence of str
        Names of modules, or of their weights.
    batches : iterable
        Inputs: tensors, tuples of arguments or dictionaries of keywords.
    loss : callable, optional
        From the model's outputs of one input to its loss, whose squared gradients are taken.
    seed : int, default 0
        Of the classes drawn.
    progress : callable, default iter
        Wraps the batches.

    Returns
    -------
    dict of str to float32 tensor of the weight's shape
        For `sample_weight`, as SqueezeLLM has it (Kim et al. 2024).

    Raises
    ------
    ValueError
        For an unknown layer, scores that are not one row an input, or no inputs.

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
    weights = [model.get_parameter(name) for name in weight_names(model, layers)]
    before = [weight.requires_grad for weight in weights]
    sums = [torch.zeros_like(weight, dtype=torch.float32) for weight in weights]
    generator, n = torch.Generator().manual_seed(seed), 0

    def drawn(scores):
        if not isinstance(scores, torch.Tensor) or scores.dim() != 2:
            shape = list(getattr(scores, "shape", ())) or type(scores).__name__
            raise ValueError(f"scores are {shape}, not (inputs, classes): give a loss.")
        scores = log_softmax(scores.float(), 1)
        likely = scores.detach().exp().cpu()
        return scores[0, int(torch.multinomial(likely, 1, generator=generator))]

    for weight in weights:
        weight.requires_grad_(True)
    try:
        for batch in progress(batches):
            for i in range(n_inputs(batch)):
                one = part(batch, slice(i, i + 1))
                found = (drawn if loss is None else loss)(called(model, one)).sum()
                gradients = torch.autograd.grad(found, weights, materialize_grads=True)
                for total, gradient in zip(sums, gradients, strict=True):
                    total.add_(gradient.float().square())
                n += 1
    finally:
        for weight, wanted in zip(weights, before, strict=True):
            weight.requires_grad_(wanted)
    if n == 0:
        raise ValueError("no batches: give a few hundred inputs.")
    return {name: total / n for name, total in zip(layers, sums, strict=True)}
