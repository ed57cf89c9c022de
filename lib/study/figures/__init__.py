"""Figures of the study: tidy tables in, figures out. Nothing here computes or trains."""

from .bench import plot_ahead, plot_bench, plot_growth, plot_rows
from .compressed import plot_allocation, plot_distortion, plot_frontier, plot_rates, plot_retraining
from .records import FIGURES, Figure
from .study import (
    bulk,
    plot_accuracy,
    plot_centers,
    plot_claims,
    plot_densities,
    plot_inertia,
    plot_iterations,
    plot_models,
    plot_training,
)
from .style import (
    FLOATS,
    LAYERS,
    METHODS,
    STYLE,
    WIDTH_IN,
    look,
    save_figure,
)
from .sweeps import plot_sweep

__all__ = [
    "FIGURES",
    "FLOATS",
    "LAYERS",
    "METHODS",
    "STYLE",
    "WIDTH_IN",
    "Figure",
    "bulk",
    "look",
    "plot_accuracy",
    "plot_ahead",
    "plot_allocation",
    "plot_bench",
    "plot_centers",
    "plot_claims",
    "plot_densities",
    "plot_distortion",
    "plot_frontier",
    "plot_growth",
    "plot_inertia",
    "plot_iterations",
    "plot_models",
    "plot_rates",
    "plot_retraining",
    "plot_rows",
    "plot_sweep",
    "plot_training",
    "save_figure",
]
