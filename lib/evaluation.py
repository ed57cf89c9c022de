"""How often a model is right about labelled inputs."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn


class EvaluationError(ValueError):
    """Labelled inputs that are none, or that do not suit the model."""


def batches_of(source: Any, batch_size: int = 64) -> Iterable[Any]:
    """Batches of inputs and labels.

    Parameters
    ----------
    source : torch.utils.data.Dataset or iterable
        Of pairs of an input and a label, or of pairs of a batch of each.
    batch_size : int, default 64
        Of a dataset.

    Returns
    -------
    iterable

    Raises
    ------
    EvaluationError
        If it is neither.
    """
    if isinstance(source, torch.utils.data.Dataset):
        return torch.utils.data.DataLoader(source, batch_size)
    try:
        iter(source)
    except TypeError:
        raise EvaluationError(
            f"labelled inputs are a torch.utils.data.Dataset, or an iterable of batches, not "
            f"{type(source).__name__}."
        ) from None
    return source


@torch.inference_mode()
def right_ones(
    model: nn.Module, batches: Iterable[Any], n_images: int | None = None
) -> torch.Tensor:
    """Of which inputs the best score is that of the label.

    Parameters
    ----------
    model : nn.Module
        In evaluation mode; from a batch to scores of shape (n, classes).
    batches : iterable
        Of inputs (a tensor, or a tuple or a mapping of tensors, the model's arguments) and labels,
        an integer tensor of shape (n,).
    n_images : int, optional
        Only so many, from the start.

    Returns
    -------
    bool tensor of shape (n,)

    Raises
    ------
    EvaluationError
        If there are no batches, or scores or labels are of another shape or range.

    Examples
    --------
    >>> scores = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    >>> right_ones(nn.Identity(), [(scores, torch.tensor([0, 1, 1]))])
    tensor([ True,  True, False])
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    found: list[torch.Tensor] = []
    n = 0
    for batch in batches:
        inputs, labels = _checked(batch)
        scores = _called(model, inputs, device)
        if (
            not isinstance(scores, torch.Tensor)
            or scores.shape[:1] != labels.shape
            or scores.ndim != 2
        ):
            made = list(scores.shape) if isinstance(scores, torch.Tensor) else type(scores).__name__
            raise EvaluationError(
                f"of {len(labels)} inputs the model made {made}; expected scores of shape "
                f"({len(labels)}, classes)."
            )
        labels = labels[: None if n_images is None else n_images - n]
        if not 0 <= int(labels.min()) <= int(labels.max()) < scores.shape[1]:
            raise EvaluationError(
                f"labels go from {int(labels.min())} to {int(labels.max())}, the model has "
                f"{scores.shape[1]} outputs."
            )
        found.append(scores.argmax(1).cpu()[: len(labels)] == labels)
        n += len(labels)
        if n == n_images:
            break
    if not n:
        raise EvaluationError("there is no labelled input.")
    return torch.cat(found)


def count_right(
    model: nn.Module, batches: Iterable[Any], n_images: int | None = None
) -> tuple[int, int]:
    """Of how many inputs the best score is that of the label, and of how many it could be.

    Parameters, errors: as of `right_ones`.

    Examples
    --------
    >>> scores = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    >>> count_right(nn.Identity(), [(scores, torch.tensor([0, 1, 1]))])
    (2, 3)
    """
    found = right_ones(model, batches, n_images)
    return int(found.sum()), len(found)


def wilson_interval(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Interval of a proportion, in percent (Wilson, 1927).

    Examples
    --------
    >>> low, high = wilson_interval(81, 263)
    >>> print(f"{low:.1f} to {high:.1f} %")
    25.5 to 36.6 %
    """
    from scipy.stats import binomtest

    found = binomtest(successes, n).proportion_ci(level, "wilson")
    return 100 * found.low, 100 * found.high


def paired_interval(before: Any, after: Any, level: float = 0.95) -> tuple[float, float, float]:
    """What is lost on the same inputs, in points, with its interval (Agresti and Min, 2005).

    Parameters
    ----------
    before, after : bool arrays or tensors of shape (n,)
        Whether each input is right.
    level : float, default 0.95

    Returns
    -------
    tuple of float
        The loss, and the ends of its interval. Inputs on which both agree say little of it, so that
        it is narrower than the difference of two intervals.

    Raises
    ------
    EvaluationError
        If there are no inputs, or not equally many.

    Examples
    --------
    >>> loss, low, high = paired_interval([True] * 90 + [False] * 10, [True] * 88 + [False] * 12)
    >>> print(f"{loss:.1f} [{low:.1f}, {high:.1f}]")
    2.0 [-1.3, 5.3]
    """
    from scipy.stats import norm

    before, after = (np.asarray(right, dtype=bool) for right in (before, after))
    if before.shape != after.shape or before.ndim != 1 or not before.size:
        raise EvaluationError(
            f"right answers of shapes {before.shape} and {after.shape}: give one for each input."
        )
    n, lost, won = before.size, int((before & ~after).sum()), int((after & ~before).sum())
    # Half an input more of each kind on which they differ, as the paper has it.
    middle = (lost - won) / (n + 2)
    spread = math.sqrt((lost + won + 1) / (n + 2) - middle**2) / math.sqrt(n + 2)
    far = float(norm.ppf((1 + level) / 2)) * spread
    return 100 * (lost - won) / n, 100 * (middle - far), 100 * (middle + far)


def _checked(batch):
    """Inputs and labels of a batch."""
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        raise EvaluationError(
            f"a batch is a pair of inputs and labels, not a {type(batch).__name__}"
            f"{f' of {len(batch)}' if isinstance(batch, tuple | list) else ''}."
        )
    inputs, labels = batch[0], torch.as_tensor(batch[1]).cpu()
    if labels.ndim != 1 or not len(labels) or labels.is_floating_point() or labels.is_complex():
        raise EvaluationError(
            f"labels of a batch are integers of shape (n,), not {labels.dtype} of shape "
            f"{tuple(labels.shape)}. Single inputs and labels make a torch.utils.data.Dataset."
        )
    return inputs, labels


def _called(model, inputs, device):
    if isinstance(inputs, Mapping):
        return model(**{name: tensor.to(device) for name, tensor in inputs.items()})
    if isinstance(inputs, tuple | list):
        return model(*(tensor.to(device) for tensor in inputs))
    return model(inputs.to(device))
