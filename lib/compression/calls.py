"""The calls in which a model computes with its weights: seen, and answered in the model's place.

A `torch.overrides.TorchFunctionMode` sees every function of torch that a forward pass calls. So a
weight is found wherever it is used: in a layer, in the projections of an attention, in two places
at once, or in a function of someone's own. The model itself is not touched.
"""

import contextlib
import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

CONVOLUTIONS = (torch.conv1d, torch.conv2d, torch.conv3d)
TRANSPOSED = (torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d)
_CONVOLVED = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_BACK = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
_EMBEDDED = ("input", "weight", "padding_idx", "max_norm", "norm_type")
ARGUMENTS = (
    {functional.linear: ("input", "weight", "bias"), functional.embedding: _EMBEDDED}
    | dict.fromkeys(CONVOLUTIONS, _CONVOLVED)
    | dict.fromkeys(TRANSPOSED, _BACK)
)
_ATTENTION = inspect.signature(functional.multi_head_attention_forward)


@dataclass(frozen=True, eq=False)
class Call:
    """One use of a weight.

    Attributes
    ----------
    name : str
        Of the weight.
    function : callable
        A key of `ARGUMENTS`.
    arguments : dict
        By name; `input` and `weight` among them.
    """

    name: str
    function: Callable
    arguments: dict[str, Any]

    @property
    def input(self) -> torch.Tensor:
        """The input."""
        return self.arguments["input"]

    def output(
        self, weight: torch.Tensor | None = None, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        """What the call computes, by its own weight and bias or by others in their place."""
        given = dict(self.arguments)
        if weight is not None:
            given["weight"] = weight
        if bias is not None:
            given["bias"] = bias
        return self.function(**given)

    @property
    def spatial(self) -> int:
        """Number of spatial axes: 0 for a linear layer or an embedding."""
        return self.arguments["weight"].dim() - 2 if self.is_convolution else 0

    @property
    def is_convolution(self) -> bool:
        """Whether it is a convolution, transposed ones included."""
        return self.function in CONVOLUTIONS or self.is_transposed

    @property
    def is_transposed(self) -> bool:
        """Whether it is a transposed convolution."""
        return self.function in TRANSPOSED

    @property
    def is_embedding(self) -> bool:
        """Whether it looks rows of the weight up."""
        return self.function is functional.embedding

    @property
    def groups(self) -> int:
        """Groups of channels, which have inputs of their own."""
        return self.arguments.get("groups", 1) if self.is_convolution else 1

    def by_channel(self, outputs: torch.Tensor) -> torch.Tensor:
        """Outputs as (channels, everything else)."""
        axis = outputs.dim() - 1 - self.spatial
        return outputs.movedim(axis, 0).flatten(1)

    def channels(self, values: torch.Tensor) -> torch.Tensor:
        """Values of the channels, to be broadcast over the outputs."""
        return values.view(-1, *[1] * self.spatial)

    def moved(
        self, outputs: torch.Tensor, slope: torch.Tensor, shift: torch.Tensor
    ) -> torch.Tensor:
        """Outputs whose channels got a factor and a shift."""
        slope, shift = (self.channels(values).to(outputs) for values in (slope, shift))
        return torch.addcmul(shift, outputs, slope)

    @property
    def has_factors(self) -> bool:
        """Whether the weight has an axis of output channels: not if transposed and in groups."""
        return not (self.is_transposed and self.groups > 1)

    def factors(self, values: torch.Tensor) -> torch.Tensor:
        """Factors of the channels, to be broadcast over the weight."""
        axis = int(self.is_transposed or self.is_embedding)
        n = self.arguments["weight"].dim()
        return values.view([-1 if i == axis else 1 for i in range(n)])


class Uses(TorchFunctionMode):
    """Answers the calls that use a model's weights, and notes every other use of them.

    Parameters
    ----------
    weights : dict of int to str
        Names of the weights by their `id`.
    answer : callable
        From a `Call` to its output.
    note : callable, optional
        Given the name of a weight and that of a function in which it was used otherwise.
    see : callable, optional
        Given every function, its arguments and what it returned.
    """

    def __init__(self, weights, answer, note=None, see=None):
        super().__init__()
        self.weights, self.answer, self.note, self.see = weights, answer, note, see

    def __torch_function__(self, function, types, args=(), kwargs=None):
        """Answer a call, or compute it."""
        kwargs = kwargs or {}
        if function is functional.multi_head_attention_forward:
            return self._attention(_ATTENTION.bind(*args, **kwargs))
        if function in ARGUMENTS:
            given = dict(zip(ARGUMENTS[function], args, strict=False)) | kwargs
            if self._known(given):
                return self._answered(function, given)
        result = function(*args, **kwargs)
        if self.note is not None:
            self._note(function, (*args, *kwargs.values()), result)
        if self.see is not None:
            self.see(function, (*args, *kwargs.values()), result)
        return result

    def _known(self, given):
        return id(given["weight"]) in self.weights and given.get("max_norm") is None

    def _answered(self, function, given):
        return self.answer(Call(self.weights[id(given["weight"])], function, given))

    def _note(self, function, given, result):
        """Of a function that makes tensors of a weight; one that asks for its shape does not."""
        if not any(isinstance(value, torch.Tensor) for value in _flat([result])):
            return
        for value in _flat(given):
            if id(value) in self.weights and value is not result:
                name = getattr(function, "__qualname__", str(function))
                self.note(self.weights[id(value)], name.split(".")[-1])

    def _linear(self, inputs, weight, bias):
        given = {"input": inputs, "weight": weight, "bias": bias}
        return (
            self._answered(functional.linear, given)
            if self._known(given)
            else functional.linear(**given)
        )

    def _attention(self, bound):
        """An attention whose projections are calls of their own: torch's has identities for them.

        Its output projection never calls the module that holds it.
        """
        bound.apply_defaults()
        given = bound.arguments
        inputs = [given[part] for part in ("query", "key", "value")]
        biases = [None] * 3 if given["in_proj_bias"] is None else given["in_proj_bias"].chunk(3)
        if given["use_separate_proj_weight"]:
            weights = [given[f"{part}_proj_weight"] for part in "qkv"]
            projected = list(map(self._linear, inputs, weights, biases))
        else:
            projected = self._packed(inputs, given["in_proj_weight"], given["in_proj_bias"])
        identity = torch.eye(given["embed_dim_to_check"]).to(projected[0])
        given |= dict(zip(("query", "key", "value"), projected, strict=True))
        given |= {"in_proj_weight": identity.repeat(3, 1), "in_proj_bias": None}
        given |= {"use_separate_proj_weight": False}
        weight, bias = given["out_proj_weight"], given["out_proj_bias"]
        given |= {"out_proj_weight": identity, "out_proj_bias": None}
        attended, shares = functional.multi_head_attention_forward(*bound.args, **bound.kwargs)
        return self._linear(attended, weight, bias), shares

    def _packed(self, inputs, weight, bias):
        """Queries, keys and values of one weight, from one input or from several."""
        query, key, value = inputs
        if query is key and key is value:
            return list(self._linear(query, weight, bias).chunk(3, -1))
        width = query.shape[-1]
        rows = torch.cat([part.reshape(-1, width) for part in inputs])
        found = self._linear(rows, weight, bias).split([part.numel() // width for part in inputs])
        return [
            part.chunk(3, -1)[i].reshape((*inputs[i].shape[:-1], -1))
            for i, part in enumerate(found)
        ]


def weights_of(model: nn.Module) -> dict[int, str]:
    """Names by `id` of the floating-point parameters of two axes or more, tied ones once.

    Raises
    ------
    ValueError
        If the model has parameters on the meta device, which have no values.
    """
    if without := [name for name, parameter in model.named_parameters() if parameter.is_meta]:
        raise ValueError(f"{without[0]} is on the meta device, which has no values: load them.")
    return {
        id(parameter): name
        for name, parameter in model.named_parameters()
        if parameter.dim() > 1 and parameter.is_floating_point()
    }


def weight_names(model: nn.Module, layers: Iterable[str]) -> list[str]:
    """Names of weights, of the names of modules or of parameters; of tied ones the first.

    Raises
    ------
    ValueError
        For a name that the model does not have.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    first: dict[int, str] = {}
    for name, parameter in parameters.items():
        first.setdefault(id(parameter), name)
    found = [name if name in parameters else f"{name}.weight".lstrip(".") for name in layers]
    if unknown := [name for name in found if name not in parameters]:
        known = [name for name, p in parameters.items() if p.dim() > 1]
        raise ValueError(f"the model has no weights {unknown}: choose from {known}.")
    return [first[id(parameters[name])] for name in found]


@contextlib.contextmanager
def plain_attention() -> Iterator[None]:
    """Attention step by step: torch's fused one hides its weights, and no exporter knows it."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


@contextlib.contextmanager
def evaluating(*models: nn.Module) -> Iterator[None]:
    """Evaluation mode with plain attention; both put back."""
    modes = [(module, module.training) for model in models for module in model.modules()]
    try:
        for model in models:
            model.eval()
        with plain_attention():
            yield
    finally:
        for module, training in modes:
            module.training = training


def called(model: nn.Module, batch: Any) -> Any:
    """The model's outputs of one batch: a tensor, a dictionary or a tuple of arguments."""
    if isinstance(batch, dict):
        return model(**batch)
    if isinstance(batch, (tuple, list)):
        return model(*batch)
    return model(batch)


def n_inputs(batch: Any) -> int:
    """Inputs in a batch: the length of the first axis of its first tensor."""
    first = next((value for value in _flat([batch]) if isinstance(value, torch.Tensor)), None)
    if first is None or first.dim() == 0:
        raise ValueError(f"a batch is a {type(batch).__name__} without a tensor of inputs.")
    return len(first)


def mapped(values: Any, function: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """Tensors with a function applied, wherever they are in dictionaries, tuples and lists."""
    if isinstance(values, dict):
        return {key: mapped(inner, function) for key, inner in values.items()}
    if isinstance(values, (tuple, list)):
        found = [mapped(inner, function) for inner in values]
        return type(values)(*found) if hasattr(values, "_fields") else type(values)(found)
    return function(values) if isinstance(values, torch.Tensor) else values


def part(batch: Any, index: Any) -> Any:
    """Some of a batch's inputs, chosen by a slice or by a tensor of numbers.

    What has no axis of inputs, as a number or a tensor of another length, stays as it is.
    """
    n = n_inputs(batch)
    return mapped(batch, lambda value: value[index] if value.dim() and len(value) == n else value)


def floats(outputs: Any) -> list[torch.Tensor]:
    """Floating-point tensors among a model's outputs, in order."""
    return [
        value
        for value in _flat([outputs])
        if isinstance(value, torch.Tensor) and value.is_floating_point()
    ]


def _flat(values):
    for value in values:
        if isinstance(value, dict):
            yield from _flat(value.values())
        elif isinstance(value, (tuple, list)):
            yield from _flat(value)
        elif hasattr(value, "__dataclass_fields__") and not isinstance(value, (type, nn.Module)):
            yield from _flat(vars(value).values())
        else:
            yield value
