"""Shared weights in a model: found, put in, and turned back into plain ones."""

import contextlib
import copy
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.utils import parametrize

from .codebook import SharedWeight


class Owner(NamedTuple):
    """A module's path and its attribute that holds a parameter."""

    path: str
    attribute: str

    @property
    def parameter(self) -> str:
        """Name of the parameter, such as "features.0.weight"."""
        return f"{self.path}.{self.attribute}".removeprefix(".")

    @property
    def layer(self) -> str:
        """Name of the layer: that of the module, if the parameter is its weight."""
        return self.path if self.attribute == "weight" else self.parameter


def owners_of(model: nn.Module) -> dict[int, list[Owner]]:
    """Who holds each parameter, by the parameter's `id`: a tied one has several owners."""
    owners: dict[int, list[Owner]] = {}
    for path, module in model.named_modules():
        for attribute, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            owners.setdefault(id(parameter), []).append(Owner(path, attribute))
    return owners


def shared_parameters(model: nn.Module) -> dict[str, parametrize.ParametrizationList]:
    """The parametrization of every shared weight, by the weight's name.

    Tied weights are listed under all their names; their `original` is one parameter.

    Raises
    ------
    ValueError
        If no layer shares weights, or one that does has a further parametrization, such as an
        adapter: codebook and labels say only a part of its weight.
    """
    found = {
        Owner(path, attribute).parameter: shared
        for path, module in model.named_modules(remove_duplicate=False)
        for attribute, shared in getattr(module, "parametrizations", {}).items()
        if any(isinstance(step, SharedWeight) for step in shared)
    }
    if not found:
        raise ValueError("no layer of the model shares weights: call share_weights first.")
    for name, shared in found.items():
        if others := [type(step).__name__ for step in shared if not isinstance(step, SharedWeight)]:
            raise ValueError(
                f"{name} has a further parametrization, {', '.join(others)}, that its codebook "
                "does not hold: remove it, or call plain_weights and share the weights again."
            )
    return found


def weight_of(model: nn.Module, name: str) -> torch.Tensor:
    """A weight by its name, as the model computes it; detached."""
    layer, _, attribute = name.rpartition(".")
    return getattr(model.get_submodule(layer), attribute).detach()


def install(model: nn.Module, parameter: str, shared: SharedWeight, centers: torch.Tensor) -> None:
    """Replace a weight, and what is tied to it, by codebook and labels, in place.

    Parameters
    ----------
    model : nn.Module
    parameter : str
        Name of the weight, such as "features.0.weight".
    shared : SharedWeight
    centers : torch.Tensor of shape (n_clusters,) or (n_codebooks, n_clusters)
    """
    install_all(model, {parameter: (shared, centers)})


def install_all(
    model: nn.Module, codebooks: Mapping[str, tuple[SharedWeight, torch.Tensor]]
) -> None:
    """`install` several weights, by name: all of them or, on an error, none."""
    owners = owners_of(model)
    with as_it_was_on_error(model):
        for name, (shared, centers) in codebooks.items():
            same = owners[id(model.get_parameter(name))]
            places = [(model.get_submodule(owner.path), owner.attribute) for owner in same]
            _install(places, shared, centers)


def _install(places, shared, centers):
    (first, attribute), *tied = places
    parameter = getattr(first, attribute)
    parameter.grad = None  # of the weights
    for module, name in tied:
        # Parametrizing overwrites the parameter: use a copy until both are done.
        setattr(module, name, nn.Parameter(parameter.detach().clone()))
    # torch gets the codebook by `right_inverse`, which would take twice as long as clustering did,
    # and many times the memory. The codebook is known.
    known = centers.detach().to(parameter)
    shared.right_inverse = lambda weight: known.clone()
    try:
        for module, name in places:
            _own_class(module)
            parametrize.register_parametrization(module, name, shared)
            module.parametrizations[name].original = parameter
            type(module).__getstate__ = _refuse_pickling
    finally:
        del shared.right_inverse


@contextlib.contextmanager
def as_it_was_on_error(model: nn.Module, values: Iterable[torch.Tensor] = ()) -> Iterator[None]:
    """Put a model back if the block ends by an exception, KeyboardInterrupt included.

    Its modules get their parameters, buffers, children, classes and modes again, and parameters
    their gradients.

    Parameters
    ----------
    model : nn.Module
    values : iterable of torch.Tensor, optional
        Parameters and buffers that the block writes to in place, of which copies are kept.
    """
    modules = [
        (
            module,
            type(module),
            module.training,
            [(table, copy.copy(table)) for table in _tables(module)],
        )
        for module in model.modules()
    ]
    tensors = [
        (tensor, tensor.data, tensor.grad, tensor.requires_grad)
        for tensor in (*model.parameters(), *model.buffers())
    ]
    copies = [(value, value.detach().clone()) for value in values]
    try:
        yield
    except BaseException:
        for module, kind, training, tables in modules:
            module.__class__ = kind
            for table, before in tables:
                table.clear()
                table.update(before)
            module.training = training
        with torch.no_grad():
            for tensor, data, gradient, wanted in tensors:
                tensor.data = data
                tensor.requires_grad_(wanted)
                tensor.grad = gradient
            for value, before in copies:
                value.copy_(before)
        raise


def _tables(module):
    """Where a module keeps its parameters, buffers and children; a script's cannot change."""
    if isinstance(module, torch.jit.ScriptModule):
        return ()
    return module._parameters, module._buffers, module._modules


def _refuse_pickling(module):
    """In place of torch's refusal, which names a state_dict alone."""
    raise RuntimeError(
        "layers that share weights cannot be pickled: write the model by compression.save(model, "
        "path), keep its state_dict(), or pickle plain_weights(copy.deepcopy(model))."
    )


def _own_class(module):
    """Give a parametrized module a class of its own: copies share it, and torch edits classes."""
    if parametrize.is_parametrized(module):
        kind = type(module)
        module.__class__ = type(kind.__name__, kind.__bases__, dict(vars(kind)))


def plain_weights(model: nn.Module) -> nn.Module:
    """Turn every shared layer back into plain weights, in place; tied weights stay tied.

    Further parametrizations of a shared weight go into the plain one, and untie it.

    Parameters
    ----------
    model : nn.Module

    Returns
    -------
    nn.Module
        The model.

    Examples
    --------
    >>> import torch
    >>> import lib
    >>> lib.plain_weights(lib.share_weights(torch.nn.Linear(4, 4), 2).model)
    Linear(in_features=4, out_features=4, bias=True)
    """
    groups: dict[int, list[tuple[Any, str]]] = {}
    for module in model.modules():
        for attribute, shared in getattr(module, "parametrizations", {}).items():
            if any(isinstance(step, SharedWeight) for step in shared):
                groups.setdefault(id(shared.original), []).append((module, attribute))
    for group in groups.values():
        alone = all(len(module.parametrizations[name]) == 1 for module, name in group)
        (first, name), *tied = group
        for module, attribute in tied:
            # Removing a parametrization overwrites its `original`, which is still needed.
            shared = module.parametrizations[attribute]
            shared.original = nn.Parameter(shared.original.detach().clone())
            _own_class(module)
            parametrize.remove_parametrizations(module, attribute)
        first.parametrizations[name].original.grad = None  # of the centers
        _own_class(first)
        parametrize.remove_parametrizations(first, name)
        for module, attribute in tied if alone else ():
            setattr(module, attribute, getattr(first, name))
    return model
