"""Labels as bytes: packed at a fixed number of bits or entropy-coded, whichever is smaller.

The entropy coder is constriction's (Bamler 2022, arXiv 2201.01741): asymmetric numeral systems with
one categorical model a layer. Its probabilities come from the counts stored beside the labels.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit

CHUNK = 1 << 22  # labels that are converted to int32 for the coder at once


class Code(NamedTuple):
    """Labels as bytes.

    Attributes
    ----------
    data : uint8 array (packed) or uint32 array (entropy-coded)
    counts : uint32 array of shape (n_symbols,), or None
        How often each label occurs; None for packed labels.
    """

    data: np.ndarray
    counts: np.ndarray | None

    @property
    def n_bytes(self) -> int:
        """Bytes of labels and counts."""
        return self.data.nbytes + (0 if self.counts is None else self.counts.nbytes)


def n_bits(n_symbols: int) -> int:
    """Bits of a packed label: ceil(log2 n_symbols)."""
    return (n_symbols - 1).bit_length()


def packed_bytes(n_labels: int, n_symbols: int) -> int:
    """Bytes of packed labels."""
    return -(-n_labels * n_bits(n_symbols) // 8)


def entropy(counts: np.ndarray) -> float:
    """Entropy of labels with these counts, in bits a label."""
    shares = np.asarray(counts, np.float64)
    shares = shares[shares > 0] / shares.sum()
    return float(-(shares * np.log2(shares)).sum()) + 0.0


def encode(labels: np.ndarray, n_symbols: int) -> Code:
    """Labels as bytes: packed or entropy-coded, whichever is smaller.

    Parameters
    ----------
    labels : unsigned integer array of shape (n,)
    n_symbols : int
        1 to 65,536; every label is smaller.

    Returns
    -------
    Code
    """
    counts = np.bincount(labels, minlength=n_symbols).astype(np.uint32)
    packed = packed_bytes(len(labels), n_symbols)
    if len(labels) * entropy(counts) / 8 + counts.nbytes < packed and counts.all():
        code = Code(_ans_encode(labels, counts), counts)
        if code.n_bytes < packed:
            return code
    return Code(pack(labels, n_bits(n_symbols)), None)


def decode(code: Code, n_labels: int, n_symbols: int) -> np.ndarray:
    """The labels of a code: uint8, or uint16 for more than 256 symbols.

    Raises
    ------
    ValueError
        If the code is not one of `n_labels` labels. This is checked before anything large is
        allocated.
    """
    dtype = np.uint8 if n_symbols <= 256 else np.uint16
    if code.counts is None:
        expected = packed_bytes(n_labels, n_symbols)
        if code.data.dtype != np.uint8 or code.data.shape != (expected,):
            raise ValueError(
                f"{code.data.nbytes} bytes of packed labels: {n_labels} need {expected}."
            )
        labels = unpack(code.data, n_bits(n_symbols), n_labels, dtype)
    else:
        counts = code.counts
        if counts.shape != (n_symbols,) or not counts.all() or counts.sum() != n_labels:
            raise ValueError(f"the counts do not match {n_labels} labels of {n_symbols} symbols.")
        labels = _ans_decode(code.data, counts, dtype)
    if labels.max(initial=0) >= n_symbols:
        raise ValueError(f"label {labels.max()} is beyond the codebook of {n_symbols} centers.")
    return labels


def pack(labels: np.ndarray, bits: int) -> np.ndarray:
    """Labels at `bits` bits each, the first in the lowest bits; uint8 of shape (ceil(n b / 8),)."""
    packed = np.zeros(-(-len(labels) * bits // 8), np.uint8)
    _pack(labels, bits, packed)
    return packed


def unpack(packed: np.ndarray, bits: int, n_labels: int, dtype: Any = np.uint8) -> np.ndarray:
    """The labels of `pack`."""
    labels = np.zeros(n_labels, dtype)
    if bits:
        _unpack(packed, bits, labels)
    return labels


def _ans_encode(labels, counts):
    coder, model = _coder(counts)
    for start in reversed(range(0, len(labels), CHUNK)):  # last in, first out
        coder.encode_reverse(labels[start : start + CHUNK].astype(np.int32), model)
    return coder.get_compressed()


def _ans_decode(words, counts, dtype):
    n_labels = int(counts.sum())
    coder, model = _coder(counts, words)
    labels = np.empty(n_labels, dtype)
    for start in range(0, n_labels, CHUNK):
        part = labels[start : start + CHUNK]
        part[:] = coder.decode(model, len(part))
    if not coder.is_empty():
        raise ValueError("bits are left over after decoding all labels.")
    return labels


def _coder(counts, *words):
    """An entropy coder, empty or of the given words, and the model of labels with these counts."""
    from constriction import stream

    # A sum of float64 quotients, so that every machine makes the same model of the same counts.
    shares = counts / counts.sum(dtype=np.float64)
    return stream.stack.AnsCoder(*words), stream.model.Categorical(shares, perfect=False)


@njit(cache=True, nogil=True)
def _pack(labels, bits, packed):
    buffer, filled, place = np.uint64(0), 0, 0
    for label in labels:
        buffer |= np.uint64(label) << np.uint64(filled)
        filled += bits
        while filled >= 8:
            packed[place] = buffer & np.uint64(255)
            buffer >>= np.uint64(8)
            filled -= 8
            place += 1
    if filled:
        packed[place] = buffer & np.uint64(255)


@njit(cache=True, nogil=True)
def _unpack(packed, bits, labels):
    buffer, filled, place = np.uint64(0), 0, 0
    mask = np.uint64((1 << bits) - 1)
    for i in range(len(labels)):
        while filled < bits:
            buffer |= np.uint64(packed[place]) << np.uint64(filled)
            filled += 8
            place += 1
        labels[i] = buffer & mask
        buffer >>= np.uint64(bits)
        filled -= bits
