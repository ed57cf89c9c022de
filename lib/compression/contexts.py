"""Labels coded by what surrounds them: classes of rows and columns, and neighbours.

A layer's most frequent label, usually that of zero, is unevenly spread: whole rows and columns hold
nothing else, and others stand together. So a label's probabilities depend on its *context*: the
class of its row, that of its column, and how many of its neighbours have other labels. Rows and
columns are classed by their share of other labels; the first class is of those without any.

The coder is rANS (Duda 2013, arXiv 1311.2540; Giesen 2014, arXiv 1402.3392) with a table of
frequencies for each context. What the tables and classes cost is counted.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..engine.compiled import inlined, kernel
from .coding import packed_bytes

BITS = 15  # of frequencies: each table sums to 2 ** 15
LOWEST = 1 << 31  # the coder's state lies in 2 ** 31 to 2 ** 63
MOST_SYMBOLS = 256
N_CLASSES = 16  # of rows or columns, the finest; merged by 3 and by 15
STEPS = (1, 3, 15)
N_NEARBY = 7  # sums of three neighbours, each of 0, 1 or 2


class Contexts(NamedTuple):
    """What a label's context is made of.

    Attributes
    ----------
    rows, columns : uint8 arrays of shape (n_rows,) and (n_columns,)
        Their classes, from 0; all 0 where there is one class.
    n_rows, n_columns : int
        Numbers of classes.
    nearby : bool
        Whether neighbours count.
    tables : uint16 array of shape (n_contexts, k)
        Frequencies; those of a context that occurs sum to 2 ** 15.
    """

    rows: np.ndarray
    columns: np.ndarray
    n_rows: int
    n_columns: int
    nearby: bool
    tables: np.ndarray

    @property
    def n_bytes(self) -> int:
        """Bytes of classes and tables."""
        side = side_bytes(self.rows, self.columns, self.n_rows, self.n_columns)
        return side + self.tables.nbytes

    @property
    def are_several(self) -> bool:
        """Whether labels have more than one context."""
        return self.n_rows * self.n_columns > 1 or self.nearby


def rows_and_columns(shape: Sequence[int]) -> tuple[int, int]:
    """The shape of a weight as a matrix: of its first axis, and of all others."""
    return (shape[0], math.prod(shape[1:])) if len(shape) > 1 else (1, math.prod(shape))


def tap_of(shape: Sequence[int]) -> int:
    """Columns to the same tap of the channel before; 0 if a weight has no taps."""
    return math.prod(shape[2:]) if len(shape) > 2 else 0


def side_bytes(rows: np.ndarray, columns: np.ndarray, n_rows: int, n_columns: int) -> int:
    """Bytes of packed classes of rows and columns."""
    return packed_bytes(len(rows), n_rows) + packed_bytes(len(columns), n_columns)


def best_contexts(labels: np.ndarray, tap: int, n_symbols: int) -> tuple[Contexts, float]:
    """The contexts that make the labels' code smallest.

    Parameters
    ----------
    labels : uint8 array of shape (n_rows, n_columns)
    tap : int
        Distance of a column to the same tap of the kernel in the channel before; 0 if there is
        none.
    n_symbols : int
        1 to 256; every label is smaller.

    Returns
    -------
    Contexts
    float
        Bytes of the code with them, classes and tables included, to a few bytes.
    """
    common = np.argmax(np.bincount(labels.ravel(), minlength=n_symbols))
    rows, columns = (_classes((labels != common).mean(axis)) for axis in (1, 0))
    counts = np.zeros((N_CLASSES, N_CLASSES, N_NEARBY, n_symbols), np.int64)
    _count(labels, common, tap, rows, columns, counts)
    tried: list[tuple] = []
    for of_rows in _mergers():
        by_rows = np.add.reduceat(counts, of_rows, axis=0)
        for of_columns in _mergers():
            merged = np.add.reduceat(by_rows, of_columns, axis=1)
            side = side_bytes(rows, columns, len(of_rows), len(of_columns)) + 8
            for nearby in (False, True):
                each = merged if nearby else merged.sum(2, keepdims=True)
                each = each.reshape(-1, n_symbols)
                size = _entropy_bytes(each) + 2 * each.size + side
                tried.append((size, of_rows, of_columns, nearby, each))
    size, of_rows, of_columns, nearby, each = min(tried, key=lambda one: one[0])
    place_rows, place_columns = (
        np.searchsorted(starts, classes, side="right").astype(np.uint8) - 1
        for starts, classes in ((of_rows, rows), (of_columns, columns))
    )
    found = Contexts(
        place_rows, place_columns, len(of_rows), len(of_columns), nearby, frequencies(each)
    )
    return found, size


def _mergers():
    """The finest classes that merged ones begin with: one, or those without others apart."""
    return [np.array([0]), *(np.array([0, *range(1, N_CLASSES, step)]) for step in STEPS)]


def _classes(shares):
    """Classes of rows by their share of other labels: 0 for none, the others equally many."""
    found = np.zeros(len(shares), np.uint8)
    some = np.flatnonzero(shares > 0)
    order = some[np.argsort(shares[some], kind="stable")]
    found[order] = 1 + np.arange(len(order)) * (N_CLASSES - 1) // max(len(order), 1)
    return found


def _entropy_bytes(counts):
    """Bytes of labels with these counts, each context coded at its entropy."""
    totals = counts.sum(1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        bits = np.where(counts > 0, counts * np.log2(totals / counts), 0.0)
    return float(bits.sum()) / 8


def frequencies(counts: np.ndarray) -> np.ndarray:
    """Frequencies of each context that sum to 2 ** 15, at least 1 for what occurs; uint16.

    By whole numbers alone, so that they never depend on the machine.
    """
    whole = 1 << BITS
    totals = np.maximum(counts.sum(1, keepdims=True), 1)
    found = np.maximum(counts * whole // totals, counts > 0)
    over = found.sum(1) - whole
    largest = found.argmax(1)
    for context in np.flatnonzero(counts.any(1)):
        if over[context] < 0 or found[context, largest[context]] > over[context]:
            found[context, largest[context]] -= over[context]
        else:  # more symbols than the largest can pay for: one each from the others
            for symbol in np.argsort(-found[context], kind="stable"):
                take = min(over[context], found[context, symbol] - 1)
                found[context, symbol] -= take
                over[context] -= take
    return found.astype(np.uint16)


def encode_in_contexts(labels: np.ndarray, tap: int, contexts: Contexts) -> np.ndarray:
    """The code of labels in these contexts, uint32; parameters as of `best_contexts`."""
    common = _common(contexts.tables)
    words = np.empty(2 + labels.size, np.uint32)
    n = _encode(labels, common, tap, *_arrays(contexts), words)
    return words[:n][::-1].copy()  # read from its end


def decode_in_contexts(
    words: np.ndarray, shape: tuple[int, int], tap: int, contexts: Contexts
) -> np.ndarray:
    """The labels of a code; uint8 of this shape.

    Raises
    ------
    ValueError
        If the code is not one of these labels.
    """
    tables = contexts.tables
    n_contexts = contexts.n_rows * contexts.n_columns * (N_NEARBY if contexts.nearby else 1)
    sums = tables.sum(1, dtype=np.int64)
    if (
        tables.shape[0] != n_contexts
        or ((sums != 1 << BITS) & (sums != 0)).any()
        or contexts.rows.max(initial=0) >= contexts.n_rows
        or contexts.columns.max(initial=0) >= contexts.n_columns
        or len(words) < 2
    ):
        raise ValueError("the tables or classes of the contexts are impossible.")
    labels = np.empty(shape, np.uint8)
    if not _decode(words, _common(tables), tap, *_arrays(contexts), labels):
        raise ValueError(f"the code is not one of {labels.size} labels.")
    return labels


def _common(tables):
    """The label that stands out: the one that is most frequent over all contexts."""
    return int(tables.sum(0, dtype=np.int64).argmax())


def _arrays(contexts):
    starts = np.zeros((len(contexts.tables), contexts.tables.shape[1] + 1), np.uint32)
    np.cumsum(contexts.tables, axis=1, out=starts[:, 1:])
    return contexts.rows, contexts.columns, contexts.n_columns, contexts.nearby, starts


@inlined
def _far(label, common):
    """0 for the common label, 1 for its neighbours in order, 2 for all others."""
    if label == common:
        return 0
    return 1 if label == common + 1 or label + 1 == common else 2


@inlined
def _nearby(labels, i, j, common, tap):
    """How many labels before it differ from the common one, and how much; 0 to 6."""
    found = 0
    if j > 0:
        found += _far(labels[i, j - 1], common)
    if i > 0:
        found += _far(labels[i - 1, j], common)
    if tap > 0 and j >= tap:
        found += _far(labels[i, j - tap], common)
    elif i > 1:
        found += _far(labels[i - 2, j], common)
    return found


@kernel
def _count(labels, common, tap, rows, columns, counts):
    for i in range(labels.shape[0]):
        for j in range(labels.shape[1]):
            near = _nearby(labels, i, j, common, tap)
            counts[rows[i], columns[j], near, labels[i, j]] += 1


@kernel
def _encode(labels, common, tap, rows, columns, n_columns, nearby, starts, words):
    """Write the words of a code, the last to be read first; their number."""
    state, n = np.uint64(LOWEST), 0
    for i in range(labels.shape[0] - 1, -1, -1):
        for j in range(labels.shape[1] - 1, -1, -1):
            context = rows[i] * n_columns + columns[j]
            if nearby:
                context = context * N_NEARBY + _nearby(labels, i, j, common, tap)
            start = np.uint64(starts[context, labels[i, j]])
            size = np.uint64(starts[context, labels[i, j] + 1]) - start
            if state >= size << np.uint64(63 - BITS):
                words[n] = state & np.uint64(0xFFFFFFFF)
                state >>= np.uint64(32)
                n += 1
            state = (state // size << np.uint64(BITS)) + state % size + start
    words[n] = state & np.uint64(0xFFFFFFFF)
    words[n + 1] = state >> np.uint64(32)
    return n + 2


@kernel
def _decode(words, common, tap, rows, columns, n_columns, nearby, starts, labels):
    """Read labels; whether the words were those of a code of so many."""
    state = np.uint64(words[0]) << np.uint64(32) | np.uint64(words[1])
    n, k, mask = 2, starts.shape[1] - 1, np.uint64((1 << BITS) - 1)
    for i in range(labels.shape[0]):
        for j in range(labels.shape[1]):
            context = rows[i] * n_columns + columns[j]
            if nearby:
                context = context * N_NEARBY + _nearby(labels, i, j, common, tap)
            place = state & mask
            label = common
            if not starts[context, common] <= place < starts[context, common + 1]:
                low, high = 0, k - 1
                while low < high:
                    middle = (low + high + 1) >> 1
                    if starts[context, middle] <= place:
                        low = middle
                    else:
                        high = middle - 1
                label = low
            start = np.uint64(starts[context, label])
            size = np.uint64(starts[context, label + 1]) - start
            if size == 0:
                return False
            state = size * (state >> np.uint64(BITS)) + place - start
            if state < np.uint64(LOWEST):
                if n == len(words):
                    return False
                state = state << np.uint64(32) | np.uint64(words[n])
                n += 1
            labels[i, j] = label
    return state == np.uint64(LOWEST) and n == len(words)
