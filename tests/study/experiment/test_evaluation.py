"""Settings, codebooks, and predictions of an untrained network on four images."""

import numpy as np
import pytest
import torch

import lib
from lib.evaluation import wilson_interval
from lib.study.experiment import evaluation as module
from lib.study.experiment import network as network_module
from lib.study.experiment.data import Images
from lib.study.experiment.evaluation import (
    Codebooks,
    Evaluation,
    Setting,
    accuracy_row,
    accuracy_rows,
    float_top1,
    layer_sizes,
    settings,
    shared_bytes,
)
from lib.study.experiment.network import LAYERS, SCOPES, alexnet, extract_features, prepare
from lib.study.tables import TABLES
from lib.vision import torchvision

N_IMAGES = 4


@pytest.fixture(scope="module", autouse=True)
def in_float32():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network_module, "precision", lambda: torch.float32)
        yield


@pytest.fixture(scope="module")
def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return alexnet()


@pytest.fixture(scope="module")
def evaluation(network):
    return Evaluation({"untrained": network}, N_IMAGES)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CACHE", tmp_path)
    return tmp_path


@pytest.fixture
def extractions(monkeypatch):
    """A list that grows at every extraction of features."""
    calls = []

    def counted(*arguments):
        calls.append(len(arguments[1]))
        return extract_features(*arguments)

    monkeypatch.setattr(module, "extract_features", counted)
    return calls


def files(cache):
    return sorted(path.name for path in cache.rglob("*.safetensors"))


class TestSettings:
    def test_grid_is_the_product(self):
        grid = settings(["linear", "density"], [2, 3], [20, None], [0], [False, True])
        assert len(grid) == len(set(grid)) == 2 * 2 * 2 * 2
        assert {(s.bits, s.max_iter, s.revise) for s in grid if s.init == "linear"} == {
            (bits, budget, revise)
            for bits in (2, 3)
            for budget in (20, None)
            for revise in (False, True)
        }

    def test_seeds_are_for_the_random_initializations(self):
        grid = settings(lib.INITIALIZATIONS, [4], [None], [5, 6, 7])
        seeds = {init: [s.seed for s in grid if s.init == init] for init in lib.INITIALIZATIONS}
        assert seeds.pop("random") == seeds.pop("k-means++") == [5, 6, 7]
        assert set(map(tuple, seeds.values())) == {(5,)}

    def test_only_ours_is_revised_by_default(self):
        revised = {s.init for s in settings(lib.INITIALIZATIONS, [4], [None]) if s.revise}
        assert revised == {"weight-distribution"}

    def test_gamma_is_shown_only_where_it_is_read(self):
        grid = settings(["linear", "weight-distribution"], [4], [20], gamma=0.5)
        assert [s.row()["gamma"] for s in grid] == [None, 0.5]
        assert grid[1].row() == {
            "init": "weight-distribution",
            "bits": 4,
            "revise": True,
            "max_iter": 20,
            "seed": 0,
            "gamma": 0.5,
        }


def test_sizes_are_alexnets():
    sizes = layer_sizes()
    assert sum(sizes[name] for name in SCOPES["conv"]) == 2_468_544
    assert [sizes[name] for name in ("fc6", "fc7", "fc8")] == [37_748_736, 16_777_216, 40_960]


def test_bytes_by_hand():
    # 4 bits: two weights a byte, and five codebooks of 16 float32.
    assert shared_bytes("conv", 4) == 2_468_544 // 2 + 5 * 16 * 4
    # 3 bits: 23,232 / 8 * 3 + 32 in conv1, and so on; every size is a multiple of 8.
    assert shared_bytes("conv", 3) == 2_468_544 // 8 * 3 + 5 * 8 * 4
    assert shared_bytes("all", 8) == sum(layer_sizes().values()) + 8 * 256 * 4


def test_last_byte_is_rounded_up(monkeypatch):
    monkeypatch.setattr(module, "layer_sizes", lambda: dict.fromkeys(LAYERS, 3))
    assert shared_bytes("conv", 3) == 5 * (2 + 32)  # 9 bits take 2 bytes


class TestAccuracyRow:
    labels = torch.tensor([0, 1, 2, 3])
    first = torch.tensor([[0, 9, 8, 7, 6], [1, 9, 8, 7, 6], [9, 8, 7, 6, 2], [9, 8, 7, 6, 5]])
    floating = torch.tensor([[0, 9, 8, 7, 6], [1, 9, 8, 7, 6], [2, 9, 8, 7, 6], [9, 8, 7, 6, 5]])

    def test_percentages(self):
        setting = Setting("linear", 4, revise=False, max_iter=20)
        row = accuracy_row("net", "conv", setting, self.first, self.labels, self.floating, 1.5)
        assert set(row) == set(TABLES["accuracy"].columns)
        assert (row["top1"], row["top5"], row["top1_drop"]) == pytest.approx((50, 75, 25))
        assert (row["low"], row["high"]) == wilson_interval(2, 4)
        assert (row["n_images"], row["inertia"], row["gamma"]) == (4, 1.5, None)
        assert row["bytes"] == shared_bytes("conv", 4)
        assert row["ratio"] == pytest.approx(4 * 2_468_544 / shared_bytes("conv", 4))

    def test_float_network_has_no_setting(self):
        row = accuracy_row("net", "all", None, self.floating, self.labels, self.floating, 0.0)
        assert set(row) == set(TABLES["accuracy"].columns)
        assert (row["init"], row["bits"], row["revise"], row["seed"]) == ("float", None, None, None)
        assert (row["top1"], row["top1_drop"], row["ratio"]) == (75, 0, 1)
        assert row["bytes"] == 4 * sum(layer_sizes().values())


@pytest.mark.parametrize("revise", [False, True])
def test_shared_weights_are_those_of_cluster(network, revise):
    weight = network.features[0].weight
    codebooks = Codebooks(network, ["conv1"])
    setting = Setting("linear", 3, revise, max_iter=20)
    expected = lib.cluster(weight, 8, init="linear", revise=revise, max_iter=20)
    centers, inertia = codebooks.centers("conv1", setting)
    assert np.array_equal(centers, expected.centers.numpy())
    assert inertia == expected.inertia
    shared = codebooks.shared("conv1", centers)
    assert shared.dtype == weight.dtype
    assert torch.equal(shared, expected.centers.float()[expected.labels.int()])


@pytest.mark.parametrize(
    ("precision", "vectors", "tolerance"),
    [
        (torch.float32, "AVX2", 1e-5),
        (torch.float32, "AVX512", 1e-5),
        (torch.bfloat16, "AVX512", 1e-2),
    ],
)
def test_features_are_those_of_torchvisions_network(
    network, evaluation, monkeypatch, precision, vectors, tolerance
):
    monkeypatch.setattr("lib.study.experiment.network.precision", lambda: precision)
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: vectors)
    pixels = evaluation.images.pixels
    with torch.inference_mode():
        expected = network.avgpool(network.features(prepare(pixels))).flatten(1)
    features = extract_features(network.features, pixels)
    assert features.dtype == torch.float32
    assert features.shape == (N_IMAGES, 9216)
    assert (features - expected).norm() <= tolerance * expected.norm()


def test_prepared_images_are_resized_and_normalized():
    image = prepare(torch.full((1, 28, 28), 255, dtype=torch.uint8))
    assert image.shape == (1, 3, 224, 224)
    white = [(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225]
    for channel, value in zip(image[0], white, strict=True):
        assert channel.min().item() == pytest.approx(value, rel=1e-5)
        assert channel.max().item() == pytest.approx(value, rel=1e-5)


def test_float_predictions_are_torchvisions_own(network, evaluation, cache):
    plain = torchvision.models.alexnet(num_classes=10).eval()
    plain.load_state_dict(network.state_dict())
    with torch.inference_mode():
        expected = plain(prepare(evaluation.images.pixels))
    found = list(evaluation.run(None))
    assert [(name, scope) for name, scope, _, _ in found] == [
        ("untrained", "conv"),
        ("untrained", "all"),
    ]
    for _, _, top, inertia in found:
        assert top.dtype == torch.int64
        assert top.shape == (N_IMAGES, 5)
        assert torch.equal(top[:, 0], expected.argmax(1))
        assert inertia == 0
    assert len(files(cache)) == 1  # both scopes are the same network


def test_second_run_extracts_nothing(evaluation, cache, extractions):
    setting = Setting("linear", 1, revise=False, max_iter=1)
    ((_, _, first, _),) = evaluation.run(setting, ["conv"])
    assert extractions == [N_IMAGES]
    written = files(cache)
    ((_, _, again, _),) = evaluation.run(setting, ["conv"])
    assert extractions == [N_IMAGES]
    assert torch.equal(first, again)
    assert files(cache) == written
    assert len(written) == 1


def test_settings_with_the_same_codebooks_share_a_file(evaluation, cache, extractions):
    # Linear centers do not read the seed, and converge long before 10,000 iterations.
    for setting in (
        Setting("linear", 1, revise=False, max_iter=None, seed=0),
        Setting("linear", 1, revise=False, max_iter=10_000, seed=7),
    ):
        list(evaluation.run(setting, ["conv"]))
    assert len(files(cache)) == len(extractions) == 1
    list(evaluation.run(Setting("linear", 2, revise=False, max_iter=None), ["conv"]))
    assert len(files(cache)) == len(extractions) == 2


def test_shared_network_predicts_what_its_weights_say(network, evaluation, cache, extractions):
    setting = Setting("linear", 1, revise=False, max_iter=1)
    found = {scope: (top, inertia) for _, scope, top, inertia in evaluation.run(setting)}
    assert extractions == [N_IMAGES]  # one pass of the convolutions serves both scopes
    assert found["all"][1] > found["conv"][1] > 0
    plain = torchvision.models.alexnet(num_classes=10).eval().requires_grad_(False)
    plain.load_state_dict(network.state_dict())
    for scope, layers in (("conv", SCOPES["conv"]), ("all", ("fc6", "fc7", "fc8"))):
        for layer in layers:
            weight = plain.get_submodule(LAYERS[layer]).weight
            shared = lib.cluster(weight, 2, init="linear", revise=False, max_iter=1)
            weight.copy_(shared.centers.float()[shared.labels.int()])
        expected = plain(prepare(evaluation.images.pixels)).argmax(1)
        assert torch.equal(found[scope][0][:, 0], expected)
    # and the network that came in is as it was
    again = {scope: top for _, scope, top, _ in evaluation.run(None)}
    assert torch.equal(again["conv"], again["all"])


class Predicted:
    """Predictions of two networks on four images of class 1: each setting misses `bits` of them."""

    networks = ("a", "b")

    def __init__(self, networks=None, n_images=4):
        self.images = Images(None, torch.ones(n_images, dtype=torch.int64), "test")

    def run(self, setting, scopes=("conv", "all")):
        top = torch.ones(4, 5, dtype=torch.int64)
        if setting is not None:
            top[: setting.bits] = 0
        for network in self.networks:
            for scope in scopes:
                yield network, scope, top, 0.5


def test_rows_are_of_the_float_networks_and_every_setting():
    rows = accuracy_rows(Predicted(), settings(["linear"], [1, 2], [1]))
    assert [(row["bits"], row["network"], row["scope"], row["top1"]) for row in rows] == [
        (bits, network, scope, top1)
        for bits, top1 in ((None, 100), (1, 75), (2, 50))
        for network in ("a", "b")
        for scope in ("conv", "all")
    ]
    assert all(set(row) == set(TABLES["accuracy"].columns) for row in rows)
    assert all(row["top1_drop"] == 100 - row["top1"] for row in rows)


def test_float_networks_are_judged_by_name(monkeypatch):
    monkeypatch.setattr(module, "Evaluation", Predicted)
    assert float_top1({"a": None, "b": None}, 4) == {"a": 100, "b": 100}
