"""`OrderedWeights`: what Lloyd's iteration and the initializations ask of weights."""

from typing import Any, Protocol

import numpy as np


class OrderedWeights(Protocol):
    """Weights as if in ascending order; `SortedWeights` and `LeafWeights` answer alike.

    Weights of sample weight 0 have a label, but no rank, and count in no sum.

    Attributes
    ----------
    dtype : NumPy dtype
        float32 or float64: the weights' own, which thresholds have too.
    origin : float
        A weight near the median. Sums are of the weights' distances from it.
    n_labels : int
        Number of weights, those of sample weight 0 included.
    sample_weight : float64 array of shape (n,), or None
        Positive, in the order of the ranks.
    tables : SortedTables or LeafTables
        What compiled loops read.
    known_sample_weight : float64 array, or None
        What they read beside it: sample weights of the weights that the tables hold one by one.
    """

    dtype: np.dtype
    origin: float
    n_labels: int

    @property
    def sample_weight(self) -> np.ndarray | None: ...  # noqa: D102

    @property
    def tables(self) -> Any: ...  # noqa: D102

    @property
    def known_sample_weight(self) -> np.ndarray | None: ...  # noqa: D102

    def __len__(self) -> int:
        """Number of weights that have a rank."""

    def __getitem__(self, ranks) -> np.ndarray:
        """Weights of the given ranks, float64."""

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        """All ranked weights, ascending, in their own dtype."""

    def value_bounds(self, ranks) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper bounds of the weights of the given ranks, float64; nothing is loaded."""

    def distinct(self, at_most: int) -> np.ndarray | None:
        """The distinct weights, ascending, float64; None if there are more than `at_most`."""

    def starts_of_distinct(self, count: int) -> np.ndarray:
        """Ranks of `count` weights, each the first of its equals, evenly over the distinct ones."""

    def rank(self, values, side: str = "left") -> np.ndarray:
        """Number of weights below each value or, on the right side, at or below it; int64."""

    def rank_near(self, values) -> np.ndarray:
        """The same as `rank` on the left side, or a little less; nothing is loaded."""

    def ranges(self, starts, stops) -> np.ndarray:
        """Mass and first and second moments of the weights from each rank to another.

        Moments are about the origin; both ranks come from `rank`. float64 of shape (q, 3).
        """

    def inertia(self, centers, cell_starts) -> float:
        """Sum of the squared distances of the weights to their centers; nothing cancels.

        Weights of the ranks cell_starts[j] to cell_starts[j + 1] - 1 belong to centers[j], as a
        finished iteration has them.
        """

    def look_up(self) -> bool:
        """Load the leaves that compiled loops needed and did not have; whether there were any."""

    def label(self, thresholds, dtype) -> np.ndarray:
        """Number of thresholds at or below each weight, in the order in which they were given."""

    def nearest(self, centers, dtype) -> np.ndarray:
        """The nearest of ascending centers to each weight, of equal ones the first."""
