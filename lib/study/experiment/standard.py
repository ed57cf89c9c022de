"""The standard for neural network coding beside the study's files.

ISO/IEC 15938-17 (Kirchhoffer et al. 2022) quantizes weights with equal steps, by a trellis if asked
(dependent quantization), and codes them with adaptive contexts. Its reference software, nncodec,
wants another NumPy than the study, and its license grants no patents: it is measured, never used.
`make standard` installs it in an environment of its own, in which `coder` runs.
"""

import copy
import dataclasses
import json
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from ... import compression
from ..paths import ROOT
from ..tables import read_table, tables_of
from .network import LAYERS, SCOPES
from .progress import progress

PYTHON = ROOT / ".venv-standard" / "bin" / "python"
CODER = Path(__file__).with_name("coder.py")
TOLERANCE = 0.002  # of the squared error at which files are compared


@dataclasses.dataclass(frozen=True)
class Setting:
    """Options of the standard's coder.

    Attributes
    ----------
    qp : int
        Quantization parameter: four more double the step.
    trellis : bool
        Whether steps depend on the weights before.
    """

    qp: int
    trellis: bool

    @property
    def method(self):
        """Its name in tables."""
        return "standard" if self.trellis else "standard, no trellis"


def standard_rows(compressor, settings, scopes):
    """Rows of the table `standard`: every setting, decoded and evaluated.

    Parameters
    ----------
    compressor : lib.study.experiment.frontier.Compressor
    settings : sequence of Setting
    scopes : sequence of {"conv", "all"}
    """
    rows = []
    for setting in progress(settings, "settings"):  # scopes share features of the convolutions
        for scope in scopes:
            weights = weights_of(compressor.network, scope)
            start = time.perf_counter()
            size, decoded = coded(weights, setting)
            seconds = time.perf_counter() - start
            error = squared_error(weights, decoded)
            model = with_weights(compressor.network, decoded)
            row = compressor.evaluated(scope, setting.method, size, model)
            row |= {"retrained": False, "pruned": False, "seconds": seconds}
            row |= {"file": f"{scope}-{setting.method}, qp {setting.qp}", "qp": setting.qp}
            row |= {"distortion": error, "cells_bytes": bytes_at_error(compressor, scope, error)}
            rows.append(row)
    return rows


def standard_files(experiment, compressor, scopes):
    """Rows of an experiment's table `standard`, to be shown among other files.

    None, and a line printed, where it was not run, or on another network or on other images.

    Parameters
    ----------
    experiment : str
    compressor : lib.study.experiment.frontier.Compressor
        Of the other files.
    scopes : sequence of {"conv", "all"}

    Returns
    -------
    list of dict
    """
    if "standard" not in tables_of(experiment):
        print("The standard for neural network coding is not among the files: `make standard`.")
        return []
    rows = read_table(experiment, "standard")
    plain = 100 * compressor.float_correct["test"].mean()
    if not np.allclose(rows["top1"] + rows["top1_drop"], plain, atol=1e-6):
        print(
            "The standard for neural network coding is not among the files: results of "
            f"{experiment!r} are of another network or other images."
        )
        return []
    return rows[rows["scope"].isin(scopes)].to_dict("records")


def weights_of(network, scope):
    """The weights of a scope's layers by name."""
    return {name: network.get_submodule(LAYERS[name]).weight.detach() for name in SCOPES[scope]}


def with_weights(network, weights):
    """A copy of the network with other weights."""
    model = copy.deepcopy(network)
    with torch.no_grad():
        for name, weight in weights.items():
            model.get_submodule(LAYERS[name]).weight.copy_(weight)
    return model


def coded(weights, setting):
    """Bytes of the weights as the standard codes them, and what it decodes from these.

    Parameters
    ----------
    weights : dict of str to float32 tensor
    setting : Setting

    Returns
    -------
    int and dict of str to float32 tensor

    Raises
    ------
    FileNotFoundError
        If the standard's environment is missing.
    """
    if not PYTHON.exists():
        raise FileNotFoundError(f"{PYTHON} is missing: `make standard` installs it.")
    with tempfile.TemporaryDirectory() as folder:
        given, made, decoded = (Path(folder, name) for name in ("given", "made", "decoded"))
        save_file({name: weight.contiguous() for name, weight in weights.items()}, given)
        options = json.dumps({"qp": setting.qp, "use_dq": setting.trellis})
        command = [PYTHON, CODER, given, made, decoded, options]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"the standard's coder failed: {done.stderr[-2000:]}")
        return made.stat().st_size, load_file(decoded)


def squared_error(weights, others):
    """Squared error of some weights, as a share of their squares."""
    error = sum(float((others[n].double() - w).square().sum()) for n, w in weights.items())
    return error / sum(float(w.double().square().sum()) for w in weights.values())


def bytes_at_error(compressor, scope, error):
    """Bytes of entropy-constrained cells with the same squared error, at one price of a bit.

    Nothing is calibrated: neither side knows an image.
    """
    weights = weights_of(compressor.network, scope)
    squares = sum(float(w.double().square().sum()) for w in weights.values())
    prepared = {name: compressor.prepared[name] for name in weights}
    model = copy.deepcopy(compressor.network)
    for name, cells in cells_at_error(prepared, error * squares).items():
        compression.install_cells(model, LAYERS[name], prepared[name], cells)
    return compressor.saved(model, scope)[1]


def cells_at_error(prepared, error):
    """Entropy-constrained cells of several weights, at the price of a bit with this squared error.

    Parameters
    ----------
    prepared : dict of str to Prepared
    error : float
        Of all of them together.

    Returns
    -------
    dict of str to Cells
    """
    low, high = -60.0, 20.0
    while True:
        middle = (low + high) / 2
        cells = {
            name: compression.entropy_constrained_cells(each, 2.0**middle)
            for name, each in prepared.items()
        }
        found = sum(float(each.inertia) for each in cells.values())
        if abs(found / error - 1) < TOLERANCE or high - low < 1e-3:
            return cells
        low, high = (low, middle) if found > error else (middle, high)
