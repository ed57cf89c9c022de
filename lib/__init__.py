"""Weight sharing for neural networks by 1-D k-means on the distribution of the weights.

The public names load their modules, and with them NumPy, Numba and torch, when first used: the
command line answers ``--help`` without.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .clustering import Prepared, cluster
    from .compression.compressed import CompressedLayer, CompressedModel
    from .compression.compressing import compress
    from .config import SharingConfig
    from .initialization import INITIALIZATIONS
    from .result import Clustering, RowClustering
    from .rows import cluster_rows
    from .sharing import SharedLayer, SharedModel, plain_weights, share_weights

__all__ = [
    "INITIALIZATIONS",
    "Clustering",
    "CompressedLayer",
    "CompressedModel",
    "Prepared",
    "RowClustering",
    "SharedLayer",
    "SharedModel",
    "SharingConfig",
    "cluster",
    "cluster_rows",
    "compress",
    "plain_weights",
    "share_weights",
]

# The same names once more, since Python does not run what is for type checkers.
_NAMES = {
    "clustering": ("Prepared", "cluster"),
    "compression.compressed": ("CompressedLayer", "CompressedModel"),
    "compression.compressing": ("compress",),
    "config": ("SharingConfig",),
    "initialization": ("INITIALIZATIONS",),
    "result": ("Clustering", "RowClustering"),
    "rows": ("cluster_rows",),
    "sharing": ("SharedLayer", "SharedModel", "plain_weights", "share_weights"),
}
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names}
_MODULES = (
    *(name for name in _NAMES if "." not in name),
    *("compression", "density", "images", "lloyd", "models", "optimal", "streaming"),
)


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_MODULE_OF[name]}", __name__), name)
    globals()[name] = value  # found without this function from now on
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
