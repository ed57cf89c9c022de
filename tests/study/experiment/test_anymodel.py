"""Any model on any images: published accuracy first, batch normalization, rows."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from lib.evaluation import wilson_interval
from lib.images import ImagesError, imagenet_classes
from lib.models import resolve
from lib.preprocessing import preprocessing
from lib.study import tables
from lib.study.experiment import anymodel
from lib.study.experiment.anymodel import (
    AnyModel,
    Architecture,
    Pictures,
    model_rows,
    reestimate,
)
from lib.study.experiment.evaluation import settings
from lib.vision import torchvision


class Redness(nn.Module):
    """Tells red pictures from green ones by their mean color, through weights to be shared."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Conv2d(3, 8, 1)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 2, bias=False)
        with torch.no_grad():
            self.mix.weight.zero_()
            self.mix.weight[0, 0], self.mix.weight[1, 1] = 1.0, 1.0
            self.head.weight.zero_()
            self.head.weight[0, 0], self.head.weight[1, 1] = 1.0, 1.0

    def forward(self, images):
        return self.head(self.norm(self.mix(images)).mean((2, 3)))


def redness():
    return Redness().eval()


REDNESS = f"{__name__}:redness"


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr("lib.study.experiment.evaluation.CACHE", folder)
    return folder


@pytest.fixture
def judgements(monkeypatch):
    """A list that grows whenever a model goes over all images."""
    calls, judge = [], AnyModel._judge

    def counted(self, model):
        calls.append(model)
        return judge(self, model)

    monkeypatch.setattr(AnyModel, "_judge", counted)
    return calls


@pytest.fixture
def pictures(tmp_path):
    for name, color in (("0", (200, 30, 0)), ("1", (20, 210, 0))):
        (tmp_path / name).mkdir()
        for i in range(5):
            Image.new("RGB", (20, 20), color).save(tmp_path / name / f"{i}.png")
    return tmp_path


def test_rows_of_ones_own_model_and_images(pictures):
    judged = AnyModel(REDNESS, Pictures("folder", pictures, batch_size=4))
    assert judged.check_published() == (
        "top-1 100.00 %, not checked: none is published for these images; preprocessing: assumed: "
        "224 x 224 pixels, bilinear, mean (0.485, 0.456, 0.406), std (0.229, 0.224, 0.225)"
    )
    methods = ["k-means"]
    rows = list(judged.rows(settings(["linear", "optimal"], [1, 2], [10]), methods=methods))
    assert {tuple(sorted(row)) for row in rows} == {tuple(sorted(tables.TABLES["models"].columns))}
    assert [(row["init"], row["bits"]) for row in rows] == [
        (None, None),
        ("linear", 1),
        ("optimal", 1),
        ("linear", 2),
        ("optimal", 2),
    ]
    assert all(row["top1"] == row["top5"] == 100 for row in rows)


def test_random_initializations_have_a_row_for_each_seed(pictures):
    judged = AnyModel(REDNESS, Pictures("folder", pictures))
    grid = settings(["random", "linear"], [1], [None], [3, 4])
    found = [(row["init"], row["seed"]) for row in judged.rows(grid, methods=["k-means"])]
    assert found == [(None, None), ("random", 3), ("random", 4), ("linear", 3)]


class Wide(nn.Module):
    """Two classes of noise, through weights of which most matter little."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 32, 5, stride=4), nn.Conv2d(32, 64, 3, stride=4)
        self.head = nn.Linear(64, 2)

    def forward(self, images):
        """Scores."""
        hidden = torch.relu(self.second(torch.relu(self.first(images))))
        return self.head(hidden.mean((2, 3)))


@pytest.fixture
def noise(tmp_path):
    generator = np.random.default_rng(0)
    for name in "01":
        (tmp_path / name).mkdir()
        for i in range(20):
            pixels = generator.integers(0, 256, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    return tmp_path


def test_every_method_at_equal_bytes(noise):
    pictures = Pictures("folder", noise, n_images=16, n_calibration=24)
    judged = AnyModel("mine", pictures, Architecture(size=64), network=Wide().eval())
    assert judged.others
    grid = settings(["linear", "random"], [3], [None])
    rows = list(judged.rows(grid, compress_inits=["linear"]))
    assert {tuple(sorted(row)) for row in rows} == {tuple(sorted(tables.TABLES["models"].columns))}
    assert [(row["method"], row["init"]) for row in rows] == [
        ("float", None),
        ("k-means", "linear"),
        ("k-means", "random"),
        ("k-means by channel", "linear"),
        ("compress", None),
        ("compress", "linear"),
    ]
    first, _, by_channel, *compressed = rows[1:]
    assert by_channel["bytes"] <= first["bytes"]
    for row in compressed:
        # Of so few weights, a center more or less is up to a percent.
        assert row["bytes"] == pytest.approx(first["bytes"], rel=0.025)
        assert row["calibrated_on"] == "others"
    for row in rows[1:]:
        assert row["drop_low"] < row["top1_drop"] < row["drop_high"]
        assert row["beside"] == row["top1"] - first["top1"]


def test_few_images_are_judged_and_learned_from(noise):
    pictures = Pictures("folder", noise, n_images=30, n_calibration=11)
    judged = AnyModel("mine", pictures, Architecture(size=64), network=Wide().eval())
    assert not judged.others
    assert len(judged.calibration) == 11


def test_an_unknown_method_is_named(pictures):
    judged = AnyModel(REDNESS, Pictures("folder", pictures))
    with pytest.raises(ValueError, match=r"methods \['kmeans'\] are unknown: choose from k-means"):
        list(judged.rows([], methods=["kmeans"]))


@pytest.mark.parametrize("n_images", [None, 4, 10])
def test_the_first_images_are_of_all_classes(pictures, n_images):
    judged = AnyModel(REDNESS, Pictures("folder", pictures, n_images=n_images, batch_size=4))
    assert next(iter(judged.loader))[1].tolist() == [0, 1, 0, 1]


def test_an_interrupted_run_goes_on_where_it_stopped(pictures, judgements):
    network = redness()

    def run():
        judged = AnyModel("mine", Pictures("folder", pictures), network=network)
        grid = settings(["linear"], [1, 2], [None])
        rows = judged.rows(grid, methods=["k-means"], reestimated=1)
        return [{key: row[key] for key in row if key != "seconds"} for row in rows]

    first = run()
    assert len(judgements) == 3
    assert run() == first
    assert len(judgements) == 3
    Image.new("RGB", (20, 20), (0, 255, 0)).save(pictures / "0" / "4.png")
    assert run()[0]["top1"] == 90
    assert len(judgements) == 6


def test_code_that_changed_is_not_answered_from_the_cache(pictures, judgements, monkeypatch):
    network, forward = redness(), Redness.forward
    assert AnyModel("mine", Pictures("folder", pictures), network=network).right["top1"].all()
    monkeypatch.setattr(Redness, "forward", lambda self, images: -forward(self, images))
    assert not AnyModel("mine", Pictures("folder", pictures), network=network).right["top1"].any()
    assert len(judgements) == 2


def test_labels_beyond_the_outputs_are_refused(pictures):
    (pictures / "1").rename(pictures / "2")
    with pytest.raises(ImagesError, match="has 2 outputs, an image the label 2: give label_map"):
        AnyModel(REDNESS, Pictures("folder", pictures))


@pytest.mark.parametrize(
    ("published", "copies", "refused"),
    [
        (100.0, 1, False),
        (99.6, 1000, False),
        (99.0, 1000, True),
        (56.5, 1, False),  # ten images say little
        (56.5, 2, True),
    ],
)
def test_the_published_accuracy_is_met_or_the_run_ends(pictures, published, copies, refused):
    judged = AnyModel(REDNESS, Pictures("folder", pictures))
    judged.published = published
    judged.right = {name: right.repeat(copies) for name, right in judged.right.items()}
    judged.images = range(copies * len(judged.images))
    if refused:
        message = f"published are {published:.2f} %: the images, their labels"
        with pytest.raises(ImagesError, match=message):
            judged.check_published()
    else:
        assert f"published {published:.2f} %" in judged.check_published()


def test_what_torchvision_publishes():
    for name, top1 in {
        "alexnet": 56.522,
        "vgg16": 71.592,
        "resnet18": 69.758,
        "mobilenet_v3_small": 67.668,
    }.items():
        assert preprocessing(name, None, weights="IMAGENET1K_V1").published == top1
    assert preprocessing("package.module:function", None, size=224).published is None


def test_batch_normalization_is_taken_again(pictures):
    judged = AnyModel(REDNESS, Pictures("folder", pictures, batch_size=4))
    model = redness()
    before = model.norm.running_mean.clone()
    reestimate(model, judged.loader, 1)
    with torch.no_grad():
        inputs = next(iter(judged.loader))[0]
        expected = model.mix(inputs).mean((0, 2, 3))
    assert not torch.allclose(before, expected, atol=1e-2)
    torch.testing.assert_close(model.norm.running_mean, expected)
    assert not model.training


class Constant(nn.Module):
    """A thousand outputs, of which the first is always the largest."""

    def forward(self, images):
        return torch.eye(1000)[:1].expand(len(images), 1000)


@pytest.mark.parametrize(
    ("n_classes", "arch", "published"),
    [(1000, None, 69.758), (100, None, None), (1000, "resnet18", None)],
)
def test_published_is_what_is_of_all_classes_and_of_torchvisions_weights(
    tmp_path, monkeypatch, n_classes, arch, published
):
    monkeypatch.setattr(anymodel, "resolve", lambda *_, **__: Constant())
    for wnid, _ in imagenet_classes()[:n_classes]:
        (tmp_path / wnid).mkdir()
        Image.new("RGB", (4, 4)).save(tmp_path / wnid / "a.png")
    monkeypatch.setattr(anymodel, "SAMPLE", 1)
    monkeypatch.setattr(AnyModel, "_judge", lambda *_: {"top1": torch.zeros(n_classes) == 1})
    name = "my.safetensors" if arch else "resnet18"
    judged = AnyModel(name, Pictures("imagenet", tmp_path), Architecture(arch, "IMAGENET1K_V1"))
    assert len(judged.images) == n_classes
    assert judged.published == published


def test_a_checkpoint_has_its_architectures_preprocessing_and_categories(tmp_path, monkeypatch):
    monkeypatch.setattr(anymodel, "resolve", lambda *_, **__: Constant())
    (tmp_path / "golf ball").mkdir()
    Image.new("RGB", (300, 400)).save(tmp_path / "golf ball" / "a.png")
    judged = AnyModel("my.safetensors", Pictures("folder", tmp_path), Architecture("resnet50"))
    assert judged.images.labels.tolist() == [574]
    assert judged.images.transform.resize_size == [232]  # of the default weights, version 2


def test_a_network_itself_and_a_size(pictures):
    judged = AnyModel(
        "mine", Pictures("folder", pictures), Architecture(size=32), network=redness()
    )
    assert judged.images[0][0].shape == (3, 32, 32)
    assert next(judged.rows([]))["model"] == "mine"


class Brightness(nn.Module):
    """Tells dark pictures from bright ones, where a gray of 127 becomes 0."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(1, 2, bias=False)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([[-1.0], [1.0]]))

    def forward(self, images):
        return self.head(images.mean((1, 2, 3))[:, None])


BRIGHTNESS = f"{__name__}:Brightness"
OWN = {"size": 256, "crop": 224, "interpolation": "bicubic", "mean": 127, "std": 128}


def centered(picture):
    return torchvision.transforms.functional.to_tensor(picture) - 0.5


@pytest.fixture
def grays(tmp_path):
    """Dark and bright pictures, all of them bright if ImageNet's mean is subtracted."""
    for name, level in (("0", 120), ("1", 134)):
        (tmp_path / name).mkdir()
        for i in range(10):
            Image.new("RGB", (40, 30), (level,) * 3).save(tmp_path / name / f"{i}.png")
    return tmp_path


@pytest.mark.parametrize("steps", [OWN, {"transform": f"{__name__}:centered"}])
def test_a_model_says_its_preprocessing(grays, steps, recwarn):
    architecture = Architecture(**steps, expected_top1=100)
    judged = AnyModel(BRIGHTNESS, Pictures("folder", grays), architecture)
    assert "top-1 100.00 % on 20 images; expected 100.00 %; preprocess" in judged.check_published()
    assert len(recwarn) == 0


def test_the_wrong_preprocessing_ends_the_run(grays, capsys):
    pictures, architecture = Pictures("folder", grays), Architecture(expected_top1=100.0)
    message = r"top-1 is 50\.00 % on 20 images, expected are 100\.00 %.*preprocessing: assumed"
    with (
        pytest.warns(UserWarning, match="does not say its preprocessing"),
        pytest.raises(ImagesError, match=message),
    ):
        model_rows({BRIGHTNESS: None}, pictures, architecture, [])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("beyond", "refused"), [(0.49, False), (0.51, True)])
@pytest.mark.parametrize("side", [0, 1])
def test_what_is_expected_may_be_off_by_half_a_point(grays, beyond, refused, side):
    end = wilson_interval(10, 20, 0.999)[side] + (beyond if side else -beyond)
    with pytest.warns(UserWarning, match="preprocessing"):
        judged = AnyModel(BRIGHTNESS, Pictures("folder", grays), Architecture(expected_top1=end))
    if refused:
        with pytest.raises(ImagesError, match="expected are"):
            judged.check_published()
    else:
        assert f"expected {end:.2f} %" in judged.check_published()


def test_each_model_has_its_own_expectation(grays):
    given = Architecture(**OWN, expected_top1={BRIGHTNESS: 100.0})
    rows = model_rows({BRIGHTNESS: None}, Pictures("folder", grays), given, [])
    assert [row["top1"] for row in rows] == [100.0]
    with pytest.raises(ImagesError, match=r"expected_top1 names \['mine'\]; the models are"):
        model_rows({BRIGHTNESS: None}, None, Architecture(expected_top1={"mine": 50}), [])
    for wrong in (-1, 100.5, "half", True):
        with pytest.raises(ImagesError, match=r"expected_top1=.* must be in percent"):
            AnyModel(BRIGHTNESS, None, Architecture(**OWN, expected_top1=wrong))


def test_the_weights_own_transform_is_used(monkeypatch):
    monkeypatch.setattr(
        anymodel, "resolve", lambda *_, **__: torchvision.models.alexnet(weights=None).eval()
    )
    judged = AnyModel("alexnet", Pictures("embedded", n_images=3))
    assert judged.images[0][0].shape == (3, 224, 224)


def test_files_are_found_from_another_working_directory(tmp_path, monkeypatch):
    """A sweep's points run in folders of their own."""
    repository = tmp_path / "repository"
    (repository / "data/mine/0").mkdir(parents=True)
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(repository / "data/mine/0/a.png")
    save_file(resolve("squeezenet1_1", weights=None).state_dict(), repository / "my.safetensors")
    monkeypatch.setattr("lib.study.paths.ROOT", repository)
    (tmp_path / "point").mkdir()
    monkeypatch.chdir(tmp_path / "point")
    found = AnyModel(
        "my.safetensors", Pictures("folder", "data/mine"), Architecture("squeezenet1_1")
    )
    assert len(found.images) == 1
    assert type(found.model).__name__ == "SqueezeNet"


def test_the_committed_images():
    images = anymodel._open(Pictures("embedded"), preprocessing("mine", None, size=28))
    assert len(images) == 10_000
    assert images[0][0].shape == (3, 28, 28)


def test_rows_of_models_say_what_is_lost(pictures, capsys):
    models = {"mine": redness(), REDNESS: None}
    grid = settings(["linear"], [1], [None])
    given = Pictures("folder", pictures)
    rows = model_rows(models, given, Architecture(), grid, methods=["k-means"])
    assert [(row["model"], row["init"]) for row in rows] == [
        ("mine", None),
        ("mine", "linear"),
        (REDNESS, None),
        (REDNESS, "linear"),
    ]
    printed = capsys.readouterr().out
    assert "mine: top-1 100.00 %, not checked" in printed
    assert "mine, k-means from linear, 13 bytes as of 1 bit: top-1 100.00 %, 0.00" in printed
    assert "mine, float32: top-1 100.00 %" in printed
