"""Labels that keep the error of a layer's outputs small and their code short.

The error of a layer's outputs is a quadratic form of its weights' errors, (w - q) H (w - q)^T for
each row, H the second moments of the inputs. With H = M D M^T, M upper triangular with ones on its
diagonal, it is the sum over columns j of

    D_j (t_j - q_j)^2,    t_j = w_j + sum over i < j of (w_i - q_i) M_ij:

each column aims at a target that makes up for the errors before it (GPTQ, Frantar et al. 2023, in
the form of LDLQ, Chee et al. 2023). Rate-aware, a weight gets the label that minimizes

    importance * D_j (t_j - center)^2 + price * bits of the label.

Then centers and code lengths are fitted to the labels, and labels chosen anew, while the cost of
error and bits falls.

The price is not what is paid for a bit: a label that saves bits leaves an error to all columns
after it. Of cells whose steps are far apart, each column aims at the nearest center, and errors
grow until they are worth a step, as in sigma-delta modulation. So prices are tried (`Start`).
"""

import math
from typing import NamedTuple

import numpy as np
import torch

from ..clustering import Prepared, cluster
from ..engine import threads
from ..engine.compiled import inner, kernel
from .coding import entropy, packed_bytes
from .entropy import entropy_constrained_cells

BLOCK = 128  # columns whose errors are handed on one by one; further ones by matrix products
N_BINS = 1024  # of the shortest path that finds its cells
SAMPLE = 1 << 18  # weights that a first codebook is fitted to
TRIED = 1 << 16  # weights whose labels tell which start is the best
MOST_OCTAVES = 24  # that a start is looked for in, either way
BITS_OF_CENTER = 16 + 32  # of itself in float16, and of its count


class Factor(NamedTuple):
    """Second moments H = M D M^T of a layer's inputs, by group, its columns in an order.

    Attributes
    ----------
    order : int64 tensor of shape (groups, columns)
    unit : float32 tensor of shape (groups, columns, columns), or None
        M; None where it is the identity.
    curvature : float32 tensor of shape (groups, columns)
        The diagonal of D.
    """

    order: torch.Tensor
    unit: torch.Tensor | None
    curvature: torch.Tensor


class Start(NamedTuple):
    """The prices of a first codebook and of labels, by what is paid for a bit.

    Attributes
    ----------
    octaves : float
        By which the price is lower at which entropy-constrained cells make the first codebook;
        -inf for a single center.
    rated : bool
        Whether labels weigh their bits, at half of the cells' price, or take the nearest center.
    fewest : int
        Cells there are at least: where they would be fewer, the last ones that are not, with steps
        that grow as those of cells do, by the root of the price. Two may not make up for errors of
        either sign; of weights around two values they are enough.
    """

    octaves: float
    rated: bool
    fewest: int


class Fitted(NamedTuple):
    """Labels of a layer with their codebook.

    Attributes
    ----------
    labels : int16 tensor of shape (groups, rows, columns)
    centers : float32 array of shape (k,)
        Ascending.
    counts : int64 array of shape (k,)
        Positive.
    distortion : float
        Of the outputs, weighted by importance.
    cost : float
        Distortion + multiplier * bits.
    history : tuple of float
        The cost after each alternation; the least is `cost`.
    start : Start
        What they were found from.
    """

    labels: torch.Tensor
    centers: np.ndarray
    counts: np.ndarray
    distortion: float
    cost: float
    history: tuple[float, ...]
    start: "Start"

    @property
    def n_bytes(self) -> int:
        """Bytes of labels, counts and centers in a file, to a few bytes."""
        return coded_bytes(self.counts)


def coded_bytes(counts: np.ndarray) -> int:
    """Bytes of labels with these counts, of the counts and of float16 centers, in a file."""
    n, k = int(np.sum(counts)), len(counts)
    coded = n * entropy(counts) / 8 + 4 * k + 4
    return 2 * k + math.ceil(min(coded, packed_bytes(n, k)))


def factor(moments: torch.Tensor, damping: float = 0.01) -> Factor:
    """Factor the inputs' second moments; they are used up.

    Parameters
    ----------
    moments : float32 tensor of shape (groups, columns, columns)
        Written to.
    damping : float, default 0.01
        How far they are moved towards their mean diagonal times the identity, whose share in the
        result is damping / (1 + damping): moments of few inputs do not know all directions (Ledoit
        and Wolf 2004).

    Returns
    -------
    Factor
        Columns with the largest moments first, so that the others can make up for them.

    Notes
    -----
    O(columns^3) of each group, a third of it in products.
    """
    diagonal = moments.diagonal(dim1=1, dim2=2)
    mean = diagonal.mean(1, keepdim=True)
    diagonal += damping * torch.where(mean > 0, mean, 1.0)
    moments /= 1 + damping
    # Reversed, since the lower factor of the reversed matrix is the upper one of the matrix.
    order = diagonal.argsort(dim=1, stable=True)
    group = torch.arange(len(moments))[:, None, None]
    ordered = moments[group, order[:, :, None], order[:, None, :]]
    lower = _cholesky(ordered, mean[:, :, None] * damping)
    scale = lower.diagonal(dim1=1, dim2=2).clone()
    lower /= scale[:, None, :]
    return Factor(order.flip(1), lower.flip(1, 2), scale.square().flip(1))


def _cholesky(matrices, step):
    """Lower factors; what rounding made indefinite is damped more."""
    while True:
        lower, failed = torch.linalg.cholesky_ex(matrices)
        if not failed.any():
            return lower
        step = torch.where(step > 0, 10 * step, 1.0)
        matrices.diagonal(dim1=1, dim2=2).add_(step[:, :, 0])


def fit(
    weight: torch.Tensor,
    factor: Factor,
    importance: torch.Tensor,
    multiplier: float,
    *,
    share: float = 1.0,
    start: Start | None = None,
    near: float = 0,
    init: str | None = None,
    seed: int = 0,
    max_iter: int = 8,
    tol: float = 2e-3,
) -> Fitted:
    """Labels and codebook of a weight matrix, of the least cost that alternating finds.

    Parameters
    ----------
    weight : float32 tensor of shape (groups, rows, columns)
    factor : Factor
    importance : float tensor of shape (groups, rows)
        Positive: what a squared error of each row's output costs.
    multiplier : float
        What a bit costs.
    share : float, default 1.0
        Of the layer's weights that these are, which bear this share of what its centers cost.
    start : Start, optional
        By default the one from which some rows cost least.
    near : float, default 0
        Octaves that it is looked for from.
    init : str, optional
        A name in `lib.INITIALIZATIONS`: as many centers of this initialization make the first
        codebook, with the lengths of their nearest weights. To compare.
    seed : int, default 0
        Of the weights that a first codebook is fitted to.
    max_iter : int, default 8
        Times that labels are chosen at most.
    tol : float, default 2e-3
        The alternation stops where it lowers the cost by less, relatively.

    Returns
    -------
    Fitted
    """
    ordered = weight.gather(2, factor.order[:, None].expand_as(weight)).contiguous()
    # In units of the layer's own, since float32 cannot hold what the errors of some layers cost.
    units = _mean(importance), _mean(factor.curvature)
    cost_unit = units[0] * units[1]
    importance = (importance.double() / units[0]).float().contiguous()
    factor = factor._replace(curvature=factor.curvature / units[1])
    multiplier = multiplier / cost_unit
    of_center = share * BITS_OF_CENTER
    starts = _Starts(ordered, factor, importance, multiplier, of_center, seed)
    start = starts.best(near) if start is None else start
    codebook, price = starts.codebook(start, init), starts.price(start)
    best: tuple[float, Chosen, np.ndarray] | None = None
    history: list[float] = []
    for _ in range(max_iter):
        found = choose_labels(ordered, factor, importance, price, *codebook)
        cost = found.cost(multiplier, of_center)
        history.append(cost)
        stop = best is not None and cost > (1 - tol) * best[0]
        if best is None or cost < best[0]:
            best = cost, found, codebook[0][found.used]
        if stop:
            break
        codebook = found.refitted()
    assert best is not None  # of the first choice
    cost, found, centers = best
    labels = torch.empty_like(found.labels)
    labels.scatter_(2, factor.order[:, None].expand_as(labels), found.labels)
    history = [cost_unit * each for each in history]
    distortion = cost_unit * found.distortion
    return Fitted(
        labels, centers, found.counts, distortion, cost_unit * cost, tuple(history), start
    )


def _mean(values):
    """Mean of values that are not negative; 1 if all are 0."""
    return float(values.double().mean()) or 1.0


class Chosen(NamedTuple):
    """Labels of one choice, of the columns in order.

    Attributes
    ----------
    labels : int16 tensor of shape (groups, rows, columns)
        Places among the used centers.
    used : int array
        Places of these in the codebook.
    counts : int64 array of shape (used,)
    means : float64 array of shape (used,)
        Mean targets, weighted by importance and curvature.
    distortion : float
    """

    labels: torch.Tensor
    used: np.ndarray
    counts: np.ndarray
    means: np.ndarray
    distortion: float

    def cost(self, multiplier: float, of_center: float) -> float:
        """Distortion + multiplier * bits, those of the centers included."""
        bits = self.counts.sum() * entropy(self.counts) + of_center * len(self.counts)
        return self.distortion + multiplier * bits

    def refitted(self) -> tuple[np.ndarray, np.ndarray]:
        """Centers and code lengths of these labels."""
        return codebook_of(self.means, self.counts)


def codebook_of(centers: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centers in float16 where that changes them little, ascending, with their code lengths."""
    centers, counts = np.asarray(centers, np.float64), np.asarray(counts, np.float64)
    half = centers.astype(np.float16)
    close = np.abs(half - centers) <= np.maximum(2.0**-10 * np.abs(centers), 1e-4 * np.ptp(centers))
    rounded = (half if close.all() else centers).astype(np.float32)
    rounded, place = np.unique(rounded, return_inverse=True)
    merged = np.bincount(place, counts)
    return rounded, (-np.log2(merged / merged.sum())).astype(np.float32)


class _Starts:
    """The starts of a weight's labels at one price of a bit, and what some rows cost from each.

    The cells are those of weights that are not compensated. The more inputs are correlated, the
    more errors can make up for each other, and the lower are the prices that suit.
    """

    def __init__(self, weight, factor, importance, multiplier, of_center, seed):
        n_rows, columns = weight.shape[1:]
        rows = some_of(n_rows, -(-TRIED // columns))
        self.some = weight[:, rows].contiguous(), factor, importance[:, rows].contiguous()
        self.multiplier, self.of_center = multiplier, of_center * len(rows) / n_rows
        values, self.worth = _sampled(weight, factor, importance, seed)
        self.values, self.seed, self.prepared = values, seed, Prepared(values)
        self.of_cell = of_center * len(values) / weight.numel()
        self._known = {}

    def best(self, near):
        """The start from which the rows cost least, looked for from so many octaves on."""
        none = Start(-math.inf, False, 1)
        if self.worth == 0:  # errors cost nothing: one center does
            return none
        emptied = self.cost(none)
        if emptied <= 2 * self.multiplier * self.of_center:  # what two centers cost alone
            return none
        found = {none: emptied}
        octaves = round(near) if math.isfinite(near) else 0
        for kind in ((True, 3), (False, 3), (False, 2)):
            found |= self._descent(octaves, kind, emptied)
        return min(found, key=lambda start: (found[start], -start.octaves))

    def _descent(self, octaves, kind, emptied):
        """What starts cost on the way down from one of so many octaves; from emptied ones on."""
        found = {}

        def cost(octaves):
            start = Start(octaves, *kind)
            if start not in found:
                found[start] = self.cost(start)
            return found[start]

        def falls(step):
            here, there = cost(octaves), cost(octaves + step)
            return there < here or here == there == emptied

        step = 1 if falls(1) else -1
        while abs(octaves) < MOST_OCTAVES and falls(step):
            octaves += step
        return found

    def cost(self, start):
        """What the rows cost after one choice of labels."""
        codebook = self.codebook(start)
        weight, factor, importance = self.some
        found = choose_labels(weight, factor, importance, self.price(start), *codebook)
        return found.cost(self.multiplier, self.of_center)

    def price(self, start):
        """What a bit costs where labels are chosen."""
        return self.multiplier * 2.0 ** -(start.octaves + 1) if start.rated else 0.0

    def codebook(self, start, init=None):
        """Centers and code lengths to begin with."""
        centers, counts = self._cells(start.octaves, start.fewest)
        if init is not None:
            made = cluster(self.values, len(centers), init=init, max_iter=0, seed=self.seed)
            centers, counts = np.asarray(made.centers), np.asarray(made.counts)
            centers, counts = centers[counts > 0], counts[counts > 0]
        return codebook_of(centers, counts)

    def _cells(self, octaves, fewest):
        """Centers and counts of entropy-constrained cells."""
        for more in range(MOST_OCTAVES if octaves > -math.inf else 0):
            cells = self._entropy_constrained(octaves + more)
            if len(cells.centers) >= fewest:
                return cells.centers * 2.0 ** (more / 2), cells.counts
        return self.values.mean(dtype=np.float64)[None], np.array([len(self.values)])

    def _entropy_constrained(self, octaves):
        if octaves not in self._known:
            price = self.multiplier / self.worth * 2.0**-octaves
            self._known[octaves] = entropy_constrained_cells(
                self.prepared, price, cell_bits=self.of_cell, n_bins=N_BINS
            )
        return self._known[octaves]


def some_of(n: int, most: int) -> torch.Tensor:
    """At most so many of n places, evenly spread; int64."""
    return torch.linspace(0, n - 1, min(most, n)).long()


def _sampled(weight, factor, importance, seed):
    """Some weights, and the geometric mean of what a squared error of them costs."""
    values, worth = weight, importance[:, :, None] * factor.curvature[:, None]
    values, worth = values.flatten(), worth.flatten()
    if len(values) > SAMPLE:
        generator = torch.Generator().manual_seed(seed)
        places = torch.randint(len(values), (SAMPLE,), generator=generator)
        values, worth = values[places], worth[places]
    least = 1e-12 * float(worth.max())
    mean = float(worth.double().clamp_min(least).log().mean().exp()) if least else 0.0
    return values.numpy(), mean


def choose_labels(
    weight: torch.Tensor,
    factor: Factor,
    importance: torch.Tensor,
    multiplier: float,
    centers: np.ndarray,
    lengths: np.ndarray,
) -> Chosen:
    """Labels of the weights of columns in order, column by column; see the module.

    Parameters
    ----------
    weight : float32 tensor of shape (groups, rows, columns)
        Columns in the factor's order.
    factor : Factor
    importance : float32 tensor of shape (groups, rows)
    multiplier : float
    centers, lengths : float32 arrays of shape (k,)
        Ascending; bits of each.

    Returns
    -------
    Chosen
    """
    groups, columns = len(weight), weight.shape[2]
    labels = torch.empty(weight.shape, dtype=torch.int16)
    errors = torch.empty_like(weight)
    sums = _Sums(len(centers))
    for start in range(0, columns, BLOCK):
        stop = min(start + BLOCK, columns)
        target = weight[:, :, start:stop].clone()
        unit = torch.eye(stop - start).expand(groups, -1, -1)
        if factor.unit is not None:
            unit = factor.unit[:, start:stop, start:stop]
            if start:
                target += errors[:, :, :start] @ factor.unit[:, :start, start:stop]
        _choose_block(
            *(weight[:, :, start:stop], target, unit, factor.curvature[:, start:stop]),
            *(importance, multiplier, centers, lengths),
            *(labels[:, :, start:stop], errors[:, :, start:stop], sums),
        )
    used = np.flatnonzero(sums.counts)
    if len(used) < len(centers):
        place = torch.zeros(len(centers), dtype=torch.int16)
        place[torch.from_numpy(used)] = torch.arange(len(used)).to(torch.int16)
        labels = place[labels.int() & 0xFFFF]
    means = np.array(centers[used], np.float64)
    np.divide(sums.totals[used], sums.masses[used], out=means, where=sums.masses[used] > 0)
    return Chosen(labels, used, sums.counts[used], means, sums.distortion)


class _Sums:
    """What a choice of labels adds up to, in float64."""

    def __init__(self, k):
        self.counts, self.masses, self.totals = np.zeros(k, np.int64), np.zeros(k), np.zeros(k)
        self.distortion = 0.0

    def add(self, counts, masses, totals, distortion):
        self.counts += counts
        self.masses += masses
        self.totals += totals
        self.distortion += distortion


def _choose_block(
    weight, target, unit, curvature, importance, multiplier, centers, lengths, labels, errors, sums
):
    """One block of columns, rows side by side on the cores."""
    groups, rows, _ = weight.shape
    middles = (centers[1:] + centers[:-1]) / 2
    unit, curvature = unit.contiguous().numpy(), curvature.contiguous().numpy()
    arrays = [a.numpy() for a in (weight, target)], [a.numpy() for a in (labels, errors)]
    important, least = importance.numpy(), lengths.min()

    def of_rows(part):
        given = np.zeros(len(centers), np.int64), np.zeros(len(centers)), np.zeros(len(centers))
        distortion = _choose(
            *(part.start, part.stop, *arrays[0], unit, curvature, important),
            *(np.float32(multiplier), middles, centers, lengths, least, *arrays[1], *given),
        )
        return *given, distortion

    parts = threads.parts(groups * rows, at_least=64)
    for found in threads.run(of_rows, parts):
        sums.add(*found)


@kernel
def _choose(
    start,
    stop,
    weight,
    target,
    unit,
    curvature,
    importance,
    multiplier,
    middles,
    centers,
    lengths,
    least,
    labels,
    errors,
    counts,
    masses,
    totals,
):
    """Labels and errors of rows from start to stop, groups one after another; the distortion."""
    rows, columns = weight.shape[1], weight.shape[2]
    distortion = 0.0
    for i in range(start, stop):
        g, r = i // rows, i % rows
        aim, triangle = target[g, r], unit[g]
        for j in range(columns):
            mass = importance[g, r] * curvature[g, j]
            t = aim[j]
            label = _label(t, multiplier / mass, middles, centers, lengths, least)
            error = t - centers[label]
            distortion += mass * error * error
            counts[label] += 1
            masses[label] += mass
            totals[label] += mass * t
            error = weight[g, r, j] - centers[label]
            row = triangle[j]
            for m in range(j + 1, columns):
                aim[m] += error * row[m]
            labels[g, r, j] = label
            errors[g, r, j] = error
    return distortion


@inner
def _label(x, price, middles, centers, lengths, least):
    """The center with the least (x - center) ** 2 + price * length: outward from the nearest."""
    low, high = 0, len(middles)
    while low < high:
        middle = (low + high) >> 1
        if middles[middle] < x:
            low = middle + 1
        else:
            high = middle
    best = low
    cost = (x - centers[low]) ** 2 + price * lengths[low]
    floor = price * least
    for k in range(low + 1, len(centers)):
        square = (x - centers[k]) ** 2
        if square + floor >= cost:
            break
        if square + price * lengths[k] < cost:
            best, cost = k, square + price * lengths[k]
    for k in range(low - 1, -1, -1):
        square = (x - centers[k]) ** 2
        if square + floor >= cost:
            break
        if square + price * lengths[k] < cost:
            best, cost = k, square + price * lengths[k]
    return best
