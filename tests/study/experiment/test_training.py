"""Training on a small classifier and made-up features: the real one has 54 million weights."""

import dataclasses
import re

import numpy as np
import pytest
import torch

from lib.study.experiment import training
from lib.study.experiment.training import TrainingConfig, initialize, rate
from lib.study.tables import TABLES

N_FEATURES = 20
CONFIG = TrainingConfig(epochs=2, batch_size=16, peak_rate=1.0, n_images=16, n_held_out=10)


def classifier(width=50, hidden=40):
    """AlexNet's classifier, narrower."""
    return torch.nn.Sequential(
        torch.nn.Dropout(),
        torch.nn.Linear(N_FEATURES, width),
        torch.nn.ReLU(),
        torch.nn.Dropout(),
        torch.nn.Linear(width, hidden),
        torch.nn.ReLU(),
        torch.nn.Linear(hidden, 10),
    )


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.classifier = classifier()


@pytest.fixture
def features(monkeypatch):
    """Replace the cached features by random ones, all of class 3."""

    def made_up(split, n_images):
        generator = torch.Generator().manual_seed(len(split))
        values = torch.rand(n_images, N_FEATURES, generator=generator)
        return values.half(), torch.full((n_images,), 3)

    monkeypatch.setattr(training, "cached_features", made_up)


@pytest.fixture
def cache(tmp_path, monkeypatch, features):
    """An empty cache, for small networks."""
    monkeypatch.setattr(training, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(training, "alexnet", lambda: Network().eval().requires_grad_(False))
    monkeypatch.setenv("RESULTS", str(tmp_path / "results"))
    return tmp_path / "cache"


def states_equal(one, other):
    one, other = one.state_dict(), other.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_rate_warms_up_stays_and_falls_to_0():
    assert [rate(step, 100) for step in (0, 1, 9, 19)] == pytest.approx([0.05, 0.1, 0.5, 1])
    assert [rate(step, 100) for step in (20, 35, 50)] == [1, 1, 1]
    assert [rate(step, 100) for step in (51, 75, 99)] == pytest.approx([0.98, 0.5, 0.02])


def test_rate_of_a_short_training_never_exceeds_the_schedule():
    assert [rate(step, 2) for step in (0, 1)] == pytest.approx([1 / 20, 2 / 20])
    assert [rate(step, 20) for step in (9, 12, 15, 19)] == pytest.approx([0.5, 0.65, 0.5, 0.1])


@pytest.mark.parametrize("kind", ["normal", "torch"])
def test_initial_weights_depend_on_the_seed_alone(kind):
    made, generator = [], torch.get_rng_state()
    for seed in (1, 1, 2):
        made.append(classifier())
        torch.rand(seed)
        initialize(made[-1], TrainingConfig(seed, kind))
    assert states_equal(made[0], made[1])
    assert not states_equal(made[0], made[2])
    torch.set_rng_state(generator)
    initialize(made[0], TrainingConfig(1, kind))
    assert torch.equal(torch.get_rng_state(), generator)


def test_normal_weights_have_the_stated_spread_and_no_bias():
    wide = torch.nn.Sequential(*classifier(500, 500))
    initialize(wide, TrainingConfig())
    for index, std in ((1, 0.005), (4, 0.005), (6, 0.01)):
        weight = wide[index].weight
        n = weight.numel()
        assert weight.std().item() == pytest.approx(std, rel=4 / np.sqrt(2 * n))
        assert abs(weight.mean().item()) < 4 * std / np.sqrt(n)
        assert not wide[index].bias.any()


def test_torchs_weights_are_uniform_and_torchs_own():
    made, expected = classifier(), classifier()
    initialize(made, TrainingConfig(3, "torch"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        for index in (1, 4, 6):
            expected[index].reset_parameters()
    assert states_equal(made, expected)


def test_unknown_initializer_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'zeros'.*'normal' or 'torch'"):
        initialize(classifier(), TrainingConfig(initializer="zeros"))


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(TrainingConfig)])
def test_every_field_changes_the_key(field):
    value = getattr(CONFIG, field)
    changed = dataclasses.replace(
        CONFIG, **{field: "torch" if field == "initializer" else value + 1}
    )
    assert changed.key != CONFIG.key
    assert dataclasses.replace(changed, **{field: value}).key == CONFIG.key


def test_training_lowers_the_loss_and_is_deterministic(features):
    trained = [classifier() for _ in range(3)]
    config = dataclasses.replace(CONFIG, epochs=4)
    histories = [training.train_classifier(each, config) for each in trained[:2]]
    first, again = ([{**row, "seconds": 0} for row in history] for history in histories)
    assert first == again
    assert states_equal(trained[0], trained[1])
    assert [row["epoch"] for row in first] == [1, 2, 3, 4]
    assert first[-1]["train_loss"] < first[0]["train_loss"]
    assert first[-1]["held_out_top1"] == 100  # the only class
    training.train_classifier(trained[2], dataclasses.replace(config, seed=1))
    assert not states_equal(trained[0], trained[2])


def test_trained_classifier_is_frozen_on_the_cpu_in_evaluation_mode(features):
    trained = classifier()
    generator = torch.get_rng_state()
    training.train_classifier(trained, CONFIG)
    assert torch.equal(torch.get_rng_state(), generator)
    assert not trained.training
    for parameter in trained.parameters():
        assert not parameter.requires_grad
        assert parameter.device.type == "cpu"
        assert parameter.dtype == torch.float32


def test_decay_is_of_fc6_and_fc7_in_the_first_half_only(features):
    # Without a learning rate nothing else moves the weights: 2 of 4 steps take off a tenth.
    config = dataclasses.replace(CONFIG, epochs=4, peak_rate=0.0, decay=0.1)
    trained, initial = classifier(), classifier()
    initialize(initial, config)
    training.train_classifier(trained, config)
    for index, share in ((1, 0.81), (4, 0.81), (6, 1)):
        assert torch.allclose(trained[index].weight, share * initial[index].weight, rtol=1e-5)


def test_history_is_of_the_table(cache):
    _, history = training.trained_network(CONFIG)
    assert len(history) == CONFIG.epochs
    extra = {"network", "seed", "initializer", "test_top1"}
    assert all(set(row) | extra == set(TABLES["training"].columns) for row in history)


def test_checkpoint_is_reused(cache, monkeypatch):
    network, history = training.trained_network(CONFIG)
    (checkpoint,) = (cache / "networks").iterdir()
    assert checkpoint.name == f"normal-0-{CONFIG.key}.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr(training, "train_classifier", lambda *_: pytest.fail("trained again"))
        again, same = training.trained_network(CONFIG)
    assert states_equal(network, again)
    assert history == same
    checkpoint.unlink()
    anew, _ = training.trained_network(CONFIG)
    assert states_equal(network, anew)


def test_another_configuration_has_another_checkpoint(cache):
    training.trained_network(CONFIG)
    training.trained_network(dataclasses.replace(CONFIG, decay=0.5))
    assert len(list((cache / "networks").iterdir())) == 2


def test_networks_of_an_experiment_are_recorded_in_order(cache):
    changes = ({}, {"seed": 1}, {"initializer": "torch"})
    configs = [dataclasses.replace(CONFIG, **change) for change in changes]
    training.save_configs("toy", configs)
    loaded = training.load_networks("toy")
    assert list(loaded) == ["normal-0", "normal-1", "torch-0"]
    for config in configs:
        assert states_equal(loaded[config.name], training.trained_network(config)[0])


def test_missing_networks_are_reported_with_the_remedy(cache):
    with pytest.raises(FileNotFoundError, match=re.escape("networks.json of 'toy' is missing")):
        training.load_networks("toy")


def test_statistics_say_how_much_of_the_initializer_is_left(cache):
    network = Network()
    initialize(network.classifier, CONFIG)
    network.requires_grad_(False)
    rows = training.weight_statistics(network, CONFIG)
    assert [row["layer"] for row in rows] == ["fc6", "fc7", "fc8"]
    for row, index in zip(rows, (1, 4, 6), strict=True):
        assert tuple(row) == TABLES["layers"].columns
        weight = network.classifier[index].weight.numpy()
        assert row["n_weights"] == weight.size
        assert row["std"] == pytest.approx(weight.std(dtype=float), rel=1e-6)
        assert row["correlation_with_init"] == pytest.approx(1)
    other = training.weight_statistics(network, dataclasses.replace(CONFIG, seed=1))
    assert all(abs(row["correlation_with_init"]) < 0.2 for row in other)


def test_excess_kurtosis_of_two_equal_peaks_is_minus_2(cache):
    network = Network().requires_grad_(False)
    for index in (1, 4, 6):
        weight = network.classifier[index].weight
        weight.view(-1).copy_(torch.tensor([1.0, -1.0]).repeat(weight.numel() // 2))
    rows = training.weight_statistics(network, CONFIG)
    assert [row["kurtosis"] for row in rows] == pytest.approx([-2, -2, -2])
    assert [row["std"] for row in rows] == pytest.approx([1, 1, 1])


def test_features_are_extracted_once(tmp_path, monkeypatch):
    calls = []

    def extracted(convolutions, pixels, title):
        calls.append(title)
        return torch.ones(len(pixels), 5)

    monkeypatch.setattr(training, "CACHE", tmp_path)
    monkeypatch.setattr(training, "extract_features", extracted)
    features, labels = training.cached_features("held-out", 20)
    again, _ = training.cached_features("held-out", 20)
    assert calls == ["features of held-out"]
    assert features.dtype == torch.float16
    assert torch.equal(features, again)
    assert labels.bincount().tolist() == [2] * 10
    training.cached_features("held-out", 10)
    assert len(calls) == 2


def test_rows_are_of_every_epoch_and_the_last_has_the_test_accuracy(cache):
    configs = [CONFIG, dataclasses.replace(CONFIG, seed=1)]
    networks = training.train_networks("toy", configs)
    assert list(networks) == list(training.load_networks("toy")) == ["normal-0", "normal-1"]
    rows = training.training_rows(configs, {"normal-0": 80.0, "normal-1": 70.0})
    assert [(row["network"], row["epoch"], row["test_top1"]) for row in rows] == [
        ("normal-0", 1, None),
        ("normal-0", 2, 80.0),
        ("normal-1", 1, None),
        ("normal-1", 2, 70.0),
    ]
    assert all(set(row) == set(TABLES["training"].columns) for row in rows)
    layers = training.layer_rows(networks, configs)
    assert [row["network"] for row in layers] == ["normal-0"] * 3 + ["normal-1"] * 3


def test_networks_differ_in_what_is_given_by_name():
    given = [{"initializer": "torch", "seed": 3}, {"seed": 4, "initializer": "normal"}]
    configs = training.training_configs(given, epochs=2, n_images=16)
    assert configs == [
        TrainingConfig(3, "torch", 2, n_images=16),
        TrainingConfig(4, "normal", 2, n_images=16),
    ]


def test_networks_of_one_name_are_refused():
    with pytest.raises(ValueError, match="networks normal-0, normal-0: no two may have the same"):
        training.training_configs([{"seed": 0}, {"seed": 0, "initializer": "normal"}])
