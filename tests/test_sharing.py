"""Models whose layers compute from codebook and labels, and the way back."""

import copy
import json
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

import lib

GPU = pytest.param("cuda", marks=pytest.mark.gpu)


@pytest.fixture(params=["cpu", GPU])
def device(request):
    """Run on the processor and, where there is one, on a CUDA device."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return request.param


class Tied(nn.Module):
    """An embedding and the output layer that shares its weight."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(50, 8)
        self.inner = nn.Linear(8, 8)
        self.head = nn.Linear(8, 50, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, words):
        """Scores of the next words."""
        return self.head(self.inner(self.embedding(words)))


def convolutional(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10)
    ).eval()


def centers_of(layer):
    return layer.parametrizations.weight.original


def labels_of(layer):
    return layer.parametrizations.weight[0].labels


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("n_clusters", [1, 16, 300])
def test_computes_what_the_plain_quantized_model_computes(dtype, n_clusters, device):
    model = convolutional().to(device, dtype)
    quantized = copy.deepcopy(model)
    for name in ("0", "4"):
        weight = quantized.get_submodule(name).weight
        result = lib.cluster(weight, n_clusters, max_iter=3)
        centers = result.centers.to(dtype)
        weight.data = centers[result.labels.to(torch.int64)]
    shared = lib.share_weights(model, n_clusters, max_iter=3).model
    images = torch.randn(2, 3, 8, 8, device=device, dtype=dtype)
    assert torch.equal(shared(images), quantized(images))
    for name in ("0", "4"):
        layer, original = shared.get_submodule(name), model.get_submodule(name)
        assert centers_of(layer).shape == (n_clusters,)
        assert centers_of(layer).dtype == dtype
        assert centers_of(layer).device == labels_of(layer).device == original.weight.device
        assert labels_of(layer).dtype == (torch.uint8 if n_clusters <= 256 else torch.int16)


def test_more_labels_than_int16_holds():
    layer = nn.Linear(300, 300, bias=False)
    shared = lib.share_weights(layer, 40_000, max_iter=0, init="density").model
    assert labels_of(shared).dtype == torch.int32
    result = lib.cluster(layer.weight, 40_000, max_iter=0, init="density")
    expected = result.centers.float()[result.labels.to(torch.int64)]
    assert torch.equal(shared.weight, expected)


def test_leaves_the_model_unless_asked():
    model = convolutional()
    before = copy.deepcopy(model.state_dict())
    shared = lib.share_weights(model, 4)
    assert shared.model is not model
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert lib.share_weights(model, 4, inplace=True).model is model
    assert torch.equal(model[0].weight, shared.model[0].weight)


def test_an_error_leaves_the_model_in_place():
    model = convolutional()
    with torch.no_grad():
        model[4].weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match="layer '4': weights hold nan"):
        lib.share_weights(model, 4, inplace=True)
    assert not parametrize.is_parametrized(model[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradient_of_a_center_is_the_sum_of_its_weights_gradients(dtype):
    """In bfloat16 thousands of ones summed one by one would stop at 256."""
    layer = nn.Linear(200, 100, bias=False, dtype=dtype)
    shared = lib.share_weights(layer, 4).model
    plain = lib.plain_weights(copy.deepcopy(shared))
    inputs = torch.rand(3, 200, dtype=dtype)
    shared(inputs).sum().backward()
    plain(inputs).sum().backward()
    labels = labels_of(shared).flatten().long()
    expected = torch.zeros(4, dtype=torch.float64)
    expected.index_add_(0, labels, plain.weight.grad.flatten().double())
    relative = 1e-5 if dtype == torch.float32 else 2**-8
    torch.testing.assert_close(centers_of(shared).grad.double(), expected, rtol=relative, atol=0)


def test_training_moves_the_centers_only():
    shared = lib.share_weights(convolutional(), 4).model
    labels = labels_of(shared[4]).clone()
    optimizer = torch.optim.SGD(shared.parameters(), lr=0.1)
    shared(torch.randn(5, 3, 8, 8)).square().sum().backward()
    before = centers_of(shared[4]).detach().clone()
    optimizer.step()
    assert not torch.equal(before, centers_of(shared[4]))
    assert torch.equal(labels, labels_of(shared[4]))
    assert len(torch.unique(shared[4].weight.detach())) == 4


def test_frozen_weights_stay_frozen():
    model = convolutional()
    model[0].weight.requires_grad_(False)
    shared = lib.share_weights(model, 4).model
    assert not centers_of(shared[0]).requires_grad
    assert centers_of(shared[4]).requires_grad
    plain = lib.plain_weights(shared)
    assert not plain[0].weight.requires_grad
    assert plain[4].weight.requires_grad


def test_assigning_a_weight_refits_the_centers():
    layer = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
    shared = lib.share_weights(layer, 3).model
    with torch.no_grad():
        shared.weight = torch.tensor([[1.0, 3.0], [5.0, 9.0]])
    assert centers_of(shared).tolist() == [2.0, 7.0, 7.0]
    assert shared.weight.tolist() == [[2.0, 2.0], [7.0, 7.0]]


def test_saved_and_loaded(tmp_path):
    shared = lib.share_weights(convolutional(seed=0), 300).model
    torch.save(shared.state_dict(), tmp_path / "shared.pt")
    other = lib.share_weights(convolutional(seed=1), 300).model
    other.load_state_dict(torch.load(tmp_path / "shared.pt"))
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(other(images), shared(images))


@pytest.mark.parametrize("options", [{}, {"granularity": "per_channel"}])
class TestWhatTorchDoesWithModels:
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))

    def test_deep_copies(self, options):
        shared = lib.share_weights(convolutional(), 16, **options).model
        other = copy.deepcopy(shared)
        assert torch.equal(other(self.images), shared(self.images))
        with torch.no_grad():
            centers_of(other[0]).zero_()
        assert centers_of(shared[0]).any()

    def test_compiled_and_exported(self, options):
        shared = lib.share_weights(convolutional(), 16, **options).model
        expected = shared(self.images)
        compiled = torch.compile(shared, backend="aot_eager", fullgraph=True)
        torch.testing.assert_close(compiled(self.images), expected)
        exported = torch.export.export(shared, (self.images,))
        torch.testing.assert_close(exported.module()(self.images), expected)

    def test_state_with_a_wrappers_prefix(self, options, tmp_path):
        """As DataParallel and torch.compile put before the names."""
        plain = convolutional(seed=0)
        shared = lib.share_weights(plain, 16, **options).model
        wrapped = lib.share_weights(nn.DataParallel(plain), 16, **options)
        assert [layer.name for layer in wrapped.layers] == ["module.0", "module.4"]
        state = wrapped.model.state_dict()
        assert [*state] == [f"module.{name}" for name in shared.state_dict()]
        nn.modules.utils.consume_prefix_in_state_dict_if_present(state, "module.")
        other = lib.share_weights(convolutional(seed=1), 16, **options).model
        other.load_state_dict(state)
        assert torch.equal(other(self.images), shared(self.images))

    def test_pickling_is_refused_with_what_to_do_instead(self, options, tmp_path):
        result = lib.share_weights(convolutional(), 16, **options)
        for thing in (result, result.model, result.model[0]):
            for act in (pickle.dumps, lambda it: torch.save(it, tmp_path / "it.pt")):
                with pytest.raises(RuntimeError, match=r"cannot be pickled: .*compression\.save"):
                    act(thing)
        plain = lib.plain_weights(copy.deepcopy(result.model))
        again = pickle.loads(pickle.dumps(plain))
        assert torch.equal(again(self.images), result.model(self.images))


def test_moved_to_another_dtype_and_memory_format():
    shared = lib.share_weights(convolutional(), 16).model
    expected = shared[0].weight.double()
    shared = shared.double().to(memory_format=torch.channels_last)
    assert labels_of(shared[0]).dtype == torch.uint8
    assert torch.equal(shared[0].weight, expected)


def test_back_to_plain_weights():
    shared = lib.share_weights(convolutional(), 16).model
    images = torch.randn(2, 3, 8, 8)
    expected = shared(images)
    expected.sum().backward()
    assert lib.plain_weights(shared) is shared
    assert not any(parametrize.is_parametrized(module) for module in shared.modules())
    assert type(shared[0]) is nn.Conv2d
    assert torch.equal(shared(images), expected)
    shared(images).sum().backward()
    assert shared[0].weight.grad.shape == shared[0].weight.shape
    assert shared.state_dict().keys() == convolutional().state_dict().keys()


def test_a_copy_made_plain_leaves_the_shared_model_as_it_is():
    """Parametrized modules share their class with their copies, and torch edits it."""
    shared = lib.share_weights(convolutional(), 16).model
    plain = lib.plain_weights(copy.deepcopy(shared))
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(shared(images), plain(images))
    assert centers_of(shared[0]).shape == (16,)


def test_another_parametrization_stays():
    model = nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Linear(8, 8), name="bias", dim=0)
    )
    shared = lib.share_weights(model, 4).model
    inputs = torch.randn(2, 8)
    assert len(torch.unique(model[0].weight.detach())) > 4
    assert len(torch.unique(shared[0].weight.detach())) == 4
    expected = shared(inputs)
    assert torch.equal(lib.plain_weights(shared)(inputs), expected)
    assert parametrize.is_parametrized(shared[0], "bias")


def test_plain_weights_of_a_plain_model():
    model = convolutional()
    assert lib.plain_weights(model) is model


@pytest.mark.parametrize("inplace", [False, True])
def test_tied_weights_stay_tied(inplace):
    model = Tied()
    result = lib.share_weights(model, 4, inplace=inplace)
    shared = result.model
    assert [layer.name for layer in result.layers] == ["inner", "head", "embedding"]
    assert [layer.tied_to for layer in result.layers] == [None, None, "head"]
    assert centers_of(shared.head) is centers_of(shared.embedding)
    assert len(list(shared.parameters())) == 3
    assert result.bytes_before == 4 * (64 + 400)
    assert result.n_weights == 464
    assert result.bytes_after == 64 / 4 + 16 + 400 / 4 + 16
    words = torch.arange(5)
    expected = shared(words)
    assert torch.equal(copy.deepcopy(shared)(words), expected)
    plain = lib.plain_weights(shared)
    assert plain.head.weight is plain.embedding.weight
    assert plain.head.weight.shape == (50, 8)
    assert torch.equal(plain(words), expected)


def test_tied_centers_gather_both_gradients():
    shared = lib.share_weights(Tied(), 4).model
    words = torch.arange(5)
    shared(words).sum().backward()
    plain = lib.plain_weights(copy.deepcopy(shared))
    plain(words).sum().backward()
    labels = labels_of(shared.head).flatten().long()
    expected = torch.zeros(4).index_add_(0, labels, plain.head.weight.grad.flatten())
    torch.testing.assert_close(centers_of(shared.head).grad, expected)


def test_chosen_layers_and_numbers():
    model = convolutional()
    result = lib.share_weights(model, 4, layers=["4"])
    assert [layer.name for layer in result.layers] == ["4"]
    assert not parametrize.is_parametrized(result.model[0])
    result = lib.share_weights(model, {"0": 2, "4": 5})
    assert [layer.n_clusters for layer in result.layers] == [2, 5]
    assert lib.share_weights(model[4], 4).layers[0].name == ""


def test_every_kind_of_layer_by_default():
    kinds = [nn.Conv1d, nn.Conv2d, nn.Conv3d]
    kinds += [nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d]
    model = nn.ModuleList([kind(2, 3, 3) for kind in kinds] + [nn.Linear(2, 3), nn.LayerNorm(3)])
    result = lib.share_weights(model, 2)
    assert [layer.name for layer in result.layers] == list("0123456")


def test_result_says_what_happened():
    layer = nn.Linear(3, 3, bias=False, dtype=torch.float16)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0, 0, 0], [1, 1, 1], [5, 5, 5]]))
    result = lib.share_weights(nn.Sequential(layer), 16)
    (record,) = result.layers
    assert record == lib.SharedLayer(
        name="0",
        n_weights=9,
        n_clusters=16,
        n_codebooks=1,
        used_centers=3,
        bits=2,
        bytes_before=18,
        bytes_after=3 + 6,
        inertia=0.0,
        n_iter=record.n_iter,
        converged=True,
    )
    assert result.ratio == 2
    assert result.bits_per_weight == 8
    assert torch.equal(result.model[0].weight, layer.weight)
    frame = pd.DataFrame(result.layers)
    assert frame["bytes_after"].tolist() == [9]


def test_one_center_needs_no_bits():
    (record,) = lib.share_weights(nn.Linear(4, 4), 1).layers
    assert (record.bits, record.bytes_after) == (0, 4)


def test_inertia_is_what_the_weights_moved():
    model = convolutional()
    result = lib.share_weights(model, 16)
    for record, index in zip(result.layers, (0, 4), strict=True):
        moved = (result.model[index].weight - model[index].weight).double().square().sum()
        assert record.inertia == pytest.approx(moved.item(), rel=1e-4)


def test_options_reach_cluster():
    linear = lib.share_weights(convolutional(), 8, init="linear", max_iter=0).model
    weight = convolutional()[4].weight
    expected = torch.linspace(weight.min().item(), weight.max().item(), 8)
    torch.testing.assert_close(centers_of(linear[4]).detach(), expected)


def test_progress_is_shown_only_if_asked(capsys):
    lib.share_weights(convolutional(), 4)
    assert capsys.readouterr().err == ""
    lib.share_weights(convolutional(), 4, progress=True)
    assert "sharing weights" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": ["4", "fc"]}, r"\['fc'\].*\['0', '1', '4'\]"),
        ({"layers": ["2"]}, r"\['2'\]"),
        ({"layers": []}, "no layer"),
        ({"n_clusters": {"0": 4}}, r"lacks.*\['4'\]"),
        ({"n_clusters": {"0": 4, "4": 4, "fc": 4}}, r"names \['fc'\]"),
        ({"n_clusters": {"0": 4, "4": 0}}, "n_clusters=0"),
        ({"init": "lineal"}, "layer '0': init='lineal'"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        lib.share_weights(convolutional(), **{"n_clusters": 4} | options)


def test_no_layer():
    with pytest.raises(ValueError, match="no layer"):
        lib.share_weights(nn.Sequential(nn.ReLU(), nn.LayerNorm(3)), 4)


def test_already_parametrized():
    shared = lib.share_weights(convolutional(), 4).model
    with pytest.raises(ValueError, match=r"'0' is already parametrized: call plain_weights"):
        lib.share_weights(shared, 4)
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)), nn.Linear(3, 3))
    with pytest.raises(ValueError, match="'0' is already parametrized"):
        lib.share_weights(model, 4)
    result = lib.share_weights(model, 4, layers=["1"])
    assert [layer.name for layer in result.layers] == ["1"]


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_layer_without_values():
    with pytest.raises(ValueError, match="layer '0': weights are empty"):
        lib.share_weights(nn.Sequential(nn.Linear(0, 3)), 4)


class TestGranularity:
    def test_transposed_convolutions_in_groups_are_refused(self):
        model = nn.Sequential(nn.ConvTranspose2d(4, 6, 3, groups=2))
        with pytest.raises(ValueError, match="layer '0' is a transposed convolution in groups"):
            lib.share_weights(model, 4, granularity="per_channel")
        assert lib.share_weights(model, 4).layers

    @pytest.mark.parametrize("layer", [nn.Conv2d(3, 8, 3), nn.Linear(7, 8), nn.Conv1d(4, 8, 5)])
    def test_every_channel_has_the_codebook_of_its_own_weights(self, layer, device):
        layer = nn.Sequential(layer).to(device)
        shared = lib.share_weights(layer, 4, granularity="per_channel")
        (record,) = shared.layers
        new = shared.model[0]
        assert centers_of(new).shape == (8, 4)
        assert labels_of(new).shape == layer[0].weight.shape
        for channel in range(8):
            expected = lib.cluster(layer[0].weight[channel], 4)
            torch.testing.assert_close(centers_of(new)[channel].double(), expected.centers)
            assert torch.equal(labels_of(new)[channel], expected.labels)
            plain = expected.centers.float()[expected.labels.long()]
            torch.testing.assert_close(new.weight[channel], plain)
        assert record.n_codebooks == 8
        assert record.used_centers == 32
        assert record.bytes_after == layer[0].weight.numel() * 2 / 8 + 32 * 4

    @pytest.mark.parametrize("size", [1, 3, 8, 100])
    def test_groups_of_channels_and_the_rest(self, size):
        layer = nn.Sequential(nn.Linear(30, 8))
        shared = lib.share_weights(layer, 3, granularity="per_grouped_channel", group_size=size)
        weights, groups = shared.model[0].weight, layer[0].weight.split(size)
        assert shared.layers[0].n_codebooks == len(groups)
        for part, group in zip(weights.split(size), groups, strict=True):
            expected = lib.cluster(group, 3)
            plain = expected.centers.float()[expected.labels.long()]
            torch.testing.assert_close(part, plain)

    def test_output_channels_of_a_transposed_convolution_are_its_second_axis(self):
        model = nn.Sequential(nn.ConvTranspose2d(4, 6, 3))
        weight = lib.share_weights(model, 2, granularity="per_channel").model[0].weight
        for channel in range(6):
            assert len(weight[:, channel].unique()) == 2

    def test_one_group_is_the_whole_weight(self):
        model = convolutional()
        whole = lib.share_weights(model, 16).model
        grouped = lib.share_weights(
            model, 16, granularity="per_grouped_channel", group_size=10_000
        ).model
        for name in ("0", "4"):
            left, right = whole.get_submodule(name).weight, grouped.get_submodule(name).weight
            assert torch.equal(left, right)

    def test_centers_of_channels_train_and_turn_back(self):
        model = lib.share_weights(convolutional(), 4, granularity="per_channel").model
        layer = model[0]
        layer.weight.square().sum().backward()
        gradient = centers_of(layer).grad
        for channel in range(8):
            counts = torch.bincount(labels_of(layer)[channel].flatten(), minlength=4)
            expected = 2 * centers_of(layer)[channel] * counts
            torch.testing.assert_close(gradient[channel], expected)
        before = layer.weight.detach().clone()
        layer.weight = 2 * before  # moves the centers to the means of what is assigned
        torch.testing.assert_close(layer.weight, 2 * before)
        lib.plain_weights(model)
        torch.testing.assert_close(layer.weight, 2 * before)

    def test_unused_centers_stay_within_their_channel(self):
        layer = nn.Sequential(nn.Linear(3, 2, bias=False))
        with torch.no_grad():
            layer[0].weight.copy_(torch.tensor([[1.0, 1.0, 2.0], [-5.0, -6.0, -7.0]]))
        new = lib.share_weights(layer, 3, granularity="per_channel").model[0]
        new.weight = new.weight.detach()
        assert centers_of(new).tolist() == [[1, 2, 2], [-7, -6, -5]]

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"granularity": "per_row"}, "'per_row' is unknown"),
            ({"granularity": "per_grouped_channel"}, "group_size=None must be"),
            ({"granularity": "per_grouped_channel", "group_size": 0}, "group_size=0 must be"),
            ({"granularity": "per_grouped_channel", "group_size": 2.0}, "group_size=2.0 must be"),
            ({"group_size": 4}, "group_size=4 is for 'per_grouped_channel'"),
        ],
    )
    def test_bad_options_are_refused(self, options, message):
        with pytest.raises(ValueError, match=message):
            lib.share_weights(convolutional(), 4, **options)


class TestOptionsByLayer:
    def test_a_name_counts_more_than_a_type_and_both_more_than_all(self):
        model = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Linear(8, 8), nn.Linear(8, 8)
        )
        options = {
            nn.Linear: {"n_clusters": 3, "init": "linear", "max_iter": 0},
            "3": {"n_clusters": 5},
            "1": {"granularity": "per_channel"},
        }
        result = lib.share_weights(model, 16, max_iter=2, layers=options)
        assert [layer.n_clusters for layer in result.layers] == [16, 16, 3, 5]
        assert [layer.n_codebooks for layer in result.layers] == [1, 8, 1, 1]
        assert [layer.n_iter for layer in result.layers] == [2, 2, 0, 0]
        weight = model[3].weight
        expected = torch.linspace(weight.min().item(), weight.max().item(), 5)
        torch.testing.assert_close(centers_of(result.model[3]).detach(), expected)

    def test_types_are_named_too_and_the_nearest_counts(self):
        class Special(nn.Linear):
            pass

        model = nn.Sequential(Special(8, 8), nn.Linear(8, 8))
        for options in (
            {"Linear": {"n_clusters": 3}, "Special": {"n_clusters": 5}},
            {Special: {"n_clusters": 5}, nn.Linear: {"n_clusters": 3}},
        ):
            result = lib.share_weights(model, 16, layers=options)
            assert [layer.n_clusters for layer in result.layers] == [5, 3]
        result = lib.share_weights(model, 16, layers={"Linear": {"n_clusters": 3}})
        assert [layer.n_clusters for layer in result.layers] == [3, 3]

    def test_a_layer_that_has_the_name_of_a_type_is_meant(self):
        model = nn.ModuleDict({"Linear": nn.Linear(8, 8), "other": nn.Linear(8, 8)})
        result = lib.share_weights(model, 16, layers={"Linear": {"n_clusters": 3}})
        assert [layer.n_clusters for layer in result.layers] == [3, 16]

    def test_none_leaves_layers_as_they_are_and_types_beside_the_default_are_shared(self):
        model = nn.ModuleList([nn.Embedding(9, 8), nn.Conv1d(3, 8, 3), nn.Linear(8, 8)])
        result = lib.share_weights(model, 4, layers={"Conv1d": None, nn.Embedding: {}})
        assert [layer.name for layer in result.layers] == ["0", "2"]
        result = lib.share_weights(model, 4, layers={"2": None})
        assert [layer.name for layer in result.layers] == ["1"]
        result = lib.share_weights(model, 4, layers={nn.Conv1d: None, "1": {"n_clusters": 3}})
        assert [(layer.name, layer.n_clusters) for layer in result.layers] == [("1", 3), ("2", 4)]
        with pytest.raises(ValueError, match="no layer"):
            lib.share_weights(model, 4, layers={nn.Linear: None, nn.Conv1d: None})

    def test_another_granularity_drops_the_group_size_of_all(self):
        grouped = {"granularity": "per_grouped_channel", "group_size": 4}
        result = lib.share_weights(
            convolutional(), 4, layers={nn.Linear: {"granularity": "per_tensor"}}, **grouped
        )
        assert [layer.n_codebooks for layer in result.layers] == [2, 1]

    def test_importance_by_layer_is_split_among_its_channels(self):
        model = convolutional()
        generator = torch.Generator().manual_seed(0)
        importance = {
            name: torch.rand(model.get_submodule(name).weight.shape, generator=generator)
            for name in ("0", "4")
        }
        shared = lib.share_weights(
            model, 4, sample_weight=importance, layers={"0": {"granularity": "per_channel"}}
        ).model
        for channel in range(8):
            expected = lib.cluster(
                model[0].weight[channel], 4, sample_weight=importance["0"][channel]
            )
            torch.testing.assert_close(centers_of(shared[0])[channel].double(), expected.centers)
        expected = lib.cluster(model[4].weight, 4, sample_weight=importance["4"])
        torch.testing.assert_close(centers_of(shared[4]).double(), expected.centers)
        with pytest.raises(ValueError, match=r"'0'.*shape \(10, 288\): expected \(8, 3, 3, 3\)"):
            lib.share_weights(
                model, 4, granularity="per_channel", sample_weight={"0": importance["4"]}
            )

    def test_options_of_tied_layers(self):
        model = Tied()
        named = lib.share_weights(model, 4, layers={"embedding": {"n_clusters": 7}})
        assert named.layers[0] == lib.share_weights(model, 7, layers=["embedding"]).layers[0]
        different = {"embedding": {"n_clusters": 7}, "head": {"n_clusters": 8}}
        with pytest.raises(ValueError, match="'embedding' and 'head' are tied, but have different"):
            lib.share_weights(model, 4, layers=different)
        with pytest.raises(ValueError, match=r"'head' is tied to \['embedding'\]: give None"):
            lib.share_weights(model, 4, layers={"embedding": None})
        both = {"embedding": None, "head": None}
        assert [layer.name for layer in lib.share_weights(model, 4, layers=both).layers] == [
            "inner"
        ]
        equal = {"embedding": {"n_clusters": 7}, "head": {"n_clusters": 7}}
        assert lib.share_weights(model, 4, layers=equal).layers[0].n_clusters == 7

    @pytest.mark.parametrize(
        ("layers", "message"),
        [
            ({"fc": {}}, r"names \['fc'\].*layers \['0', '1', '4'\].*types \['Conv2d'.*'Linear'"),
            ({"2": {}}, r"names \['2'\]"),
            ({"fc": None}, r"names \['fc'\]"),
            ({nn.Conv1d: {}}, "type of layer 'Conv1d' is unknown: choose from Conv2d"),
            ({nn.ReLU: None}, "type of layer 'ReLU' is unknown"),
            ({nn.Module: {}}, "type of layer 'Module' is unknown"),
            ({"0": {"gama": 1}}, "option 'gama' is unknown: choose from n_clusters, init, gamma"),
            ({"0": {"gamma": 7}}, "layer '0': gamma=7"),
            ({nn.Linear: {"n_clusters": 0}}, "layer '4': n_clusters=0"),
            ({nn.Linear: {"granularity": "per_row"}}, "layer '4': granularity='per_row'"),
        ],
    )
    def test_what_is_unknown_is_refused_with_what_is_known(self, layers, message):
        with pytest.raises(ValueError, match=message):
            lib.share_weights(convolutional(), 4, layers=layers)

    def test_unknown_options_of_all_layers_and_numbers_that_are_missing(self):
        with pytest.raises(ValueError, match="option 'gama' is unknown"):
            lib.share_weights(convolutional(), 4, gama=1)
        with pytest.raises(ValueError, match=r"n_clusters lacks the layers \['0'\]"):
            lib.share_weights(convolutional(), layers={"4": {"n_clusters": 4}})
        with pytest.raises(ValueError, match=r"names \['0'\]: shared are \['4'\]"):
            lib.share_weights(convolutional(), {"0": 4, "4": 4}, layers=["4"])


class TestSharingConfig:
    config = lib.SharingConfig(
        {"n_clusters": {"4": 7}, "init": torch.linspace(-1, 1, 8), "tol": np.float64(0.5)},
        types={nn.Conv2d: {"n_clusters": 8}},
        names={"4": {"init": "linear", "max_iter": None}},
    )

    def test_through_json_and_back(self):
        values = json.loads(json.dumps(self.config.to_dict()))
        assert values["version"] == 1
        assert values["types"] == {"Conv2d": {"n_clusters": 8}}
        assert values["names"] == {"4": {"n_clusters": 7, "init": "linear", "max_iter": None}}
        again = lib.SharingConfig.from_dict(values)
        assert again.to_dict() == values
        model = convolutional()
        one, other = (lib.share_weights(model, config=c) for c in (self.config, again))
        assert one.layers == other.layers
        assert [layer.n_clusters for layer in one.layers] == [8, 7]

    def test_what_is_given_beside_it_replaces_its_own(self):
        model = convolutional()
        config = lib.SharingConfig({"n_clusters": 4}, types={"Linear": {"n_clusters": 5}})
        result = lib.share_weights(model, 3, config=config, layers={"4": {"n_clusters": 6}})
        assert [layer.n_clusters for layer in result.layers] == [3, 6]
        result = lib.share_weights(model, config=config, layers=["4"])
        assert [(layer.name, layer.n_clusters) for layer in result.layers] == [("4", 5)]
        assert config.options == {"n_clusters": 4}

    def test_what_text_cannot_hold_is_refused(self):
        for options in ({"init": np.sort}, {"sample_weight": np.ones(3)}):
            with pytest.raises(TypeError, match="which to_dict cannot write"):
                lib.SharingConfig(options).to_dict()

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({}, "version None: this program reads 1"),
            ({"version": 2}, "version 2: this program reads 1"),
            ({"version": 1, "layers": {}}, "key 'layers' is unknown: choose from version, options"),
            ({"version": 1, "options": {"gama": 1}}, "option 'gama' is unknown"),
            ({"version": 1, "types": {"Linear": {"gama": 1}}}, "option 'gama' is unknown"),
        ],
    )
    def test_what_it_does_not_know_is_refused(self, values, message):
        with pytest.raises(ValueError, match=message):
            lib.SharingConfig.from_dict(values)


def test_the_repr_and_the_report_of_a_shared_model():
    result = lib.share_weights(Tied(), 4)
    assert repr(result) == (
        "SharedModel(3 layers, n_weights=464, bits_per_weight=2.552, "
        "bytes 1,856 -> 148, ratio=12.54)"
    )
    names, inner, head, embedding, total, whole = result.report().splitlines()
    assert names.split()[:3] == ["name", "n_weights", "n_clusters"]
    assert inner.split()[:9] == ["inner", "64", "4", "1", "4", "2", "256", "32", "8.00"]
    assert head.split()[6:9] == ["1,600", "116", "13.79"]
    assert embedding.split()[-1] == "head"
    assert total == "layers: 1,856 to 148 bytes, 12.54 times smaller, 2.552 bits a weight"
    biases = sum(p.nbytes for name, p in Tied().named_parameters() if name.endswith("bias"))
    ratio = (1856 + biases) / (148 + biases)
    assert whole.startswith(f"whole model: {ratio:.2f} times smaller, with {biases} bytes")


class Mixed(nn.Module):
    """Weights of every kind, one of them not for sharing unless it is named."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(30, 8)
        self.attention = nn.MultiheadAttention(8, 2)
        self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(8, 8))
        self.free = nn.Parameter(torch.randn(4, 4))
        self.ids = nn.Parameter(torch.arange(6).view(2, 3), requires_grad=False)
        self.fc, self.head, self.norm = nn.Linear(8, 8), nn.Linear(8, 3), nn.LayerNorm(8)


def test_what_is_left_out_is_said_and_counts():
    model = Mixed()
    result = lib.share_weights(model, 4, layers={"head": None, "normed": None})
    assert [layer.name for layer in result.layers] == ["attention.out_proj", "fc"]
    assert dict(result.left) == {
        "free": "the parameter 'free' of its module, not its weight",
        "words.weight": "Embedding, which is shared where it is named",
        "attention.in_proj_weight": "the parameter 'in_proj_weight' of its module, not its weight",
        "normed.parametrizations.weight.original0": "parametrized already",
        "normed.parametrizations.weight.original1": "parametrized already",
        "head.weight": "None in place of its options",
    }
    assert "left as it is: head.weight, None in place of its options" in result.report()
    whole = sum(value.nbytes for value in model.state_dict().values())
    shared = 2 * 64 * 4
    assert result.bytes_exact == whole - shared
    assert result.model_ratio == whole / (whole - shared + result.bytes_after)
    named = lib.share_weights(model, 4, layers=["fc"])
    assert named.left["head.weight"] == "not among the layers named"


def everything(model):
    """All that a model is, for comparison."""
    state = {name: value.clone() for name, value in model.state_dict().items()}
    kinds = [type(module).__name__ for module in model.modules()]
    flags = [(name, p.requires_grad, p.grad) for name, p in model.named_parameters()]
    return state, kinds, flags, [id(p) for p in model.parameters()]


def assert_untouched(model, before):
    state, *others = everything(model)
    assert state.keys() == before[0].keys()
    assert all(torch.equal(state[name], before[0][name]) for name in state)
    assert others == list(before[1:])


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("make", [convolutional, Tied])
def test_in_place_it_shares_all_layers_or_none(monkeypatch, make, error):
    model = make()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    before, register, calls = everything(model), parametrize.register_parametrization, []

    def halfway(*args, **options):
        calls.append(args)
        if len(calls) == 2:
            raise error("halfway")
        return register(*args, **options)

    monkeypatch.setattr(parametrize, "register_parametrization", halfway)
    with pytest.raises(error, match="halfway"):
        lib.share_weights(model, 4, inplace=True)
    assert len(calls) == 2
    assert_untouched(model, before)
    monkeypatch.undo()
    lib.share_weights(model, 4, inplace=True)


def test_scripted_layers_are_refused_before_anything_changes():
    model = nn.Sequential(nn.Linear(4, 4), torch.jit.script(nn.Linear(4, 4)))
    before = everything(model)
    with pytest.raises(ValueError, match="layer '1' is a script: share weights before"):
        lib.share_weights(model, 2, layers=["0", "1"], inplace=True)
    assert_untouched(model, before)


class Adapter(nn.Module):
    """A low-rank change of a weight."""

    def __init__(self, out, into):
        super().__init__()
        self.low, self.high = nn.Parameter(torch.ones(1, into)), nn.Parameter(torch.ones(out, 1))

    def forward(self, weight):
        """The weight, changed."""
        return weight + self.high @ self.low


def test_plain_weights_hold_what_an_adapter_adds():
    model = lib.share_weights(Tied(), 4).model
    parametrize.register_parametrization(model.head, "weight", Adapter(*model.head.weight.shape))
    head, embedding = model.head.weight.clone(), model.embedding.weight.clone()
    assert not torch.equal(head, embedding)
    lib.plain_weights(model)
    assert torch.equal(model.head.weight, head)
    assert torch.equal(model.embedding.weight, embedding)
