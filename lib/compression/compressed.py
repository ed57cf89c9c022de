"""What `compress` returns: the model that it made, and a record of every layer."""

import dataclasses
from dataclasses import dataclass

import torch

from ..sizes import Sizes
from ..text import Columns, text_table

COLUMNS: Columns = {  # of a report
    "name": str,
    "n_weights": "{:,}".format,
    "n_clusters": "{:,}".format,
    "by_channel": str,
    "bits_per_weight": "{:.3f}".format,
    "bytes_after": "{:,}".format,
    "ratio": "{:.2f}".format,
    "predicted_loss": "{:.2e}".format,
    "corrected": str,
}


@dataclass(frozen=True)
class CompressedLayer:
    """What happened to one layer.

    Attributes
    ----------
    name : str
    n_weights, n_clusters : int
    bytes_before : int
        Of its weight.
    bytes_after : int
        Of labels, counts, centers and factors in a file, to a few bytes.
    predicted_loss : float
        Its share of the model's `predicted_loss`.
    by_channel : bool
        Whether its channels were divided by factors before they were clustered.
    corrected : str
        What its correction went into: "bias", "factors", "normalization", or several.
    n_choices : int
        Times that labels were chosen, between fits of centers and code lengths.
    tied : tuple of str
        Further names of its weight.

    Examples
    --------
    >>> import torch
    >>> import lib
    >>> model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Linear(64, 64))
    >>> layer = lib.compress(model, [torch.randn(32, 64)], bits=2).layers[0]
    >>> layer.name, layer.n_weights, layer.ratio > 8
    ('0', 4096, True)
    """

    name: str
    n_weights: int
    n_clusters: int
    bytes_before: int
    bytes_after: int
    predicted_loss: float
    by_channel: bool
    corrected: str
    n_choices: int
    tied: tuple[str, ...] = ()

    @property
    def bits_per_weight(self) -> float:
        """Bits of a weight."""
        return 8 * self.bytes_after / self.n_weights

    @property
    def ratio(self) -> float:
        """Bytes before over bytes after."""
        return self.bytes_before / self.bytes_after


@dataclass(frozen=True, eq=False)
class CompressedModel(Sizes):
    """A model whose layers share weights, and how it came about.

    Attributes
    ----------
    model : nn.Module
    layers : tuple of CompressedLayer
        In the order of computation.
    left : dict of str to str
        By name of every other weight of two axes or more, why it stayed exact.
    multiplier : float
        Squared error of the model's outputs, as a share of their squares, that a bit was worth.
    predicted_loss, measured_loss : float
        Squared error of the model's outputs on the inputs, as a share of their squares. The
        prediction is the sum over layers, to first order, before channels are corrected.
    bytes_exact : int
        Of all else in the model.
    seconds : float
    n_passes : int
        Multipliers that were tried.

    Examples
    --------
    >>> import torch
    >>> import lib
    >>> model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Linear(64, 64))
    >>> small = lib.compress(model, [torch.randn(32, 64)], bits=2)
    >>> 1.9 < small.bits_per_weight < 2.1, small.left
    (True, {})
    """

    model: torch.nn.Module
    layers: tuple[CompressedLayer, ...]
    left: dict[str, str]
    multiplier: float
    predicted_loss: float
    measured_loss: float
    bytes_exact: int
    seconds: float
    n_passes: int

    def report(self) -> str:
        """A table by layer, what stayed exact and why, and totals; text of several lines."""
        lines = [
            text_table(map(_cells, self.layers), COLUMNS),
            *self.totals(),
            f"squared error of the outputs, relative: {self.measured_loss:.2e} measured, "
            f"{self.predicted_loss:.2e} predicted before channels were corrected",
            f"{self.seconds:.0f} s, {self.n_passes} passes, multiplier {self.multiplier:.3e}",
        ]
        return "\n".join(lines)


def _cells(layer):
    """A layer's row of the report."""
    return dataclasses.asdict(layer) | {
        "bits_per_weight": layer.bits_per_weight,
        "ratio": layer.ratio,
        "by_channel": "yes" if layer.by_channel else "",
    }
