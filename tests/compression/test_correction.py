"""Corrections of channels, and what a squared error costs, against the definition."""

import pytest
import torch
from torch import nn
from torch.nn.functional import log_softmax
from torch.overrides import TorchFunctionMode

import lib
from lib.compression.correction import (
    compensate,
    compensated_labels,
    correct,
    fisher,
    input_moments,
)
from lib.vision import torchvision


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


def test_transposed_convolutions_in_groups_get_biases_alone():
    model = nn.Sequential(nn.ConvTranspose2d(4, 6, 3, groups=2))
    shared = lib.share_weights(model, 2).model
    inputs = torch.randn(2, 4, 5, 5)
    correct(shared, model, [inputs])
    assert shared[0].parametrizations.weight[0].scale is None
    with torch.no_grad():
        means = (shared(inputs) - model(inputs)).mean((0, 2, 3))
    torch.testing.assert_close(means, torch.zeros(6), rtol=0, atol=1e-6)


def test_a_linear_layer_on_as_many_tokens_as_outputs():
    """The channels of a linear layer are its last axis, whatever the sizes are."""
    torch.manual_seed(0)
    reference, inputs = nn.Sequential(nn.Linear(12, 6)), torch.randn(40, 6, 12)
    ours, flat = (lib.share_weights(reference, 2).model for _ in range(2))
    correct(ours, reference, [inputs])
    correct(flat, reference, [inputs.flatten(0, 1)])
    expected = flat[0].parametrizations.weight[0].scale
    assert expected.shape == (6, 1)
    torch.testing.assert_close(ours[0].parametrizations.weight[0].scale, expected)
    torch.testing.assert_close(ours[0].bias, flat[0].bias)


def test_a_linear_layer_without_bias_is_fitted_through_the_origin():
    reference, inputs = nn.Sequential(nn.Linear(6, 3, bias=False)), torch.rand(80, 6) + 2
    shared = lib.share_weights(reference, 2).model
    with torch.no_grad():
        before, target = shared(inputs), reference(inputs)
    correct(shared, reference, [inputs])
    expected = (before * target).sum(0) / before.square().sum(0)
    scale = shared[0].parametrizations.weight[0].scale.flatten()
    torch.testing.assert_close(scale, expected, rtol=1e-3, atol=0)


class Language(nn.Module):
    """A language model of a head that is tied to its embedding, called by keywords."""

    def __init__(self, tied=True):
        super().__init__()
        self.words = nn.Embedding(20, 16)
        self.block = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.head = nn.Linear(16, 20, bias=False)
        if tied:
            self.head.weight = self.words.weight

    def forward(self, words, mask):
        """Scores of the next word."""
        hidden = self.block(self.words(words), src_key_padding_mask=mask)
        return {"scores": self.head(hidden)}


def language(tied=True):
    torch.manual_seed(0)
    return Language(tied).eval()


def sentences(n=3, seed=1):
    generator = torch.Generator().manual_seed(seed)
    words = [torch.randint(20, (24, 7), generator=generator) for _ in range(n)]
    return [{"words": batch, "mask": batch == 0} for batch in words]


def scores_error(model, reference):
    with torch.no_grad():
        pairs = [(model(**batch), reference(**batch)) for batch in sentences(seed=2)]
    return sum((a["scores"] - b["scores"]).square().mean() for a, b in pairs)


def test_attention_and_embeddings_by_keywords():
    reference = language(tied=False)
    shared = lib.share_weights(reference, 3, layers={"Embedding": {}}).model
    plain = lib.share_weights(reference, 3, layers={"Embedding": {}}).model
    correct(shared, reference, sentences())
    assert scores_error(shared, reference) < scores_error(plain, reference)
    parts = [shared.words, shared.block.self_attn.out_proj, shared.block.linear1, shared.head]
    assert all(part.parametrizations.weight[0].scale is not None for part in parts)


def test_a_vision_transformer():
    models = torchvision.models
    torch.manual_seed(0)
    reference = models.VisionTransformer(32, 8, 1, 2, 16, 32, num_classes=5).eval()
    torch.nn.init.normal_(reference.heads.head.weight)
    shared, plain = (lib.share_weights(reference, 4).model for _ in range(2))
    inputs = [torch.randn(32, 3, 32, 32) for _ in range(2)]
    correct(shared, reference, inputs)
    with torch.no_grad():
        target = reference(inputs[0])
        errors = [(model(inputs[0]) - target).square().mean() for model in (shared, plain)]
    assert errors[0] < errors[1]


def test_what_is_tied_is_said_and_stays():
    reference = language()
    shared = lib.share_weights(reference, 4).model
    with pytest.warns(UserWarning, match="not corrected: words.weight, used more than once"):
        correct(shared, reference, sentences())
    assert shared.words.parametrizations.weight[0].scale is None


class Odd(nn.Module):
    """A layer that computes otherwise than its class, and one that does not compute."""

    def __init__(self):
        super().__init__()
        self.odd, self.idle, self.last = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, inputs):
        """Scores."""
        return self.last(torch.einsum("oi,ni->no", self.odd.weight, inputs))


@pytest.mark.parametrize("remedy", [correct, compensate])
def test_what_is_left_out_is_said(remedy):
    reference = Odd()
    shared = lib.share_weights(reference, 3).model
    with pytest.warns(UserWarning, match="odd.weight, used by einsum.*idle.weight, not used"):
        remedy(shared, reference, [torch.randn(50, 6)])
    assert shared.last.parametrizations.weight[0] is not None


@pytest.mark.parametrize("remedy", [correct, compensate])
def test_every_layer_computes_once(remedy):
    """Cost grows with the number of layers, not with its square, however a model is built."""
    reference = Wrapped(nn.Sequential(*(nn.Linear(8, 8) for _ in range(12)))).eval()
    shared = lib.share_weights(reference, 3).model
    calls = []

    class Counted(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            calls.append(function is nn.functional.linear)
            return function(*args, **(kwargs or {}))

    with Counted():  # this thread: the first batch, which tells how weights are used
        remedy(shared, reference, [torch.randn(4, 8) for _ in range(3)])
    assert sum(calls) <= 12 + 2 * 3 * 12


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_as_it_was(model, before):
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("remedy", [correct, compensate])
def test_an_end_halfway_changes_nothing(remedy, error):
    reference = network()
    shared = lib.share_weights(reference, 3).model
    before = state(shared)
    shared.train()

    def two(stops):
        for i, stop in enumerate(stops):
            if i == 2:
                raise error("halfway")
            yield stop

    with pytest.raises(error, match="halfway"):
        remedy(shared, reference, batches(), progress=two)
    assert_as_it_was(shared, before)
    assert shared.training
    assert not reference.training


@pytest.mark.parametrize("remedy", [correct, compensate])
def test_inputs_that_are_wrong(remedy):
    reference = network()
    shared = lib.share_weights(reference, 3).model
    before = state(shared)
    with pytest.raises(ValueError, match="no batches"):
        remedy(shared, reference, [])
    with pytest.raises(ValueError, match=r"reference has no weights like .'5\.weight'"):
        remedy(shared, nn.Sequential(*network()[:5]), batches())
    with pytest.raises(RuntimeError):  # of torch, on images of another size
        remedy(shared, reference, [*batches(), torch.randn(2, 3, 30, 30)])
    assert_as_it_was(shared, before)


def definition(function, weight, *inputs):
    """Mean over an output channel of the squares that each weight is multiplied by."""
    jacobian = torch.autograd.functional.jacobian(lambda w: function(w, *inputs), weight)
    outputs = jacobian.dim() - weight.dim()
    return jacobian.square().sum(tuple(range(outputs)))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv1d(4, 6, 3, padding="same"),
        nn.Conv2d(4, 6, 3, groups=2, stride=2, padding=1),
        nn.Conv2d(4, 4, 3, groups=4, dilation=2, padding=2),
        nn.Conv2d(4, 6, (2, 3), padding=1, padding_mode="circular"),
        nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1),
        nn.ConvTranspose2d(4, 6, 3, groups=2),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_input_moments_of_convolutions(layer):
    torch.manual_seed(0)
    inputs = torch.randn(3, 4, *[6] * (layer.weight.dim() - 2))
    found = input_moments(nn.Sequential(layer), ["0"], [inputs[:2], inputs[2:]])["0"]

    def function(weight):
        return torch.func.functional_call(layer, {"weight": weight}, (inputs,))

    n = layer(inputs)[:, 0].numel()
    torch.testing.assert_close(found, definition(function, layer.weight) / n)


def test_input_moments_of_tokens_and_words():
    model = language(tied=False)
    names = ["words", "block.self_attn.in_proj_weight", "block.self_attn.out_proj", "head"]
    [batch] = sentences(1)
    found = input_moments(model, names, [batch])
    counts = torch.bincount(batch["words"].flatten(), minlength=20) / batch["words"].numel()
    torch.testing.assert_close(found["words"], counts[:, None].expand(20, 16))
    with torch.no_grad():
        embedded = model.words(batch["words"])
        hidden = model.block(embedded, src_key_padding_mask=batch["mask"])
    expected = embedded.square().mean((0, 1)).expand(48, 16)
    torch.testing.assert_close(found["block.self_attn.in_proj_weight"], expected)
    torch.testing.assert_close(found["head"], hidden.square().mean((0, 1)).expand(20, 16))
    assert (found["block.self_attn.out_proj"] > 0).all()


def test_input_moments_that_cannot_be():
    with pytest.raises(ValueError, match=r"no weights .'first\.weight'.: choose from"):
        input_moments(Odd(), ["first"], [torch.randn(2, 6)])
    with pytest.raises(ValueError, match="'odd' has no moments: its weight is used by einsum"):
        input_moments(Odd(), ["odd"], [torch.randn(2, 6)])
    with pytest.raises(ValueError, match="'idle' has no moments: its weight is reached by no"):
        input_moments(Odd(), ["idle"], [torch.randn(2, 6)])


class Twice(nn.Module):
    """Two layers of one weight, on inputs of their own."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(24, 24), nn.Linear(24, 24)
        self.second.weight = self.first.weight

    def forward(self, inputs):
        """Both, one after the other."""
        return self.second(torch.relu(self.first(inputs)))


def test_tied_weights_are_compensated_for_all_that_use_them():
    torch.manual_seed(0)
    reference, inputs = Twice(), torch.randn(200, 24) @ torch.randn(24, 24)
    shared = lib.share_weights(reference, 4).model
    centers = shared.first.parametrizations.weight.original.detach()
    compensate(shared, reference, inputs.split(50))
    with torch.no_grad():
        hidden = torch.relu(reference.first(inputs))
        moments = inputs.T @ inputs + hidden.T @ hidden
    expected = compensated_labels(reference.first.weight.detach(), moments, centers)
    found = shared.first.parametrizations.weight[0].labels
    assert (found.int() != expected).float().mean() < 0.01  # sums in another order
    assert torch.equal(shared.first.weight, shared.second.weight)


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_convolutions_in_groups_are_compensated_each(groups):
    torch.manual_seed(0)
    reference = nn.Sequential(nn.Conv2d(8, 16, 3, groups=groups, padding=1))
    inputs = torch.randn(20, 8, 6, 6).cumsum(-1).cumsum(-2)
    shared, plain = (lib.share_weights(reference, 3).model for _ in range(2))
    compensate(shared, reference, [inputs])
    with torch.no_grad():
        target = reference(inputs)
        errors = [(model(inputs) - target).square().mean() for model in (shared, plain)]
    assert errors[0] < 0.95 * errors[1]


def test_fisher_of_any_loss_and_inputs():
    model, [batch] = language(), sentences(1)
    names = ["words", "block.self_attn.out_proj", "block.self_attn.in_proj_weight"]

    def loss(outputs):
        return outputs["scores"].logsumexp(-1)

    found = fisher(model, names, [batch], loss=loss)
    expected = torch.zeros(16, 16)
    weight = model.block.self_attn.out_proj.weight
    for i in range(24):
        one = {key: value[i : i + 1] for key, value in batch.items()}
        (gradient,) = torch.autograd.grad(loss(model(**one)).sum(), weight)
        expected += gradient**2 / 24
    torch.testing.assert_close(found["block.self_attn.out_proj"], expected)
    with pytest.raises(ValueError, match=r"scores are dict, not \(inputs, classes\): give a loss"):
        fisher(model, names, [batch])
    with pytest.raises(ValueError, match="no batches"):
        fisher(model, names, [], loss=loss)
