"""Files of compressed models: the way there and back, and everything that may be wrong with one."""

import copy
import json
import random
import struct
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.utils import parametrize

import lib
from lib.codebook import SharedWeight
from lib.compression import (
    FileError,
    about,
    describe,
    export_coreml,
    export_onnx,
    load,
    save,
    size_table,
)
from lib.shared import install


class Network(nn.Module):
    """Every kind of thing that a file holds: convolutions, a tie, statistics, a counter."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.embedding = nn.Embedding(40, 6)
        self.convolution = nn.Conv2d(1, 4, 3)
        self.up = nn.ConvTranspose2d(4, 6, 3)
        self.normalization = nn.BatchNorm2d(6)
        self.head = nn.Linear(6, 40)
        self.head.weight = self.embedding.weight


def shared(dtype=torch.float32, n_clusters=8, **options):
    return lib.share_weights(Network().to(dtype), n_clusters, **options).model


def plain_state(model):
    return lib.plain_weights(copy.deepcopy(model)).state_dict()


def assert_equal_states(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor), name


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "network.safetensors"
    save(shared(), path, about="a network")
    return path


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize(
    "options",
    [
        *({"n_clusters": k} for k in (1, 2, 3, 5, 16, 17, 256, 300)),
        {"granularity": "per_channel", "n_clusters": 4},
        {"granularity": "per_grouped_channel", "group_size": 3, "n_clusters": 5},
    ],
    ids=str,
)
@pytest.mark.parametrize("stay_shared", [False, True])
def test_weights_come_back_bit_by_bit(tmp_path, dtype, options, stay_shared):
    model = shared(dtype, **options)
    size = save(model, tmp_path / "it")
    assert size == (tmp_path / "it").stat().st_size
    found = load(tmp_path / "it", Network(seed=1).to(dtype), shared=stay_shared)
    assert_equal_states(plain_state(found), plain_state(model))
    assert found.head.weight is found.embedding.weight or stay_shared


@pytest.mark.parametrize("bits", range(1, 17))
def test_every_width(tmp_path, bits):
    layer = nn.Linear(300, 300, bias=False)
    labels = torch.arange(90_000).remainder(2**bits).view(300, 300)
    install(layer, "weight", SharedWeight(labels, 2**bits), torch.randn(2**bits).sort().values)
    save(layer, tmp_path / "it")
    assert_equal_states(
        load(tmp_path / "it", nn.Linear(300, 300, bias=False)).state_dict(), plain_state(layer)
    )
    labels = load_file(tmp_path / "it")["weight:labels"]
    assert labels.nbytes == 90_000 * bits // 8


def test_scales_a_fixed_center_and_unused_centers(tmp_path):
    layer = nn.Linear(50, 20)
    labels = torch.randint(0, 3, (20, 50)) * 2  # of five centers three
    scale = torch.rand(20, 1) + 0.5
    weight = SharedWeight(labels, 5, scale=scale, fixed=2)
    install(layer, "weight", weight, torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.25]))
    save(layer, tmp_path / "it")
    assert load_file(tmp_path / "it")["weight:centers"].tolist() == [-1.0, 0.0, 1.25]
    found = load(tmp_path / "it", nn.Linear(50, 20), shared=True)
    assert_equal_states(plain_state(found), plain_state(layer))
    assert found.parametrizations.weight[0].fixed == 1


def version_1():
    """The model whose file version 1 of the format holds: entropy-coded labels, then packed."""
    model = nn.Sequential(nn.Linear(300, 200), nn.Linear(200, 9))
    with torch.no_grad():
        for layer in model:
            layer.bias.copy_(torch.arange(layer.out_features) / 8)
    numbers = (torch.arange(60_000) * 7919 % 20).view(200, 300)
    labels = 1 - (numbers == 0).int() + (numbers == 1).int()
    scale = 1 + torch.arange(200.0)[:, None] / 256
    weight = SharedWeight(labels, 3, scale=scale, fixed=1)
    install(model[0], "weight", weight, torch.tensor([-0.25, 0.0, 0.5]))
    labels = (torch.arange(1_800) * 31 % 16).view(9, 200)
    install(model[1], "weight", SharedWeight(labels, 16), torch.arange(16.0) - 7.5)
    return model


def test_files_of_version_1_still_load():
    path = Path(__file__).parent / "files/version-1.safetensors"
    with safe_open(path, "pt") as file:
        assert file.metadata()["version"] == "1"
    found = load(path, nn.Sequential(nn.Linear(300, 200), nn.Linear(200, 9)))
    assert_equal_states(found.state_dict(), plain_state(version_1()))
    assert [row["coding"] for row in describe(path)[:2]] == ["entropy", "4 bits"]


def test_skewed_labels_are_entropy_coded(tmp_path):
    layer = nn.Linear(400, 400, bias=False)
    labels = (torch.rand(400, 400) > 0.95).int()
    install(layer, "weight", SharedWeight(labels, 2), torch.tensor([0.0, 0.3]))
    assert save(layer, tmp_path / "it") < 0.35 * 400 * 400 / 8 + 1000
    assert_equal_states(
        load(tmp_path / "it", nn.Linear(400, 400, bias=False)).state_dict(), plain_state(layer)
    )
    (row, *_) = describe(tmp_path / "it")
    assert row["coding"] == "entropy"
    assert row["entropy"] == pytest.approx(0.286, abs=0.02)


def test_half_precision_where_it_loses_nothing_or_is_asked_for(tmp_path):
    layer = nn.Linear(4, 3)
    install(layer, "weight", SharedWeight(torch.zeros(3, 4), 1), torch.tensor([0.1]))
    save(layer, tmp_path / "it")
    assert load_file(tmp_path / "it")["weight:centers"].dtype == torch.float32
    with torch.no_grad():
        layer.parametrizations.weight.original.copy_(torch.tensor([0.125]))
    save(layer, tmp_path / "it", rest="float16")
    tensors = load_file(tmp_path / "it")
    assert tensors["weight:centers"].dtype == tensors["bias"].dtype == torch.float16
    found = load(tmp_path / "it", nn.Linear(4, 3))
    assert torch.equal(found.bias, layer.bias.half().float())


def test_what_half_precision_cannot_hold_is_not_saved_in_it(tmp_path):
    model = shared()
    model.normalization.running_var[2] = 1e5
    with pytest.raises(ValueError, match=r"normalization.running_var holds 100000, which float16"):
        save(model, tmp_path / "it", rest="float16")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda model: torch.compile(model)])
def test_a_wrapped_model_has_the_file_of_the_model(wrap, path, tmp_path):
    save(wrap(shared()), tmp_path / "it")
    assert describe(tmp_path / "it")[:-2] == describe(path)[:-2]
    wrapped = wrap(Network(seed=1))
    assert load(tmp_path / "it", wrapped) is wrapped
    expected = load(path, Network(seed=1)).state_dict()
    for name, tensor in wrapped.state_dict().items():
        assert torch.equal(
            tensor, expected[name.removeprefix("module.").removeprefix("_orig_mod.")]
        )


def test_the_size_table_adds_up(path):
    rows = {row["layer"]: row for row in describe(path)}
    whole = rows.pop("the whole file")
    scopes = [rows.pop(name) for name in ("all convolutions", "all layers")]
    layers = [row for row in rows.values() if row.get("n_weights")]
    for scope, parts in zip(scopes, ([rows["convolution"], rows["up"]], layers), strict=True):
        assert scope["n_weights"] == sum(row["n_weights"] for row in parts)
        assert scope["bytes"] == sum(row["bytes"] for row in parts)
        assert scope["ratio"] == pytest.approx(4 * scope["n_weights"] / scope["bytes"])
    assert whole["bytes"] == path.stat().st_size == sum(row["bytes"] for row in rows.values())
    up = rows["up"]
    assert (up["n_weights"], up["n_clusters"], up["coding"]) == (4 * 6 * 9, 8, "3 bits")
    assert (up["bytes_before"], up["label_bytes"], up["codebook_bytes"]) == (864, 81, 32)
    assert up["ratio"] == pytest.approx(864 / 113)
    assert up["bits_per_weight"] == pytest.approx(8 * 113 / 216)
    assert about(path) == "a network"


def test_the_size_table_as_text(path):
    names, first, *rest = size_table(path).splitlines()
    assert names.split()[:4] == ["layer", "n_weights", "n_clusters", "coding"]
    assert first.split()[:5] == ["convolution", "36", "8", "3", "bits"]
    assert f"{path.stat().st_size:,}" in rest[-1]


def test_nothing_to_save(tmp_path):
    with pytest.raises(ValueError, match="share_weights first"):
        save(Network(), tmp_path / "it")
    with pytest.raises(ValueError, match="rest='float8' is unknown"):
        save(shared(), tmp_path / "it", rest="float8")
    assert not list(tmp_path.iterdir())


class Untied(Network):
    def __init__(self):
        super().__init__()
        self.head.weight = nn.Parameter(self.head.weight.detach().clone())


class Wider(Network):
    def __init__(self):
        super().__init__()
        self.up = nn.ConvTranspose2d(4, 6, 5)


class Longer(Network):
    def __init__(self):
        super().__init__()
        self.more = nn.Linear(2, 2)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Untied, "head.weight is tied|is tied to"),
        (Wider, r"up.weight is float32 \[4, 6, 3, 3\], the model's float32 \[4, 6, 5, 5\]"),
        (Longer, "lacks .*more.bias"),
        (lambda: Network().double(), "the model's float64"),
        (lambda: shared(), "does not fit the model"),
    ],
)
def test_a_model_that_it_does_not_fit_stays_as_it_was(path, model, message):
    model = model()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(FileError, match=message):
        load(path, model)
    assert_equal_states(model.state_dict(), before)


def test_no_file_and_no_model_file(tmp_path):
    with pytest.raises(FileError, match=r"cannot read .*missing"):
        load(tmp_path / "missing", Network())
    (tmp_path / "text").write_text("hello")
    with pytest.raises(FileError, match="not a whole compressed model"):
        load(tmp_path / "text", Network())
    save_file({"a": torch.zeros(3)}, tmp_path / "other")
    with pytest.raises(FileError, match="not of a compressed model"):
        load(tmp_path / "other", Network())


def rewritten(path, target, change):
    """A copy of a file with another header and matching checksums: hostile, not damaged."""
    from lib.compression import container as module

    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__")
    content = json.loads(metadata["content"])
    tensors = load_file(path)
    change(metadata, content, tensors)
    content["checksums"] = {name: module.checksum(name, t) for name, t in tensors.items()}
    metadata["content"] = json.dumps(content)
    metadata["checksum"] = module.digest(metadata["content"].encode())
    save_file(tensors, target, metadata)
    return target


def hostile(name):
    def version(metadata, content, tensors):
        metadata["version"] = "3"

    def huge(metadata, content, tensors):
        content["layers"]["up.weight"]["shape"] = [1 << 20, 1 << 19, 3, 3]

    def overflowing(metadata, content, tensors):
        content["layers"]["up.weight"]["shape"] = [1 << 62, 1 << 62]

    def negative(metadata, content, tensors):
        content["layers"]["up.weight"]["shape"] = [-4, -6, 3, 3]

    def beyond(metadata, content, tensors):
        tensors["up.weight:centers"] = tensors["up.weight:centers"][:5].clone()

    def short(metadata, content, tensors):
        tensors["up.weight:labels"] = tensors["up.weight:labels"][:-1].clone()

    def no_centers(metadata, content, tensors):
        tensors["up.weight:centers"] = torch.zeros(0)

    def path_trick(metadata, content, tensors):
        tensors["../../etc/passwd"] = torch.zeros(1)

    def dangling(metadata, content, tensors):
        content["same"]["head.weight"] = "nowhere"

    def channels(metadata, content, tensors):
        content["layers"]["up.weight"]["channels"] = [1, 0]

    def axis(metadata, content, tensors):
        del tensors["normalization.weight"]
        content["layers"]["normalization.weight"] = {
            "shape": [6],
            "dtype": "float32",
            "channels": [1, 1],
        }
        tensors["normalization.weight:centers"] = torch.zeros(6, 1)
        tensors["normalization.weight:labels"] = torch.zeros(0, dtype=torch.uint8)

    def alias_of_another_shape(metadata, content, tensors):
        del tensors["up.bias"]
        content["same"]["up.bias"] = "convolution.bias"

    def alias_that_broadcasts(metadata, content, tensors):
        del tensors["up.bias"]
        content["same"]["up.bias"] = "normalization.num_batches_tracked"

    def another_dtype(metadata, content, tensors):
        tensors["up.bias"] = tensors["up.bias"].long()

    def text(metadata, content, tensors):
        content["layers"] = "text"

    return locals()[name]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("version", "version 3 of the format; this program reads versions 1 and 2"),
        ("huge", "is impossible|the model's"),
        ("overflowing", "is impossible"),
        ("negative", "is impossible"),
        ("beyond", "beyond the codebook of 5"),
        ("short", "need"),
        ("no_centers", "centers of shape"),
        ("path_trick", "has .*passwd.*which the model lacks"),
        ("dangling", "does not have|lacks"),
        ("channels", "is impossible"),
        ("axis", "is impossible"),
        ("alias_of_another_shape", r"up.bias has shape \[4\], the model's \[6\]"),
        ("alias_that_broadcasts", r"up.bias has shape \[\], the model's \[6\]"),
        ("another_dtype", "up.bias is int64, the model's float32"),
        ("text", "not a whole compressed model"),
    ],
)
def test_hostile_files_are_refused(path, tmp_path, name, message):
    target = rewritten(path, tmp_path / "it", hostile(name))
    model = Network()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(FileError, match=message):
        load(target, model)
    assert_equal_states(model.state_dict(), before)


def test_every_truncation_is_refused(path, tmp_path):
    data = path.read_bytes()
    for length in range(0, len(data), 7):
        (tmp_path / "it").write_bytes(data[:length])
        with pytest.raises(FileError):
            load(tmp_path / "it", Network())


@pytest.mark.parametrize("n_files", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_changed_files_never_load_silently_wrong(path, tmp_path, n_files):
    data, rng = path.read_bytes(), random.Random(0)
    expected = load(path, Network(seed=1)).state_dict()
    model, refused = Network(seed=2), 0
    target = tmp_path / "it"
    tried = 0
    while tried < n_files:
        mutated = bytearray(data)
        for _ in range(rng.choice([1, 1, 1, 2, 5])):
            place = rng.randrange(len(mutated))
            kind = rng.randrange(3)
            if kind == 0:
                mutated[place] ^= 1 << rng.randrange(8)
            elif kind == 1:
                mutated[place] = rng.randrange(256)
            else:
                del mutated[place : place + rng.randrange(1, 9)]
        if bytes(mutated) == data:
            continue
        tried += 1
        target.write_bytes(mutated)
        try:
            found = load(target, model).state_dict()
        except FileError:
            refused += 1
        else:  # a space of the header that no one reads
            assert_equal_states(found, expected)
            model = Network(seed=2)
    assert refused > 0.98 * n_files


@pytest.mark.slow
def test_the_studys_network_is_saved_whole(tmp_path):
    """57 million weights, as many as AlexNet of ten classes has."""
    from lib.study.experiment.network import alexnet

    model = alexnet()
    torch.manual_seed(0)
    for module in model.classifier:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.005)
    shared = lib.share_weights(model, 8)
    size = save(shared.model, tmp_path / "it")
    found = load(tmp_path / "it", alexnet())
    assert_equal_states(found.state_dict(), plain_state(shared.model))
    assert size == (tmp_path / "it").stat().st_size < shared.bytes_after + 60_000


class Low(nn.Module):
    """A low-rank change of a weight."""

    def __init__(self, n):
        super().__init__()
        self.low, self.high = nn.Parameter(torch.ones(1, n)), nn.Parameter(torch.ones(n, 1))

    def forward(self, weight):
        """The weight, changed."""
        return weight + self.high @ self.low


@pytest.mark.parametrize("write", [save, export_onnx, export_coreml])
def test_a_weight_with_an_adapter_is_refused_by_name(tmp_path, write):
    model = lib.share_weights(nn.Sequential(nn.Linear(6, 6)), 4).model.eval()
    parametrize.register_parametrization(model[0], "weight", Low(6))
    path = tmp_path / "model.mlpackage"
    example = [] if write is save else [torch.ones(1, 6)]
    with pytest.raises(ValueError, match=r"0\.weight has a further parametrization, Low, that"):
        write(model, path, *example)
    assert not path.exists()
    expected = model(torch.eye(6))
    again = lib.share_weights(lib.plain_weights(model), 36).model  # its remedy
    torch.testing.assert_close(again(torch.eye(6)), expected)
    assert save(again, path) > 0


class Scalar(nn.Module):
    """A layer whose weight is one number."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.3))


def test_a_weight_without_axes_can_be_read_back(tmp_path):
    model = nn.Sequential(Scalar(), nn.Linear(3, 3))
    named = lib.share_weights(model, 1, layers=["0", "1"]).model
    for one in (named, lib.share_weights(model, 2).model):
        save(one, tmp_path / "model")
        assert describe(tmp_path / "model")
        again = load(tmp_path / "model", nn.Sequential(Scalar(), nn.Linear(3, 3)))
        assert torch.equal(again[0].weight, model[0].weight)


def test_a_model_on_the_meta_device_is_filled(path):
    with torch.device("meta"):
        model = Network()
        model.head.weight = model.embedding.weight
    found = load(path, model)
    assert_equal_states(found.state_dict(), plain_state(shared()))
    assert found.head.weight is found.embedding.weight
    assert isinstance(found.head.bias, nn.Parameter)


def test_what_no_file_holds_cannot_be_filled(path):
    with torch.device("meta"):
        model = Network()
        model.register_buffer("positions", torch.arange(9), persistent=False)
    with pytest.raises(FileError, match=r"does not hold \['positions'\], which the model has on"):
        load(path, model)
    assert model.head.bias.is_meta


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("stay_shared", [False, True])
def test_a_load_that_ends_halfway_changes_nothing(path, monkeypatch, stay_shared, error):
    model = Network(seed=1)
    before, parameters = copy.deepcopy(model.state_dict()), list(model.parameters())
    place = (parametrize, "register_parametrization") if stay_shared else (SharedWeight, "forward")
    function, calls = getattr(*place), []

    def halfway(*args, **options):
        calls.append(args)
        if len(calls) == 3:
            raise error("halfway")
        return function(*args, **options)

    monkeypatch.setattr(*place, halfway)
    with pytest.raises(error, match="halfway"):
        load(path, model, shared=stay_shared)
    assert_equal_states(model.state_dict(), before)
    assert [id(p) for p in model.parameters()] == [id(p) for p in parameters]
    assert type(model.head) is nn.Linear
    monkeypatch.undo()
    assert_equal_states(load(path, model).state_dict(), plain_state(shared()))


def test_loading_takes_a_walk_of_the_model_not_one_a_layer(tmp_path, monkeypatch):
    """Cost is linear in the number of layers."""
    model = nn.Sequential(*(nn.Linear(3, 3) for _ in range(100)))
    save(lib.share_weights(model, 2).model, tmp_path / "model")
    walks, named = [], nn.Module.named_modules

    def counted(module, *args, **options):
        walks.append(module)
        return named(module, *args, **options)

    monkeypatch.setattr(nn.Module, "named_modules", counted)
    load(tmp_path / "model", model)
    assert sum(walk is model for walk in walks) < 20


@pytest.mark.parametrize("value", [1e-8, 3e-7, 70_000.0])
def test_values_that_float16_would_lose_are_refused(tmp_path, value):
    model = shared()
    with torch.no_grad():
        model.normalization.weight[2] = value
    with pytest.raises(ValueError, match=f"normalization.weight holds {value:g}, which float16"):
        save(model, tmp_path / "model", rest="float16")
    assert not (tmp_path / "model").exists()
    save(model, tmp_path / "model")
    found = load(tmp_path / "model", Network())
    assert torch.equal(found.normalization.weight, model.normalization.weight)


def test_zero_and_what_is_not_finite_fit_float16(tmp_path):
    model = shared()
    with torch.no_grad():
        model.normalization.running_mean[:3] = torch.tensor([0.0, torch.inf, torch.nan])
    save(model, tmp_path / "model", rest="float16")
    found = load(tmp_path / "model", Network()).normalization.running_mean
    torch.testing.assert_close(found[:3], model.normalization.running_mean[:3], equal_nan=True)
