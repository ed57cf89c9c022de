"""One call from a model to a small one: targets, what it may not change, and any kind of layer."""

import copy
import threading

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import lib
from lib import compression
from lib.compression import compressing
from lib.compression import layer as layers
from lib.compression.calls import Call
from lib.compression.compressing import compress
from lib.compression.rate_aware import factor


def seeded(make):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make().eval()


def images(n=64, channels=3, side=12, seed=1):
    return torch.randn(n, channels, side, side, generator=torch.Generator().manual_seed(seed))


class Convolutions(nn.Sequential):
    """Plain, normalized depthwise, grouped and transposed convolutions, and a linear layer."""

    def __init__(self):
        super().__init__(
            nn.Conv2d(3, 24, 3, padding=1, bias=False),
            nn.BatchNorm2d(24),
            nn.ReLU(inplace=True),
            nn.Conv2d(24, 24, 3, groups=24, padding=1, bias=False),
            nn.BatchNorm2d(24),
            nn.ReLU(inplace=True),
            nn.Conv2d(24, 48, 3, groups=2, padding=1, padding_mode="reflect"),
            nn.ReLU(),
            nn.ConvTranspose2d(48, 16, 3, stride=2, padding=1),
            nn.MaxPool2d(4),
            nn.Flatten(),
            nn.Linear(16 * 5 * 5, 10),
        )
        with torch.no_grad():
            for layer in (self[0], self[3], self[6], self[8], self[11]):
                layer.weight.normal_(std=layer.weight.std())
            for norm in (self[1], self[4]):
                norm.running_mean.normal_(std=0.1)
                norm.running_var.uniform_(0.5, 2.0)
                norm.weight.uniform_(0.5, 1.5)


class Transformer(nn.Module):
    """Token ids to scores by a tied embedding; a layer that is applied twice."""

    def __init__(self, words=60, width=16):
        super().__init__()
        self.words = nn.Embedding(words, width)
        self.places = nn.Parameter(0.1 * torch.randn(1, 8, width))
        self.block = nn.TransformerEncoderLayer(width, 2, 32, batch_first=True)
        self.twice = nn.Linear(width, width)
        self.head = nn.Linear(width, words, bias=False)
        self.head.weight = self.words.weight

    def forward(self, ids, mask=None):
        """Scores and hidden states."""
        states = self.block(self.words(ids) + self.places[:, : ids.shape[1]])
        states = self.twice(torch.relu(self.twice(states)))
        return {"scores": self.head(states), "states": (states, ids)}


def ids(n=48, length=8, words=60):
    return torch.randint(words, (n, length), generator=torch.Generator().manual_seed(2))


def error(model, reference, inputs):
    with torch.no_grad():
        ours, theirs = model(inputs), reference(inputs)
    return float((ours - theirs).square().sum() / theirs.square().sum())


@pytest.mark.parametrize("target", [{"bits": 2.5}, {"ratio": 20}, {"n_bytes": 5000}])
def test_layers_of_the_file_have_the_bytes_asked_for(tmp_path, target):
    model = seeded(Convolutions)
    made = compress(model, [images()], **target)
    compression.save(made.model, tmp_path / "a.safetensors")
    rows = {row["layer"]: row for row in compression.describe(tmp_path / "a.safetensors")}
    size, before = rows["all layers"]["bytes"], rows["all layers"]["bytes_before"]
    n = rows["all layers"]["n_weights"]
    wanted = {"bits": lambda b: b * n / 8, "ratio": lambda r: before / r, "n_bytes": lambda b: b}
    [(kind, value)] = target.items()
    assert size == pytest.approx(wanted[kind](value), rel=0.01)
    assert made.bytes_after == pytest.approx(size, abs=8 * len(made.layers))
    assert made.bytes_before == before
    loaded = compression.load(tmp_path / "a.safetensors", Convolutions().eval())
    inputs = images(seed=3)
    with torch.no_grad():
        assert torch.equal(loaded(inputs), made.model(inputs))


def test_it_keeps_far_more_than_plain_k_means_of_the_same_size():
    model, inputs = seeded(Convolutions), images(256)
    plain = lib.share_weights(model, 8)
    made = compress(model, [inputs], n_bytes=plain.bytes_after)
    unseen = images(64, seed=4)
    assert error(made.model, model, unseen) < 0.25 * error(plain.model, model, unseen)


def test_one_price_does_not_empty_a_wide_layer():
    """Each of its outputs hardly counts, but all together do, as in AlexNet's classifier."""

    def network():
        model = nn.Sequential(nn.Linear(256, 1024), nn.ReLU(), nn.Linear(1024, 4))
        with torch.no_grad():  # outputs that move together, as those of a trained network
            model[0].weight.add_(0.05 * torch.randn(1, 256))
            model[2].weight.div_(10).add_(0.01 * torch.randn(4, 1))
        return model

    model, inputs = seeded(network), torch.rand(256, 256)
    for multiplier in (1e-8, 1e-7, 1e-6):
        made = compress(model, [inputs], multiplier=multiplier)
        assert made.measured_loss < 0.1, multiplier
        assert made.layers[0].n_clusters > 1


def test_layers_make_up_for_what_those_before_lost(monkeypatch):
    def network():
        return nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU())

    model, inputs = seeded(network), torch.rand(2048, 64)
    options = {"multiplier": 1e-5, "layers": ["0", "2"]}
    made = compress(model, [inputs], **options)
    apart = compressing.compress_layer

    def alone(*arguments, exact, **given):
        return apart(*arguments, exact=[None] * len(exact), **given)

    monkeypatch.setattr(compressing, "compress_layer", alone)
    plain = compress(model, [inputs], **options)
    assert made.layers[0] == plain.layers[0]  # nothing before it lost anything
    assert made.bytes_after < 1.05 * plain.bytes_after
    assert made.measured_loss < 0.9 * plain.measured_loss


def test_weights_that_make_up_are_the_least_squares():
    generator = torch.Generator().manual_seed(0)
    ours, theirs = torch.randn(2, 300, 8, generator=generator)
    layer = nn.Linear(8, 5)
    calls = [
        Call("a", nn.functional.linear, {"input": inputs, "weight": layer.weight, "bias": None})
        for inputs in (ours, theirs)
    ]
    matrix = layer.weight.detach()[None]
    factors = factor(*layers._moments(calls[:1], 1, 0)[:1], layers._damping(8, 300))
    found = layers._making_up(matrix, calls[:1], calls[1:], factors, 0)[0]
    moments = ours.T @ ours / 300
    damped = moments + layers._damping(8, 300) * moments.diagonal().mean() * torch.eye(8)
    lacking = (theirs - ours) @ matrix[0].T
    expected = matrix[0] + torch.linalg.solve(damped, ours.T @ lacking / 300).T
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
    assert torch.equal(layers._making_up(matrix, calls[:1], calls[:1], factors, 0), matrix)


def test_the_record_says_what_was_measured():
    model, inputs = seeded(Convolutions), images(64)
    made = compress(model, [inputs], multiplier=2e-7)
    assert made.measured_loss == pytest.approx(error(made.model, model, inputs), rel=1e-3)
    assert made.measured_loss < 2 * made.predicted_loss
    assert made.predicted_loss < 20 * made.measured_loss
    text = made.report()
    for layer in made.layers:
        assert f"{layer.bytes_after:,}" in text
    assert [layer.name for layer in made.layers] == ["0", "3", "6", "8", "11"]
    tensors = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    after = made.bytes_after + tensors - made.bytes_before
    assert made.model_ratio == pytest.approx(tensors / after)


def test_the_same_call_makes_the_same_model():
    made = [compress(seeded(Convolutions), [images()], multiplier=2e-7).model for _ in range(2)]
    for ours, theirs in zip(*(m.state_dict().values() for m in made), strict=True):
        assert torch.equal(ours, theirs)


def state_of(model):
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    return tensors, [module.training for module in model.modules()]


def assert_as_it_was(model, before):
    tensors, modes = state_of(model)
    assert tensors.keys() == before[0].keys()
    assert all(torch.equal(tensors[name], before[0][name]) for name in tensors)
    assert modes == before[1]
    assert all(parameter.grad is None for parameter in model.parameters())


class Fails(nn.Module):
    """Raises in the forward pass of a number, before its last layer."""

    def __init__(self, error, at):
        super().__init__()
        self.first, self.last = nn.Linear(6, 5), nn.Linear(5, 4)
        self.error, self.at, self.n = error, at, 0

    def forward(self, inputs):
        """Outputs."""
        inner = self.first(inputs)
        self.n += 1
        if self.n == self.at:
            raise self.error("on purpose")
        return self.last(inner)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("at", [1, 3, 5])  # in the first look, the survey, and a pass
def test_the_model_is_as_it_was_after_an_error_or_interrupt(error, at):
    model = Fails(error, at).train()
    before = state_of(model)
    inputs = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
    with pytest.raises(error, match="on purpose"):
        compress(model, [inputs], multiplier=1e-4)
    assert_as_it_was(model, before)
    assert "walk" not in {thread.name for thread in threading.enumerate()}
    compress(model, [inputs], multiplier=1e-4)
    assert_as_it_was(model, before)


def test_forward_passes_do_not_grow_with_layers():
    def passes(depth):
        layers = [nn.Linear(6, 6) for _ in range(depth)]
        model, counted = nn.Sequential(*layers, nn.Linear(6, 3)).eval(), []
        model[0].register_forward_hook(lambda *_: counted.append(1))
        compress(model, [torch.randn(32, 6)], multiplier=1e-4)
        return len(counted)

    assert passes(8) == passes(1)


def test_a_transformer_of_token_ids_end_to_end(tmp_path):
    model = seeded(Transformer)
    batches = [{"ids": part} for part in ids().split(16)]
    made = compress(model, batches, bits=4.0)
    names = {layer.name: layer for layer in made.layers}
    assert set(names) == {
        "words",
        "block.self_attn.in_proj_weight",
        "block.self_attn.out_proj",
        "block.linear1",
        "block.linear2",
        "twice",
    }
    assert names["words"].tied == ("head.weight",)
    assert made.model.head.weight.unique().numel() <= names["words"].n_clusters
    assert made.left == {"places": "used by __getitem__, which is not compressed"}
    compression.save(made.model, tmp_path / "a.safetensors")
    loaded = compression.load(tmp_path / "a.safetensors", Transformer().eval())
    with torch.no_grad():
        ours, theirs = made.model(ids()), model(ids())
        assert torch.equal(loaded(ids())["scores"], ours["scores"])
    lost = (ours["scores"] - theirs["scores"]).square().sum() / theirs["scores"].square().sum()
    assert lost < 0.02
    plain = lib.share_weights(model, 16, layers=["words", "block.linear1", "block.linear2"])
    with torch.no_grad():
        less = plain.model(ids())["scores"]
    assert lost < (less - theirs["scores"]).square().sum() / theirs["scores"].square().sum()


def test_a_layer_applied_twice_is_the_same_in_both_places():
    model = seeded(Transformer)
    made = compress(model, [ids()], multiplier=1e-7)
    assert isinstance(made.model.twice.parametrizations.weight[0], lib.codebook.SharedWeight)
    [layer] = [layer for layer in made.layers if layer.name == "twice"]
    assert layer.corrected == ""


class Others(nn.Module):
    """Layers that are not compressed, beside one that is."""

    def __init__(self):
        super().__init__()
        self.recurrent = nn.LSTM(6, 5, batch_first=True)
        self.parametrized = parametrizations.weight_norm(nn.Linear(5, 5))
        self.unused = nn.Linear(5, 2)
        self.last = nn.Linear(5, 4)

    def forward(self, inputs):
        """Scores."""
        return self.last(self.parametrized(self.recurrent(inputs)[0]))


def test_what_is_left_is_named_and_counts_in_the_models_ratio():
    model = seeded(Others)
    inputs = torch.randn(32, 7, 6, generator=torch.Generator().manual_seed(0))
    made = compress(model, [inputs], multiplier=1e-5)
    assert [layer.name for layer in made.layers] == ["last"]
    assert "lstm" in made.left["recurrent.weight_ih_l0"]
    assert "parametrized" in made.left["parametrized.parametrizations.weight.original1"]
    assert made.left["unused.weight"] == "not used in the forward pass"
    assert made.model_ratio < 1.2 < made.ratio
    for name in made.left:
        assert name in made.report()
    with torch.no_grad():
        assert torch.equal(made.model.recurrent(inputs)[0], model.recurrent(inputs)[0])


def test_nothing_to_compress_says_why():
    with pytest.raises(ValueError, match=r"nothing can be compressed.*lstm"):
        compress(nn.LSTM(3, 4), [torch.randn(5, 2, 3)], bits=3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions(tmp_path, dtype):
    model = seeded(Convolutions).to(dtype)
    made = compress(model, [images().to(dtype)], multiplier=2e-7)
    assert all(p.dtype == dtype for p in made.model.parameters())
    compression.save(made.model, tmp_path / "a.safetensors")
    loaded = compression.load(tmp_path / "a.safetensors", Convolutions().eval().to(dtype))
    with torch.no_grad():
        ours, theirs = (m(images().to(dtype)) for m in (made.model, model))
        assert torch.equal(loaded(images().to(dtype)), ours)
    lost = (ours - theirs).double().square().sum() / theirs.double().square().sum()
    assert lost < 0.05


def test_channels_last_and_several_arguments():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Convolutions()

        def forward(self, first, second):
            return self.inner(first + second)

    model = seeded(Two).to(memory_format=torch.channels_last)
    inputs = images().to(memory_format=torch.channels_last)
    made = compress(model, [(inputs, inputs)], multiplier=2e-7)
    with torch.no_grad():
        ours, theirs = (m(inputs, inputs) for m in (made.model, model))
    assert (ours - theirs).square().sum() < 0.05 * theirs.square().sum()


def test_rows_in_blocks_are_as_good(monkeypatch):
    model, inputs = seeded(Convolutions), images(128)
    whole = compress(model, [inputs], multiplier=2e-7)
    monkeypatch.setattr("lib.compression.layer.MOST_COLUMNS", 1200)
    cut = compress(model, [inputs], multiplier=2e-7)
    assert cut.layers[-1].n_weights == whole.layers[-1].n_weights
    assert cut.bytes_after == pytest.approx(whole.bytes_after, rel=0.15)
    assert error(cut.model, model, images(seed=5)) < 0.05


@pytest.mark.slow
def test_the_smallest_that_is_good_enough():
    model, inputs = seeded(Convolutions), images(64)
    asked = []

    def quality(network):
        asked.append(network)
        return -error(network, model, inputs)

    made = compress(model, [inputs], max_loss=0.01, evaluate=quality)
    assert error(made.model, model, inputs) <= 0.01
    smaller = compress(model, [inputs], n_bytes=made.bytes_after * 0.85)
    assert error(smaller.model, model, inputs) > 0.01
    with pytest.raises(ValueError, match="more than max_loss is lost"):
        compress(model, [inputs], max_loss=0.01, evaluate=lambda m: float(m is model))


def test_outputs_without_gradients_weigh_layers_by_their_own():
    class Classes(Convolutions):
        def forward(self, inputs):
            with torch.no_grad():
                return super().forward(inputs)

    model = seeded(Classes)
    made = compress(model, [images()], bits=3.0)
    assert error(made.model, model, images(seed=3)) < 0.05


class Scores(nn.Module):
    """The scores of a transformer alone."""

    def __init__(self):
        super().__init__()
        self.inner = Transformer()

    def forward(self, ids):
        """Scores of the last place."""
        return self.inner(ids)["scores"][:, -1]


@pytest.mark.slow
@pytest.mark.parametrize(("make", "inputs"), [(Convolutions, images()), (Scores, ids())])
def test_what_it_makes_is_exported_to_onnx(tmp_path, make, inputs):
    made = compress(seeded(make), [inputs], multiplier=1e-7)
    compression.export_onnx(made.model, tmp_path / "a.onnx", inputs[:2])
    found = compression.audit(tmp_path / "a.onnx", made.model, inputs)
    assert len(found["layers"]) == len(made.layers)
    assert all(layer["equal"] for layer in found["layers"])
    assert found["agreement"] == 1.0


@pytest.mark.slow
def test_what_it_makes_is_exported_to_core_ml(tmp_path):
    made = compress(seeded(Convolutions), [images()], multiplier=1e-7)
    compression.export_coreml(made.model, tmp_path / "a.mlpackage", images()[:2])
    found = compression.audit_coreml(tmp_path / "a.mlpackage", made.model)
    assert [layer["layer"] for layer in found] == [layer.name for layer in made.layers]
    assert all(layer["equal"] for layer in found)


def test_normalization_is_taken_again_on_request_only():
    model, inputs = seeded(Convolutions), images(64)
    kept = compress(model, [inputs], multiplier=2e-7)
    anew = compress(model, [inputs], multiplier=2e-7, renormalize=True)
    var = model[1].running_var
    assert torch.equal(kept.model[1].running_var, var)
    assert not torch.equal(anew.model[1].running_var, var)
    assert not anew.model[1].training


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "exactly one of"),
        ({"bits": 3, "ratio": 4}, "exactly one of"),
        ({"bits": 0}, "bits=0 must be positive"),
        ({"max_loss": 1.0}, "evaluate"),
        ({"bits": 3, "evaluate": len}, "evaluate"),
        ({"bits": 3, "layers": ["nine"]}, "no weights.*nine"),
        ({"n_bytes": 2}, "cannot have 2 bytes"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        compress(seeded(Convolutions), [images()], **options)


def test_more_bytes_than_anything_can_use_are_a_warning():
    with pytest.warns(UserWarning, match=r"the layers have -\d+\.\d % of the bytes wanted"):
        compress(seeded(Convolutions), [images()], n_bytes=1e6)


def test_no_inputs():
    with pytest.raises(ValueError, match="no batches"):
        compress(seeded(Convolutions), [], bits=3)


def test_chosen_layers_only():
    model = seeded(Convolutions)
    made = compress(model, [images()], multiplier=2e-7, layers=["6", "11.weight"])
    assert [layer.name for layer in made.layers] == ["6", "11"]
    assert made.left["0.weight"] == "not asked for"
    assert torch.equal(copy.deepcopy(made.model)[0].weight, model[0].weight)
