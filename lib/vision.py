"""torchvision, importable beside every build of torch.

torchvision's PyPI wheel is compiled against CUDA torch. Beside a CPU build its compiled operators
do not load, and its import fails where it registers fake kernels for two of them. Declaring the two
schemas is all that it misses; nothing here ever calls them. This is the only place that knows.
"""

import contextlib

import torch


def _declare_missing_operators():
    nms = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
    for name in ("torchvision::nms", "torchvision::qnms"):
        with contextlib.suppress(RuntimeError):  # declared already, by an earlier import
            torch.library.define(name, nms)


try:
    import torchvision
except ModuleNotFoundError as error:
    raise ImportError(
        f"this needs {error.name}: pip install torchvision", name=error.name
    ) from error
except RuntimeError as error:
    if "torchvision::nms" not in str(error):
        raise
    _declare_missing_operators()
    import torchvision

__all__ = ["torchvision"]
