"""Lloyd's iteration over ordered weights, compiled: k searches and k sums of ranges.

Each step is that of `lib.lloyd.lloyd`, and tests hold both to the same path. It is compiled since
an iteration takes less time than Python's calls around it.
"""

from typing import NamedTuple

import numpy as np

from .compiled import inner, kernel
from .tables import direct_inertia, is_exact, range_sum, rank

CAPACITY = 16  # steps that fit before their array grows
MARGIN = 1e-12  # of the inertia, above rounding: a revision is never undone and done again


class State(NamedTuple):
    """Where Lloyd's iteration stands.

    Attributes
    ----------
    centers : float64 array of shape (k,)
        Ascending.
    cells : int64 array of shape (k + 1, 2)
        Weights of the ranks cells[j, 0] to cells[j + 1, 0] - 1 belong to center j; their places.
        All are -1 before the first assignment.
    sums : float64 array of shape (k, 3)
        Mass and moments of each cell.
    steps : float64 array of shape (at least n_iter + 1, 2)
        Inertia of the initial centers and after each iteration, and how often splits were tried.
    n_iter : int
    revise : bool
        Whether the next iteration revises the centers.
    """

    centers: np.ndarray
    cells: np.ndarray
    sums: np.ndarray
    steps: np.ndarray
    n_iter: int
    revise: bool


@kernel
def first_state(centers, revise):
    """The state before the first assignment to the given centers."""
    k = len(centers)
    cells = np.full((k + 1, 2), -1)
    return State(centers.copy(), cells, np.zeros((k, 3)), np.zeros((CAPACITY, 2)), 0, revise)


@kernel
def iterate(tables, sample_weight, state, max_iter, tol):
    """Iterate assignment and means from a state.

    If a boundary falls inside a leaf that is not loaded, `needed` marks the leaf. The iteration
    goes on provisionally, to learn what else it will need, and the state before is returned: go on
    from there after a look-up.

    Parameters
    ----------
    tables : SortedTables or LeafTables
    sample_weight : float64 array, or None
        `known_sample_weight` of the ordered weights.
    state : State
        Not modified, but for steps after its own.
    max_iter : int
        -1 for None.
    tol
        As of `lib.lloyd.lloyd`.

    Returns
    -------
    state : State
    converged : bool
    """
    k, origin, steps, n_iter = len(state.centers), tables.origin, state.steps, state.n_iter
    centers, cells, sums = state.centers.copy(), state.cells.copy(), state.sums.copy()
    means, next_cells, next_sums = np.empty(k), cells.copy(), sums.copy()
    halves, revise, converged, kept, exact = np.empty((k, 4)), state.revise, False, state, True
    if cells[k, 0] < 0:
        _assign(tables, sample_weight, centers, centers, cells, sums, next_cells, next_sums)
        cells, next_cells, sums, next_sums = next_cells, cells, next_sums, sums
        steps[0, 0] = _inertia(sums, centers, origin)
        exact = is_exact(tables)
    while not converged and n_iter != max_iter:
        n_iter += 1
        if n_iter == len(steps):
            steps = _longer(steps)
        _means(sums, centers, origin, means)
        steps[n_iter, 1] = steps[n_iter - 1, 1]
        if revise and _revise(tables, sample_weight, means, cells, sums, halves):
            steps[n_iter, 1] += 1
        _sort(means)
        moved = _assign(tables, sample_weight, means, centers, cells, sums, next_cells, next_sums)
        if exact and not is_exact(tables):
            kept = State(centers.copy(), cells.copy(), sums.copy(), steps, n_iter - 1, revise)
            exact = False
        steps[n_iter, 0] = _inertia(next_sums, means, origin)
        fall = steps[n_iter - 1, 0] - steps[n_iter, 0]
        revise = revise and fall > 0
        converged = not moved or (tol > 0 and fall <= tol * steps[n_iter - 1, 0])
        centers, means = means, centers
        cells, next_cells, sums, next_sums = next_cells, cells, next_sums, sums
        if fall <= 0 and not exact:
            break  # provisional steps need not settle
    if exact:
        kept = State(centers, cells, sums, steps, n_iter, revise)
    return State(kept.centers, kept.cells, kept.sums, steps, kept.n_iter, kept.revise), converged


@kernel
def whole_path(tables, sample_weight, centers, revise, max_iter, tol):
    """The fields of `lib.lloyd.Path`, over sorted weights: nothing is provisional."""
    state, converged = iterate(tables, sample_weight, first_state(centers, revise), max_iter, tol)
    starts, steps = state.cells[:, 0], state.steps[: state.n_iter + 1]
    history, splits_tried = steps[:, 0].copy(), steps[:, 1].astype(np.int64)
    history[state.n_iter] = direct_inertia(tables, sample_weight, state.centers, starts)
    return state.centers, starts[1:] - starts[:-1], history, converged, splits_tried


@inner
def _longer(steps):
    longer = np.zeros((2 * len(steps), 2))
    for i in range(len(steps)):
        longer[i, 0], longer[i, 1] = steps[i, 0], steps[i, 1]
    return longer


@inner
def _assign(tables, sample_weight, centers, old, cells, sums, next_cells, next_sums):
    """Find the next cells and their sums from the centers; whether any cell changed.

    Of equal centers only the first has a cell. Where `old` centers and their cells are the same,
    nothing is computed again.
    """
    k, last, moved, first_time = len(centers), 0, False, cells[len(centers), 0] < 0
    next_cells[0, 0], next_cells[0, 1] = 0, 0
    next_cells[k, 0], next_cells[k, 1] = cells[k, 0], cells[k, 1]
    if first_time:
        next_cells[k, 0], next_cells[k, 1] = rank(tables, np.inf, np.inf, 0)
    for j in range(1, k):
        next_cells[j, 0], next_cells[j, 1] = next_cells[k, 0], next_cells[k, 1]
        if centers[j] > centers[last]:
            same = last == j - 1 and centers[j - 1] == old[j - 1] and centers[j] == old[j]
            if same and not first_time:
                next_cells[j, 0], next_cells[j, 1] = cells[j, 0], cells[j, 1]
            else:
                guess = next_cells[j - 1, 1] if first_time else cells[j, 1]
                next_cells[j, 0], next_cells[j, 1] = rank(tables, centers[last], centers[j], guess)
            last = j
    for j in range(k - 1, -1, -1):
        if next_cells[j, 0] > next_cells[j + 1, 0]:  # an empty cell starts where the next one does
            next_cells[j, 0], next_cells[j, 1] = next_cells[j + 1, 0], next_cells[j + 1, 1]
        start, stop = next_cells[j, 0], next_cells[j + 1, 0]
        if start != cells[j, 0] or stop != cells[j + 1, 0]:
            moved = True
            next_sums[j, 0], next_sums[j, 1], next_sums[j, 2] = range_sum(
                tables, sample_weight, start, stop, next_cells[j, 1], next_cells[j + 1, 1]
            )
        else:
            for i in range(3):
                next_sums[j, i] = sums[j, i]
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
def _revise(tables, sample_weight, means, cells, sums, halves):
    """Free one center where another cell needs it more, in `means`; whether a split was tried."""
    k, origin = len(means), tables.origin
    freed, cost = -1, np.inf
    for j in range(k):
        if sums[j, 0] == 0:
            freed, cost = j, 0.0
            break
    if freed < 0 and k > 2:
        for j in range(1, k):
            merge = _between(sums[j - 1, 0], means[j - 1], sums[j, 0], means[j])
            if merge < cost:
                freed, cost = j, merge
    most, total = 0.0, 0.0
    for j in range(k):
        inertia = _inertia_of(sums, j, means[j] - origin)
        total += inertia
        most = inertia if inertia > most else most
        halves[j, 0] = inertia
    if freed < 0 or most <= cost:
        return False

    split, most = -1, cost + MARGIN * total
    for j in range(k):
        if halves[j, 0] <= cost or (cost > 0 and freed - 1 <= j <= freed):
            continue  # a split saves at most the inertia of its cell
        gain, halves[j, 1], halves[j, 2] = _split(tables, sample_weight, means[j], j, cells, sums)
        if gain > most:
            split, most = j, gain
    if split < 0:
        return True
    if cost > 0:
        low, high = sums[freed - 1, 0], sums[freed, 0]
        means[freed - 1] = (low * means[freed - 1] + high * means[freed]) / (low + high)
    means[split], means[freed] = halves[split, 1], halves[split, 2]
    return True


@inner
def _split(tables, sample_weight, mean, j, cells, sums):
    """What splitting a cell at its mean saves, and the means of its halves."""
    start, stop = cells[j, 0], cells[j + 1, 0]
    middle, place = rank(tables, mean, mean, (cells[j, 1] + cells[j + 1, 1]) >> 1)
    if middle < start:
        middle, place = start, cells[j, 1]
    elif middle > stop:
        middle, place = stop, cells[j + 1, 1]
    mass, total, _ = range_sum(tables, sample_weight, start, middle, cells[j, 1], place)
    rest = sums[j, 0] - mass
    low = tables.origin + total / mass if mass > 0 else mean
    high = tables.origin + (sums[j, 1] - total) / rest if rest > 0 else mean
    return _between(mass, low, rest, high), low, high


@inner
def _sort(values):
    """By insertion: they are nearly sorted."""
    for i in range(1, len(values)):
        j = i
        while j > 0 and values[j - 1] > values[j]:
            values[j - 1], values[j] = values[j], values[j - 1]
            j -= 1
