"""Rows of the tables `density` and `distribution`: where the weights are and where centers go."""

import numpy as np

from ...density import adaptive_density
from ...initialization import named
from .evaluation import settings

N_RANKS = 256  # coarse enough to draw
THINNING = 8  # a step of a drawn density holds at least so many weights: single ones are noise


def density_rows(layer):
    """The layer's density as steps: from each `weight` up to the next, `density`."""
    weights = np.asarray(layer.ordered)
    thinned = np.append(weights[:-1:THINNING], weights[-1])
    density = adaptive_density(thinned, n_ranks=N_RANKS)
    heights = [*density.heights, 0.0]
    return [
        {"layer": layer.name, "weight": weight, "density": height}
        for weight, height in zip(density.edges, heights, strict=True)
    ]


def center_rows(layer, inits, bits, gammas, seed=0):
    """Initial centers, and final ones after Lloyd's algorithm, of every initialization.

    Parameters
    ----------
    layer : lib.study.experiment.speed.Layer
    inits : sequence of str, optional
        By default every initialization.
    bits : sequence of int
    gammas : sequence of float
        For the initializations that read it.
    seed : int
    """
    rows = []
    for gamma in gammas:
        for setting in settings(inits, bits, [None], [seed], gamma=gamma):
            if gamma != gammas[0] and not named(setting.init).reads_gamma:
                continue
            initial = layer.start(setting)
            final = layer.path(setting, initial).centers
            row = setting.row()
            for stage, centers in (("initial", initial), ("final", final)):
                rows += [
                    {
                        "layer": layer.name,
                        "init": setting.init,
                        "gamma": row["gamma"],
                        "bits": setting.bits,
                        "stage": stage,
                        "center": center,
                    }
                    for center in centers
                ]
    return rows
