"""Ways to compress the study's network: bits as asked for, files that are what was evaluated."""

import copy
import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from lib import Prepared, compression, share_weights
from lib.study.experiment.data import load_convolutions
from lib.study.experiment.frontier import (
    Compressor,
    keep_headline,
    recipe_rows,
    retrained_rows,
    uniform_at_bits,
)
from lib.study.experiment.network import LAYERS, SCOPES, prepare
from lib.study.experiment.recipes import Recipe, Retraining, choose, headline


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
    assert recipe.file_key("conv") == other.file_key("conv")
    assert recipe.file_key("all") != other.file_key("all")
    pruned, plain = (Recipe(cells, 4, 4, corrected=True) for cells in ("pruned", "k-means"))
    assert pruned.file_key("conv") == plain.file_key("conv")  # only the classifier is pruned
    assert pruned.file_key("all") != plain.file_key("all")
    with pytest.raises(ValueError, match="cells='k-mean' is unknown: choose from k-means"):
        Recipe("k-mean", 3, 3, corrected=False)


@pytest.fixture(scope="module")
def compressor(narrow):
    return Compressor(narrow, "toy", n_calibration=20, n_images=30, n_train=60)


def test_a_row_is_of_a_file_that_computes_what_was_evaluated(compressor, narrow):
    model, seconds = compressor.compressed(Recipe("k-means", 3, 3, corrected=True), "conv")
    row = compressor.row(model, "conv", "k-means, corrected", seconds)
    found = compression.load(compressor.folder / row["file"], copy.deepcopy(narrow))
    for layer in LAYERS:
        weight, before = (n.get_submodule(LAYERS[layer]).weight for n in (found, narrow))
        assert torch.equal(weight, before) == (layer not in SCOPES["conv"])
    with torch.inference_mode():
        images = compressor.images["test"]
        right = found(prepare(images.pixels)).argmax(1) == images.labels
    assert row["top1"] == pytest.approx(100 * right.double().mean().item())
    assert row["ratio"] == pytest.approx(32 / row["bits_per_weight"])
    assert 32 / 3 < row["ratio"] < 13  # entropy-coded below three bits
    assert row["low"] < row["top1"] < row["high"]
    assert compressor.float_row("conv")["bytes"] == 4 * sum(
        narrow.get_submodule(LAYERS[layer]).weight.numel() for layer in SCOPES["conv"]
    )


def test_one_price_of_a_bit_for_convolutions_and_classifier(compressor, narrow):
    recipe = Recipe("compress", multiplier=1e-9)
    convolutions, _ = compressor.compressed(recipe, "conv")
    whole, seconds = compressor.compressed(recipe, "all")
    assert seconds > 0
    for layer in SCOPES["all"]:
        ours, theirs, before = (
            m.get_submodule(LAYERS[layer]).weight for m in (whole, convolutions, narrow)
        )
        assert torch.equal(ours, theirs) == layer.startswith("conv")
        assert torch.equal(theirs, before) != layer.startswith("conv")
    row = compressor.row(whole, "all", recipe.method, seconds)
    assert row["method"] == "compress"
    found = compression.load(compressor.folder / row["file"], copy.deepcopy(narrow))
    assert torch.equal(found.classifier[1].weight, whole.classifier[1].weight)
    apart = Recipe("compress", multiplier=1e-9, linear_multiplier=1e-6)
    assert recipe.file_key("conv") == apart.file_key("conv")
    assert recipe.file_key("all") != apart.file_key("all")
    dearer, _ = compressor.compressed(apart, "all")
    assert torch.equal(dearer.features[0].weight, whole.features[0].weight)
    assert compressor.row(dearer, "all", "x", 1.0)["bytes"] < row["bytes"]


@pytest.mark.parametrize(
    "fields",
    [
        {"cells": "compress"},
        {"cells": "compress", "multiplier": 1e-5, "conv_bits": 3},
        {"cells": "k-means", "conv_bits": 3},
        {"cells": "k-means", "conv_bits": 3, "linear_bits": 3, "multiplier": 1e-5},
        {"cells": "compensated", "conv_bits": 3, "linear_bits": 3, "corrected": True},
    ],
)
def test_a_recipe_takes_bits_or_a_price(fields):
    message = "compress takes multipliers|takes conv_bits and linear|are always corrected"
    with pytest.raises(ValueError, match=message):
        Recipe(**fields)


def test_compensated_cells_have_fixed_bits_and_nearer_outputs(compressor, narrow):
    recipe = Recipe("compensated", 2, 2)
    model, _ = compressor.compressed(recipe, "all")
    plain, _ = compressor.compressed(Recipe("k-means", 2, 2), "all")
    for path in LAYERS.values():
        shared = model.get_submodule(path).parametrizations.weight
        assert len(shared.original) <= 4 and shared[0].scale is not None
    pixels = prepare(compressor.images["test"].pixels)
    with torch.inference_mode():
        wanted = narrow(pixels)
        errors = [(m(pixels) - wanted).square().mean() for m in (model, plain)]
    assert errors[0] < errors[1] / 2
    assert compressor.compressed(recipe, "all")[0] is model  # the last one is kept


@pytest.mark.slow
def test_retraining_leaves_the_convolutions_and_prunes_the_classifier(compressor):
    retraining = Retraining("entropy-constrained", 3, 0.2, 1, "classifier")
    model, _ = compressor.retrained(retraining)
    plain, _ = compressor.compressed(retraining.recipe, "conv")
    for layer in SCOPES["all"]:
        ours, theirs = (m.get_submodule(LAYERS[layer]).weight for m in (model, plain))
        assert torch.equal(ours, theirs) == layer.startswith("conv")
    weight = model.get_submodule(LAYERS["fc6"]).weight
    assert (weight == 0).float().mean() > 0.9
    assert len(np.unique(weight.detach().numpy())) < 200


def test_a_classifier_trains_through_behind_convolutions_of_compress(compressor):
    retraining = Retraining("entropy-constrained", None, 0.2, 1, "classifier", multiplier=1e-9)
    model, _ = compressor.retrained(retraining)
    plain, _ = compressor.compressed(Recipe("compress", multiplier=1e-9), "conv")
    for layer in SCOPES["all"]:
        ours, theirs = (m.get_submodule(LAYERS[layer]).weight for m in (model, plain))
        assert torch.equal(ours, theirs) == layer.startswith("conv")
    assert retraining.method == "compress, trained through" and retraining.prunes
    whole = dataclasses.replace(retraining, trained="all")
    model, _ = compressor.retrained(whole)
    centers, _ = compressor.retrained(
        Retraining("compress", None, None, 1, "conv", multiplier=1e-9)
    )
    for layer in SCOPES["conv"]:  # whose centers were trained before
        ours, theirs, before = (
            m.get_submodule(LAYERS[layer]).weight for m in (model, centers, plain)
        )
        assert torch.equal(ours, theirs) and not torch.equal(ours, before)
    assert (model.get_submodule(LAYERS["fc6"]).weight == 0).float().mean() > 0.8
    assert whole.method == "compress, all trained through"
    assert list(whole.layers) == ["fc6", "fc7", "fc8"]
    kept, seconds = compressor._before(whole)
    again, same = compressor._before(dataclasses.replace(whole, linear_bits=0.1))
    assert again is kept and same == seconds > 0  # of the first time, though it was kept
    for trained, more in (("conv", {}), ("classifier", {"linear_multiplier": 1e-8})):
        with pytest.raises(ValueError, match="takes conv_bits and linear_bits"):
            Retraining("entropy-constrained", None, 0.2, 1, trained, multiplier=1e-9, **more)


@pytest.mark.parametrize("trained", ["classifier", "conv"])
@pytest.mark.parametrize("cells", ["compress", "compensated"])
def test_centers_of_calibrated_cells_train_and_labels_stay(compressor, cells, trained):
    bits, price = ((None, None), 1e-9) if cells == "compress" else ((2, 2), None)
    init = "linear" if cells == "compress" else None
    retraining = Retraining(cells, *bits, 1, trained, multiplier=price, init=init)
    scope = retraining.scope
    plain, _ = compressor.compressed(retraining.recipe, scope)
    before = {layer: plain.get_submodule(LAYERS[layer]).weight.detach() for layer in SCOPES["all"]}
    model, _ = compressor.retrained(retraining)
    for layer in SCOPES["all"]:
        weight = model.get_submodule(LAYERS[layer]).weight.detach()
        moved = layer in retraining.layers
        assert torch.equal(weight, before[layer]) != moved
        assert torch.equal(plain.get_submodule(LAYERS[layer]).weight.detach(), before[layer])
    rows = [compressor.row(made, scope, "x", 1.0) for made in (plain, model)]
    assert rows[1]["bytes"] == pytest.approx(rows[0]["bytes"], rel=0.02)
    assert retraining.method.startswith(cells) and not retraining.prunes


def test_whole_networks_train_on_pixels(compressor, narrow):
    retraining = Retraining("entropy-constrained", 2, 4, 1, "conv")
    model, _ = compressor.retrained(retraining)
    alike, _ = compressor.trained_float(retraining)
    for layer in SCOPES["all"]:
        before, shared, floats = (
            m.get_submodule(LAYERS[layer]).weight.detach() for m in (narrow, model, alike)
        )
        assert torch.equal(before, shared) == torch.equal(before, floats) == (layer[:2] == "fc")
        assert (len(shared.unique()) < 200) == layer.startswith("conv")
    row = compressor.row(model, "conv", retraining.method, 1.0, retrained=True, pruned=True)
    assert row["method"] == "all trained through"
    assert row["bits_per_weight"] < 2.6


def test_pruned_weights_stay_nine_in_ten(compressor):
    model, _ = compressor.retrained(Retraining("pruned", 4, 4, 1, "classifier"))
    for layer in ("fc6", "fc7"):
        weight = model.get_submodule(LAYERS[layer]).weight.detach()
        assert 0.9 <= (weight == 0).double().mean() < 0.901
        assert len(weight.unique()) <= 16


def test_a_retraining_says_what_it_is():
    whole = Retraining("entropy-constrained", 2, 0.1, 3, "all")
    assert (whole.scope, whole.method, len(whole.layers)) == ("all", "all trained through", 8)
    head = Retraining("pruned", 4, 4, 1, "classifier")
    assert (head.scope, head.method) == ("all", "pruned, trained through")
    assert list(head.layers) == ["fc6", "fc7", "fc8"]
    assert Retraining("pruned", 4, 4, 1, "conv").scope == "conv"
    assert Retraining("k-means", 3, 3, 1, "all").method == "k-means, all trained through"
    assert [whole.prunes, head.prunes] == [True, True]
    assert not Retraining("k-means", 3, 3, 1, "all").prunes
    assert not Retraining("entropy-constrained", 4, 4, 1, "conv").prunes
    with pytest.raises(ValueError, match="trained='head' is unknown: choose from classifier, conv"):
        Retraining("pruned", 4, 4, 1, "head")
    with pytest.raises(ValueError, match="cells='uniform' is unknown"):
        Retraining("uniform", 4, 4, 1, "all")


def test_the_smallest_good_file_of_each_kind_is_chosen():
    rows = pd.DataFrame(
        [
            ("all", False, 30, 0.6, "a"),  # loses too much
            ("all", False, 40, 0.5, "b"),
            ("all", False, 50, 0.1, "c"),
            ("all", True, 10, 0.2, "d"),
            ("conv", False, 5, -0.3, "e"),
            ("conv", False, 4, 0.0, None),  # no file
        ],
        columns=["scope", "retrained", "bytes", "held_out_drop", "file"],
    )
    found = choose(rows)
    assert found["file"].tolist() == ["a", "b", "c", "d", "e"]
    assert found["chosen"].tolist() == [False, True, False, True, True]
    assert headline(rows.drop(columns="held_out_drop"), found, "all") == "d"
    none = found.assign(chosen=False)
    assert headline(rows.drop(columns="held_out_drop"), none, "all") == "c"  # the most accurate


class FakeCompressor:
    """Notes what it is asked to make."""

    def __init__(self):
        self.made = []

    def compressed(self, recipe, scope):
        self.made.append((recipe, scope))
        return recipe, 1.0

    def retrained(self, retraining):
        return retraining, 2.0

    def trained_float(self, retraining):
        return retraining, 3.0

    def row(self, model, scope, method, seconds, *, retrained=False, pruned=False):
        return {"scope": scope, "method": method, "ratio": 8.0, "top1_drop": 0.5, "pruned": pruned}

    def float_row(self, scope, model=None, seconds=None):
        return {"scope": scope, "method": "float", "of": model}


def test_recipes_that_make_the_same_file_have_one_row():
    compressor = FakeCompressor()
    recipes = [
        Recipe("entropy-constrained", 3, 0.4, corrected=True),
        Recipe("entropy-constrained", 3, 0.8, corrected=True),  # the same convolutions
        Recipe("pruned", 4, 4, corrected=False),
    ]
    rows = recipe_rows(compressor, recipes, ["conv", "all"])
    assert [(row["scope"], row["method"]) for row in rows[:2]] == [
        ("conv", "float"),
        ("all", "float"),
    ]
    first, second, pruned = recipes
    assert compressor.made == [
        (first, "conv"),
        (first, "all"),
        (second, "all"),
        (pruned, "conv"),
        (pruned, "all"),
    ]
    assert [row["pruned"] for row in rows[2:]] == [False, False, False, True, True]


def test_a_float_network_is_trained_beside_the_first_file_of_a_scope():
    retrainings = [
        Retraining("pruned", 4, 4, 1, "classifier"),
        Retraining("compensated", 3, 3, 1, "all"),  # whose centers train
        Retraining("k-means", 3, 3, 1, "all"),
        Retraining("k-means", 2, 2, 2, "all"),
        Retraining("k-means", 4, 4, 1, "conv"),
    ]
    rows = retrained_rows(FakeCompressor(), retrainings, ["all"])
    whole = "k-means, all trained through"
    assert [row["method"] for row in rows] == [
        "pruned, trained through",
        "compensated, all centers trained",
        whole,
        "float",
        whole,
        whole,
    ]
    assert rows[3]["of"] is retrainings[2]


def test_the_headline_file_is_kept_and_described(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS", str(tmp_path))
    shared = share_weights(torch.nn.Sequential(torch.nn.Linear(64, 64)), 4).model
    path = tmp_path / "toy/files/some.safetensors"
    path.parent.mkdir(parents=True)
    compression.save(shared, path)
    rows = keep_headline("toy", path.name)
    assert (tmp_path / "toy/headline/alexnet.safetensors").read_bytes() == path.read_bytes()
    assert {row["file"] for row in rows} == {"some.safetensors"}
    assert [row["layer"] for row in rows][-1] == "the whole file"
    assert rows[-1]["bytes"] == path.stat().st_size
