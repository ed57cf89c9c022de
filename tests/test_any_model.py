"""Models, options and dtypes drawn at random, against a plain reference."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import lib
from lib.compression import correct, describe, load, save

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


class Kinds(nn.Module):
    """Layers of several kinds on one input of shape (n, 4, 6), or on words of shape (n, 6)."""

    def __init__(self, kinds, tied):
        super().__init__()
        make = {
            "conv1d": lambda: nn.Conv1d(4, 4, 3, padding="same"),
            "grouped": lambda: nn.Conv1d(4, 8, 3, groups=2, padding=1, bias=False),
            "depthwise": lambda: nn.Conv1d(4, 4, 3, groups=4, padding=1, padding_mode="circular"),
            "transposed": lambda: nn.ConvTranspose1d(4, 4, 3, padding=1),
            "transposed in groups": lambda: nn.ConvTranspose1d(4, 4, 3, padding=1, groups=2),
            "linear": lambda: nn.Linear(6, 6),
            "norm": lambda: nn.BatchNorm1d(4),
            "conv2d": lambda: nn.Conv2d(1, 2, 3, padding=1),
            "attention": lambda: nn.MultiheadAttention(6, 2, batch_first=True),
        }
        self.layers = nn.ModuleDict({f"{i} {kind}": make[kind]() for i, kind in enumerate(kinds)})
        self.words, self.head = nn.Embedding(9, 6), nn.Linear(6, 9, bias=False)
        if tied:
            self.head.weight = self.words.weight

    def forward(self, inputs):
        """Scores of shape (n, 4, 9)."""
        hidden = inputs if inputs.is_floating_point() else self.words(inputs)
        for layer in self.layers.values():
            if isinstance(layer, nn.MultiheadAttention):
                hidden = hidden + layer(hidden, hidden, hidden, need_weights=False)[0]
            elif isinstance(layer, nn.Conv2d):
                hidden = hidden + layer(hidden[:, None]).mean(1)
            else:
                hidden = torch.tanh(layer(hidden)[:, :4])
        return self.head(hidden)


KINDS = (
    *("conv1d", "grouped", "depthwise", "transposed", "transposed in groups"),
    *("linear", "norm", "conv2d", "attention"),
)


@st.composite
def models(draw, dtypes=DTYPES):
    """A model in evaluation mode, and inputs that fit it."""
    kinds = draw(st.lists(st.sampled_from(KINDS), max_size=4))
    torch.manual_seed(draw(st.integers(0, 100)))
    model = Kinds(kinds, draw(st.booleans()))
    words = draw(st.booleans())
    scale = draw(st.sampled_from([1.0, 100.0, 1e-3]))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale)
    dtype = draw(st.sampled_from(dtypes))
    inputs = torch.randint(9, (5, 4)) if words else torch.randn(5, 4, 6).to(dtype)
    return model.to(dtype).eval(), inputs


@st.composite
def options(draw):
    """Options of `share_weights` that no layer refuses."""
    found = {
        "n_clusters": draw(st.integers(1, 20)),
        "init": draw(st.sampled_from([*lib.INITIALIZATIONS])),
        "seed": draw(st.integers(0, 3)),
        "max_iter": draw(st.sampled_from([None, 0, 3])),
        "granularity": draw(
            st.sampled_from(["per_tensor", "per_tensor", "per_channel", "per_grouped_channel"])
        ),
    }
    if found["granularity"] == "per_grouped_channel":
        found["group_size"] = draw(st.integers(1, 5))
    if found["init"] == "weight-distribution":
        found["gamma"] = draw(st.sampled_from([1 / 3, 1.0]))
        found["revise"] = draw(st.booleans())
    return found


def expected_weight(weight, axis, n_clusters, granularity="per_tensor", group_size=1, **rest):
    """Each codebook's weights clustered alone and looked up."""
    rows = weight.detach().movedim(axis, 0)
    size = {"per_tensor": len(rows), "per_channel": 1}.get(granularity, group_size)
    parts = []
    for rows_of_one in rows.split(size):
        found = lib.cluster(rows_of_one, n_clusters, **rest)
        parts.append(found.centers.to(weight.dtype)[found.labels.long()])
    return torch.cat(parts).movedim(0, axis)


def is_grouped_back(layer):
    return isinstance(layer, nn.ConvTranspose1d) and layer.groups > 1


@settings(max_examples=25)
@given(drawn=models(), chosen=options())
def test_shared_weights_are_those_of_each_codebook(tmp_path_factory, drawn, chosen):
    (model, inputs), layers = drawn, {}
    for name, layer in model.named_modules():
        if is_grouped_back(layer) and chosen["granularity"] != "per_tensor":
            layers[name] = {"granularity": "per_tensor"}
    before = copy.deepcopy(model.state_dict())
    result = lib.share_weights(model, layers=layers, **chosen)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    for record in result.layers:
        layer, theirs = model.get_submodule(record.name), dict(chosen)
        if record.name in layers:
            theirs |= {"granularity": "per_tensor", "group_size": 1}
        axis = int(isinstance(layer, nn.ConvTranspose1d))
        expected = expected_weight(layer.weight, axis, **theirs)
        found = result.model.get_submodule(record.name).weight
        assert found.dtype == layer.weight.dtype
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
        assert record.used_centers <= record.n_clusters * record.n_codebooks
        if record.n_codebooks == 1:
            assert record.bits == math.ceil(math.log2(len(expected.unique())))
    plain = lib.plain_weights(copy.deepcopy(result.model))
    with torch.no_grad():
        assert torch.equal(plain(inputs), result.model(inputs)) or inputs.dtype in DTYPES[:2]
    path = tmp_path_factory.mktemp("any") / "model"
    assert save(result.model, path) == describe(path)[-1]["bytes"] == path.stat().st_size
    again = load(path, copy.deepcopy(model))
    for name, value in plain.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    shared_bytes = sum(record.bytes_before for record in result.layers)
    whole = {id(value): value.nbytes for value in model.state_dict(keep_vars=True).values()}
    assert result.bytes_exact + shared_bytes == sum(whole.values())


@settings(max_examples=25)
@given(drawn=models(dtypes=DTYPES[1:]))
@pytest.mark.filterwarnings("ignore:not corrected")
def test_a_corrected_model_keeps_its_dtypes_and_its_tied_weights(drawn):
    model, inputs = drawn
    shared = lib.share_weights(model, 3).model
    correct(shared, model, [inputs])
    with torch.no_grad():
        assert shared(inputs).isfinite().all()
    plain, before = lib.plain_weights(shared).state_dict(), model.state_dict()
    assert {name: value.dtype for name, value in plain.items()} == {
        name: value.dtype for name, value in before.items()
    }
    assert (shared.head.weight is shared.words.weight) == (model.head.weight is model.words.weight)


@settings(max_examples=15)
@given(drawn=models(dtypes=DTYPES[1:]), bits=st.integers(4, 24))
def test_a_compressed_model_is_saved_whole(tmp_path_factory, drawn, bits):
    model, inputs = drawn
    made = lib.compress(model, [inputs], multiplier=2.0**-bits)
    names = {layer.name for layer in made.layers} | set(made.left)
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            assert name in names or name.removesuffix(".weight") in names
    path = tmp_path_factory.mktemp("any") / "model"
    save(made.model, path)
    again = load(path, copy.deepcopy(model), shared=True)
    with torch.no_grad():
        assert torch.equal(again(inputs), made.model(inputs))
        assert made.model(inputs).isfinite().all()


@pytest.mark.parametrize(
    "function",
    [
        lambda model, inputs: lib.share_weights(model, 4),
        lambda model, inputs: lib.compress(model, [inputs], bits=4),
        lambda model, inputs: lib.cluster(model.head.weight, 4),
        lambda model, inputs: lib.cluster_rows(model.head.weight, 4),
    ],
)
def test_weights_without_values_are_refused_by_name(function):
    with torch.device("meta"):
        model = Kinds(["linear"], False).eval()
        inputs = torch.randn(5, 4, 6)
    with pytest.raises(ValueError, match="meta device"):
        function(model, inputs)


@given(
    values=st.lists(st.floats(-1e3, 1e3, width=16), min_size=1, max_size=50),
    dtype=st.sampled_from(DTYPES),
    options=options(),
)
def test_arrays_and_tensors_are_clustered_alike(values, dtype, options):
    chosen = {k: v for k, v in options.items() if k not in ("granularity", "group_size")}
    tensor = torch.tensor(values, dtype=dtype)
    ours = lib.cluster(tensor, **chosen)
    array = tensor.float().numpy() if dtype == torch.bfloat16 else tensor.numpy()
    theirs = lib.cluster(array, **chosen)
    np.testing.assert_array_equal(ours.centers.numpy(), theirs.centers)
    np.testing.assert_array_equal(ours.labels.numpy(), theirs.labels)
    assert ours.inertia == theirs.inertia
    shown = np.asarray(theirs.centers)[theirs.labels]
    direct = float(((array.astype(np.float64) - shown) ** 2).sum())
    assert ours.inertia == pytest.approx(direct, rel=1e-6, abs=1e-12)
