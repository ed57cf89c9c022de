"""Lloyd's iteration over ordered weights, compiled: k searches and k sums of ranges.

Each step is that of `lib.lloyd.lloyd`, and tests hold both to the same path. It is compiled since
an iteration takes less time than Python's calls around it.
"""

import numpy as np

from .compiled import inner, kernel
from .tables import add_range, all_known, rank

CAPACITY = 16  # steps that fit before their array grows


@kernel
def iterate(tables, sample_weight, centers, revise, max_iter, tol):
    """Iterate assignment and means from the given centers.

    The result is provisional if a boundary fell inside a leaf that is not loaded: `needed` then
    marks the leaf, for a rerun after a look-up.

    Parameters
    ----------
    tables : SortedTables or LeafTables
    sample_weight : float64 array, or None
        `known_sample_weight` of the ordered weights.
    centers : float64 array of shape (k,)
        Ascending; not modified.
    revise, tol
        As of `lib.lloyd.lloyd`.
    max_iter : int
        -1 for None.

    Returns
    -------
    centers, cell_starts : arrays of shape (k,) and (k + 1,)
        Weights of the ranks cell_starts[j] to cell_starts[j + 1] - 1 belong to center j.
    steps : float64 array of shape (n_iter + 1, 2)
        Inertia of the initial centers and after each iteration, and the number of splits tried.
    converged : bool
    """
    k, origin = len(centers), tables.origin
    centers, sums, old = centers.copy(), np.zeros((k, 3)), np.empty(k)
    cell_starts, before = np.empty(k + 1, np.int64), np.empty(k + 1, np.int64)
    for j in range(k):
        old[j], before[j] = np.nan, -1
    before[k] = -1
    _assign(tables, sample_weight, centers, old, cell_starts, before, sums)
    steps = np.zeros((CAPACITY, 2))  # inertia, and splits tried
    steps[0, 0] = _inertia(sums, centers, origin)
    n_iter, converged = 0, False
    while not converged and n_iter != max_iter:
        n_iter += 1
        if n_iter == len(steps):
            steps = _longer(steps)
        centers, old, cell_starts, before = old, centers, before, cell_starts
        _means(sums, old, origin, centers)
        steps[n_iter, 1] = steps[n_iter - 1, 1]
        if revise and _revise(tables, sample_weight, centers, before, sums):
            steps[n_iter, 1] += 1
        _sort(centers)
        moved = _assign(tables, sample_weight, centers, old, cell_starts, before, sums)
        steps[n_iter, 0] = _inertia(sums, centers, origin)
        fall = steps[n_iter - 1, 0] - steps[n_iter, 0]
        revise = revise and fall > 0
        converged = not moved or (tol > 0 and fall <= tol * steps[n_iter - 1, 0])
        if fall <= 0 and not all_known(tables):
            break  # provisional steps need not settle: load first what they needed
    return centers, cell_starts, steps[: n_iter + 1], converged


@inner
def _longer(steps):
    longer = np.zeros((2 * len(steps), 2))
    for i in range(len(steps)):
        longer[i, 0], longer[i, 1] = steps[i, 0], steps[i, 1]
    return longer


@inner
def _assign(tables, sample_weight, centers, old, cell_starts, before, sums):
    """Find where the cells start, and their sums; whether any cell changed.

    Of equal centers only the first has a cell. Where `old` centers and the starts `before` are the
    same as these, nothing is computed again.
    """
    k, last, moved = len(centers), 0, False
    cell_starts[0], cell_starts[k] = 0, before[k]
    if before[k] < 0:
        cell_starts[k] = rank(tables, np.inf, np.inf)
    for j in range(1, k):
        cell_starts[j] = cell_starts[k]
        if centers[j] > centers[last]:
            if last == j - 1 and centers[j - 1] == old[j - 1] and centers[j] == old[j]:
                cell_starts[j] = before[j]
            else:
                cell_starts[j] = rank(tables, centers[last], centers[j])
            last = j
    for j in range(k - 1, -1, -1):
        if cell_starts[j] > cell_starts[j + 1]:  # an empty cell starts where the next one does
            cell_starts[j] = cell_starts[j + 1]
        if cell_starts[j] != before[j] or cell_starts[j + 1] != before[j + 1]:
            moved = True
            sums[j, 0] = sums[j, 1] = sums[j, 2] = 0.0
            add_range(tables, sample_weight, cell_starts[j], cell_starts[j + 1], sums[j])
    return moved


@inner
def _means(sums, otherwise, origin, means):
    """Mean of each set of weights; `otherwise` where it is empty."""
    for j in range(len(means)):
        means[j] = origin + sums[j, 1] / sums[j, 0] if sums[j, 0] > 0 else otherwise[j]


@inner
def _inertia_of(sums, j, offset):
    found = sums[j, 2] + offset * (offset * sums[j, 0] - 2 * sums[j, 1])
    return found if found > 0 else 0.0


@inner
def _inertia(sums, centers, origin):
    total = 0.0
    for j in range(len(centers)):
        total += _inertia_of(sums, j, centers[j] - origin)
    return total


@inner
def _between(mass_a, mean_a, mass_b, mean_b):
    mass = mass_a + mass_b
    return mass_a * mass_b / mass * (mean_a - mean_b) ** 2 if mass > 0 else 0.0


@inner
def _revise(tables, sample_weight, means, cell_starts, sums):
    """Free one center where another cell needs it more, in `means`; whether a split was tried."""
    k, origin = len(means), tables.origin
    freed, cost = -1, np.inf
    for j in range(k):
        if sums[j, 0] == 0:
            freed, cost = j, 0.0
            break
    empty = freed >= 0
    if not empty and k > 2:
        for j in range(1, k):
            merge = _between(sums[j - 1, 0], means[j - 1], sums[j, 0], means[j])
            if merge < cost:
                freed, cost = j, merge
    most = 0.0
    for j in range(k):
        inertia = _inertia_of(sums, j, means[j] - origin)
        if inertia > most:
            most = inertia
    if freed < 0 or most <= cost:
        return False

    lower, upper = np.zeros((k, 3)), np.empty((k, 3))
    for j in range(k):
        end = rank(tables, means[j], means[j])
        if end < cell_starts[j]:
            end = cell_starts[j]
        elif end > cell_starts[j + 1]:
            end = cell_starts[j + 1]
        add_range(tables, sample_weight, cell_starts[j], end, lower[j])
        for i in range(3):
            upper[j, i] = sums[j, i] - lower[j, i]
    low_mean, high_mean = np.empty(k), np.empty(k)
    _means(lower, means, origin, low_mean)
    _means(upper, means, origin, high_mean)
    split, most, total = 0, -1.0, 0.0
    for j in range(k):
        gain = _between(lower[j, 0], low_mean[j], upper[j, 0], high_mean[j])
        if cost > 0 and freed - 1 <= j <= freed:
            gain = 0.0
        total += gain
        if gain > most:
            split, most = j, gain
    if most <= cost + 1e-12 * total:
        return True
    if cost > 0:
        low, high = sums[freed - 1, 0], sums[freed, 0]
        means[freed - 1] = (low * means[freed - 1] + high * means[freed]) / (low + high)
    means[split], means[freed] = low_mean[split], high_mean[split]
    return True


@inner
def _sort(values):
    """By insertion: they are nearly sorted."""
    for i in range(1, len(values)):
        j = i
        while j > 0 and values[j - 1] > values[j]:
            values[j - 1], values[j] = values[j], values[j - 1]
            j -= 1
