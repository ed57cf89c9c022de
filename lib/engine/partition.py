"""Partitions of weighted points into intervals, compiled: prefix sums, costs, the best cells.

Differences of prefix sums lose the inertia of cells that are far from the origin and narrow. So
every sum has two parts: its leading digits, and what these lack. Costs need only the first, unless
the caller asks for exact ones.
"""

import numpy as np

from .compiled import inlined_by_llvm, inner, kernel

MASS, TOTAL, SQUARE, BEST, LOW = range(5)  # columns of prefix sums; the low digits come last


@kernel
def penalized_bounds(prefix, penalty, exact):
    """Bounds of the partition of least inertia plus `penalty` for each cell.

    best[j] = min over i < j of best[i] + cost(i, j) + penalty. Once a later i is better for some j
    it stays better, so that a queue holds the candidates and from where on each is the best.
    """
    n = len(prefix) - 1
    previous = np.empty(n + 1, np.int64)
    queue, start = np.empty(n + 1, np.int64), np.empty(n + 1, np.int64)
    prefix[0, BEST] = 0.0
    head, tail = 0, 0
    queue[0], start[0] = 0, 1
    for j in range(1, n + 1):
        while head < tail and start[head + 1] <= j:
            head += 1
        previous[j] = queue[head]
        prefix[j, BEST] = _reached(prefix, queue[head], j, exact) + penalty
        while (
            tail > head
            and start[tail] > j
            and _reached(prefix, j, start[tail], exact)
            <= _reached(prefix, queue[tail], start[tail], exact)
        ):
            tail -= 1
        first = _first_better(prefix, queue[tail], j, start[tail], exact)
        if first <= n:
            tail += 1
            queue[tail], start[tail] = j, first
    n_cells, j = 0, n
    while j > 0:
        j = previous[j]
        n_cells += 1
    bounds = np.empty(n_cells + 1, np.int64)
    bounds[n_cells] = j = n
    for cell in range(n_cells - 1, -1, -1):
        bounds[cell] = j = previous[j]
    return bounds


@inner
def _first_better(prefix, last, j, start, exact):
    """The first end from which on a cell that begins at j beats one that begins at `last`.

    Neighbours take over at about the same distance: the search begins there.
    """
    n = len(prefix) - 1
    low = max(start, j)  # where `last` is still better
    high = min(max(low + 1, j + start - last), n + 1)
    step = 1
    while high <= n and _reached(prefix, last, high, exact) < _reached(prefix, j, high, exact):
        low, high, step = high, min(high + step, n + 1), 2 * step
    while high - step > low:
        middle = high - step
        if _reached(prefix, last, middle, exact) < _reached(prefix, j, middle, exact):
            low = middle
        else:
            high, step = middle, 2 * step
    while high - low > 1:
        middle = (low + high) >> 1
        if _reached(prefix, last, middle, exact) < _reached(prefix, j, middle, exact):
            low = middle
        else:
            high = middle
    return high


@kernel
def halved_bounds(prefix, exact):
    """Bounds of the two cells of least inertia."""
    n, least, bound = len(prefix) - 1, np.inf, 1
    for i in range(1, n):
        cost = _cost(prefix, 0, i, exact) + _cost(prefix, i, n, exact)
        if cost < least:
            least, bound = cost, i
    return np.array([0, bound, n])


@kernel
def inertia(prefix, bounds, exact):
    """Sum of the costs of all cells."""
    total = 0.0
    for i in range(len(bounds) - 1):
        total += max(0.0, _cost(prefix, bounds[i], bounds[i + 1], exact))
    return total


# ------------------------------------------------------------------------------ prefix sums


@kernel
def prefix_sums(values, mass):
    """Sums before each point, in two parts; float64 of shape (n + 1, 8).

    Summed outward from the middle: one huge outlier does not drown the sums of all others.
    """
    n = len(values)
    middle = n // 2
    prefix = np.zeros((n + 1, 8))
    for i in range(middle, n):
        _add(prefix, i, i + 1, mass[i], values[i])
    for i in range(middle - 1, -1, -1):
        _add(prefix, i + 1, i, -mass[i], values[i])
    return prefix


@inner
def _add(prefix, source, target, mass, value):
    total, total_low = _product(mass, value)
    square, square_low = _product(total, value)
    square_low += total_low * value
    parts = ((MASS, mass, 0.0), (TOTAL, total, total_low), (SQUARE, square, square_low))
    for column, high, low in parts:
        found, rest = _sum(prefix[source, column], high)
        rest += prefix[source, LOW + column] + low
        prefix[target, column], prefix[target, LOW + column] = _sum(found, rest)


@inlined_by_llvm
def _reached(prefix, i, j, exact):
    """Cost of the best cells before i, and of one from there to j."""
    return prefix[i, BEST] + _cost(prefix, i, j, exact)


@inlined_by_llvm
def _cost(prefix, i, j, exact):
    """Inertia of the points i to j - 1 about their mean; too light for the sums, they have none."""
    if exact:
        return _exact_cost(prefix, i, j)
    mass = prefix[j, MASS] - prefix[i, MASS]
    total = prefix[j, TOTAL] - prefix[i, TOTAL]
    square = prefix[j, SQUARE] - prefix[i, SQUARE]
    return square - total * total / mass if mass > 0 else 0.0


@inner
def _exact_cost(prefix, i, j):
    mass, mass_low = _difference(prefix, i, j, MASS)
    if mass <= 0:
        return 0.0
    total, total_low = _difference(prefix, i, j, TOTAL)
    square, square_low = _difference(prefix, i, j, SQUARE)
    product, product_low = _product(total, total)
    product_low += 2 * total * total_low
    ratio = product / mass
    again, again_low = _product(ratio, mass)
    ratio_low = (((product - again) - again_low) + (product_low - ratio * mass_low)) / mass
    return (square - ratio) + (square_low - ratio_low)


@kernel
def means(prefix, bounds):
    """Mean of each cell; float64 of shape (n_cells,)."""
    means = np.empty(len(bounds) - 1)
    for i in range(len(means)):
        mass, _ = _difference(prefix, bounds[i], bounds[i + 1], MASS)
        total, _ = _difference(prefix, bounds[i], bounds[i + 1], TOTAL)
        means[i] = total / mass
    return means


@inner
def _difference(prefix, i, j, column):
    high, low = _sum(prefix[j, column], -prefix[i, column])
    return _sum(high, low + (prefix[j, LOW + column] - prefix[i, LOW + column]))


@inner
def _sum(a, b):
    """Sum of two floats, and what it lacks (Knuth 1969)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


@inner
def _product(a, b):
    """Product of two floats, and what it lacks (Dekker 1971)."""
    product = a * b
    a_high, b_high = a * 134217729.0, b * 134217729.0  # 2 ** 27 + 1
    a_high, b_high = a_high - (a_high - a), b_high - (b_high - b)
    a_low, b_low = a - a_high, b - b_high
    return product, ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low
