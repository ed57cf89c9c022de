"""Sentences that say what a run's tables show, true of whatever run they come from.

Each function takes tables and returns Markdown, which a notebook displays below a figure.
"""

from .compressed import (
    allocation,
    frontier,
    models,
    rates,
    remedies,
    retraining,
    runtimes,
    sizes,
    standard,
)
from .study import (
    accuracy,
    claims,
    endpoint,
    float_accuracy,
    gaps,
    inertia,
    iterations,
    learned,
    operations,
    peers,
    ratios,
    spread,
    tails,
    textbook_time,
)

__all__ = [
    "accuracy",
    "allocation",
    "claims",
    "endpoint",
    "float_accuracy",
    "frontier",
    "gaps",
    "inertia",
    "iterations",
    "learned",
    "models",
    "operations",
    "peers",
    "rates",
    "ratios",
    "remedies",
    "retraining",
    "runtimes",
    "sizes",
    "spread",
    "standard",
    "tails",
    "textbook_time",
]
