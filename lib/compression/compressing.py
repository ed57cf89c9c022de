"""One call from a model and a few hundred inputs to a small model."""

import copy
import math
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from tqdm import tqdm

from ..codebook import SharedWeight
from ..config import check_known
from ..initialization import INITIALIZATIONS
from ..shared import install_all
from ..sizes import bytes_of
from .calibration import survey
from .calls import called, evaluating, floats, n_inputs, weight_names, weights_of
from .compressed import CompressedLayer, CompressedModel
from .layer import compress_layer, correct_layer, file_bytes, rate_curve
from .lockstep import paired, stops, walks

BATCH = 32  # inputs at a time, where batches are tensors of one kind
MOST_PASSES = 12
DRIFT = 1.5  # times the multiplier, that layers pay at most for what those before them took
TOLERANCE = 0.006  # of the bytes wanted; files differ by a few more
LEAST_BITS, MOST_BITS = 0.125, 10.0  # between which the smallest good model is looked for


def compress(
    model: torch.nn.Module,
    batches: Iterable[Any],
    *,
    bits: float | None = None,
    ratio: float | None = None,
    n_bytes: float | None = None,
    max_loss: float | None = None,
    evaluate: Callable[[torch.nn.Module], float] | None = None,
    multiplier: float | None = None,
    layers: Iterable[str] | None = None,
    loss: Callable[[Any], torch.Tensor] | None = None,
    renormalize: bool = False,
    init: str | None = None,
    seed: int = 0,
    progress: bool = False,
) -> CompressedModel:
    """Compress a model by a few hundred inputs, whose labels are not needed.

    Every convolution, linear layer, attention projection and embedding gets a codebook and labels
    for an entropy coder. A bit is worth the same everywhere: so much error of the model's outputs.
    Layers are compressed one after another in one forward pass, each on the inputs that the
    compressed layers before it make, and for what these inputs lack it makes up. Errors of a
    layer's weights make up for each other, and channels are corrected. See
    `lib.compression.rate_aware`, `calibration` and `layer`.

    Parameters
    ----------
    model : nn.Module
        Not modified; evaluated in evaluation mode, on its device.
    batches : iterable
        Inputs: tensors, tuples of arguments or dictionaries of keywords. Those of plain tensors are
        cut to 32 inputs.
    bits, ratio, n_bytes : float, optional
        The target: bits a weight, times smaller, or bytes, of the layers in the saved file,
        codebooks included. It is met within 1 %, or a warning says by how much not.
    max_loss : float, optional
        The target: as small as possible while `evaluate` says that no more is lost.
    evaluate : callable, optional
        From a model to its quality, such as its top-1 in percent: larger is better.
    multiplier : float, optional
        The target: squared error of the model's outputs, as a share of their squares, that a bit
        is worth. A halved multiplier costs up to half a bit a weight.
    layers : sequence of str, optional
        Names of modules, or of their parameters; by default all that can be compressed.
    loss : callable, optional
        From the outputs of a batch to the losses of its inputs or their sum. Its Fisher information
        then says what a layer's error costs, instead of the outputs' squared error.
    renormalize : bool, default False
        Take the means and variances of batch normalization again from the inputs, at the end. A few
        hundred inputs are too few for most networks.
    init : str, optional
        A name in `lib.INITIALIZATIONS`: what centers start from, as many as otherwise. By default
        from the cells with the least cost of error and bits together.
    seed : int, default 0
        Of random signs and of inputs drawn. The same call gives the same model.
    progress : bool, default False
        Show progress bars.

    Returns
    -------
    CompressedModel

    Raises
    ------
    ValueError
        If not exactly one target is given or it cannot be met, there are no inputs, a layer is not
        known, or nothing can be compressed.

    Notes
    -----
    Time grows with the number of layers, not with its square; a search for the target takes one
    pass that only looks and usually two or three that compress. Memory: the activations that two
    forward passes of all inputs hold at once, and three times the second moments of one layer,
    which are of 16,384 columns, 1 GB, at most.

    Examples
    --------
    >>> import torch
    >>> import lib
    >>> model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Linear(64, 64))
    >>> small = lib.compress(model, [torch.randn(32, 64)], bits=2)
    >>> [layer.name for layer in small.layers]
    ['0', '1']
    """
    start = time.perf_counter()
    _check_target(bits, ratio, n_bytes, max_loss, evaluate, multiplier)
    with evaluating(model):
        plan = _plan(model, batches, layers, loss, init, seed, progress)
        if multiplier is not None:
            found = _pass(plan, multiplier)
        elif evaluate is not None and max_loss is not None:
            found = _smallest(plan, evaluate, evaluate(model) - max_loss)
        else:
            found = _of_size(plan, _bytes_wanted(plan, bits, ratio, n_bytes))
        record = _record(plan, found, start)
        if renormalize:
            _renormalize(record.model, plan.batches)
    return record


def _check_target(bits, ratio, n_bytes, max_loss, evaluate, multiplier):
    """Raise ValueError unless exactly one target is given, and can be met by something."""
    targets = {
        "bits": bits,
        "ratio": ratio,
        "n_bytes": n_bytes,
        "max_loss": max_loss,
        "multiplier": multiplier,
    }
    given = {name: value for name, value in targets.items() if value is not None}
    if len(given) != 1:
        raise ValueError(f"give exactly one of {', '.join(targets)}: {given} are given.")
    [(name, value)] = given.items()
    if not 0 < value < math.inf and not (name == "max_loss" and value == 0):
        raise ValueError(f"{name}={value} must be positive and finite.")
    if (name == "max_loss") != (evaluate is not None):
        raise ValueError("max_loss and evaluate need each other: give both or neither.")


def _bytes_wanted(plan, bits, ratio, n_bytes):
    """The one of these targets that is given, in bytes."""
    if bits is not None:
        return bits * plan.n_weights / 8
    return plan.bytes_before / ratio if ratio is not None else n_bytes


def _rebatched(batches):
    """Batches of at most 32 inputs, where they are tensors of one kind."""
    if not batches:
        raise ValueError("no batches: give a few hundred inputs.")
    kinds = {
        (type(b), b.shape[1:], b.dtype, b.device) if isinstance(b, torch.Tensor) else None
        for b in batches
    }
    if len(kinds) > 1 or None in kinds:
        return batches
    return list(torch.cat(batches).split(BATCH))


@dataclass(eq=False)
class _Plan:
    """What every pass needs."""

    model: torch.nn.Module
    batches: list
    survey: object
    init: str | None
    seed: int
    progress: bool
    curves: dict = field(default_factory=dict)
    factors: dict = field(default_factory=dict)  # of the curves' bytes, as passes have shown
    settled: dict = field(default_factory=dict)  # choices of layers that are not made again

    def __post_init__(self):
        uses = self.survey.uses
        self.weights = {key: name for key, name in weights_of(self.model).items() if name in uses}
        self.parameters = {name: self.model.get_parameter(name) for name in uses}
        self.n_weights = sum(p.numel() for p in self.parameters.values())
        self.bytes_before = sum(p.numel() * p.element_size() for p in self.parameters.values())

    @property
    def unit(self):
        """Of errors that are weighed: the mean square of the model's outputs."""
        return self.survey.power if self.survey.by_gradient else 1.0

    def price(self, name, multiplier):
        """What a bit of a layer costs in errors of random signs."""
        multiplier *= self.unit
        return self.curves[name].price(multiplier) if name in self.curves else multiplier

    def n_bytes(self, name, multiplier):
        """Bytes of a layer, as its curve and the passes before tell."""
        curve = self.curves[name].n_bytes(self.price(name, multiplier))
        return curve * self.factors.get(name, 1.0)

    def solved(self, goal, names, low=2.0**-200, high=2.0**100):
        """The multiplier at which layers have so many bytes, by bisection of its logarithm."""

        def more(place):
            return sum(self.n_bytes(name, 2.0**place) for name in names) - goal

        low, high = math.log2(low), math.log2(high)
        while high - low > 1e-4:
            middle = (low + high) / 2
            if more(middle) > 0:
                low = middle
            else:
                high = middle
        return 2.0 ** min(high, low, key=lambda place: abs(more(place)))  # bytes may leap between

    def bar(self, text):
        """A progress bar of the layers."""
        return tqdm(desc=text, total=len(self.parameters), disable=not self.progress)


def _plan(model, batches, layers, loss, init, seed, progress):
    if init is not None:
        check_known("init", [init], INITIALIZATIONS)
    batches = _rebatched(list(batches))

    def bar(batches):
        return tqdm(batches, desc="surveying", disable=not progress)

    names = None if layers is None else set(weight_names(model, layers))
    found = survey(model, batches, names, loss=loss, seed=seed, progress=bar)
    if not found.uses:
        reasons = "; ".join(f"{name}: {why}" for name, why in found.left.items())
        raise ValueError(f"nothing can be compressed. {reasons or 'The model has no weights.'}")
    plan = _Plan(model, batches, found, init, seed, progress)
    plan.curves = _curves(plan)
    return plan


@dataclass(eq=False)
class _Found:
    """What a pass made, and of how many this was the last."""

    multiplier: float
    goal: float | None = None  # bytes of all layers
    multipliers: dict = field(default_factory=dict)  # what each layer paid
    layers: dict = field(default_factory=dict)
    error: float = math.nan
    n_passes: int = 1

    @property
    def n_bytes(self):
        return sum(layer.n_bytes for layer in self.layers.values())


# ------------------------------------------------------------------------------- targets


def _of_size(plan, goal):
    """The pass whose layers have so many bytes, within 1 %."""
    best = None
    for n_passes in range(1, MOST_PASSES + 1):
        found = _pass(plan, plan.solved(goal, plan.curves), goal)
        if best is None or abs(found.n_bytes - goal) < abs(best.n_bytes - goal):
            best = found
        best.n_passes = n_passes
        off = best.n_bytes / goal - 1
        if abs(off) <= TOLERANCE:
            break
        if abs(off) < 0.05 and not plan.settled:
            # A choice that flips makes bytes jump.
            plan.settled = {
                name: {"by_channel": layer.by_channel, "start": layer.start}
                for name, layer in found.layers.items()
            }
        _learn(plan, found)
    if off > 0.1:
        raise ValueError(
            f"the layers cannot have {goal:,.0f} bytes: the nearest found are {best.n_bytes:,}."
        )
    if abs(off) > 0.01:  # so few weights that a center is a percent, or no use for more bits
        warnings.warn(f"the layers have {100 * off:+.1f} % of the bytes wanted.", stacklevel=3)
    return best


def _learn(plan, found):
    """How many times as many bytes as by its curve each layer had; half of the way."""
    for name, layer in found.layers.items():
        ratio = layer.n_bytes / plan.n_bytes(name, found.multipliers[name])
        plan.factors[name] = plan.factors.get(name, 1.0) * math.sqrt(ratio)


def _smallest(plan, evaluate, least):
    """The pass with the fewest bytes whose model is good enough, to 3 % of its bits."""
    best = None
    low, high, n_passes = math.log2(LEAST_BITS), math.log2(MOST_BITS), 0
    while best is None or high - low > math.log2(1.03):
        bits = high if best is None and n_passes >= 8 else (low + high) / 2
        found = _pass(plan, plan.solved(2**bits * plan.n_weights / 8, plan.curves))
        n_passes += 1
        model = _installed(plan, found)
        if evaluate(model) >= least:
            best, high = found, bits
        elif bits == high:
            raise ValueError(f"even at {2**bits:.0f} bits a weight more than max_loss is lost.")
        else:
            low = bits
    best.n_passes = n_passes
    return best


def _curves(plan):
    """Curves of all layers, from one forward pass of the float model."""
    curves: dict = {}
    with walks(plan.model, plan.batches, plan.weights) as begun, plan.bar("looking") as bar:
        while waiting := [walk for walk in begun if walk.call is not None]:
            name = waiting[0].call.name
            ready = [walk for walk in waiting if walk.call.name == name]
            if name not in curves:
                calls = [walk.call for walk in ready]
                use, weight = plan.survey.uses[name], plan.parameters[name]
                curves[name] = rate_curve(use, weight, calls, seed=plan.seed)
                bar.update()
            for walk in ready:
                with torch.no_grad():
                    outputs = walk.call.output()
                walk.advance(outputs)
    return curves


# -------------------------------------------------------------------------------- passes


def _pass(plan, multiplier, goal=None):
    """Compress every layer in one forward pass of all inputs, and of the float model beside it."""
    found, n = _Found(multiplier, goal), len(plan.batches)
    both = walks(plan.model, plan.batches * 2, plan.weights)
    with both as begun, plan.bar("compressing") as bar:
        ours, theirs = begun[:n], begun[n:]
        for stop in stops(ours, theirs):
            _step(plan, found, *stop)
            bar.update(len(found.layers) - bar.n)
        pairs = zip(ours, theirs, strict=True)
        error = sum(_squared_error(a.outputs, b.outputs) for a, b in pairs)
    found.error = error / sum(map(n_inputs, plan.batches))
    return found


@torch.no_grad()
def _step(plan, found, name, here, there, exact):
    """Compress the layer that passes wait at, unless it is, and let them go on."""
    if not here:
        return
    use, parameter = plan.survey.uses[name], plan.parameters[name]
    if name in found.layers:
        layer = found.layers[name]
        weight = layer.weight(parameter, use.call)
        made = [walk.call.output(weight, layer.bias) for walk in here]
    else:
        found.multipliers[name] = _multiplier(plan, found)
        price = plan.price(name, found.multipliers[name])
        calls = [walk.call for walk in here]
        how = {"exact": there, "init": plan.init, "seed": plan.seed, **plan.settled.get(name, {})}
        layer = compress_layer(use, parameter, calls, price, **how)
        found.layers[name] = layer
        weight = layer.weight(parameter, use.call)
        made = [call.output(weight) for call in calls]
        pairs = paired(made, exact)
        if pairs and use.n_calls == 1 and not use.call.is_embedding:
            bias = None if use.bias is None else plan.model.get_parameter(use.bias)
            slope, shift = correct_layer(use, layer, *zip(*pairs, strict=True), bias, price)
            made = [use.call.moved(outputs, slope, shift) for outputs in made]
        layer.n_bytes = file_bytes(use, layer)
    for walk in here:
        walk.advance(made.pop(0))


def _multiplier(plan, found):
    """The pass's multiplier, a little off it where layers so far took more or less than theirs."""
    rest = [name for name in plan.curves if name not in found.layers]
    if found.goal is None or not found.layers or not rest:
        return found.multiplier
    left = found.goal - found.n_bytes
    return plan.solved(left, rest, found.multiplier / DRIFT, found.multiplier * DRIFT)


def _squared_error(ours, theirs):
    return sum(
        float((a.double() - b.double()).square().sum())
        for a, b in zip(floats(ours), floats(theirs), strict=True)
    )


def _installed(plan, found):
    """A copy of the model that computes as a pass did."""
    model = copy.deepcopy(plan.model)
    codebooks = {
        name: _codebook(model, plan.survey.uses[name], layer, name)
        for name, layer in found.layers.items()
    }
    install_all(model, codebooks)
    return model


def _record(plan, found, start):
    layers = tuple(_row(plan, name, layer, plan.unit) for name, layer in found.layers.items())
    left = plan.survey.left | {
        name: "not reached by the inputs" for name in plan.parameters if name not in found.layers
    }
    return CompressedModel(
        model=_installed(plan, found),
        layers=layers,
        left=left,
        multiplier=found.multiplier,
        predicted_loss=sum(layer.predicted_loss for layer in layers),
        measured_loss=found.error / plan.survey.power,
        bytes_exact=bytes_of(plan.model) - sum(layer.bytes_before for layer in layers),
        seconds=time.perf_counter() - start,
        n_passes=found.n_passes,
    )


def _row(plan, name, layer, power):
    use, weight = plan.survey.uses[name], plan.parameters[name]
    parameters = plan.model.named_parameters(remove_duplicate=False)
    places = {"bias": layer.bias, "normalization": use.norm, "factors": layer.scale}
    if layer.shift is None and layer.scale is None:
        places.pop("normalization")
    if use.norm is not None:
        places.pop("factors")
    return CompressedLayer(
        name=name.removesuffix(".weight"),
        n_weights=weight.numel(),
        n_clusters=len(layer.centers),
        bytes_before=weight.numel() * weight.element_size(),
        bytes_after=layer.n_bytes,
        predicted_loss=layer.loss / power,
        by_channel=layer.by_channel,
        corrected=", ".join(place for place, value in places.items() if value is not None),
        n_choices=layer.n_choices,
        tied=tuple(other for other, p in parameters if p is weight and other != name),
    )


@torch.no_grad()
def _codebook(model, use, layer, name):
    """What a layer becomes; its bias, and the normalization that reads it, change at once."""
    scale = layer.scale
    if layer.bias is not None:
        model.get_parameter(use.bias).copy_(layer.bias)
    if use.norm is not None and (scale is not None or layer.shift is not None):
        _into_norm(model.get_submodule(use.norm), scale, layer.shift)
        scale = None
    parameter = model.get_parameter(name)
    scale = None if scale is None else use.call.factors(scale)
    shared = SharedWeight(layer.labels, len(layer.centers), scale=scale)
    return shared.to(parameter.device), torch.from_numpy(layer.centers)


def _into_norm(norm, scale, shift):
    """Make a batch normalization read outputs that lack a factor and a shift."""
    scale = torch.ones(norm.num_features) if scale is None else scale
    scale = scale.double().to(norm.running_mean.device)
    shift = 0.0 if shift is None else shift.to(scale.device)
    norm.running_mean.copy_((norm.running_mean.double() - shift) / scale)
    norm.weight.copy_(norm.weight.double() * scale)


@torch.no_grad()
def _renormalize(model, batches):
    """Take batch normalization's means and variances again, in place."""
    norms = [m for m in model.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a mean over all batches
            norm.train()
        for batch in batches:
            called(model, batch)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()
