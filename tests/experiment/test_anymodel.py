"""Any model on any images: published accuracy first, batch normalization, rows."""

import pytest
import torch
from PIL import Image
from torch import nn

from lib import results
from lib.experiment import anymodel
from lib.experiment.anymodel import AnyModel, reestimate
from lib.experiment.datasets import ImagesError
from lib.models import torchvision_weights
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


@pytest.fixture
def pictures(tmp_path):
    for name, color in (("0", (200, 30, 0)), ("1", (20, 210, 0))):
        (tmp_path / name).mkdir()
        for i in range(5):
            Image.new("RGB", (20, 20), color).save(tmp_path / name / f"{i}.png")
    return tmp_path


def test_rows_of_ones_own_model_and_images(pictures):
    judged = AnyModel(REDNESS, "folder", pictures, batch_size=4)
    assert judged.check_published() == "top-1 100.00 %; none is published for folder images"
    rows = list(judged.rows(["linear", "optimal"], [1, 2], max_iter=10))
    assert {tuple(sorted(row)) for row in rows} == {tuple(sorted(results.COLUMNS["models"]))}
    assert [(row["init"], row["bits"]) for row in rows] == [
        ("float", None),
        ("linear", 1),
        ("optimal", 1),
        ("linear", 2),
        ("optimal", 2),
    ]
    assert all(row["top1"] == row["top5"] == 100 for row in rows)
    assert rows[1]["ratio"] >= rows[3]["ratio"] > 1


def test_some_images_are_of_all_classes(pictures):
    judged = AnyModel(REDNESS, "folder", pictures, n_images=4)
    assert judged.images.labels.tolist() == [0, 1, 0, 1]


def test_labels_beyond_the_outputs_are_refused(pictures):
    (pictures / "1").rename(pictures / "2")
    with pytest.raises(ImagesError, match="has 2 outputs, an image the label 2: give label_map"):
        AnyModel(REDNESS, "folder", pictures)


@pytest.mark.parametrize(("published", "refused"), [(100.0, False), (99.6, False), (56.5, True)])
def test_the_published_accuracy_is_met_or_the_run_ends(pictures, published, refused):
    judged = AnyModel(REDNESS, "folder", pictures)
    judged.published = published
    if refused:
        with pytest.raises(ImagesError, match=r"published are 56\.50 %: the images, their labels"):
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
        assert anymodel._published(torchvision_weights(name, "IMAGENET1K_V1")) == top1
    assert torchvision_weights("package.module:function", "DEFAULT") is None


def test_batch_normalization_is_taken_again(pictures):
    judged = AnyModel(REDNESS, "folder", pictures)
    model = redness()
    before = model.norm.running_mean.clone()
    reestimate(model, judged.loader, 1)
    with torch.no_grad():
        inputs = next(iter(judged.loader))[0]
        expected = model.mix(inputs).mean((0, 2, 3))
    assert not torch.allclose(before, expected, atol=1e-2)
    torch.testing.assert_close(model.norm.running_mean, expected)
    assert not model.training


@pytest.mark.slow
def test_the_weights_own_transform_is_used(monkeypatch):
    monkeypatch.setattr(
        anymodel, "resolve", lambda *_, **__: torchvision.models.alexnet(weights=None).eval()
    )
    judged = AnyModel("alexnet", "embedded", n_images=3)
    assert judged.images[0][0].shape == (3, 224, 224)
