"""One layer compressed: its weight's labels and codebook, and its channels corrected."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from .calibration import Use, most_inputs
from .calls import Call
from .contexts import MOST_SYMBOLS, best_contexts, rows_and_columns, tap_of
from .correction import least_squares
from .curve import Curve
from .layout import from_matrix, inputs_of, to_matrix
from .rate_aware import Factor, Start, coded_bytes, factor, fit, some_of

MOST_COLUMNS = 16_384  # whose moments are held at once, 1 GB; layers of more are cut into blocks
TRIED_ROWS = 64  # that tell whether a layer's channels get factors before they are clustered
BITS_OF_FACTOR = 16
DAMPING, UNSEEN = 0.01, 0.1  # of moments: in any case, and times columns over inputs
SLOPES = 2.0**-4, 2.0**4  # of channels; beyond, nothing is left of one to correct
OCTAVES = (-20, -16, -12, *range(-9, 15))  # of prices that a layer is looked at with


@dataclass(eq=False)
class Compressed:
    """What a layer became.

    Attributes
    ----------
    labels : int16 tensor of the weight's shape
    centers : float32 array of shape (k,)
    counts : int64 array of shape (k,)
    scale : float32 tensor of shape (channels,), or None
        Factors of the output channels; exact in float16 where the file holds them.
    bias : torch.Tensor or None
        The new bias.
    shift : float64 tensor of shape (channels,), or None
        Added to the outputs, where a batch normalization takes it in.
    loss : float
        Predicted squared error of the model's outputs, a mean over inputs.
    n_choices : int
        Times that labels were chosen.
    by_channel : bool
        Whether channels were divided by factors before they were clustered.
    start : Start
        What the labels were found from.
    n_bytes : int
        In a file.
    """

    labels: torch.Tensor
    centers: np.ndarray
    counts: np.ndarray
    scale: torch.Tensor | None
    loss: float
    n_choices: int
    by_channel: bool
    start: Start
    bias: torch.Tensor | None = None
    shift: torch.Tensor | None = None
    n_bytes: int = 0

    def weight(self, like: torch.Tensor, call: Call) -> torch.Tensor:
        """The weight that these make, in the dtype and on the device of `like`."""
        centers = torch.from_numpy(self.centers).to(like)
        weight = centers[self.labels.int().to(like.device)]
        return weight if self.scale is None else weight * call.factors(self.scale).to(like)


def compress_layer(
    use: Use,
    weight: torch.Tensor,
    calls: Sequence[Call],
    multiplier: float,
    *,
    exact: Sequence[Call | None] | None = None,
    by_channel: bool | None = None,
    start: Start | None = None,
    init: str | None = None,
    seed: int = 0,
) -> Compressed:
    """Labels and codebook of one weight.

    Parameters
    ----------
    use : Use
    weight : torch.Tensor
    calls : sequence of Call
        With the inputs that reach it.
    multiplier : float
        What a bit costs, in units of the model's outputs squared where errors have random signs:
        a `Curve.price`.
    exact : sequence of (Call or None), optional
        The float model's, of the same batches: weights make up for what layers before lost.
    by_channel : bool, optional
        Whether channels are divided by factors before they are clustered; by default where it pays.
    start, init : optional
        What the labels are found from, as of `rate_aware.fit`.
    seed : int, default 0
        Of the inputs drawn.

    Returns
    -------
    Compressed
    """
    matrix = to_matrix(weight.detach().float().cpu(), use.call)
    pieces = n_pieces(matrix.shape[-1])
    factors, importance = _factors(use, matrix, calls, pieces, seed)
    beside = exact is not None and None not in exact
    if beside and use.moments is None and factors.unit is not None and pieces == 1:
        matrix = _making_up(matrix, calls, exact, factors, seed)
    scale = _scale(use, matrix) if takes_scale(use) else None
    if by_channel is None and scale is not None:
        by_channel = _pays(use, matrix, scale, factors, importance, multiplier, pieces)
    if not by_channel:
        scale = None
    if scale is not None:
        matrix, importance = matrix / scale[..., None], importance * scale.square()
    parts, weighed = _cut(matrix, pieces), _repeat(importance, pieces)
    found = fit(parts, factors, weighed, multiplier, start=start, init=init, seed=seed)
    labels = _joined(found.labels, pieces)
    return Compressed(
        labels=from_matrix(labels, weight.shape, use.call),
        centers=found.centers,
        counts=found.counts,
        scale=None if scale is None else scale.flatten(),
        loss=use.loss(found.distortion),
        n_choices=len(found.history),
        by_channel=scale is not None,
        start=found.start,
    )


def rate_curve(use: Use, weight: torch.Tensor, calls: Sequence[Call], *, seed: int = 0) -> Curve:
    """Look at a layer with several prices of a bit.

    Parameters
    ----------
    use, weight, calls, seed
        As of `compress_layer`.

    Returns
    -------
    Curve
    """
    matrix = to_matrix(weight.detach().float().cpu(), use.call)
    pieces, n = n_pieces(matrix.shape[-1]), matrix.numel()
    factors, importance = _factors(use, matrix, calls, pieces, seed)
    rows = some_of(matrix.shape[1], TRIED_ROWS)
    tried, weighed = _cut(matrix[:, rows], pieces), _repeat(importance[:, rows], pieces)
    share = tried.numel() / n
    # Squared error of the outputs where all weights are zero: about the price of no bits.
    mass = weighed[:, :, None].double() * factors.curvature[:, None].double()
    largest = float((tried.double().square() * mass).mean()) or 1.0
    prices, sizes, distortions, near = [], [], [], 0.0
    for octave in OCTAVES:
        price = largest * 2.0**octave
        found = fit(tried, factors, weighed, price, share=share, near=near, seed=seed, max_iter=3)
        near = found.start.octaves
        k = len(found.counts)
        prices.append(price)
        sizes.append((coded_bytes(found.counts) - 6 * k) / share + 6 * k)
        distortions.append(found.distortion / share)
        if k == 1:
            break
    losses = use.loss(np.maximum.accumulate(distortions))
    return Curve(np.array(prices), np.minimum.accumulate(sizes), losses, n)


def n_pieces(columns: int) -> int:
    """Blocks of equal size that a row is cut into, so that the moments of each fit memory."""
    return next(n for n in range(-(-columns // MOST_COLUMNS), columns + 1) if columns % n == 0)


def _cut(matrix, pieces):
    """Blocks of columns as further groups; of (groups, n, columns)."""
    groups, n, columns = matrix.shape
    parts = matrix.view(groups, n, pieces, columns // pieces).transpose(1, 2)
    return parts.reshape(groups * pieces, n, columns // pieces)


def _joined(matrix, pieces):
    """What `_cut` cut."""
    groups, n, columns = matrix.shape
    parts = matrix.view(groups // pieces, pieces, n, columns).transpose(1, 2)
    return parts.reshape(groups // pieces, n, pieces * columns)


def _repeat(importance, pieces):
    return importance.repeat_interleave(pieces, 0)


def _factors(use, matrix, calls, pieces, seed):
    """Factored moments of the inputs, and the importance of each row."""
    if use.call.is_embedding:  # a row's outputs are its weights: none makes up for another
        order = torch.arange(matrix.shape[-1])[None]
        return Factor(order, None, use.features.float()[None]), use.words[None]
    moments, n = use.moments, use.n_moments
    if moments is None:
        moments, n = _moments(calls, pieces, seed)
    else:
        moments = torch.stack([_diagonal_block(moments, piece, pieces) for piece in range(pieces)])
        moments = moments.transpose(0, 1).flatten(0, 1).clone()
    importance = use.importance.view(matrix.shape[:2])
    if use.words is not None:  # tied to an embedding, whose errors count as well
        more = use.features.float() * float(use.words.mean() / importance.mean())
        moments.diagonal(dim1=1, dim2=2).add_(_cut(more[None, None], pieces)[:, 0])
    if not moments.isfinite().all():
        raise ValueError(f"{use.call.name}: its inputs are not finite.")
    return factor(moments, _damping(moments.shape[-1], n)), importance


def _diagonal_block(moments, piece, pieces):
    size = moments.shape[-1] // pieces
    return moments[:, piece * size : (piece + 1) * size, piece * size : (piece + 1) * size]


def _moments(calls, pieces, seed):
    """Mean products of inputs, by group and block of columns; and of how many inputs."""
    n, sums = 0, None
    for inputs in _chunks(calls, pieces, seed):
        n += inputs.shape[1]
        columns = inputs.transpose(1, 2)
        sums = columns @ inputs if sums is None else sums.baddbmm_(columns, inputs)
    return sums.div_(n), n


def _chunks(calls, pieces, seed):
    """Inputs of calls, of many together, since each product with them goes through all of a sum."""
    generator = torch.Generator().manual_seed(seed)
    most, waiting = -(-most_inputs(calls[0]) // len(calls)), []
    for i, one in enumerate(calls):
        waiting.append(_cut(inputs_of(one, most, generator), pieces))
        rows = sum(inputs.shape[1] for inputs in waiting)
        if rows >= waiting[0].shape[2] or i + 1 == len(calls):
            yield torch.cat(waiting, 1)
            waiting = []


def _making_up(matrix, calls, exact, factors, seed):
    """The weights that come nearest to the float model's outputs, by the inputs that they get.

    These inputs lack what the layers before lost. Least squares by the factored moments, whose
    damping keeps the weights near what they were (GPTAQ, Li et al. 2025).
    """
    n, sums = 0, torch.zeros(matrix.transpose(1, 2).shape)
    for ours, theirs in zip(_chunks(calls, 1, seed), _chunks(exact, 1, seed), strict=True):
        n += ours.shape[1]
        if not torch.equal(ours, theirs):
            sums.baddbmm_(ours.transpose(1, 2), (theirs - ours) @ matrix.transpose(1, 2))
    if not sums.any():
        return matrix
    order = factors.order[:, :, None].expand_as(sums)
    found = torch.linalg.solve_triangular(
        factors.unit, sums.gather(1, order), upper=True, unitriangular=True
    )
    found /= factors.curvature[:, :, None]
    found = torch.linalg.solve_triangular(
        factors.unit.transpose(1, 2), found, upper=False, unitriangular=True
    )
    damped = n * (1 + _damping(matrix.shape[-1], n))
    return matrix + torch.empty_like(found).scatter_(1, order, found).transpose(1, 2) / damped


def _damping(columns, n):
    """Of the moments of n inputs."""
    return DAMPING + UNSEEN * columns / n


def _scale(use, matrix):
    """Root mean squares of the channels, relative to their mean; (groups, rows)."""
    scale = matrix.square().mean(2).sqrt()
    scale = torch.where(scale > 0, scale, 1.0)
    scale = scale / scale.mean()
    return scale if use.norm is not None else scale.half().float().clamp_min(2.0**-14)


def _pays(use, matrix, scale, factors, importance, multiplier, pieces):
    """Whether labels of channels divided by factors cost less, the factors included."""
    rows = some_of(matrix.shape[1], TRIED_ROWS)
    tried, weighed, divided = matrix[:, rows], importance[:, rows], scale[:, rows]
    share = len(rows) / matrix.shape[1]

    def cost(weight, weights):
        weight, weights = _cut(weight, pieces), _repeat(weights, pieces)
        return fit(weight, factors, weights, multiplier, share=share, max_iter=2).cost

    plain, scaled = cost(tried, weighed), cost(tried / divided[..., None], weighed * divided**2)
    if use.norm is None:
        scaled += multiplier * BITS_OF_FACTOR * divided.numel()
    return scaled < plain


def takes_scale(use: Use) -> bool:
    """Whether a layer's output channels can have factors: in the file, or in what follows."""
    if use.n_calls > 1 or use.call.is_embedding:
        return False
    return use.norm is not None or use.call.has_factors


def correct_layer(
    use: Use,
    layer: Compressed,
    ours: Sequence[torch.Tensor],
    theirs: Sequence[torch.Tensor],
    bias: torch.Tensor | None,
    multiplier: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Fit a layer's channels to the float model's; written to `layer`.

    The outputs of each channel, of inputs that the compressed layers before it made, get the slope
    and the mean of what the float model computes (as bias correction of Nagel et al. 2019, with a
    slope). Slopes go into a batch normalization that follows, or into the layer's factors where
    they pay for these; shifts into the bias or the normalization.

    Parameters
    ----------
    use : Use
    layer : Compressed
    ours, theirs : sequence of torch.Tensor
        Outputs of the layer, and of the float model's.
    bias : torch.Tensor or None
    multiplier : float

    Returns
    -------
    tuple of two float64 tensors of shape (channels,)
        Slope and shift that the outputs get.
    """
    pairs = [[use.call.by_channel(y).float().cpu() for y in side] for side in (ours, theirs)]
    slope, mean, target, variance = least_squares(*pairs)
    slope = slope.clamp(*SLOPES)
    if use.norm is None:
        slope = _half_slope(use, layer, slope, variance, multiplier)
    shift = target - slope * mean
    if bias is not None:
        before = bias.detach().double().cpu()
        layer.bias = (shift + slope * before).to(bias)
        shift = layer.bias.double().cpu() - slope * before
    elif use.norm is not None:
        layer.shift = shift
    else:
        shift = torch.zeros_like(shift)
    if (slope != 1).any():
        scale = slope.float()
        layer.scale = scale if layer.scale is None else (layer.scale * scale)
        if use.norm is None:
            layer.scale = layer.scale.half().float()
    return slope, shift


def _half_slope(use, layer, slope, variance, multiplier):
    """The slopes as the file holds them; ones where they are not worth their bytes."""
    slope = slope.half().double()
    gain = float((use.importance * variance * (slope - 1).square()).sum())
    pays = layer.scale is not None or gain > multiplier * BITS_OF_FACTOR * len(slope)
    return slope if takes_scale(use) and pays else torch.ones_like(slope)


def file_bytes(use: Use, layer: Compressed) -> int:
    """Bytes of a layer in a file, to a few bytes."""
    factors = 0 if layer.scale is None or use.norm is not None else 2 * len(layer.scale)
    coded, k = coded_bytes(layer.counts), len(layer.counts)
    if k <= MOST_SYMBOLS:
        shape = layer.labels.shape
        matrix = layer.labels.numpy().astype(np.uint8).reshape(rows_and_columns(shape))
        coded = min(coded, 2 * k + math.ceil(best_contexts(matrix, tap_of(shape), k)[1]))
    return coded + factors
