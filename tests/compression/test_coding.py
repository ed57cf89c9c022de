"""Labels as bytes, and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.compression import coding
from lib.compression.coding import Code, decode, encode, entropy, pack, unpack


def labels_of(n, k, seed=0, skew=1.0):
    shares = np.arange(1, k + 1.0) ** -skew
    drawn = np.random.default_rng(seed).choice(k, size=n, p=shares / shares.sum())
    drawn[:k] = np.arange(k)[:n]
    return drawn.astype(np.uint8 if k <= 256 else np.uint16)


def test_packed_by_hand():
    # 1, 2, 7 and 4 at three bits each, the first lowest: 100 111 010 001
    assert pack(np.array([1, 2, 7, 4], np.uint8), 3).tolist() == [0b11010001, 0b1001]


@pytest.mark.parametrize("bits", range(17))
def test_every_width_comes_back_in_its_least_bytes(bits):
    k = 2**bits
    for n in (1, 7, 8, 9, 1000):
        labels = np.random.default_rng(n).integers(0, k, n).astype(np.uint16)
        packed = pack(labels, bits)
        assert len(packed) == -(-n * bits // 8)
        np.testing.assert_array_equal(unpack(packed, bits, n, np.uint16), labels)


@given(
    n=st.integers(1, 3000),
    k=st.integers(1, 700),
    skew=st.floats(0, 6),
    seed=st.integers(0, 2**16),
)
def test_any_labels_come_back(n, k, skew, seed):
    labels = labels_of(n, k, seed, skew)
    code = encode(labels, k)
    found = decode(code, n, k)
    assert found.dtype == labels.dtype
    np.testing.assert_array_equal(found, labels)
    assert code.n_bytes <= coding.packed_bytes(n, k)


def test_even_labels_are_packed_and_skewed_ones_coded_near_their_entropy():
    assert encode(labels_of(20_000, 16, skew=0), 16).counts is None
    labels = labels_of(200_000, 16, skew=2)
    code = encode(labels, 16)
    assert code.counts is not None
    least = len(labels) * entropy(np.bincount(labels)) / 8
    assert least <= code.data.nbytes <= 1.001 * least + 16


def test_chunks_are_one_stream(monkeypatch):
    labels = labels_of(10_000, 5, skew=2)
    whole = encode(labels, 5)
    monkeypatch.setattr(coding, "CHUNK", 777)
    np.testing.assert_array_equal(encode(labels, 5).data, whole.data)
    np.testing.assert_array_equal(decode(whole, len(labels), 5), labels)


def test_entropy_by_hand():
    assert entropy([1, 1, 2, 0]) == 1.5
    assert entropy([7]) == 0.0


def test_one_symbol_needs_no_bytes():
    code = encode(np.zeros(1000, np.uint8), 1)
    assert code.n_bytes == 0
    assert not decode(code, 1000, 1).any()


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (Code(np.zeros(3, np.uint8), None), "10 need 4"),
        (Code(np.zeros(4, np.uint32), None), "10 need 4"),
        (Code(np.full(4, 255, np.uint8), None), "beyond the codebook of 5"),
        (Code(np.zeros(1, np.uint32), np.array([5, 5], np.uint32)), "counts do not match"),
        (Code(np.zeros(1, np.uint32), np.array([2] * 4 + [1], np.uint32)), "counts do not match"),
        (Code(np.zeros(1, np.uint32), np.array([10, 0, 0, 0, 0], np.uint32)), "counts do not"),
        (Code(np.arange(1, 90, dtype=np.uint32), np.full(5, 2, np.uint32)), "bits are left over"),
    ],
)
def test_what_is_no_code_of_ten_labels_below_five(code, message):
    with pytest.raises(ValueError, match=message):
        decode(code, 10, 5)
