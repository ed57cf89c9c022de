"""Quantiles of the distribution proportional to density ** gamma, compiled, of sorted weights.

`lib.density` says what they are, and tests hold both to the same values.
"""

import numpy as np

from .compiled import inner, kernel
from .tables import range_sum

COUNTS = 64  # powers of so small counts are kept: most bins hold few weights


@kernel
def power_quantiles(tables, sample_weight, ranks, gamma, n_clusters):
    """Quantiles (i + 1/2) / n_clusters; the bins end at the weights of the given ranks."""
    centers = np.empty(n_clusters)
    write_quantiles(tables, sample_weight, ranks, gamma, centers)
    return centers


@inner
def write_quantiles(tables, sample_weight, ranks, gamma, centers):
    """The same into an array; of at least two distinct weights."""
    edges, cumulative = np.empty(len(ranks)), np.empty(len(ranks))
    n_bins = _accumulate(tables, sample_weight, ranks, gamma, edges, cumulative)
    i, total = 0, cumulative[n_bins]
    for j in range(len(centers)):
        target = (j + 0.5) / len(centers) * total
        while i < n_bins - 1 and cumulative[i + 1] <= target:
            i += 1
        slope = (edges[i + 1] - edges[i]) / (cumulative[i + 1] - cumulative[i])
        centers[j] = edges[i] + slope * (target - cumulative[i])


@inner
def _accumulate(tables, sample_weight, ranks, gamma, edges, cumulative):
    """Write the distinct edges of bins and the sums of their powers; the number of bins."""
    weights, n = tables.weights, len(tables.weights)
    powers = np.full(COUNTS, -1.0)
    whole = tables.tree[1, 0]
    edges[0], cumulative[0], n_bins, start = weights[ranks[0]], 0.0, 0, 0
    for i in range(1, len(ranks)):
        edge = np.float64(weights[ranks[i]])
        if edge == edges[n_bins]:
            continue
        end = ranks[i] + 1
        while end < n and weights[end] == edge:
            end += 1
        if sample_weight is None and end - start < COUNTS:
            if powers[end - start] < 0:
                powers[end - start] = ((end - start) / whole) ** gamma
            power = powers[end - start]
        else:
            mass, _, _ = range_sum(tables, sample_weight, start, end, start, end)
            power = (mass / whole) ** gamma
        power *= (edge - edges[n_bins]) ** (1 - gamma)
        n_bins, start = n_bins + 1, end
        edges[n_bins], cumulative[n_bins] = edge, cumulative[n_bins - 1] + power
    return n_bins
