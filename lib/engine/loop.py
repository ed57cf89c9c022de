"""`lib.lloyd` over weights in order, compiled: an iteration is k searches and sums of ranges.

Step by step this is what `lib.lloyd.lloyd` does with all weights at hand, and tests hold both to
the same path. Compiled, since an iteration takes less than Python's calls around it.
"""

import numpy as np

from .compiled import inner, kernel
from .ranges import add_range, all_known, rank


@kernel
def iterate(order, masses, centers, revise, max_iter, tol):
    """Iterate assignment and means from the given centers.

    The result is a guess where leaves had to be guessed at: they are then marked as looked into.

    Parameters
    ----------
    order : Sorted or Leaves
    masses : float64 array, or None
        Of the weights or, with leaves, of the members.
    centers : float64 array of shape (k,)
        Ascending; not modified.
    revise, tol
        As of `lib.lloyd.lloyd`.
    max_iter : int
        -1 for None.

    Returns
    -------
    centers, bounds : arrays of shape (k,) and (k + 1,)
        Weights of the ranks bounds[j] to bounds[j + 1] - 1 belong to center j.
    log : float64 array of shape (n_iter + 1, 2)
        Inertia of the initial centers and after each iteration, and the number of splits tried.
    converged : bool
    """
    k, origin = len(centers), order.origin
    centers, sums, old = centers.copy(), np.zeros((k, 3)), np.empty(k)
    bounds, before = np.empty(k + 1, np.int64), np.empty(k + 1, np.int64)
    for j in range(k):
        old[j], before[j] = np.nan, -1
    before[k] = -1
    _assign(order, masses, centers, old, bounds, before, sums)
    log = np.zeros((16, 2))  # inertia, and splits tried
    log[0, 0] = _inertia(sums, centers, origin)
    n_iter, converged = 0, False
    while not converged and n_iter != max_iter:
        n_iter += 1
        if n_iter == len(log):
            log = _longer(log)
        centers, old, bounds, before = old, centers, before, bounds
        _means(sums, old, origin, centers)
        log[n_iter, 1] = log[n_iter - 1, 1]
        if revise and _revise(order, masses, centers, before, sums):
            log[n_iter, 1] += 1
        _sort(centers)
        moved = _assign(order, masses, centers, old, bounds, before, sums)
        log[n_iter, 0] = _inertia(sums, centers, origin)
        fall = log[n_iter - 1, 0] - log[n_iter, 0]
        revise = revise and fall > 0
        converged = not moved or (tol > 0 and fall <= tol * log[n_iter - 1, 0])
        if fall <= 0 and not all_known(order):
            break  # guesses need not settle: look up first what they were about
    return centers, bounds, log[: n_iter + 1], converged


@inner
def _longer(log):
    longer = np.zeros((2 * len(log), 2))
    for i in range(len(log)):
        longer[i, 0], longer[i, 1] = log[i, 0], log[i, 1]
    return longer


@inner
def _assign(order, masses, centers, old, bounds, before, sums):
    """Bounds of the cells, and their sums; whether any moved.

    Of equal centers only the first has a cell.
    What `old` centers and the bounds `before` had in common with these is not computed again.
    """
    k, last, moved = len(centers), 0, False
    bounds[0], bounds[k] = 0, before[k] if before[k] >= 0 else rank(order, np.inf, np.inf)
    for j in range(1, k):
        bounds[j] = bounds[k]
        if centers[j] > centers[last]:
            if last == j - 1 and centers[j - 1] == old[j - 1] and centers[j] == old[j]:
                bounds[j] = before[j]
            else:
                bounds[j] = rank(order, centers[last], centers[j])
            last = j
    for j in range(k - 1, -1, -1):
        if bounds[j] > bounds[j + 1]:  # an empty cell starts where the next one does
            bounds[j] = bounds[j + 1]
        if bounds[j] != before[j] or bounds[j + 1] != before[j + 1]:
            moved = True
            sums[j, 0] = sums[j, 1] = sums[j, 2] = 0.0
            add_range(order, masses, bounds[j], bounds[j + 1], sums[j])
    return moved


@inner
def _means(sums, otherwise, origin, means):
    """Mean of each cell, or of its part; `otherwise` where it is empty."""
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
def _revise(order, masses, means, bounds, sums):
    """Free one center where another cell needs it more: changes the means; whether it tried."""
    k, origin = len(means), order.origin
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
        end = rank(order, means[j], means[j])
        if end < bounds[j]:
            end = bounds[j]
        elif end > bounds[j + 1]:
            end = bounds[j + 1]
        add_range(order, masses, bounds[j], end, lower[j])
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
