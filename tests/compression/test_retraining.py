"""Training shared weights: gradients by definition, what moves and what stays."""

import copy

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
from lib.shared import install


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


def state(model):
    tensors = {name: value.clone() for name, value in model.state_dict().items()}
    flags = [parameter.requires_grad for parameter in model.parameters()]
    return tensors, flags, [module.training for module in model.modules()]


def assert_untouched(model, before):
    tensors, *others = state(model)
    assert tensors.keys() == before[0].keys()
    assert all(torch.equal(tensors[name], before[0][name]) for name in tensors)
    assert others == list(before[1:])


WAYS = {
    "centers": lambda model, *data, **options: train_centers(model, *data, **options),
    "through": lambda model, *data, **options: train_through(model, k_means(4), *data, **options),
    "plain": lambda m, *data, **options: train_plain(m, m.parameters(), *data, **options),
}


def prepared(way, model):
    return lib.share_weights(model, 4).model if way == "centers" else model


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("way", WAYS)
def test_training_that_ends_halfway_changes_nothing(way, error):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4))
    model[3].bias.requires_grad_(False)
    model = prepared(way, model)
    before = state(model)

    def some(batches):
        for i, batch in enumerate(batches):
            if i == 3:
                raise error("halfway")
            yield batch

    with pytest.raises(error, match="halfway"):
        WAYS[way](model, *task(), progress=some)
    assert_untouched(model, before)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_models_of_any_dtype_train_alike(trained, way, dtype):
    features, labels = task()
    losses = []
    for kind in (dtype, torch.float32):
        model = prepared(way, copy.deepcopy(trained).to(kind).requires_grad_(True))
        WAYS[way](model, features, labels, epochs=4, batch_size=64)
        assert all(parameter.dtype == kind for parameter in model.parameters())
        with torch.no_grad():
            scores = model(features.to(kind)).float()
        losses.append(nn.functional.cross_entropy(scores, labels).item())
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


@pytest.mark.parametrize("way", WAYS)
def test_words_in_a_dictionary_and_a_loss_of_ones_own(way):
    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.head = nn.Embedding(20, 8), nn.Linear(8, 20, bias=False)

        def forward(self, words, scale):
            return {"next": self.head(self.embedding(words)) * scale}

    def loss(outputs, words):
        return nn.functional.cross_entropy(outputs["next"].flatten(0, 1), words.flatten())

    torch.manual_seed(0)
    model = Words()
    model = (
        lib.share_weights(model, 6, layers={"Embedding": {}}).model if way == "centers" else model
    )
    words = torch.randint(20, (96, 5))
    losses = []
    options = {} if way == "plain" else {"after_epoch": lambda _, found: losses.append(found)}
    features = {"words": words, "scale": 1.0}
    before = loss(model(**features), words).item()
    WAYS[way](model, features, words, epochs=8, batch_size=16, rate=0.5, loss=loss, **options)
    assert loss(model(**features), words).item() < 0.9 * before
    assert way == "plain" or losses[-1] < losses[0]


def test_a_layer_of_one_weight_trains():
    """The spread of one weight is no unit for its center's steps."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 3))
    shared = lib.share_weights(model, 4).model
    inputs = torch.rand(64, 1) + 0.1
    train_centers(shared, inputs, (inputs[:, 0] * 2.7).long(), epochs=2)
    centers = [layer.parametrizations.weight.original for layer in (shared[0], shared[2])]
    assert all(value.isfinite().all() for value in centers)


def test_a_layer_of_equal_weights_trains():
    model = nn.Sequential(nn.Linear(3, 2))
    with torch.no_grad():
        model[0].weight.fill_(0.5)
    shared = lib.share_weights(model, 1).model
    inputs = torch.randn(64, 3)
    train_centers(shared, inputs, (inputs.sum(1) > 0).long())
    assert shared[0].parametrizations.weight.original.isfinite().all()
