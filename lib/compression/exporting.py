"""What both exports share: which models they take, the packages they need, and an audit."""

import importlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from torch import nn
from torch.nn.utils.parametrize import ParametrizationList

from ..shared import shared_parameters, weight_of

MOST_CENTERS = 256  # their labels fit into a byte


def package(name: str) -> Any:
    """A package of the extra `export`, loaded when it is needed: some take seconds.

    Raises
    ------
    ImportError
        If it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ImportError(f"this export needs {name}: pip install {name}", name=name) from error


def exportable(model: nn.Module) -> dict[str, ParametrizationList]:
    """The `shared_parameters` of a model, of tied ones the first, if they can be exported.

    Raises
    ------
    ValueError
        If no layer shares weights, or a layer has several codebooks or more than 256 centers.
    """
    parameters = shared_parameters(model)
    shared = {names[0]: parameters[names[0]] for names in names_of(model)}
    for name, (parametrization, *_) in shared.items():
        if parametrization.channels is not None or parametrization.n_clusters > MOST_CENTERS:
            raise ValueError(
                f"{name}: exports need one codebook of at most {MOST_CENTERS} centers a layer."
            )
    return shared


def names_of(model: nn.Module) -> list[tuple[str, ...]]:
    """The names of each shared weight: tied ones have several."""
    groups: dict[int, list[str]] = {}
    for name, found in shared_parameters(model).items():
        groups.setdefault(id(found.original), []).append(name)
    return [tuple(names) for names in groups.values()]


def audited(model: nn.Module, exported: Iterable[np.ndarray]) -> list[dict[str, Any]]:
    """Compare each shared weight in an exported file with the model's.

    Exporters are known to skip layers and to rescale weights silently.

    Parameters
    ----------
    model : nn.Module
    exported : iterable of arrays
        The weights in the file, in the order of `exportable`.

    Returns
    -------
    list of dict
        For each weight ``layer``; ``values_in_file`` and ``values_in_model``, the numbers of
        distinct values; and ``equal``, whether the weights are equal bit by bit.
    """
    rows = []
    for name, theirs in zip(exportable(model), exported, strict=True):
        ours = weight_of(model, name).numpy()
        rows.append(
            {
                "layer": name.removesuffix(".weight"),
                "values_in_file": len(np.unique(theirs)),
                "values_in_model": len(np.unique(ours)),
                "equal": np.array_equal(theirs, ours),
            }
        )
    return rows
