"""From shared weights to small files: cells, calibration, retraining, allocation, file formats."""

from .allocation import frontier, offers
from .checkpoint import compress_checkpoint
from .container import FileError
from .coreml import audit_coreml, export_coreml
from .correction import compensate, correct, fisher, input_moments
from .entropy import entropy_constrained_cells, uniform_cells
from .file import about, describe, load, save, size_table
from .onnx import audit, export_onnx
from .pruning import pruned_cells
from .retraining import install_cells, train_centers, train_plain, train_through

__all__ = [
    "FileError",
    "about",
    "audit",
    "audit_coreml",
    "compensate",
    "compress_checkpoint",
    "correct",
    "describe",
    "entropy_constrained_cells",
    "export_coreml",
    "export_onnx",
    "fisher",
    "frontier",
    "input_moments",
    "install_cells",
    "load",
    "offers",
    "pruned_cells",
    "save",
    "size_table",
    "train_centers",
    "train_plain",
    "train_through",
    "uniform_cells",
]
