"""Weight sharing in a model: layers that compute from a codebook and labels."""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize
from tqdm import tqdm

from .clustering import check_n_clusters, cluster
from .codebook import Channels, SharedWeight
from .config import Options, SharingConfig, check_known
from .engine import FEW, threads
from .rows import cluster_rows
from .text import Columns, text_table

LAYERS: tuple[type[nn.Module], ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
LAYERS += TRANSPOSED
GRANULARITIES = ("per_tensor", "per_channel", "per_grouped_channel")
TOTALS = ("n_weights", "bytes_before", "bytes_after")
COLUMNS: Columns = {  # of a report
    "name": str,
    "n_weights": "{:,}".format,
    "n_clusters": str,
    "n_codebooks": str,
    "used_centers": "{:,}".format,
    "bits": "{:d}".format,
    "bytes_before": "{:,}".format,
    "bytes_after": "{:,}".format,
    "ratio": "{:.2f}".format,
    "inertia": "{:.4g}".format,
    "n_iter": "{:d}".format,
    "tied_to": str,
}


@dataclass(frozen=True)
class SharedLayer:
    """What became of one layer. Bytes are those of its weight, without its bias.

    Attributes
    ----------
    name : str
    n_weights, n_clusters : int
    n_codebooks : int
        1, or the number of its channels or groups of channels; each has `n_clusters` centers.
    used_centers : int
        Centers that at least one weight has, of all codebooks together. Only these are counted in
        `bits` and `bytes_after`, since a file need not hold the others.
    bits : int
        Bits of a label: log2 of the used centers of the largest codebook, rounded up.
    bytes_before : int
        In the layer's dtype; 0 for a tied layer, which is stored once.
    bytes_after : int
        Packed labels and the codebooks in the layer's dtype; 0 for a tied layer.
    inertia : float
        Before the centers are rounded to the layer's dtype; the sum over its codebooks.
    n_iter : int
        The largest over its codebooks.
    converged : bool
        Whether the clustering of every codebook converged.
    tied_to : str or None, default None
        The layer whose centers and labels this one shares, because their weights are tied.

    Examples
    --------
    >>> import torch
    >>> import lib
    >>> lib.share_weights(torch.nn.Linear(8, 8), 4).layers[0].bytes_after
    32
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


@dataclass(frozen=True, eq=False, repr=False)
class SharedModel:
    """A model whose layers share weights; the result of `share_weights`.

    Attributes
    ----------
    model : nn.Module
    layers : tuple of SharedLayer
        One for each layer that shares weights.

    Examples
    --------
    >>> import torch
    >>> import lib
    >>> lib.share_weights(torch.nn.Linear(8, 8), 4)
    SharedModel(1 layer, n_weights=64, bits_per_weight=4, bytes 256 -> 32, ratio=8)
    """

    model: nn.Module
    layers: tuple[SharedLayer, ...]

    @property
    def n_weights(self) -> int:
        """Number of weights in these layers, tied ones once."""
        return sum(layer.n_weights for layer in self.layers if layer.tied_to is None)

    @property
    def bytes_before(self) -> int:
        """Bytes of their weights before."""
        return sum(layer.bytes_before for layer in self.layers)

    @property
    def bytes_after(self) -> int:
        """Bytes of their packed labels and codebooks."""
        return sum(layer.bytes_after for layer in self.layers)

    @property
    def ratio(self) -> float:
        """Bytes before over bytes after."""
        return self.bytes_before / self.bytes_after

    @property
    def bits_per_weight(self) -> float:
        """Mean bits of a weight, codebooks included."""
        return 8 * self.bytes_after / self.n_weights

    def report(self) -> str:
        """The layers, and their sums, as a table of plain text.

        Examples
        --------
        >>> import torch
        >>> import lib
        >>> model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 4))
        >>> report = lib.share_weights(model, 4).report()
        >>> report.splitlines()[-1].split()
        ['all', 'layers', '96', '384', '56', '6.86']
        """
        rows = [asdict(layer) for layer in self.layers]
        rows.append({"name": "all layers"} | {key: getattr(self, key) for key in TOTALS})
        for row in rows:
            if row["bytes_after"]:
                row["ratio"] = row["bytes_before"] / row["bytes_after"]
        return text_table(rows, COLUMNS)

    def __repr__(self) -> str:
        n_layers = len(self.layers)
        return (
            f"SharedModel({n_layers} layer{'s' * (n_layers > 1)}, "
            f"n_weights={self.n_weights:,}, bits_per_weight={self.bits_per_weight:.4g}, "
            f"bytes {self.bytes_before:,} -> {self.bytes_after:,}, ratio={self.ratio:.4g})"
        )


def share_weights(
    model: nn.Module,
    n_clusters: int | Mapping[str, int] | None = None,
    *,
    layers: Sequence[str] | Mapping[str | type, Options | None] | None = None,
    config: SharingConfig | None = None,
    inplace: bool = False,
    progress: bool = False,
    **options: Any,
) -> SharedModel:
    """Replace the weights of layers by codebook and labels.

    Each layer then computes from its centers, ``layer.parametrizations.weight.original``, which can
    be trained; assigning to ``layer.weight`` moves the centers to the means of what is assigned.
    Its labels, ``layer.parametrizations.weight[0].labels``, are documented at
    `lib.codebook.SharedWeight`.

    Parameters
    ----------
    model : nn.Module
        Not modified unless `inplace`.
    n_clusters : int or mapping of str to int, optional
        Number of centers, of every layer or of each by name. Needed unless `layers` or `config`
        gives it to every layer.
    layers : sequence of str, or mapping of (str or type) to (mapping or None), optional
        A sequence names the layers to share: modules with a `weight`. By default these are all
        convolutions and `Linear`. Tied weights are shared together and stay tied.

        A mapping gives options of their own to the layers of a type (such as ``nn.Linear``, or its
        name) and to layers by name; a name counts more than a type, and both more than the options
        for all. Layers that it leaves out take these. Layers of another type than the default are
        shared when they are named here; None instead of options leaves layers as they are.
    config : SharingConfig, optional
        All these options as one object. Options given beside it replace its own.
    inplace : bool, default False
        Modify `model`; on an error it is left as it was. Make its optimizer afterwards.
    progress : bool, default False
        Show a progress bar.
    **options
        For all layers, what `cluster` takes, with its defaults, and

        granularity : {"per_tensor", "per_channel", "per_grouped_channel"}, default "per_tensor"
            What has a codebook of its own: a layer's weight, each output channel of it, or every
            `group_size` output channels; named as in coremltools.
        group_size : int
            Read by "per_grouped_channel", which needs it. The last group holds the rest.

        `sample_weight` is of the shape of a layer's weight, so give it by name, or as a mapping
        from names of layers to arrays, such as `lib.compression.fisher` returns.

    Returns
    -------
    SharedModel

    Raises
    ------
    TypeError, ValueError
        On unknown names, types and options, layers that are parametrized already, and as `cluster`
        does, with the layer's name.

    Examples
    --------
    >>> import torch
    >>> import lib
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Linear(8, 8))
    >>> shared = lib.share_weights(model, 16, layers={torch.nn.Linear: {"n_clusters": 4}})
    >>> [len(layer.weight.unique()) for layer in shared.model]
    [16, 4]
    """
    config = _merged_config(model, n_clusters, layers, config, options)
    chosen = _chosen(model, layers, config)
    groups = _groups(model, chosen)
    settings = _settings(model, groups, chosen, config)
    weights = {name: model.get_parameter(owner.parameter) for name, (owner, *_) in groups.items()}
    results = _cluster_all(weights, settings, progress)
    if not inplace:
        model = copy.deepcopy(model)
    records: list[SharedLayer] = []
    for name, (first, *tied) in groups.items():
        weight = model.get_parameter(first.parameter)
        records.append(_record(name, weight, settings[name].n_clusters, results[name]))
        records += [
            replace(records[-1], name=other.layer, bytes_before=0, bytes_after=0, tied_to=name)
            for other in tied
        ]
        _parametrize(model, groups[name], settings[name].channels, results[name])
    return SharedModel(model, tuple(records))


def plain_weights(model: nn.Module) -> nn.Module:
    """Turn every shared layer back into plain weights, in place; tied weights stay tied.

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
    groups: dict[int, list] = {}
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


def _merged_config(model, n_clusters, layers, config, options):
    """All options of a call as one config; its names and types are the model's."""
    config = SharingConfig({}) if config is None else config
    if n_clusters is not None:
        options = {"n_clusters": n_clusters, **options}
    modules = {name: module for name, module in model.named_modules() if _has_weight(module)}
    kinds = list(dict.fromkeys(kind for module in modules.values() for kind in _kinds(module)))
    types, names = dict(config.types), dict(config.names)
    for key, theirs in layers.items() if isinstance(layers, Mapping) else ():
        is_type = isinstance(key, type) or (key not in modules and key in kinds)
        (types if is_type else names)[key] = theirs
    config = SharingConfig({**config.options, **options}, types, names)
    check_known("type of layer", config.types, kinds)
    if unknown := [name for name in config.names if name not in modules]:
        raise ValueError(
            f"the mapping names {unknown}: choose from the layers {list(modules)} "
            f"and the types {kinds}."
        )
    return config


def _has_weight(module):
    parameters = dict(module.named_parameters(recurse=False))
    return "weight" in parameters or parametrize.is_parametrized(module, "weight")


def _kinds(module):
    """Names of a module's types, from its own up to the last before `nn.Module`."""
    return [kind.__name__ for kind in type(module).__mro__ if kind not in nn.Module.__mro__]


def _chosen(model, layers, config):
    """Names of the layers to share, without those that are only tied to one."""
    modules = dict(model.named_modules())
    if layers is None or isinstance(layers, Mapping):
        chosen = [
            name
            for name, module in modules.items()
            if name in config.names
            or isinstance(module, LAYERS)
            or (_has_weight(module) and not config.types.keys().isdisjoint(_kinds(module)))
        ]
    else:
        chosen = [layers] if isinstance(layers, str) else list(layers)
        if left_out := [name for name in config.names if name not in chosen]:
            raise ValueError(f"the mapping names {left_out}: shared are {chosen}.")
    kept = [n for n in chosen if n not in modules or config.of(n, modules[n]) is not None]
    if not kept:
        raise ValueError("no layer to share: the model has no convolution or Linear; name layers.")
    return kept


def _groups(model, layers):
    """By name of layer, the owners of its weight: itself first, then what is tied to it."""
    modules = dict(model.named_modules())
    owners = {}
    for path, module in modules.items():
        for attribute, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            owners.setdefault(id(parameter), []).append(_Owner(path, attribute))
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


class _Settings(NamedTuple):
    """How one weight is clustered."""

    n_clusters: int
    channels: Channels | None
    options: dict[str, Any]  # of `cluster`


def _settings(model, groups, chosen, config):
    """By name of layer, how its weight is clustered."""
    for name, owners in groups.items():
        if kept := [o.path for o in owners if config.names.get(o.path, {}) is None]:
            raise ValueError(f"layer {name!r} is tied to {kept}: give None to all of them or none.")
    by_layer = {
        name: _options(model, [owner.path for owner in owners if owner.path in chosen], config)
        for name, owners in groups.items()
    }
    if missing := [name for name, options in by_layer.items() if "n_clusters" not in options]:
        raise ValueError(f"n_clusters lacks the layers {missing}: give each a number.")
    found = {}
    for name, options in by_layer.items():
        try:
            n_clusters = check_n_clusters(options.pop("n_clusters"))
            size = _group_size(
                options.pop("granularity", "per_tensor"), options.pop("group_size", None)
            )
        except (TypeError, ValueError) as error:
            raise type(error)(f"layer {name!r}: {error}") from error
        channels = None if size is None else _channels(model, groups[name][0], size)
        found[name] = _Settings(n_clusters, channels, options)
    return found


def _options(model, tied, config):
    """The options that tied layers have in common; those given by name decide."""
    deciding = [name for name in tied if name in config.names] or tied
    first, *others = [config.of(name, model.get_submodule(name)) for name in deciding]
    for name, options in zip(deciding[1:], others, strict=True):
        if options.keys() != first.keys() or not all(
            np.array_equal(options[key], first[key]) for key in first
        ):
            raise ValueError(
                f"layers {deciding[0]!r} and {name!r} are tied, but have different options: "
                "give only one of them options by its name."
            )
    return first


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


def output_axis(module: nn.Module, name: str = "a layer") -> int:
    """The axis of a layer's weight that indexes its output channels.

    Raises
    ------
    ValueError
        For a transposed convolution in groups, which has no such axis.
    """
    if isinstance(module, TRANSPOSED) and module.groups > 1:
        raise ValueError(
            f"{name} is a transposed convolution in groups, whose weight has no axis of output "
            "channels: share it by granularity='per_tensor', and do not correct it."
        )
    return int(isinstance(module, TRANSPOSED))


def _channels(model, owner, size):
    axis = output_axis(model.get_submodule(owner.path), f"layer {owner.layer!r}")
    return Channels(axis, size)


def _cluster_all(weights, settings, progress):
    """By name of layer, the codebooks of its weight."""
    n_codebooks = {
        name: settings[name].channels.n_groups(weight.shape) if settings[name].channels else 1
        for name, weight in weights.items()
    }
    bar = tqdm(desc="sharing weights", total=sum(n_codebooks.values()), disable=not progress)

    def run(name):
        try:
            found = _codebooks(weights[name], settings[name])
        except (TypeError, ValueError) as error:
            raise type(error)(f"layer {name!r}: {error}") from error
        bar.update(n_codebooks[name])
        return found

    # Small layers run side by side, since sorts and loops use one core. Passes over a large layer
    # use all cores, and so do rows.
    alone = [name for name in weights if settings[name].channels or weights[name].numel() > FEW]
    together = [name for name in weights if name not in alone]
    with bar:
        found = dict(zip(together, threads.run(run, together), strict=True))
        return found | {name: run(name) for name in alone}


class _Codebooks(NamedTuple):
    """Clusterings of a weight, or of each of its groups of channels."""

    centers: torch.Tensor  # (k,), or (n_codebooks, k)
    labels: torch.Tensor  # of the weight's shape
    counts: torch.Tensor  # as the centers
    inertia: float
    n_iter: int
    converged: bool


def _codebooks(weight, settings):
    if settings.channels is None:
        found = cluster(weight, settings.n_clusters, **settings.options)
        return _Codebooks(
            found.centers,
            found.labels,
            found.counts,
            found.inertia,
            found.n_iter,
            found.converged,
        )
    (axis, size), shape = settings.channels, tuple(weight.shape)
    weight, options = weight.detach().movedim(axis, 0), dict(settings.options)
    mass = options.pop("sample_weight", None)
    if mass is not None:
        mass = torch.as_tensor(mass)
        if tuple(mass.shape) != shape:
            raise ValueError(
                f"sample_weight has shape {tuple(mass.shape)}: expected {shape}, that of the "
                "weights."
            )
        mass = mass.movedim(axis, 0)
    whole = len(weight) - len(weight) % size  # channels in whole groups; one group has the rest
    found = []
    for part in (slice(0, whole), slice(whole, None)):
        if len(weight[part]):
            width = weight[part].numel() // -(-len(weight[part]) // size)
            theirs = None if mass is None else mass[part].reshape(-1, width)
            rows = weight[part].reshape(-1, width)
            found.append(cluster_rows(rows, settings.n_clusters, sample_weight=theirs, **options))
    labels = torch.cat([rows.labels.flatten() for rows in found]).view(weight.shape)
    return _Codebooks(
        torch.cat([rows.centers for rows in found]),
        labels.movedim(0, axis).contiguous(),
        torch.cat([rows.counts for rows in found]),
        sum(float(rows.inertia.sum()) for rows in found),
        max(int(rows.n_iter.max()) for rows in found),
        all(bool(rows.converged.all()) for rows in found),
    )


def _parametrize(model, owners, channels, codebooks):
    """Make the owners of one weight look it up in the same centers by the same labels."""
    shared = SharedWeight(codebooks.labels, codebooks.centers.shape[-1], channels)
    _install(model, owners, shared, codebooks.centers)


def install(model: nn.Module, parameter: str, shared: SharedWeight, centers: torch.Tensor) -> None:
    """Replace a weight, and what is tied to it, by codebook and labels, in place.

    For codebooks that do not come from `share_weights`.

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


def shared_parameters(model: nn.Module) -> dict[str, parametrize.ParametrizationList]:
    """The parametrization of every shared weight, by the weight's name.

    Tied weights are listed under all their names; their `original` is one parameter.

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


def weight_of(model: nn.Module, name: str) -> torch.Tensor:
    """A weight by its name, as the model computes it; detached."""
    layer, _, attribute = name.rpartition(".")
    return getattr(model.get_submodule(layer), attribute).detach()


def _install(model, owners, shared, centers):
    first, *tied = [(model.get_submodule(owner.path), owner.attribute) for owner in owners]
    parameter = getattr(*first)
    parameter.grad = None  # of the weights
    for module, attribute in tied:
        # Parametrizing overwrites the parameter: use a copy until both are done.
        setattr(module, attribute, nn.Parameter(parameter.detach().clone()))
    # torch gets the codebook by `right_inverse`, which would take twice as long as clustering did,
    # and many times the memory. The codebook is known.
    known = centers.detach().to(parameter)
    shared.right_inverse = lambda weight: known.clone()
    try:
        for module, attribute in (first, *tied):
            _own_class(module)
            parametrize.register_parametrization(module, attribute, shared)
            module.parametrizations[attribute].original = parameter
            type(module).__getstate__ = _refuse_pickling
    finally:
        del shared.right_inverse


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


def _record(name, weight, n_clusters, codebooks):
    used = (codebooks.counts > 0).sum(-1)
    total, bits = int(used.sum()), math.ceil(math.log2(int(used.max())))
    n_weights, size = weight.numel(), weight.element_size()
    return SharedLayer(
        name=name,
        n_weights=n_weights,
        n_clusters=n_clusters,
        n_codebooks=used.numel(),
        used_centers=total,
        bits=bits,
        bytes_before=n_weights * size,
        bytes_after=math.ceil(n_weights * bits / 8) + total * size,
        inertia=codebooks.inertia,
        n_iter=codebooks.n_iter,
        converged=codebooks.converged,
    )
