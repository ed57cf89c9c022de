"""Corrections of channels, and what a squared error costs, against the definition."""

import pytest
import torch
from torch import nn
from torch.nn.functional import log_softmax

import lib
from lib.compression.correction import (
    compensate,
    compensated_labels,
    correct,
    fisher,
    input_moments,
)


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 6, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6 * 9, 5),
    ).eval()


class Wrapped(nn.Module):
    """The same computation in one forward: nothing to take apart."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, images):
        """Scores."""
        return self.inner(images)


def batches(seed=1, n=4):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(16, 3, 8, 8, generator=generator) for _ in range(n)]


def test_a_factor_and_shift_that_were_taken_away_come_back():
    reference = network()
    shared = lib.share_weights(reference, 64).model
    exact = lib.plain_weights(lib.share_weights(reference, 64).model)
    weight = shared[0].parametrizations.weight
    with torch.no_grad():  # every channel is computed at a third, and shifted
        weight.original.copy_(weight.original / 3)
        shared[0].bias.copy_(exact[0].bias / 3 + 5)
    correct(shared, exact, batches())
    torch.testing.assert_close(weight[0].scale.flatten(), torch.full((8,), 3.0), rtol=1e-3, atol=0)
    torch.testing.assert_close(shared[0].bias, exact[0].bias, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(shared(batches()[0]), exact(batches()[0]), rtol=2e-2, atol=2e-3)


@pytest.mark.parametrize("wrap", [lambda model: model, Wrapped])
def test_outputs_of_every_layer_come_nearer(wrap):
    reference = wrap(network())
    shared = lib.share_weights(reference, 3).model
    inputs = batches()
    with torch.no_grad():
        target = reference(inputs[0])
        before = (shared(inputs[0]) - target).square().mean()
        correct(shared, reference, inputs)
        after = (shared(inputs[0]) - target).square().mean()
    assert after < 0.7 * before


def test_taken_apart_or_not_the_factors_are_the_same():
    reference = network()
    ours = lib.share_weights(reference, 3).model
    whole = lib.share_weights(Wrapped(reference), 3).model
    correct(ours, reference, batches())
    correct(whole, Wrapped(reference), batches())
    for layer in (0, 2, 5):
        torch.testing.assert_close(
            ours[layer].parametrizations.weight[0].scale,
            whole.inner[layer].parametrizations.weight[0].scale,
        )
        torch.testing.assert_close(ours[layer].bias, whole.inner[layer].bias)


def test_each_channel_is_fitted_by_least_squares():
    reference = nn.Sequential(nn.Linear(20, 4))
    shared = lib.share_weights(reference, 2).model
    inputs = torch.randn(200, 20)
    with torch.no_grad():
        before, target = shared(inputs), reference(inputs)
    correct(shared, reference, [inputs[:50], inputs[50:]])
    for channel in range(4):
        columns = torch.stack([before[:, channel], torch.ones(200)], 1)
        best = torch.linalg.lstsq(columns, target[:, channel]).solution
        with torch.no_grad():
            found = shared(inputs)[:, channel]
        torch.testing.assert_close(found, columns @ best, rtol=2e-3, atol=2e-3)


def test_a_channel_that_is_constant_keeps_its_factor():
    reference = nn.Sequential(nn.Linear(3, 2))
    with torch.no_grad():
        reference[0].weight[0] = 0.0
    shared = lib.share_weights(reference, 4).model
    correct(shared, reference, [torch.randn(30, 3)])
    assert shared[0].parametrizations.weight[0].scale[0] == 1


def test_nothing_to_correct():
    with pytest.raises(ValueError, match="share_weights first"):
        correct(network(), network(), batches())


def test_transposed_convolutions_in_groups_are_refused():
    model = nn.Sequential(nn.ConvTranspose2d(4, 6, 3, groups=2))
    shared = lib.share_weights(model, 4).model
    with pytest.raises(ValueError, match="no axis of output channels"):
        correct(shared, model, [torch.randn(2, 4, 5, 5)])


def test_input_moments_by_definition():
    model, inputs = network(), batches()
    found = input_moments(model, ["0", "2", "5"], inputs)
    with torch.no_grad():
        images = torch.cat(inputs)
        padded = nn.functional.pad(images, (1, 1, 1, 1))
        expected = torch.stack(
            [
                padded[:, c, y : y + 8, x : x + 8].square().mean()
                for c in range(3)
                for y in range(3)
                for x in range(3)
            ]
        ).view(3, 3, 3)
        last = model[:5](images).square().mean(0)
    assert found["0"].shape == model[0].weight.shape
    torch.testing.assert_close(found["0"][7], expected)
    torch.testing.assert_close(found["5"][2], last)


def test_labels_of_uncorrelated_inputs_are_the_nearest():
    torch.manual_seed(0)
    weight, centers = torch.randn(7, 300), torch.tensor([-1.0, 0.0, 1.5])
    labels = compensated_labels(weight, torch.eye(300), centers)
    expected = (weight[..., None] - centers).abs().argmin(-1)
    assert torch.equal(labels.long(), expected)


@pytest.mark.parametrize("block", [1, 16, 128])
def test_compensation_is_that_of_one_column_after_another(block):
    torch.manual_seed(0)
    inputs, weight = torch.randn(60, 40) @ torch.randn(40, 40), torch.randn(5, 40)
    centers, moments = torch.tensor([-1.0, 0.0, 1.0]), inputs.T @ inputs
    labels = compensated_labels(weight, moments, centers, damping=0.1, block=block)
    # Optimal brain quantization by its formula: the inverse is updated as columns are fixed.
    damped = (moments + 0.1 * moments.diagonal().mean() * torch.eye(40)).double()
    rest, inverse = weight.double().clone(), torch.linalg.inv(damped)
    for j in range(40):
        found = (rest[:, j, None] - centers).abs().argmin(-1)
        assert torch.equal(labels[:, j].long(), found)
        error = (rest[:, j] - centers[found]) / inverse[j, j]
        rest -= error[:, None] * inverse[j]
        inverse = inverse - torch.outer(inverse[:, j], inverse[j]) / inverse[j, j]


def test_compensated_outputs_are_nearer():
    reference = network()
    shared, plain = (lib.share_weights(reference, 3).model for _ in range(2))
    compensate(shared, reference, batches())
    with torch.no_grad():
        target = reference(batches()[0])
        errors = [(m(batches()[0]) - target).square().mean() for m in (shared, plain)]
    assert errors[0] < 0.8 * errors[1]
    for layer in (0, 2, 5):
        ours, before = (m[layer].parametrizations.weight for m in (shared, plain))
        assert torch.equal(ours.original, before.original)
        assert layer == 0 or not torch.equal(ours[0].labels, before[0].labels)  # 0: white inputs


def test_fisher_by_definition():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3))
    inputs = torch.randn(6, 4)
    expected = torch.zeros(3, 4)
    for image in inputs:  # the mean over what the model would draw
        scores = log_softmax(model(image[None]), 1)[0]
        for score in scores:
            (gradient,) = torch.autograd.grad(score, model[0].weight, retain_graph=True)
            expected += score.exp().detach() * gradient**2 / len(inputs)
    draws = [fisher(model, ["0"], [inputs], seed=seed)["0"] for seed in range(400)]
    torch.testing.assert_close(torch.stack(draws).mean(0), expected, rtol=0.15, atol=5e-3)
    assert torch.equal(draws[0], fisher(model, ["0"], [inputs[:2], inputs[2:]])["0"])
    assert model[0].weight.requires_grad
