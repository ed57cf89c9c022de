"""From codebooks to a small file: labels coded, entropy-constrained cells, allocation."""

from .allocation import frontier, offers
from .entropy import entropy_constrained_cells, uniform_cells
from .file import FileError, about, describe, load, save

__all__ = [
    "FileError",
    "about",
    "describe",
    "entropy_constrained_cells",
    "frontier",
    "load",
    "offers",
    "save",
    "uniform_cells",
]
