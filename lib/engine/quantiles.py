"""Quantiles of the distribution proportional to density ** gamma, compiled, of sorted weights.

`lib.density` says what they are, and tests hold both to the same values up to rounding. The powers
of all bins are taken by polynomials that processors compute for several bins at a time: calls of
`pow` would take more time than the iterations of a short row.
"""

import numpy as np

from .compiled import fused_by_llvm, inner, kernel

ROOT = 0x3FE6A09E667F3BCD  # bits of the square root of 1/2
TINY, SHIFT = 2.0**-1000, 1000.0  # below, numbers are scaled to be normal
LN2 = np.log(2.0)


@kernel
def power_quantiles(weights, sample_weight, ranks, gamma, n_clusters):
    """Quantiles (i + 1/2) / n_clusters; the bins end at the weights of the given ranks."""
    centers = np.empty(n_clusters)
    write_quantiles(weights, sample_weight, ranks, gamma, centers)
    return centers


@inner
def write_quantiles(weights, sample_weight, ranks, gamma, centers):
    """The same into an array; of at least two distinct weights."""
    edges, mass = np.empty(len(ranks)), np.empty(len(ranks))
    n_bins = _fill_bins(weights, sample_weight, ranks, edges, mass)
    cumulative = np.empty(n_bins + 1)
    _write_powers(edges, mass, gamma, cumulative)
    for i in range(n_bins):
        cumulative[i + 1] += cumulative[i]
    i, total = 0, cumulative[n_bins]
    for j in range(len(centers)):
        target = (j + 0.5) / len(centers) * total
        while i < n_bins - 1 and cumulative[i + 1] <= target:
            i += 1
        slope = (edges[i + 1] - edges[i]) / (cumulative[i + 1] - cumulative[i])
        centers[j] = edges[i] + slope * (target - cumulative[i])


@inner
def _fill_bins(weights, sample_weight, ranks, edges, mass):
    """Write the distinct edges, and the mass of the bin between each and the next; how many."""
    n, n_bins, start = len(weights), 0, 0
    edges[0] = weights[ranks[0]]
    for i in range(1, len(ranks)):
        edge = np.float64(weights[ranks[i]])
        if edge == edges[n_bins]:
            continue
        end = ranks[i] + 1
        while end < n and weights[end] == edge:
            end += 1
        mass[n_bins] = end - start
        if sample_weight is not None:
            mass[n_bins] = 0.0
            for rank in range(start, end):
                mass[n_bins] += sample_weight[rank]
        n_bins, start = n_bins + 1, end
        edges[n_bins] = edge
    return n_bins


@inner
def _write_powers(edges, mass, gamma, powers):
    """Write mass ** gamma * width ** (1 - gamma) of each bin, after a zero."""
    n_bins, powers[0], largest = len(powers) - 1, 0.0, 0.0
    for i in range(n_bins):
        largest = max(largest, mass[i])
    scale, low, high, found = _log2(largest), edges[:n_bins], edges[1 : n_bins + 1], powers[1:]
    for i in range(len(found)):  # counted from 0: the compiler knows that no index is negative
        power = gamma * (_log2(mass[i]) - scale) + (1 - gamma) * _log2(high[i] - low[i])
        found[i] = _exp2(power)


@fused_by_llvm
def _log2(x):
    """Of a positive number: its exponent, and the series of the area tangent of the rest."""
    shift = SHIFT if x < TINY else 0.0
    x = x * 2.0**SHIFT if x < TINY else x
    bits = np.float64(x).view(np.int64)
    exponent = (bits - ROOT) >> 52  # so that the rest is from sqrt(1/2) to sqrt(2)
    rest = np.int64(bits - (exponent << 52)).view(np.float64)
    s = (rest - 1) / (rest + 1)
    t = s * s
    series = 1 / 13 + t * (1 / 15 + t / 17)
    series = 1 / 5 + t * (1 / 7 + t * (1 / 9 + t * (1 / 11 + t * series)))
    return exponent - shift + 2 / LN2 * s * (1 + t * (1 / 3 + t * series))


@fused_by_llvm
def _exp2(x):
    """Its exponent, and the series of the rest."""
    x = min(max(x, -1022.0), 1023.0)
    whole = np.floor(x + 0.5)
    z = LN2 * (x - whole)
    series = 1 / 362880 + z * (1 / 3628800 + z / 39916800)
    series = 1 / 120 + z * (1 / 720 + z * (1 / 5040 + z * (1 / 40320 + z * series)))
    series = 1 + z * (1 + z * (1 / 2 + z * (1 / 6 + z * (1 / 24 + z * series))))
    return series * np.int64((np.int64(whole) + 1023) << 52).view(np.float64)
