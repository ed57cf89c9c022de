"""Options of `share_weights`: for all layers, by type of layer and by name."""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize

from .clustering import check_n_clusters, cluster
from .codebook import Channels
from .shared import Owner, owners_of

VERSION = 1  # of what `to_dict` returns
# What a layer may be given: all that `cluster` takes, and which weights have a codebook in common.
OPTIONS = (*[*inspect.signature(cluster).parameters][1:], "granularity", "group_size")

LAYERS: tuple[type[nn.Module], ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
LAYERS += TRANSPOSED
GRANULARITIES = ("per_tensor", "per_channel", "per_grouped_channel")

Options = Mapping[str, Any]


@dataclass(frozen=True)
class SharingConfig:
    """Which options of `share_weights` each layer gets.

    A layer's options are those for all layers, overridden by those of its type, overridden by
    those of its name. None in place of options leaves the layers of this type or name as they are.

    Attributes
    ----------
    options : mapping of str to value
        For all layers: `n_clusters`, `granularity`, `group_size` and what `cluster` takes. A
        mapping from names of layers to values is kept under `names`.
    types : mapping of type or str to (mapping of str to value, or None), default {}
        By type of layer, such as ``nn.Linear`` or its name, "Linear", which is kept. A type stands
        for those derived from it, too; the options of the nearest type count.
    names : mapping of str to (mapping of str to value, or None), default {}
        By name of layer, such as "features.0".

    Raises
    ------
    ValueError
        On an unknown option.

    Examples
    --------
    >>> import lib
    >>> config = lib.SharingConfig({"n_clusters": 16}, names={"fc": {"n_clusters": 8}})
    >>> config.to_dict()["names"]
    {'fc': {'n_clusters': 8}}
    """

    options: Options
    types: Mapping[Any, Options | None] = field(default_factory=dict)
    names: Mapping[str, Options | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = dict(self.names)
        for option, value in self.options.items():
            for name, one in value.items() if isinstance(value, Mapping) else ():
                theirs = names.get(name, {})
                names[name] = None if theirs is None else {option: one, **theirs}
        kept = {
            "options": {k: v for k, v in self.options.items() if not isinstance(v, Mapping)},
            "types": {getattr(kind, "__name__", kind): v for kind, v in self.types.items()},
            "names": names,
        }
        for name, value in kept.items():
            object.__setattr__(self, name, value)  # how a frozen dataclass sets its fields
        for options in (self.options, *self.types.values(), *self.names.values()):
            check_known("option", options or (), OPTIONS)

    def of(self, name: str, layer: nn.Module) -> dict[str, Any] | None:
        """Options of one layer; None if it is left as it is.

        Examples
        --------
        >>> import torch
        >>> import lib
        >>> config = lib.SharingConfig({"n_clusters": 16, "init": "linear"},
        ...                            types={torch.nn.Linear: {"n_clusters": 8}},
        ...                            names={"head": None})
        >>> config.of("fc", torch.nn.Linear(4, 4))
        {'n_clusters': 8, 'init': 'linear'}
        >>> config.of("head", torch.nn.Linear(4, 4)) is None
        True
        """
        found: dict[str, Any] | None = dict(self.options)
        levels = [self.types.get(kind.__name__, {}) for kind in reversed(type(layer).__mro__)]
        for level in [*levels, self.names.get(name, {})]:
            if level is None:
                found = None
            elif level:
                found = {**(self.options if found is None else found), **level}
                if "granularity" in level and "group_size" not in level:
                    found.pop("group_size", None)  # of the granularity that was overridden
        return found

    def to_dict(self) -> dict[str, Any]:
        """The options as numbers, texts, lists and dictionaries, as JSON or YAML hold them.

        Raises
        ------
        TypeError
            For what they do not hold: a function as `init`, an array as `sample_weight`.

        Examples
        --------
        >>> import lib
        >>> lib.SharingConfig({"n_clusters": 16}, types={"Linear": None}).to_dict()
        {'version': 1, 'options': {'n_clusters': 16}, 'types': {'Linear': None}, 'names': {}}
        """
        return {
            "version": VERSION,
            "options": _plain(self.options),
            "types": {kind: _plain(options) for kind, options in self.types.items()},
            "names": {name: _plain(options) for name, options in self.names.items()},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "SharingConfig":
        """The config that `to_dict` returned these values of.

        Raises
        ------
        ValueError
            On another version, an unknown key or option.

        Examples
        --------
        >>> import lib
        >>> lib.SharingConfig.from_dict({"version": 1, "options": {"n_clusters": 4}}).options
        {'n_clusters': 4}
        """
        if values.get("version") != VERSION:
            raise ValueError(
                f"the config has version {values.get('version')!r}: this program reads {VERSION}."
            )
        check_known("key", values, ("version", "options", "types", "names"))
        return cls(**{"options": {}} | {k: v for k, v in values.items() if k != "version"})


class Selection(NamedTuple):
    """Which weights of a model are shared, and how each is clustered.

    Attributes
    ----------
    groups : dict of str to list of Owner
        By name of layer, who holds its weight: itself first, then what is tied to it.
    settings : dict of str to Settings
        By the same names.
    left : dict of str to str
        By name of every other weight of two axes or more, why it stays as it is.
    """

    groups: dict[str, list[Owner]]
    settings: dict[str, "Settings"]
    left: dict[str, str]


class Settings(NamedTuple):
    """How one weight is clustered."""

    n_clusters: int
    channels: Channels | None
    options: dict[str, Any]  # of `cluster`


def selected(
    model: nn.Module,
    n_clusters: int | Mapping[str, int] | None,
    layers: Sequence[str] | Mapping[str | type, Options | None] | None,
    config: SharingConfig | None,
    options: Options,
) -> Selection:
    """What a call of `share_weights` asks for; the parameters are its own.

    Raises
    ------
    TypeError, ValueError
        As `share_weights`.
    """
    config = _merged_config(model, n_clusters, layers, config, options)
    chosen = _chosen(model, layers, config)
    owners = owners_of(model)
    groups = _groups(model, chosen, owners)
    settings = _settings(model, groups, chosen, config)
    return Selection(groups, settings, _left(model, groups, owners, layers, config))


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


def _groups(model, layers, owners):
    """By name of layer, the owners of its weight: itself first, then what is tied to it."""
    modules = dict(model.named_modules())
    for name in layers:
        if name in modules and isinstance(modules[name], torch.jit.ScriptModule):
            raise ValueError(f"layer {name!r} is a script: share weights before torch.jit.script.")
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
        first = Owner(name, "weight")
        same = owners[id(modules[name].weight)]
        if any(isinstance(modules[owner.path], parametrize.ParametrizationList) for owner in same):
            raise ValueError(f"layer {name!r} is tied to a parametrized layer: name that one.")
        if any(isinstance(modules[owner.path], torch.jit.ScriptModule) for owner in same):
            raise ValueError(f"layer {name!r} is tied to one in a script, which cannot share.")
        groups.setdefault(same[0], [first, *(owner for owner in same if owner != first)])
    return {first.layer: [first, *tied] for first, *tied in groups.values()}


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
        found[name] = Settings(n_clusters, channels, options)
    return found


def _left(model, groups, owners, layers, config):
    """By name of every weight of two axes or more that is not shared, the reason."""
    shared = {owner for group in groups.values() for owner in group}
    left = {}
    for same in owners.values():
        owner = same[0]
        module = model.get_submodule(owner.path)
        parameter = getattr(module, owner.attribute)
        if shared.isdisjoint(same) and parameter.dim() > 1 and parameter.is_floating_point():
            left[owner.parameter] = _reason(owner, module, layers, config)
    return left


def _reason(owner, module, layers, config):
    if isinstance(module, parametrize.ParametrizationList):
        return "parametrized already"
    if owner.attribute != "weight":
        return f"the parameter {owner.attribute!r} of its module, not its weight"
    if layers is not None and not isinstance(layers, Mapping):
        return "not among the layers named"
    if config.of(owner.path, module) is None:
        return "None in place of its options"
    return f"{type(module).__name__}, which is shared where it is named"


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


def check_known(what: str, given: Iterable[Any], known: Iterable[Any]) -> None:
    """Raise ValueError for the first that is not known, with all that are."""
    known = list(known)
    for name in given:
        if name not in known:
            raise ValueError(f"{what} {name!r} is unknown: choose from {', '.join(known)}.")


def _plain(options):
    return options if options is None else {k: _plain_value(k, v) for k, v in options.items()}


def _plain_value(option, value):
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if option == "init" and not callable(value):
        return [float(center) for center in value]
    raise TypeError(
        f"{option} is a {type(value).__name__}, which to_dict cannot write: give it to "
        "share_weights beside the config."
    )
