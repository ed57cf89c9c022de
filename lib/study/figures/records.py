"""One record per figure that is drawn from one table: its caption and how to draw it."""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from .bench import has_rows, has_several_centers, plot_ahead, plot_bench, plot_growth, plot_rows
from .compressed import plot_allocation, plot_distortion, plot_frontier, plot_rates, plot_retraining
from .study import (
    plot_accuracy,
    plot_claims,
    plot_densities,
    plot_inertia,
    plot_iterations,
    plot_models,
    plot_training,
)


@dataclass(frozen=True)
class Figure:
    """What is known about a figure.

    Attributes
    ----------
    name : str
        Of its files.
    table : str
        Name of the table that it is drawn from.
    caption : str
    plot : callable
        From the table to the figure.
    can : callable, optional
        Whether a table has the rows that the figure shows; by default it has.
    options : callable, optional
        From the parameters of an experiment's notebooks to further arguments of `plot`.
    """

    name: str
    table: str
    caption: str
    plot: Callable
    options: Callable[[dict], dict] = lambda parameters: {}
    can: Callable[[pd.DataFrame], bool] = lambda frame: True

    def draw(self, frame, parameters):
        """Draw the figure from its table and the parameters of the experiment's notebooks."""
        return self.plot(frame, **self.options(parameters))


def _endpoint(parameters):
    return {"bits": parameters["03-speed"].get("endpoint_bits", 4)}


def _endpoint_and_budget(parameters):
    budgets = parameters["03-speed"].get("budgets", [20, None])
    return _endpoint(parameters) | {"max_iter": min(b for b in budgets if b is not None)}


def _n_images(parameters):
    return {"n_images": parameters["04-accuracy"].get("n_images", 2000)}


# In the order in which the report and papers show them.
FIGURES = {
    figure.name: figure
    for figure in (
        Figure(
            "claims",
            "claims",
            "The claims: what was measured with its 95 % interval, beside the paper's figure.",
            plot_claims,
        ),
        Figure(
            "accuracy",
            "accuracy",
            "Top-1 by bits and initialization; the float network dotted, 95 % intervals.",
            plot_accuracy,
            _n_images,
        ),
        Figure(
            "densities",
            "density",
            "Density of every layer's weights over their range, on a logarithmic scale.",
            plot_densities,
        ),
        Figure(
            "iterations",
            "speed",
            "Iterations of Lloyd's algorithm until no label changes.",
            plot_iterations,
            _endpoint,
        ),
        Figure(
            "inertia",
            "speed",
            "Inertia over the optimal one after a budget of iterations.",
            plot_inertia,
            _endpoint_and_budget,
        ),
        Figure(
            "training",
            "training",
            "Held-out accuracy of the classifier by epoch of training.",
            plot_training,
        ),
        Figure(
            "bench",
            "bench",
            "Seconds a weight beside other packages and a copy; hollow: fewer weights.",
            plot_bench,
        ),
        Figure("growth", "bench", "Seconds by number of weights.", plot_growth),
        Figure(
            "ahead",
            "bench",
            "Times as fast as the fastest other package, by number of weights and of centers.",
            plot_ahead,
            can=has_several_centers,
        ),
        Figure(
            "rows",
            "bench",
            "A codebook for each row, rows × weights at a number of centers: times as fast as "
            "flash1dkmeans; hollow: as its function for rows that NumPy has sorted.",
            plot_rows,
            can=has_rows,
        ),
        Figure(
            "frontier",
            "frontier",
            "Size of files against accuracy; filled marks are retrained.",
            plot_frontier,
        ),
        Figure(
            "retraining",
            "retraining",
            "Top-1 by epoch of retraining from every initialization.",
            plot_retraining,
        ),
        Figure("rates", "rates", "Squared error against bits a weight in the file.", plot_rates),
        Figure(
            "allocation",
            "allocation",
            "Centers of each layer, and accuracy, under a budget of bytes.",
            plot_allocation,
        ),
        Figure(
            "distortion",
            "distortion",
            "Top-1 of every combination of remedies against distortion.",
            plot_distortion,
        ),
        Figure(
            "models",
            "models",
            "Size and top-1 of each model by every method.",
            plot_models,
        ),
    )
}
