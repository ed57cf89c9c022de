"""What a few hundred inputs say of a model.

In which calls each weight is used, what else is done with it, and what an error of each output
channel does to the model's outputs.
"""

import contextlib
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from .calls import Call, Uses, called, floats, n_inputs, weights_of
from .layout import inputs_of, to_matrix

INPUTS_A_COLUMN = 8  # of which a layer's moments are taken
LEAST_INPUTS = 4096
SMOOTHING = 0.1  # share of the mean importance that every channel gets besides its own


@dataclass(eq=False)
class Use:
    """How a model uses one weight.

    Attributes
    ----------
    call : Call
        The first that is no embedding, if there is one; without its input.
    n_calls : int
        In a forward pass.
    bias : str or None
        Name of the parameter that is added.
    norm : str or None
        Name of the batch normalization that alone reads the outputs.
    importance : float64 tensor of shape (channels,)
        What a squared error of the channel's outputs costs: their mean square, over all inputs and
        positions, times this is the mean squared error of the model's outputs.
    words : float64 tensor of shape (rows,), or None
        Of an embedding: how often an input has each row.
    features : float64 tensor of shape (columns,), or None
        Of an embedding: importance of each of its outputs.
    moments : float32 tensor of shape (groups, columns, columns), or None
        Of the float model's inputs; only of weights that are used more than once.
    n_moments : int
        Inputs that these are a mean of.
    power : float
        What noise as large as the outputs' deviations from their means would cost.
    coherence : float
        At least 1: how many times as much it costs to replace the outputs by their means, since
        errors of this kind have not random signs but those of the outputs.
    """

    call: Call
    n_calls: int = 0
    bias: str | None = None
    norm: str | None = None
    importance: torch.Tensor | None = None
    words: torch.Tensor | None = None
    features: torch.Tensor | None = None
    moments: torch.Tensor | None = None
    n_moments: int = 0
    power: float = math.inf
    coherence: float = 1.0

    def loss(self, distortion: Any) -> Any:
        """What an error costs that costs `distortion` if its signs are random.

        The best reconstruction at a low rate is shrunk by the share of the power that it loses (the
        reverse water-filling of a Gaussian source), and a shrunk layer's error is coherent.
        """
        return distortion * (1 + (self.coherence - 1) * distortion / self.power)


@dataclass(frozen=True, eq=False)
class Survey:
    """What a model's calls say.

    Attributes
    ----------
    uses : dict of str to Use
        By name of the weight, in the order of computation.
    left : dict of str to str
        By name of every other weight, the reason why it stays exact.
    power : float
        Mean over inputs of the outputs' sum of squares.
    by_gradient : bool
        False where the outputs have no gradients. Then errors count relative to the square of each
        layer's own outputs.
    """

    uses: dict[str, Use]
    left: dict[str, str]
    power: float
    by_gradient: bool


def survey(
    model: nn.Module,
    batches: Sequence[Any],
    names: Collection[str] | None = None,
    *,
    loss: Callable[[Any], torch.Tensor] | None = None,
    seed: int = 0,
    progress: Callable = iter,
) -> Survey:
    """Pass the inputs through the float model, and gradients back.

    The squared error of the model's outputs that a layer's error makes is, to first order and for
    errors of random signs, that error's square times the squared Jacobian; products of the Jacobian
    with random signs have its squares for their mean.

    Parameters
    ----------
    model : nn.Module
        In evaluation mode.
    batches : sequence
    names : collection of str, optional
        Of the weights to compress; all by default.
    loss : callable, optional
        From the outputs of a batch to the losses of its inputs, or their sum. The loss's squared
        gradients, its Fisher information where classes are drawn from what the model predicts, then
        take the Jacobian's place.
    seed : int, default 0
        Of the random signs, and of inputs drawn.
    progress : callable, default iter
        Wraps the batches.

    Returns
    -------
    Survey
    """
    uses, left = uses_of(model, batches[0], names)
    if not uses:
        return Survey(uses, left, 0.0, False)
    generator = torch.Generator().manual_seed(seed)
    totals = {name: _Totals() for name in uses}
    n, power, by_gradient = 0, 0.0, False
    with _frozen(model):
        for batch in progress(batches):
            outputs, leaves = _watched(model, batch, uses, totals, generator)
            n += n_inputs(batch)
            power += sum(float(made.detach().double().square().sum()) for made in floats(outputs))
            by_gradient |= _backward(outputs, leaves, loss, generator)
    _weigh(uses, totals, n, by_gradient)
    return Survey(uses, left, power / n, by_gradient)


def most_inputs(call: Call) -> int:
    """Inputs that a layer's moments are taken from at most."""
    columns = to_matrix(call.arguments["weight"], call).shape[-1]
    return max(LEAST_INPUTS, INPUTS_A_COLUMN * columns)


def uses_of(
    model: nn.Module, batch: Any, names: Collection[str] | None = None
) -> tuple[dict[str, Use], dict[str, str]]:
    """Uses of the weights in one batch, and the reasons of those that stay exact."""
    weights, readers = weights_of(model), _Readers()
    uses: dict[str, Use] = {}
    left: dict[str, str] = {}
    parameters = {id(parameter): name for name, parameter in model.named_parameters()}

    def answer(call):
        outputs = call.output()
        given = Call(call.name, call.function, call.arguments | {"input": None})
        use = uses.setdefault(call.name, Use(given))
        if use.call.is_embedding:
            use.call = given
        use.n_calls += 1
        use.bias = parameters.get(id(use.call.arguments.get("bias")))
        readers.follow(outputs, call.name)
        return outputs

    def note(name, function):
        left.setdefault(name, f"used by {function}, which is not compressed")

    with torch.no_grad(), Uses(weights, answer, note, readers.see):
        called(model, batch)
    for name in weights.values():
        if "parametrizations." in name:
            left[name] = "parametrized: remove the parametrization first"
        elif name not in uses:
            left.setdefault(name, "not used in the forward pass")
        elif names is not None and name not in names:
            left[name] = "not asked for"
    biases = [use.bias for use in uses.values()]
    norms = {id(m.running_mean): path for path, m in model.named_modules() if _normalizes(m)}
    for name, use in uses.items():
        if biases.count(use.bias) > 1:
            use.bias = None  # one of several layers: it corrects none of them
        if use.n_calls == 1:
            use.norm = norms.get(readers.alone(name))
    return {name: use for name, use in uses.items() if name not in left}, left


def _normalizes(module):
    is_norm = isinstance(module, torch.nn.modules.batchnorm._BatchNorm)
    return is_norm and module.running_mean is not None and module.weight is not None


class _Readers:
    """What reads the outputs of layers."""

    def __init__(self):
        self._outputs, self._readers, self._uses = {}, {}, {}

    def follow(self, outputs, name):
        self._outputs[id(outputs)] = name, outputs  # held, so that no other gets its id
        self._readers[name] = []

    def see(self, function, given, result):
        """Note a function that makes tensors; of a batch normalization, the means it subtracts."""
        means = id(given[1]) if function is functional.batch_norm else None
        self._uses[means] = self._uses.get(means, 0) + 1
        if isinstance(result, (torch.Tensor, tuple, list)):
            for value in given:
                if id(value) in self._outputs:
                    self._readers[self._outputs[id(value)][0]].append(means)

    def alone(self, name):
        """The `id` of the means that alone read a layer's outputs, and read nothing else."""
        readers = self._readers[name]
        return readers[0] if len(readers) == 1 and self._uses[readers[0]] == 1 else None


class _Totals:
    """Sums of one weight's calls, in float64.

    Squares of gradients, of outputs and of their deviations from their means in a batch, by
    channel; and `products`, the squares of each input's sum of gradients times deviations.
    """

    def __init__(self):
        self.gradients = self.outputs = self.deviations = self.products = 0.0
        self.n_outputs = self.n_inputs = 0
        self.words = self.features = self.moments = 0.0


@contextlib.contextmanager
def _frozen(model):
    """Parameters without gradients: only outputs of layers have them."""
    frozen = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for parameter in frozen:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)


def _watched(model, batch, uses, totals, generator):
    """The model's outputs, with gradients that are summed on their way back, and their sources."""
    leaves, n = [], n_inputs(batch)

    def answer(call):
        outputs = _with_gradient(call)
        if call.name in uses:
            _add(uses[call.name], totals[call.name], call, outputs, generator, n)
        if not outputs.is_leaf:
            return outputs
        leaves.append(outputs)
        return outputs.clone()  # a leaf may not be written to, as activations in place do

    with torch.enable_grad(), Uses(weights_of(model), answer):
        return called(model, batch), leaves


def _with_gradient(call):
    """Outputs of a call, with a gradient."""
    outputs = call.output()
    return outputs if outputs.requires_grad else outputs.detach().requires_grad_()


def _add(use, total, call, outputs, generator, batch_size):
    values = outputs.detach().float()
    deviations = values - call.channels(call.by_channel(values).mean(1))
    squares, spread = (call.by_channel(each).square() for each in (values, deviations))
    is_features = call.is_embedding
    if is_features:
        n = len(call.arguments["weight"])
        total.words = total.words + torch.bincount(call.input.flatten().cpu(), minlength=n).double()
    if not is_features or use.call.is_embedding:
        total.outputs = total.outputs + squares.sum(1).double().cpu()
        total.deviations = total.deviations + spread.sum(1).double().cpu()
        total.n_outputs += squares.shape[1]
    if use.n_calls > 1 and not is_features:
        inputs = inputs_of(call, most_inputs(call) // 8, generator)
        total.moments = total.moments + inputs.transpose(1, 2) @ inputs
        total.n_inputs += inputs.shape[1]

    def add(gradient):
        found = call.by_channel(gradient).float().square().sum(1).double().cpu()
        if is_features:
            total.features = total.features + found
        else:
            total.gradients = total.gradients + found
            # Gradients of other inputs have other random signs: where the first axis is not that
            # of the inputs, the sum of all has the same mean square.
            each = batch_size if len(deviations) == batch_size else 1
            sums = (gradient.float() * deviations).reshape(each, -1).sum(1)
            total.products += float(sums.double().square().sum())

    outputs.register_hook(add)


def _backward(outputs, leaves, loss, generator):
    """Random signs, or the gradient of a loss, through the outputs; whether they have gradients."""
    made = [values for values in floats(outputs) if values.requires_grad]
    if not made:
        return False
    if loss is not None:
        torch.autograd.grad(loss(outputs).sum(), leaves, allow_unused=True)
        return True
    signs = [2.0 * torch.randint(2, values.shape, generator=generator) - 1 for values in made]
    signs = [sign.to(values) for sign, values in zip(signs, made, strict=True)]
    torch.autograd.grad(made, leaves, signs, allow_unused=True)
    return True


def _weigh(uses, totals, n, by_gradient):
    """Set what the totals of `n` inputs say of each weight."""
    powers = {
        name: float(total.outputs.sum()) / max(total.n_outputs, 1) for name, total in totals.items()
    }
    losses = {}  # of noise as large as the outputs themselves
    for name, use in uses.items():
        total = totals[name]
        squares = total.features if use.call.is_embedding else total.gradients
        if by_gradient and torch.is_tensor(squares) and squares.sum() > 0:
            use.importance = squares / n
            losses[name] = float((use.importance * total.outputs).sum() / total.n_outputs)
    typical = sorted(losses.values())[len(losses) // 2] if losses else 1.0
    for name, use in uses.items():
        total = totals[name]
        if use.importance is None:
            use.importance = torch.full_like(total.outputs, typical / (powers[name] or 1.0))
        use.importance = use.importance + SMOOTHING * use.importance.mean()
        if total.products and name in losses:
            use.power = float((use.importance * total.deviations).sum() / total.n_outputs)
            use.coherence = max(1.0, total.products / n / use.power)
        if torch.is_tensor(total.words):
            _weigh_words(use, total, n)
        if use.n_calls > 1 and torch.is_tensor(total.moments):
            use.moments, use.n_moments = total.moments / total.n_inputs, total.n_inputs


def _weigh_words(use, total, n):
    """How often each row of an embedding is read, and what its columns' errors cost.

    A row that no input had counts like the mean one.
    """
    use.words = (total.words + total.words.mean()) / (2 * n)
    if torch.is_tensor(total.features) and total.features.sum() > 0:
        use.features = total.features / total.words.sum()
    else:
        use.features = torch.ones(use.call.arguments["weight"].shape[1], dtype=torch.float64)
        use.features *= use.importance.mean() * n / total.words.sum()
