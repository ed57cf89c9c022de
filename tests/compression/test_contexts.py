"""Labels coded by their surroundings: there and back, sizes, and codes that are none."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.compression.coding import encode
from lib.compression.contexts import (
    BITS,
    Contexts,
    best_contexts,
    decode_in_contexts,
    encode_in_contexts,
    frequencies,
)


def sparse(rng, rows, columns, k):
    """Labels of which whole rows and columns hold the common one alone."""
    density = np.outer(rng.random(rows) ** 4, rng.random(columns) ** 2)
    density[rng.random(rows) < 0.4] = 0
    density[:, rng.random(columns) < 0.3] = 0
    labels = np.where(rng.random((rows, columns)) < density, rng.integers(0, k, (rows, columns)), 1)
    return labels.astype(np.uint8)


def code_of(labels, tap, k):
    found, size = best_contexts(labels, tap, k)
    words = encode_in_contexts(labels, tap, found)
    assert size == pytest.approx(words.nbytes + found.n_bytes, rel=0.003, abs=12)
    return words, found


@given(
    rows=st.integers(1, 12),
    columns=st.integers(1, 40),
    k=st.integers(1, 256),
    tap=st.integers(0, 9),
    seed=st.integers(0, 100),
    common=st.sampled_from([0.0, 0.5, 0.95, 1.0]),
)
def test_there_and_back(rows, columns, k, tap, seed, common):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, k, (rows, columns)).astype(np.uint8)
    labels[rng.random((rows, columns)) < common] = k // 2
    for nearby in (False, True):
        rows_of = rng.integers(0, 3, rows).astype(np.uint8)
        columns_of = rng.integers(0, 2, columns).astype(np.uint8)
        counts = np.ones((6 * (7 if nearby else 1), k), np.int64)
        found = Contexts(rows_of, columns_of, 3, 2, nearby, frequencies(counts))
        words = encode_in_contexts(labels, tap, found)
        assert np.array_equal(decode_in_contexts(words, labels.shape, tap, found), labels)
    words, found = code_of(labels, tap, k)
    assert np.array_equal(decode_in_contexts(words, labels.shape, tap, found), labels)


def test_empty_rows_and_columns_cost_little():
    labels = sparse(np.random.default_rng(0), 1000, 1200, 8)
    words, found = code_of(labels, 0, 8)
    assert found.are_several
    one_table = encode(labels.ravel(), 8)
    assert words.nbytes + found.n_bytes < 0.75 * one_table.n_bytes
    assert np.array_equal(decode_in_contexts(words, labels.shape, 0, found), labels)


def test_neighbours_that_stand_together_cost_less():
    rng = np.random.default_rng(0)
    runs = np.repeat(rng.random(6000) < 0.2, 10)
    labels = np.where(runs, rng.integers(0, 5, 60_000), 2).astype(np.uint8).reshape(200, 300)
    words, found = code_of(labels, 0, 5)
    assert found.nearby
    assert words.nbytes + found.n_bytes < 0.93 * encode(labels.ravel(), 5).n_bytes


def test_the_tap_of_the_channel_before_is_a_neighbour():
    rng = np.random.default_rng(0)
    kernels = rng.random((400, 1, 9)) < 0.1  # equal in all channels
    labels = np.broadcast_to(np.where(kernels, 2, 0), (400, 16, 9)).astype(np.uint8)
    labels = labels.reshape(400, 144).copy()
    near, _ = code_of(labels, 9, 3)
    far, _ = code_of(labels, 0, 3)
    assert near.nbytes < 0.7 * far.nbytes


@given(
    counts=st.lists(st.lists(st.integers(0, 10**9), min_size=3, max_size=3), min_size=1, max_size=5)
)
def test_frequencies_sum_to_a_power_of_two_and_leave_nothing_out(counts):
    counts = np.array(counts, np.int64)
    found = frequencies(counts).astype(np.int64)
    assert ((found > 0) == (counts > 0)).all()
    assert (found.sum(1)[counts.any(1)] == 1 << BITS).all()


def test_frequencies_of_many_rare_symbols():
    counts = np.ones((1, 256), np.int64)
    counts[0, 7] = 10**12
    found = frequencies(counts)[0]
    assert found.sum() == 1 << BITS
    assert (found[np.arange(256) != 7] == 1).all()


def test_every_truncation_and_most_mutations_are_refused():
    rng = np.random.default_rng(0)
    labels = sparse(rng, 60, 80, 6)
    words, found = code_of(labels, 0, 6)
    for n in range(len(words)):
        with pytest.raises(ValueError, match=r"code is not one|impossible"):
            decode_in_contexts(words[:n], labels.shape, 0, found)
    with pytest.raises(ValueError, match="code is not one"):
        decode_in_contexts(np.append(words, words[-1]), labels.shape, 0, found)
    refused = 0
    for _ in range(300):
        changed = words.copy()
        changed[rng.integers(len(words))] ^= np.uint32(1 << rng.integers(32))
        try:
            decode_in_contexts(changed, labels.shape, 0, found)
        except ValueError:
            refused += 1
    assert refused > 290  # the file's checksums refuse all


@pytest.mark.parametrize(
    "change",
    [
        {"tables": np.zeros((3, 6), np.uint16)},
        {"tables": np.full((1, 6), 100, np.uint16)},
        {"n_rows": 0},
        {"rows": np.full(60, 40, np.uint8)},
        {"columns": np.full(80, 40, np.uint8)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_impossible_contexts_are_refused(change):
    labels = sparse(np.random.default_rng(0), 60, 80, 6)
    words, found = code_of(labels, 0, 6)
    with pytest.raises(ValueError, match="the tables or classes of the contexts are impossible"):
        decode_in_contexts(words, labels.shape, 0, found._replace(**change))


def test_a_context_that_does_not_occur_may_not_be_read():
    found = Contexts(
        np.zeros(1, np.uint8), np.zeros(4, np.uint8), 1, 1, False, np.zeros((1, 3), np.uint16)
    )
    with pytest.raises(ValueError, match="code is not one"):
        decode_in_contexts(np.array([1, 2, 3], np.uint32), (1, 4), 0, found)
