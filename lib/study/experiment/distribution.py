"""Rows of the tables `density` and `distribution`: where the weights are and where centers go."""

import numpy as np

from ...clustering import Prepared
from ...density import adaptive_density
from ...initialization import named
from .data import load_convolutions
from .evaluation import settings
from .network import CONVOLUTIONS, LAYERS
from .progress import progress

N_RANKS = 256  # coarse enough to draw
THINNING = 8  # every step of a drawn density holds at least 8 weights, so single ones do not show


def convolution_weights():
    """Weights of AlexNet's ImageNet convolutions by the layer's name; they need no training."""
    tensors = load_convolutions()
    return {name: tensors[f"{path}.weight"] for name, path in CONVOLUTIONS.items()}


def network_weights(network):
    """Weights of a trained network by the layer's name."""
    return {name: network.get_submodule(path).weight for name, path in LAYERS.items()}


def distribution_rows(weights, inits, bits, gammas):
    """Rows of both tables.

    Parameters
    ----------
    weights : dict of str to torch.Tensor
        Layers by name.
    inits, bits, gammas
        As of `center_rows`.

    Returns
    -------
    density, distribution : lists of dict
    """
    density, distribution = [], []
    for layer in progress(weights, "layers"):
        prepared = Prepared(weights[layer])
        density += density_rows(layer, prepared)
        distribution += center_rows(layer, prepared, inits, bits, gammas)
    return density, distribution


def density_rows(layer, prepared):
    """The layer's density in steps: `density` holds from each `weight` up to the next."""
    weights = np.asarray(prepared.ordered)
    thinned = np.append(weights[:-1:THINNING], weights[-1])
    density = adaptive_density(thinned, n_ranks=N_RANKS)
    heights = [*density.heights, 0.0]
    return [
        {"layer": layer, "weight": weight, "density": height}
        for weight, height in zip(density.edges, heights, strict=True)
    ]


def start_rows(prepared, inits, bits, seed=0):
    """What each initialization, in its usual form, makes of a layer: one row each.

    Returns
    -------
    list of dict
        `init`, `revised`, `n_iter`, and `initial` and `final`: inertia before and after Lloyd's
        algorithm, over that of the optimal centers.
    """
    optimal = prepared.cluster(2**bits, init="optimal", labels=False).inertia
    rows = []
    for setting in settings(inits, [bits], [None], [seed]):
        clustering = prepared.cluster(**setting.options(), labels=False)
        initial, final = clustering.history[[0, -1]] / optimal
        row = {"init": setting.init, "revised": setting.revise, "n_iter": clustering.n_iter}
        rows.append(row | {"initial": initial, "final": final})
    return rows


def center_rows(layer, prepared, inits, bits, gammas, seed=0):
    """Centers of every initialization, before and after Lloyd's algorithm.

    Parameters
    ----------
    layer : str
        Its name.
    prepared : lib.Prepared
        Its weights.
    inits : sequence of str, optional
        By default every initialization.
    bits : sequence of int
        For each, 2 ** bits centers.
    gammas : sequence of float
        Exponents for the initializations that read one; the others run once.
    seed : int
        Of the random initializations.
    """
    rows = []
    for gamma in gammas:
        for setting in settings(inits, bits, [None], [seed], gamma=gamma):
            if gamma != gammas[0] and not named(setting.init).reads_gamma:
                continue
            clustering = prepared.cluster(**setting.options(), labels=False)
            row = {"layer": layer, "init": setting.init, "gamma": setting.row()["gamma"]}
            row["bits"] = setting.bits
            for stage, centers in (
                ("initial", clustering.initial_centers),
                ("final", clustering.centers),
            ):
                rows += [row | {"stage": stage, "center": c} for c in np.asarray(centers)]
    return rows
