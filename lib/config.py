"""Options of `share_weights`: for all layers, by type of layer and by name."""

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import nn

from .clustering import cluster

VERSION = 1  # of what `to_dict` returns
# What a layer may be given: all that `cluster` takes, and which weights have a codebook in common.
OPTIONS = (*[*inspect.signature(cluster).parameters][1:], "granularity", "group_size")

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
