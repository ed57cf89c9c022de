"""The best partition of weighted points into intervals, by a penalty for each cell.

Differences of prefix sums lose the inertia of cells that are far from the origin and narrow. So
every sum has two parts: its leading digits, and what these lack. Costs need only the first, unless
the caller asks for exact ones.
"""

from typing import NamedTuple

import numpy as np

from .compiled import inlined_by_llvm, inner, kernel

MASS, TOTAL, SQUARE, BEST, LOW = range(5)  # columns of prefix sums; the low digits come last
GUESSES = 8  # of the penalty by the law of high resolution, before chords take over
NEAR = 4  # numbers of cells so near that their chord is the better guess
COARSE = 8  # points that the first search takes for one
N_SOME = 1024  # points that the first penalty is guessed from
EPSILON = float(np.finfo(np.float64).eps)
ACCURACY = 1e-7  # of an inertia, relative: where float64 may miss it, sums have twice its digits


class Partition(NamedTuple):
    """Points in cells: cell i holds the points from bounds[i] to bounds[i + 1] - 1.

    Attributes
    ----------
    bounds : int64 array of shape (n_cells + 1,)
    inertia : float
        Sum of squared distances to the means of the cells, times the masses.
    """

    bounds: np.ndarray
    inertia: float

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.bounds) - 1


# ------------------------------------------------------------------------ the best partition


def best_partition(prefix, penalty, n_cells):
    """The partition of least inertia into so many cells.

    Parameters
    ----------
    prefix : float64 array of shape (n + 1, 8)
        Of `points_of`.
    penalty : float
        Divided by (k + 1) ** 3, about that at which k cells are best: where the search begins.
    n_cells : int
        1 to n.

    Returns
    -------
    Partition
    """
    return Partition(*_best(prefix, penalty, n_cells))


def whole_partition(prefix):
    """One cell of all points."""
    bounds = np.array([0, len(prefix) - 1])
    return Partition(bounds, inertia(prefix, bounds, True))


def penalized_partition(prefix, penalty, exact):
    """The partition of least inertia plus `penalty` for each cell."""
    bounds = penalized_bounds(prefix, penalty, exact)
    return Partition(bounds, inertia(prefix, bounds, exact))


@kernel
def is_accurate(prefix, n_cells, inertia):
    """Whether rounding of the sums' leading digits is negligible beside the inertia."""
    most = max(abs(prefix[0, SQUARE]), abs(prefix[len(prefix) - 1, SQUARE]))
    return n_cells * 4 * EPSILON * most <= ACCURACY * inertia


@kernel
def write_optimal(weights, sample_weight, origin, centers):
    """Write the centers of least inertia of sorted weights; more are distinct than there are."""
    values = np.empty(len(weights))
    for i in range(len(weights)):
        values[i] = np.float64(weights[i]) - origin
    prefix, scale, _, penalty = points_of(values, sample_weight)
    bounds, _ = _best(prefix, penalty, len(centers))
    centers[:] = origin + scale * cell_means(prefix, bounds)


@kernel
def _best(prefix, penalty, n_cells):
    """Bounds and inertia of the best partition, by exact costs where others would mislead."""
    bounds = _best_bounds(prefix, penalty, n_cells, False)
    least = inertia(prefix, bounds, False)
    if not is_accurate(prefix, n_cells, least):
        bounds = _best_bounds(prefix, penalty, n_cells, True)
        least = inertia(prefix, bounds, True)
    return bounds, least


@inner
def _best_bounds(prefix, penalty, n_cells, exact):
    """Bounds of the best partition; the search for the penalty begins with every 8th bound."""
    n = len(prefix) - 1
    if n_cells == 2:  # one bound, which is tried everywhere
        return _halved(prefix, exact)
    penalty = penalty / (n_cells + 1.0) ** 3
    if n >= COARSE * COARSE * n_cells:
        coarse = prefix[np.append(np.arange(0, n, COARSE), n)]
        _, penalty = _search(coarse, penalty, n_cells, exact)
    return _search(prefix, penalty, n_cells, exact)[0]


@inner
def _search(prefix, penalty, n_cells, exact):
    """Bounds of the best partition into so many cells, and a penalty that gives it.

    The least inertia is convex in the number of cells. A penalty is the slope of a line that
    touches this curve from below, at the numbers that it makes best. Where the chord between a
    smaller and a larger number finds nothing below itself, it is part of the curve, and a partition
    into any number between is made of the two at its ends.
    """
    n = len(prefix) - 1
    few, many = np.array([0, n]), np.arange(n + 1)
    if n_cells == 1:
        return few, penalty
    if n_cells == n:
        return many, penalty
    few_penalty, many_penalty = np.nan, np.nan
    attempt = 0
    while True:
        near = len(many) - len(few) <= NEAR or attempt >= GUESSES
        if near:
            saved = inertia(prefix, few, exact) - inertia(prefix, many, exact)
            penalty = max(0.0, saved) / (len(many) - len(few))
        found = penalized_bounds(prefix, penalty, exact)
        if len(found) == n_cells + 1:
            return found, penalty
        if near and not len(few) < len(found) < len(many):
            return _spliced(few, many, n_cells), penalty
        if len(found) <= n_cells:
            few_penalty = penalty
            few = found if len(found) > len(few) else few
        else:
            many_penalty = penalty
            many = found if len(found) < len(many) else many
        penalty = _guess(few_penalty, len(few) - 1, many_penalty, len(many) - 1, n_cells)
        attempt += 1


@inner
def _guess(few_penalty, few, many_penalty, many, n_cells):
    """Penalty between those of a smaller and a larger number, or by the law from one of them."""
    if few_penalty > 0 and many_penalty > 0:
        part = np.log((n_cells + 1) / (few + 1)) / np.log((many + 1) / (few + 1))
        return few_penalty * (many_penalty / few_penalty) ** part
    if few_penalty > 0:
        return few_penalty * ((few + 1) / (n_cells + 1)) ** 3
    return many_penalty * ((many + 1) / (n_cells + 1)) ** 3


@inner
def _spliced(few, many, n_cells):
    """So many cells of two partitions that are both best under one penalty.

    The first cells are those of `many`, the last ones those of `few`, parted where a cell of `few`
    holds one of `many`: exchanging the ends of nested cells raises no cost (Aggarwal, Schieber and
    Tokuyama 1994, lemma 3).
    """
    more = n_cells - (len(few) - 1)
    i = 0
    while many[i + more + 1] > few[i + 1]:
        i += 1
    return np.append(many[: i + more + 1], few[i + 1 :])


# --------------------------------------------------------------- the best under a penalty


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


@inner
def _halved(prefix, exact):
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
def points_of(values, mass):
    """Points of ascending values, of which equal ones become one.

    Parameters
    ----------
    values : float64 array of shape (n,)
        About an origin amid them.
    mass : float64 array of shape (n,), or None

    Returns
    -------
    prefix : float64 array of shape (m + 1, 8)
        Sums before each point, in two parts. Summed outward from the middle: one huge outlier does
        not drown the sums of all others.
    scale, heaviest : float
        Unit of the points and of their masses: powers of two, so that scaling is exact, and no
        square over- or underflows.
    penalty : float
        As of `best_partition`.
    """
    points, masses = np.empty(len(values)), np.empty(len(values))
    m, most = 0, 0.0
    for i in range(len(values)):
        each = 1.0 if mass is None else mass[i]
        if i > 0 and values[i] == points[m - 1]:
            masses[m - 1] += each
        else:
            points[m], masses[m] = values[i], each
            m += 1
        most = max(most, masses[m - 1])
    scale = _power_of_two(max(-points[0], points[m - 1]))
    heaviest = _power_of_two(most)
    prefix = np.zeros((m + 1, 8))
    for i in range(m // 2, m):
        _add(prefix, i, i + 1, masses[i] / heaviest, points[i] / scale)
    for i in range(m // 2 - 1, -1, -1):
        _add(prefix, i + 1, i, -masses[i] / heaviest, points[i] / scale)
    # The distortion of k centers is about D / (k + 1) ** 2, so one more saves 2 D / (k + 1) ** 3,
    # where 12 D is the cube of the integral of density ** (1/3) (Panter and Dite 1951).
    integral, step = 0.0, max(1, m // N_SOME)
    for i in range(step, m, step):
        width = (points[i] - points[i - step]) / scale
        integral += ((prefix[i, MASS] - prefix[i - step, MASS]) * width * width) ** (1 / 3)
    return prefix, scale, heaviest, integral**3 / 6


@inner
def _power_of_two(value):
    return 2.0 ** np.ceil(np.log2(value)) if value > 0 else 1.0


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
def cell_means(prefix, bounds):
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
