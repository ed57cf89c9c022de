"""Weight sharing in a model: layers that compute from a codebook and labels."""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import nn
from tqdm import tqdm

from .clustering import cluster
from .codebook import SharedWeight
from .config import Options, SharingConfig, selected
from .engine import FEW, threads
from .rows import cluster_rows
from .shared import install_all, plain_weights
from .sizes import Sizes, bytes_of
from .text import Columns, text_table

__all__ = ["SharedLayer", "SharedModel", "plain_weights", "share_weights"]

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
class SharedModel(Sizes):
    """A model whose layers share weights; the result of `share_weights`.

    Attributes
    ----------
    model : nn.Module
    layers : tuple of SharedLayer
        One for each layer that shares weights.
    left : dict of str to str, default {}
        By name of every other weight of two axes or more, why it stayed as it was.
    bytes_exact : int, default 0
        Of all else in the model: these weights, biases, normalization.

    Examples
    --------
    >>> import torch
    >>> import lib
    >>> lib.share_weights(torch.nn.Linear(8, 8), 4)
    SharedModel(1 layer, n_weights=64, bits_per_weight=4, bytes 256 -> 32, ratio=8)
    """

    model: nn.Module
    layers: tuple[SharedLayer, ...]
    left: Mapping[str, str] = field(default_factory=dict)
    bytes_exact: int = 0

    def report(self) -> str:
        """A table by layer, what stayed as it was and why, and sums; text of several lines.

        Examples
        --------
        >>> import torch
        >>> import lib
        >>> model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 4))
        >>> report = lib.share_weights(model, 4).report()
        >>> report.splitlines()[-2]
        'layers: 384 to 56 bytes, 6.86 times smaller, 4.667 bits a weight'
        """
        rows = [asdict(layer) for layer in self.layers]
        for row in rows:
            if row["bytes_after"]:
                row["ratio"] = row["bytes_before"] / row["bytes_after"]
        return "\n".join([text_table(rows, COLUMNS), *self.totals()])

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
    selection = selected(model, n_clusters, layers, config, options)
    groups, settings = selection.groups, selection.settings
    names = {name: owners[0].parameter for name, owners in groups.items()}
    weights = {name: model.get_parameter(parameter) for name, parameter in names.items()}
    results = _cluster_all(weights, settings, progress)
    records: list[SharedLayer] = []
    for name, (_, *tied) in groups.items():
        records.append(_record(name, weights[name], settings[name].n_clusters, results[name]))
        records += [
            replace(records[-1], name=other.layer, bytes_before=0, bytes_after=0, tied_to=name)
            for other in tied
        ]
    bytes_exact = bytes_of(model) - sum(record.bytes_before for record in records)
    if not inplace:
        model = copy.deepcopy(model)
    codebooks = {
        parameter: (_shared_weight(results[name], settings[name].channels), results[name].centers)
        for name, parameter in names.items()
    }
    install_all(model, codebooks)
    return SharedModel(model, tuple(records), selection.left, bytes_exact)


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


def _shared_weight(codebooks, channels):
    return SharedWeight(codebooks.labels, codebooks.centers.shape[-1], channels)


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
