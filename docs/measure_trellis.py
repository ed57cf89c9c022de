"""What a trellis would save: bits at equal squared error, beside entropy-constrained cells.

The standard for neural network coding has it (dependent quantization): two quantizers of twice the
step, interleaved, of which the labels before choose one, so that a label's parity moves through a
few states. The Viterbi algorithm finds the labels with the least error and bits together; code
lengths are fitted to their counts in turn. Neither side is calibrated, and both are entropies of
one table a quantizer, without contexts.

    .venv/bin/python docs/measure_trellis.py
"""

import numpy as np
from numba import njit

from lib import Prepared
from lib.study.experiment.data import load_convolutions
from lib.study.experiment.network import CONVOLUTIONS
from lib.study.experiment.standard import cells_at_error

NEXT = np.array([[0, 2], [5, 7], [1, 3], [6, 4], [2, 0], [4, 6], [3, 1], [7, 5]])  # by parity
STEPS = (0.25, 0.5, 1.0)  # in standard deviations of the weights
PRICES = (0.1, 0.2, 0.4, 0.7, 1.0)  # of a bit, in squares of the step
ROUNDS = 6


@njit(cache=True)
def value(label, second):
    """Reconstruction of a label in steps: even multiples, or odd ones and 0."""
    return 2.0 * label - second * np.sign(label)


@njit(cache=True)
def viterbi(weights, price, lengths, half, after):
    """Labels of the path with the least error and bits, and the state at each."""
    n, states = len(weights), len(after)
    came = np.empty((n, states), np.int8)
    taken = np.empty((n, states), np.int16)
    cost, new = np.full(states, np.inf), np.empty(states)
    cost[0] = 0.0
    for i in range(n):
        new[:] = np.inf
        for state in range(states):
            if cost[state] == np.inf:
                continue
            second = state % 2
            shifted = weights[i] + second * np.sign(weights[i])
            nearest = int(np.round(shifted / 2))
            for step in range(-1, 3):
                label = 0 if step == 2 else min(half, max(-half, nearest + step))
                error = (weights[i] - value(label, second)) ** 2
                found = cost[state] + error + price * lengths[second, label + half]
                state_after = after[state, label & 1]
                if found < new[state_after]:
                    new[state_after] = found
                    came[i, state_after], taken[i, state_after] = state, label
        cost[:] = new
    labels, where = np.empty(n, np.int16), np.empty(n, np.int8)
    state = np.argmin(cost)
    for i in range(n - 1, -1, -1):
        labels[i], state = taken[i, state], came[i, state]
        where[i] = state
    return labels, where


def trellis(weights, price):
    """Bits a weight and squared error of weights in units of the step."""
    half = int(np.abs(weights).max() / 2) + 2
    lengths = np.tile(1.0 + 2 * np.log2(1 + np.abs(np.arange(-half, half + 1))), (2, 1))
    for _ in range(ROUNDS):
        labels, where = viterbi(weights, price, lengths, half, NEXT)
        bits = 0.0
        for second in (0, 1):
            counts = np.bincount(labels[where % 2 == second] + half, minlength=2 * half + 1)
            share = (counts + 1e-3) / (counts.sum() + 1e-3 * len(counts))
            lengths[second] = -np.log2(share)
            bits += float(counts @ lengths[second])
    made = value(labels, where % 2)
    return bits / len(weights), float(np.square(weights - made).sum())


def main():
    """Print what the trellis saves in each convolution."""
    weights = load_convolutions()
    for name, path in CONVOLUTIONS.items():
        tensor = weights[f"{path}.weight"]
        flat, prepared = tensor.double().numpy().ravel(), {name: Prepared(tensor)}
        for relative in STEPS:
            step = relative * flat.std()
            best = (0.0, 0.0)
            for price in PRICES:
                bits, error = trellis(flat / step, price)
                theirs = cells_at_error(prepared, error * step**2)[name].entropy
                best = max(best, (100 * (1 - bits / theirs), bits))
            print(f"{name}, {best[1]:.2f} bits: {best[0]:.1f} % less than cells of equal error")


if __name__ == "__main__":
    main()
