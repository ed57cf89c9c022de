"""Weight sharing in a model: layers that compute from a codebook and labels."""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize
from tqdm import tqdm

from .clustering import check_n_clusters, cluster
from .codebook import Channels, SharedWeight
from .engine import FEW, threads

LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
LAYERS += TRANSPOSED
GRANULARITIES = ("per_tensor", "per_channel", "per_grouped_channel")


@dataclass(frozen=True)
class SharedLayer:
    """What happened to one layer. Bytes are of its weight alone, without its bias.

    Attributes
    ----------
    name : str
    n_weights, n_clusters : int
    n_codebooks : int
        1, or that of its channels or groups of channels; each has `n_clusters` centers.
    used_centers : int
        Centers that any weight has. A file needs to hold no others, so they alone count below.
    bits : int
        Of a label: log2 of the used centers of a codebook, rounded up; of the largest codebook.
    bytes_before : int
        In the layer's dtype; 0 for a tied layer, which is stored once.
    bytes_after : int
        Packed labels and the codebook in the layer's dtype; 0 for a tied layer.
    inertia : float
        Before the centers are rounded to the layer's dtype.
    n_iter : int
        Of several codebooks the most.
    converged : bool
    tied_to : str or None
        The layer whose centers and labels it has, being tied to its weight.
    """

    name: str
    n_weights: int
    n_clusters: int
    n_codebooks: int
    used_centers: int
    bits: int
    bytes_before: int
    bytes_after: int
    inertia: float
    n_iter: int
    converged: bool
    tied_to: str | None = None


@dataclass(frozen=True, eq=False)
class SharedModel:
    """A model whose layers share weights; `layers` is a tuple of `SharedLayer`, one each."""

    model: nn.Module
    layers: tuple[SharedLayer, ...]

    @property
    def n_weights(self):
        """Number of weights in these layers, tied ones once."""
        return sum(layer.n_weights for layer in self.layers if layer.tied_to is None)

    @property
    def bytes_before(self):
        """Bytes of their weights before."""
        return sum(layer.bytes_before for layer in self.layers)

    @property
    def bytes_after(self):
        """Bytes of their packed labels and codebooks."""
        return sum(layer.bytes_after for layer in self.layers)

    @property
    def ratio(self):
        """Bytes before over bytes after."""
        return self.bytes_before / self.bytes_after

    @property
    def bits_per_weight(self):
        """Mean bits of a weight, codebooks included."""
        return 8 * self.bytes_after / self.n_weights


def share_weights(
    model,
    n_clusters,
    *,
    layers=None,
    granularity="per_tensor",
    group_size=None,
    inplace=False,
    progress=False,
    **options,
):
    """Replace the weights of layers by codebook and labels.

    Each layer then computes from its centers, `layer.parametrizations.weight.original`, which can
    be trained; assigning to `layer.weight` moves the centers to the means of what is assigned.

    Parameters
    ----------
    model : nn.Module
        Not modified unless `inplace`.
    n_clusters : int or mapping of str to int
        Number of centers, of every layer or of each by name.
    layers : sequence of str, optional
        Names of modules with a `weight`; by default every convolution and `Linear`. Whatever is
        tied to one of their weights is shared with it and stays tied.
    granularity : {"per_tensor", "per_channel", "per_grouped_channel"}
        What has a codebook of its own: a layer's weight, each output channel of it, or every
        `group_size` output channels; named as in coremltools.
    group_size : int, optional
        Read by "per_grouped_channel", which needs it. The last group holds the rest.
    inplace : bool
        Modify `model`; on an error it is left as it was. Make its optimizer afterwards.
    progress : bool
        Show a progress bar.
    **options
        Passed to `cluster`.

    Returns
    -------
    SharedModel

    Raises
    ------
    TypeError, ValueError
        On unknown, missing or already parametrized layers, an unknown granularity, and as
        `cluster` does, with the layer's name.
    """
    size = _group_size(granularity, group_size)
    groups = _groups(model, layers)
    numbers = _numbers(n_clusters, groups)
    channels = {name: size and _channels(model, owners[0], size) for name, owners in groups.items()}
    weights = {name: model.get_parameter(owner.parameter) for name, (owner, *_) in groups.items()}
    results = _cluster_all(weights, numbers, channels, progress, options)
    if not inplace:
        model = copy.deepcopy(model)
    records = []
    for name, (first, *tied) in groups.items():
        weight = model.get_parameter(first.parameter)
        records.append(_record(name, weight, numbers[name], results[name]))
        records += [
            replace(records[-1], name=other.layer, bytes_before=0, bytes_after=0, tied_to=name)
            for other in tied
        ]
        _parametrize(model, groups[name], channels[name], results[name])
    return SharedModel(model, tuple(records))


def plain_weights(model):
    """Turn every shared layer back into plain weights, ties restored, in place; the model."""
    groups = {}
    for module in model.modules():
        for attribute, shared in getattr(module, "parametrizations", {}).items():
            if isinstance(shared[0], SharedWeight):
                groups.setdefault(id(shared.original), []).append((module, attribute))
    for (first, name), *tied in groups.values():
        for module, attribute in tied:
            # Removing a parametrization overwrites its `original`, which is still needed.
            shared = module.parametrizations[attribute]
            shared.original = nn.Parameter(shared.original.detach().clone())
            _own_class(module)
            parametrize.remove_parametrizations(module, attribute)
        first.parametrizations[name].original.grad = None  # of the centers
        _own_class(first)
        parametrize.remove_parametrizations(first, name)
        for module, attribute in tied:
            setattr(module, attribute, getattr(first, name))
    return model


class _Owner(NamedTuple):
    """A module's path and its attribute that holds a parameter."""

    path: str
    attribute: str

    @property
    def parameter(self):
        return f"{self.path}.{self.attribute}".removeprefix(".")

    @property
    def layer(self):
        return self.path if self.attribute == "weight" else self.parameter


def _groups(model, layers):
    """By name of layer, the owners of its weight: itself, and whatever is tied to it."""
    modules = dict(model.named_modules())
    owners = {}
    for path, module in modules.items():
        for attribute, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            owners.setdefault(id(parameter), []).append(_Owner(path, attribute))
    if layers is None:
        layers = [path for path, module in modules.items() if isinstance(module, LAYERS)]
    layers = [layers] if isinstance(layers, str) else list(layers)
    if not layers:
        raise ValueError("no layer to share: the model has no convolution or Linear; name layers.")
    for name in layers:
        if name in modules and parametrize.is_parametrized(modules[name], "weight"):
            raise ValueError(
                f"layer {name!r} is already parametrized: call plain_weights(model), or "
                "torch.nn.utils.parametrize.remove_parametrizations, first."
            )
    known = [
        owner.path for same in owners.values() for owner in same if owner.attribute == "weight"
    ]
    if unknown := [name for name in layers if name not in known]:
        raise ValueError(f"no weight parameter in {unknown}: choose layers from {known}.")
    groups = {}
    for name in layers:
        first = _Owner(name, "weight")
        same = owners[id(modules[name].weight)]
        if any(isinstance(modules[owner.path], parametrize.ParametrizationList) for owner in same):
            raise ValueError(f"layer {name!r} is tied to a parametrized layer: name that one.")
        groups.setdefault(same[0], [first, *(owner for owner in same if owner != first)])
    return {first.layer: [first, *tied] for first, *tied in groups.values()}


def _numbers(n_clusters, groups):
    """Number of centers by name of layer."""
    if not isinstance(n_clusters, Mapping):
        return dict.fromkeys(groups, check_n_clusters(n_clusters))
    if missing := [name for name in groups if name not in n_clusters]:
        raise ValueError(f"n_clusters lacks the layers {missing}: give each a number.")
    if unknown := [name for name in n_clusters if name not in groups]:
        raise ValueError(f"n_clusters names {unknown}: shared are {list(groups)}, tied ones once.")
    return {name: check_n_clusters(number) for name, number in n_clusters.items()}


def _group_size(granularity, group_size):
    """Output channels that share a codebook; None if all do."""
    if granularity not in GRANULARITIES:
        raise ValueError(
            f"granularity={granularity!r} is unknown: choose from {', '.join(GRANULARITIES)}."
        )
    if granularity != "per_grouped_channel":
        if group_size is not None:
            raise ValueError(
                f"group_size={group_size} is for 'per_grouped_channel', not {granularity!r}."
            )
        return None if granularity == "per_tensor" else 1
    if isinstance(group_size, bool) or not isinstance(group_size, int) or group_size < 1:
        raise ValueError(
            f"group_size={group_size!r} must be a positive whole number: "
            "output channels that share a codebook."
        )
    return group_size


def output_axis(module, name="a layer"):
    """Axis of a layer's weight that its output channels are.

    Raises
    ------
    ValueError
        For a transposed convolution in groups: none is.
    """
    transposed = isinstance(module, TRANSPOSED)
    if transposed and module.groups > 1:
        raise ValueError(
            f"{name} is a transposed convolution in groups, whose weight has no axis of output "
            "channels: share it by granularity='per_tensor', and do not correct it."
        )
    return int(transposed)


def _channels(model, owner, size):
    axis = output_axis(model.get_submodule(owner.path), f"layer {owner.layer!r}")
    return Channels(axis, size)


def _cluster_all(weights, numbers, channels, progress, options):
    """By name of layer, the clusterings of its weight or of its groups of channels."""
    parts = {
        name: channels[name].split(_array(weight)) if channels[name] else [weight]
        for name, weight in weights.items()
    }
    bar = tqdm(desc="sharing weights", total=sum(map(len, parts.values())), disable=not progress)

    def run(name):
        try:
            found = []
            for part in parts[name]:
                found.append(cluster(part, numbers[name], **options))
                bar.update()
            return found
        except (TypeError, ValueError) as error:
            raise type(error)(f"layer {name!r}: {error}") from error

    # Small layers run side by side, since sorts and loops use one core. Passes over a large layer
    # use all cores, and short rows are mostly Python.
    alone = [name for name in weights if channels[name] or weights[name].numel() > FEW]
    together = [name for name in weights if name not in alone]
    with bar:
        found = dict(zip(together, threads.run(run, together), strict=True))
        return found | {name: run(name) for name in alone}


def _array(weight):
    """The weight as a NumPy array where that shares its memory: hundreds of parts are cheaper."""
    plain = not weight.is_cuda and weight.dtype in (torch.float32, torch.float64)
    return weight.detach().numpy() if plain else weight


def _parametrize(model, owners, channels, results):
    """Make the owners of one weight look it up in the same centers by the same labels."""
    labels, centers = results[0].labels, results[0].centers
    if channels and torch.is_tensor(labels):
        labels = torch.cat([result.labels for result in results], channels.axis)
        centers = torch.stack([result.centers for result in results])
    elif channels:
        labels = np.concatenate([result.labels for result in results], channels.axis)
        labels = torch.from_numpy(labels)
        centers = torch.from_numpy(np.stack([result.centers for result in results]))
    _install(model, owners, SharedWeight(labels, centers.shape[-1], channels), centers)


def install(model, parameter, shared, centers):
    """Make a weight of a model, and whatever is tied to it, look itself up in a codebook.

    In place; for codebooks that did not come from `share_weights`.

    Parameters
    ----------
    model : nn.Module
    parameter : str
        Name of the weight, such as "features.0.weight".
    shared : SharedWeight
    centers : torch.Tensor of shape (n_clusters,) or (n_codebooks, n_clusters)
    """
    wanted = model.get_parameter(parameter)
    owners = [
        _Owner(path, attribute)
        for path, module in model.named_modules()
        for attribute, value in module.named_parameters(recurse=False, remove_duplicate=False)
        if value is wanted
    ]
    _install(model, owners, shared, centers)


def shared_parameters(model):
    """By name of the weight that it computes, the parametrization of every shared parameter.

    Of tied weights all names are there, with one `original`.

    Raises
    ------
    ValueError
        If no layer shares weights.
    """
    found = {
        _Owner(path, attribute).parameter: shared
        for path, module in model.named_modules(remove_duplicate=False)
        for attribute, shared in getattr(module, "parametrizations", {}).items()
        if isinstance(shared[0], SharedWeight)
    }
    if not found:
        raise ValueError("no layer of the model shares weights: call share_weights first.")
    return found


def weight_of(model, name):
    """The weight of a name, as it computes; detached."""
    layer, _, attribute = name.rpartition(".")
    return getattr(model.get_submodule(layer), attribute).detach()


def _install(model, owners, shared, centers):
    first, *tied = [(model.get_submodule(owner.path), owner.attribute) for owner in owners]
    parameter = getattr(*first)
    parameter.grad = None  # of the weights
    for module, attribute in tied:
        # Parametrizing overwrites the parameter: give it another until both are done.
        setattr(module, attribute, nn.Parameter(parameter.detach().clone()))
    # Torch asks for the codebook of the weights, which is known: computing it takes twice as long
    # as clustering did, and many times the memory.
    known = centers.detach().to(parameter)
    shared.right_inverse = lambda weight: known.clone()
    try:
        for module, attribute in (first, *tied):
            _own_class(module)
            parametrize.register_parametrization(module, attribute, shared)
            module.parametrizations[attribute].original = parameter
    finally:
        del shared.right_inverse


def _own_class(module):
    """Separate a parametrized module's class from its copies', which torch would edit with it."""
    if parametrize.is_parametrized(module):
        kind = type(module)
        module.__class__ = type(kind.__name__, kind.__bases__, dict(vars(kind)))


def _record(name, weight, n_clusters, results):
    used = [int((result.counts > 0).sum()) for result in results]
    bits = math.ceil(math.log2(max(used)))
    n_weights, size = weight.numel(), weight.element_size()
    return SharedLayer(
        name=name,
        n_weights=n_weights,
        n_clusters=n_clusters,
        n_codebooks=len(results),
        used_centers=sum(used),
        bits=bits,
        bytes_before=n_weights * size,
        bytes_after=math.ceil(n_weights * bits / 8) + sum(used) * size,
        inertia=sum(result.inertia for result in results),
        n_iter=max(result.n_iter for result in results),
        converged=all(result.converged for result in results),
    )
