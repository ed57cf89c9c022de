"""What calibration says of a model's layers, against derivatives of the whole model."""

import pytest
import torch
from torch import nn
from torch.func import jacrev, vmap

from lib.compression.calibration import SMOOTHING, survey


def model_and_inputs(n=64):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 4)).eval()
        return model, torch.randn(n, 5)


def jacobians(model, inputs):
    """Of the model's outputs by those of its first layer; (n, 4, 7)."""
    return vmap(jacrev(model[1:]))(model[0](inputs)).detach()


def smoothed(importance):
    return (importance + SMOOTHING * importance.mean()).double()


def test_importance_is_the_squared_gradient_of_a_loss():
    model, inputs = model_and_inputs()
    found = survey(model, inputs.split(16), loss=lambda outputs: outputs[:, 2])
    expected = jacobians(model, inputs)[:, 2].square().mean(0)
    torch.testing.assert_close(
        found.uses["0.weight"].importance, smoothed(expected), rtol=1e-4, atol=0
    )
    last = torch.tensor([0.0, 0.0, 1.0, 0.0])
    torch.testing.assert_close(found.uses["2.weight"].importance, smoothed(last))


def test_random_signs_estimate_the_squared_jacobian():
    model, inputs = model_and_inputs(4096)
    found = survey(model, inputs.split(512))
    expected = jacobians(model, inputs).square().sum(1).mean(0)
    importance = found.uses["0.weight"].importance
    torch.testing.assert_close(importance, smoothed(expected), rtol=0.15, atol=0)
    with torch.no_grad():
        power = float(model(inputs).double().square().sum(1).mean())
    assert found.power == pytest.approx(power, rel=1e-5)


def test_only_a_normalization_that_reads_alone_is_named():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(2, 3, 1, bias=False), nn.Conv2d(3, 3, 1, bias=False)
            self.norm_a, self.norm_b = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

        def forward(self, inputs):
            first = self.a(inputs)
            second = self.b(torch.relu(self.norm_a(first)))
            return self.norm_b(second) + second

    uses = survey(Branches().eval(), [torch.randn(4, 2, 3, 3)]).uses
    assert uses["a.weight"].norm == "norm_a"
    assert uses["b.weight"].norm is None


def test_no_parameter_gets_a_gradient_and_all_keep_their_own():
    model, inputs = model_and_inputs()
    model[0].bias.requires_grad_(False)
    survey(model, [inputs])
    assert all(parameter.grad is None for parameter in model.parameters())
    assert [p.requires_grad for p in model.parameters()] == [True, False, True, True]


def test_words_count_as_often_as_they_occur():
    embedding = nn.Embedding(6, 3)
    model = nn.Sequential(embedding, nn.Flatten(), nn.Linear(12, 2)).eval()
    ids = torch.tensor([[0, 0, 1, 2], [0, 3, 3, 1]])
    use = survey(model, [ids]).uses["0.weight"]
    counts = torch.tensor([3.0, 2.0, 1.0, 2.0, 0.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(use.words, (counts + counts.mean()) / 2 / len(ids))
    assert use.features.shape == (3,)


def test_coherence_is_that_of_outputs_that_move_together():
    """The last layer averages n equal outputs, whose errors are n times as dear together."""
    n, inputs = 50, torch.randn(4000, 3, generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(nn.Linear(3, n), nn.Linear(n, 1)).eval()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([1.0, -2.0, 0.5]).expand(n, 3))
        model[1].weight.fill_(1 / n)
    first, last = survey(model, inputs.split(500)).uses.values()
    assert first.coherence * (1 + SMOOTHING) == pytest.approx(n, rel=0.05)
    assert last.coherence == 1
    variance = float(model[0](inputs)[:, 0].var())
    assert first.power == pytest.approx((1 + SMOOTHING) * variance / n, rel=0.01)
    assert first.loss(first.power) == pytest.approx(variance, rel=0.05)  # of the mean in its place
    assert first.loss(1e-9 * first.power) == pytest.approx(1e-9 * first.power)
    assert last.loss(2.5) == 2.5
