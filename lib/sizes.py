"""What layers had and have in bytes: the sums of every compressed model."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn


class Sizes:
    """Sums over layers with `n_weights`, `bytes_before` and `bytes_after`; tied ones count once.

    Attributes
    ----------
    layers : sequence of records
    left : mapping of str to str
        By name of every other weight of two axes or more, why it stayed as it was.
    bytes_exact : int
        Of all else in the model.
    """

    layers: Sequence[Any]
    left: Mapping[str, str]
    bytes_exact: int

    @property
    def n_weights(self) -> int:
        """Number of weights in the layers."""
        return sum(layer.n_weights for layer in self.layers if layer.bytes_before)

    @property
    def bytes_before(self) -> int:
        """Bytes of their weights before."""
        return sum(layer.bytes_before for layer in self.layers)

    @property
    def bytes_after(self) -> int:
        """Bytes of their labels, codebooks and factors."""
        return sum(layer.bytes_after for layer in self.layers)

    @property
    def ratio(self) -> float:
        """Bytes of the layers before over after."""
        return self.bytes_before / self.bytes_after

    @property
    def bits_per_weight(self) -> float:
        """Mean bits of a weight in the layers, codebooks included."""
        return 8 * self.bytes_after / self.n_weights

    @property
    def model_ratio(self) -> float:
        """Bytes of the whole model before over after, with what stayed as it was."""
        return (self.bytes_before + self.bytes_exact) / (self.bytes_after + self.bytes_exact)

    def totals(self) -> list[str]:
        """Lines of a report: what stayed as it was and why, and the sums."""
        return [
            *(f"left as it is: {name}, {reason}" for name, reason in self.left.items()),
            f"layers: {self.bytes_before:,} to {self.bytes_after:,} bytes, {self.ratio:.2f} times "
            f"smaller, {self.bits_per_weight:.3f} bits a weight",
            f"whole model: {self.model_ratio:.2f} times smaller, with {self.bytes_exact:,} bytes "
            "that stay as they are",
        ]


def bytes_of(model: nn.Module) -> int:
    """Bytes of all tensors in a model's state, each once."""
    tensors = {id(t): t for t in model.state_dict(keep_vars=True).values()}
    return sum(t.numel() * t.element_size() for t in tensors.values())
