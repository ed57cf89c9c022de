"""Training shared weights: gradients by definition, what moves and what stays."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

import lib
from lib.codebook import SharedWeight
from lib.compression.entropy import cells_of_centers, entropy_constrained_cells
from lib.compression.pruning import pruned_cells
from lib.compression.retraining import half_centers, train_centers, train_plain, train_through
from lib.sharing import install


def task(seed=0, n=512):
    """Four classes that a small network can tell apart."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (n,), generator=generator)
    means = torch.randn(4, 12, generator=generator)
    return means[labels] + 2.0 * torch.randn(n, 12, generator=generator), labels


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 4))


@pytest.fixture(scope="module")
def trained():
    features, labels = task()
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(features), labels).backward()
        optimizer.step()
    return model.eval().requires_grad_(False)


def accuracy(model):
    features, labels = task()
    with torch.no_grad():
        return (model(features).argmax(1) == labels).float().mean().item()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("fixed", [None, 2])
def test_a_center_gets_the_sum_of_its_weights_gradients(dtype, fixed):
    torch.manual_seed(0)
    labels, centers = torch.randint(0, 5, (30, 40)), torch.randn(5).sort().values
    layer = nn.Linear(40, 30).to(dtype)
    install(layer, "weight", SharedWeight(labels, 5, fixed=fixed), centers)
    plain = nn.Linear(40, 30).to(dtype)
    plain.load_state_dict({"weight": layer.weight.detach(), "bias": layer.bias.detach()})
    inputs = torch.randn(16, 40, dtype=dtype)
    for module in (layer, plain):
        module(inputs).square().sum().backward()
    expected = torch.stack([plain.weight.grad.double()[labels == j].sum() for j in range(5)])
    if fixed is not None:
        expected[fixed] = 0
    found = layer.parametrizations.weight.original.grad.double()
    tolerance = {torch.float32: 1e-5, torch.float64: 1e-12, torch.bfloat16: 1e-2}[dtype]
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance * 100)


def test_training_centers_moves_them_and_no_label(trained):
    features, labels = task()
    model = lib.share_weights(trained, 3, init="linear").model
    before = [m.parametrizations.weight[0].labels.clone() for m in (model[0], model[3])]
    start, seen = accuracy(model), []
    train_centers(
        model,
        features,
        labels,
        epochs=20,
        rate=0.05,
        after_epoch=lambda epoch, loss: seen.append((epoch, loss, model.training)),
    )
    assert accuracy(model) > start + 0.01
    assert [epoch for epoch, _, _ in seen] == list(range(1, 21))
    assert seen[-1][1] < seen[0][1]
    assert not any(training for _, _, training in seen)
    for module, expected in zip((model[0], model[3]), before, strict=True):
        assert torch.equal(module.parametrizations.weight[0].labels, expected)
        assert len(module.weight.unique()) <= 3
    assert not model[0].bias.requires_grad


def k_means(k):
    return lambda name, prepared: cells_of_centers(
        prepared, prepared.cluster(k, max_iter=20, labels=False).centers
    )


def test_training_through_gains_and_ends_in_shared_weights(trained):
    features, labels = task()
    shared = accuracy(lib.share_weights(trained, 2).model)
    model = network()
    model.load_state_dict(trained.state_dict())
    train_through(model, k_means(2), features, labels, epochs=20, batch_size=64, rate=0.05)
    assert accuracy(model) > shared
    for layer in (model[0], model[3]):
        assert parametrize.is_parametrized(layer, "weight")
        assert len(layer.weight.unique()) == 2
        centers = layer.parametrizations.weight.original
        assert torch.equal(centers, centers.half().float())


def test_pruned_weights_are_zero_and_zero_does_not_train(trained):
    features, labels = task()
    model = network()
    model.load_state_dict(trained.state_dict())
    train_through(
        model, lambda name, p: pruned_cells(p, 0.6, 4), features, labels, epochs=3, rate=0.05
    )
    zeros = [layer.weight == 0 for layer in (model[0], model[3])]
    assert all(zero.float().mean() >= 0.6 for zero in zeros)
    train_centers(model, features, labels, epochs=3, rate=0.05)
    for layer, expected in zip((model[0], model[3]), zeros, strict=True):
        assert torch.equal(layer.weight == 0, expected)


def test_entropy_constrained_cells_and_layers_left_plain(trained):
    features, labels = task()
    model = network()
    model.load_state_dict(trained.state_dict())
    last = model[3].weight.clone()
    train_through(
        model,
        lambda name, p: entropy_constrained_cells(p, 1e-2) if name == "0" else None,
        features,
        labels,
        epochs=2,
    )
    assert parametrize.is_parametrized(model[0], "weight")
    assert torch.equal(model[3].weight, last)


def test_the_same_seed_gives_the_same_weights(trained):
    features, labels = task()
    found = []
    for seed in (0, 0, 1):
        model = network()
        model.load_state_dict(trained.state_dict())
        train_through(model, k_means(4), features, labels, epochs=2, batch_size=32, seed=seed)
        found.append(lib.plain_weights(model)[0].weight.detach())
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_after_an_epoch_stands_the_model_that_comes_out(trained):
    features, labels = task()
    model, seen = network(), []
    model.load_state_dict(trained.state_dict())

    def after_epoch(epoch, loss):
        seen.append(model[0].weight.detach().clone())

    train_through(model, k_means(4), features, labels, epochs=2, after_epoch=after_epoch)
    assert torch.equal(seen[-1], model[0].weight)
    assert not torch.equal(*seen)


def test_centers_that_half_precision_cannot_hold():
    for scale, largest in ((1e6, "1e"), (1e-7, "1e-07")):
        cells = cells_of_centers(np.float32([-1, 0.5, 1]) * scale, np.array([-1, 1]) * scale)
        with pytest.raises(ValueError, match=f"centers up to {largest}.* do not fit float16"):
            half_centers(cells)


def test_tied_weights_train_once(trained):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(12, 12), nn.Linear(12, 12)
            self.second.weight = self.first.weight

    with pytest.raises(ValueError, match="first and second are tied"):
        train_through(Tied(), k_means(4), *task())


def test_nothing_to_train(trained):
    features, labels = task()
    with pytest.raises(ValueError, match="share_weights first"):
        train_centers(network(), features, labels)
    with pytest.raises(ValueError, match="nothing to train"):
        train_through(network(), lambda name, prepared: None, features, labels)


def test_plain_training_moves_what_is_given_and_nothing_else(trained):
    import copy

    model, (features, labels) = copy.deepcopy(trained), task()
    train_plain(model, model[3].parameters(), features, labels, epochs=2)
    assert torch.equal(model[0].weight, trained[0].weight)
    assert not torch.equal(model[3].weight, trained[3].weight)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert accuracy(model) >= accuracy(trained) - 0.02


def test_passes_in_bfloat16_train_float32_weights(trained):
    import copy

    seen = set()

    class Watched(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, inputs):
            scores = self.model(inputs)
            seen.add(scores.dtype)
            return scores

    features, labels = task()
    watched = Watched(copy.deepcopy(trained))
    found = train_through(
        watched,
        lambda name, prepared: entropy_constrained_cells(prepared, 1e-3),
        features,
        labels,
        dtype=torch.bfloat16,
    )
    assert seen == {torch.bfloat16}
    assert found.model[0].weight.dtype == torch.float32
    assert accuracy(found.model) > accuracy(trained) - 0.1
