"""Accuracy on labelled inputs of every shape; the interval; inputs that are none."""

import numpy as np
import pytest
import torch
from scipy.special import ndtri
from sklearn.metrics import accuracy_score
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from lib.evaluation import (
    EvaluationError,
    batches_of,
    count_right,
    paired_interval,
    wilson_interval,
)

GENERATOR = torch.Generator().manual_seed(0)
INPUTS = torch.randn(23, 4, generator=GENERATOR)
LABELS = torch.randint(0, 3, (23,), generator=GENERATOR)
MODEL = nn.Linear(4, 3).eval()


class Stream(IterableDataset):
    def __iter__(self):
        return iter(zip(INPUTS, LABELS.tolist(), strict=True))


@pytest.mark.parametrize(
    "source",
    [
        TensorDataset(INPUTS, LABELS),
        Stream(),
        DataLoader(TensorDataset(INPUTS, LABELS), 7),
        [(INPUTS, LABELS)],
        [(INPUTS, LABELS.tolist())],
        [[INPUTS[:5], LABELS[:5].numpy()], [INPUTS[5:], LABELS[5:].int()]],
    ],
)
@pytest.mark.parametrize("n_images", [None, 1, 9, 23, 99])
def test_as_scikit_learn_counts(source, n_images):
    expected = accuracy_score(
        LABELS[:n_images], MODEL(INPUTS).argmax(1)[:n_images], normalize=False
    )
    found = count_right(MODEL, batches_of(source, 4), n_images)
    assert found == (expected, min(n_images or 23, 23))


class Sum(nn.Module):
    """Takes two inputs."""

    def forward(self, left, right):
        return left + right


@pytest.mark.parametrize(
    "pack", [tuple, list, lambda pair: dict(zip(("left", "right"), pair, strict=True))]
)
def test_a_model_of_several_inputs(pack):
    scores = torch.eye(3)
    batch = pack([scores, torch.zeros(3, 3)]), torch.arange(3)
    assert count_right(Sum(), [batch]) == (3, 3)


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], "there is no labelled input"),
        ([INPUTS], "a batch is a pair of inputs and labels, not a Tensor"),
        ([(INPUTS, LABELS, LABELS)], "not a tuple of 3"),
        ([(INPUTS[0], 1)], r"not torch\.int64 of shape \(\)\. Single inputs and labels make"),
        ([(INPUTS, LABELS.float())], r"not torch\.float32 of shape \(23,\)"),
        ([(INPUTS, LABELS + 1)], "labels go from 1 to 3, the model has 3 outputs"),
        ([(INPUTS, LABELS - 1)], "labels go from -1 to 1, the model has 3 outputs"),
        ([(INPUTS[None], LABELS[:1])], r"of 1 inputs the model made \[1, 23, 3\]; expected"),
        ([(INPUTS, LABELS[:5])], r"of 5 inputs the model made \[23, 3\]; expected"),
    ],
)
def test_what_is_no_batch_is_said(batches, message):
    with pytest.raises(EvaluationError, match=message):
        count_right(MODEL, batches)


def test_what_holds_no_batches_is_refused():
    with pytest.raises(EvaluationError, match="or an iterable of batches, not Linear"):
        batches_of(MODEL)


def test_wilsons_interval_is_the_published_one():
    # Newcombe (1998), Statistics in Medicine 17, table I: 81 of 263, and 15 of 148.
    assert wilson_interval(81, 263) == pytest.approx((25.53, 36.62), abs=0.01)
    assert wilson_interval(15, 148) == pytest.approx((6.24, 16.05), abs=0.01)
    # and its borders, 0 of 20 and 1 of 29
    assert wilson_interval(0, 20) == pytest.approx((0, 16.11), abs=0.01)
    assert wilson_interval(1, 29) == pytest.approx((0.61, 17.18), abs=0.01)


@pytest.mark.parametrize("level", [0.95, 0.999])
@pytest.mark.parametrize(("right", "n"), [(0, 20), (1, 29), (8957, 10_000), (2000, 2000)])
def test_wilsons_interval_solves_its_equation(right, n, level):
    """Its ends are the p with |right / n - p| = z sqrt(p (1 - p) / n) (Wilson 1927)."""
    ends, z = np.array(wilson_interval(right, n, level)) / 100, ndtri((1 + level) / 2)
    np.testing.assert_allclose((right / n - ends) ** 2, z**2 * ends * (1 - ends) / n, atol=1e-14)
    assert ends[0] < ends[1]


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (5, 2), (40, 3), (0, 7)])
def test_a_paired_interval_covers_the_loss(lost, won):
    """Of what binomial draws of the differing inputs give, about 95 % lie within."""
    n, rng = 400, np.random.default_rng(lost + won)
    before = np.ones(n, bool)
    before[:won] = False
    after = np.ones(n, bool)
    after[won : won + lost] = False
    loss, low, high = paired_interval(before, after)
    assert loss == pytest.approx(100 * (lost - won) / n)
    assert low < loss < high
    draws = rng.multinomial(n, [lost / n, won / n, 1 - (lost + won) / n], 4000)
    share = np.mean([low <= 100 * (a - b) / n <= high for a, b, _ in draws])
    assert share > 0.94
    back = paired_interval(after, before)
    assert back == pytest.approx((-loss, -high, -low))


def test_answers_of_other_inputs_are_not_paired():
    for before, after in (([True], [True, False]), ([], []), ([[True]], [[True]])):
        with pytest.raises(EvaluationError, match="give one for each input"):
            paired_interval(before, after)
