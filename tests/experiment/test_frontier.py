"""Ways to compress the study's network: bits as asked for, files that are what was evaluated."""

import numpy as np
import pytest
import torch

from lib import Prepared, compression
from lib.experiment.data import load_convolutions
from lib.experiment.frontier import Compressor, Recipe, uniform_at_bits
from lib.experiment.network import LAYERS, SCOPES, alexnet, prepare


@pytest.mark.parametrize("bits", [0.7, 2.0, 4.0])
def test_uniform_steps_fill_the_bits(bits):
    weight = load_convolutions()["features.3.weight"]
    cells = uniform_at_bits(Prepared(weight), bits)
    assert 0.97 * bits < cells.entropy <= bits


def test_a_recipe_says_its_bits_and_name():
    recipe = Recipe("entropy-constrained", 3, 0.2, corrected=True)
    assert recipe.method == "entropy-constrained, corrected"
    assert [recipe.bits(layer) for layer in ("conv1", "fc6", "fc8")] == [3, 0.2, 4]
    other = Recipe("entropy-constrained", 3, 0.4, corrected=True)
    assert recipe.of("conv") == other.of("conv")
    assert recipe.of("all") != other.of("all")
    pruned, plain = (Recipe(cells, 4, 4, corrected=True) for cells in ("pruned", "k-means"))
    assert pruned.of("conv") == plain.of("conv")  # only the classifier is pruned
    assert pruned.of("all") != plain.of("all")
    with pytest.raises(ValueError, match="cells='k-mean' is unknown: choose from k-means"):
        Recipe("k-mean", 3, 3, corrected=False)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    found = alexnet()
    for layer in ("fc6", "fc7", "fc8"):
        torch.nn.init.normal_(found.get_submodule(LAYERS[layer]).weight, std=0.005)
    return found


@pytest.fixture
def compressor(network, tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS", str(tmp_path))
    monkeypatch.setattr("lib.experiment.frontier.CACHE", tmp_path)
    return Compressor(network, "toy", n_calibration=20, n_images=30, n_train=60)


@pytest.mark.slow
def test_a_row_is_of_a_file_that_computes_what_was_evaluated(compressor, network, tmp_path):
    model, seconds = compressor.compressed(Recipe("k-means", 3, 3, corrected=True), "conv")
    row = compressor.row(model, "conv", "k-means, corrected", seconds)
    path = tmp_path / "toy" / "files" / row["file"]
    found = compression.load(path, alexnet())
    for layer in LAYERS:
        weight, before = (n.get_submodule(LAYERS[layer]).weight for n in (found, network))
        assert torch.equal(weight, before) == (layer not in SCOPES["conv"])
    with torch.inference_mode():
        right = found(prepare(compressor.images.pixels)).argmax(1) == compressor.images.labels
    assert row["top1"] == pytest.approx(100 * right.double().mean().item())
    assert row["ratio"] == pytest.approx(32 / row["bits_per_weight"])
    assert 32 / 3 < row["ratio"] < 13  # entropy-coded below three bits
    assert row["low"] < row["top1"] < row["high"]
    assert compressor.float_row("conv")["bytes"] == 4 * 2_468_544


@pytest.mark.slow
def test_retraining_leaves_the_convolutions_and_prunes_the_classifier(compressor):
    model, _ = compressor.retrained(3, 0.2, 1)
    plain, _ = compressor.compressed(Recipe("entropy-constrained", 3, 0.2, True), "conv")
    for layer in SCOPES["all"]:
        ours, theirs = (m.get_submodule(LAYERS[layer]).weight for m in (model, plain))
        assert torch.equal(ours, theirs) == layer.startswith("conv")
    weight = model.get_submodule(LAYERS["fc6"]).weight
    assert (weight == 0).float().mean() > 0.9
    assert len(np.unique(weight.detach().numpy())) < 200
