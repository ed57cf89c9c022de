"""What a model wants done to a picture: said by torchvision, by timm, by options, by a function."""

import dataclasses
import sys
import types
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from lib.models import ModelError, resolve
from lib.preprocessing import preprocessing
from lib.vision import torchvision

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8))


def by_hand(size, crop=None, mean=MEAN, std=STD, mode=Image.Resampling.BILINEAR):
    """The input of a model, by Pillow and NumPy alone."""
    if isinstance(size, int):
        shorter = min(PICTURE.size)
        sides = [size if side == shorter else int(size * side / shorter) for side in PICTURE.size]
    else:
        sides = size
    picture = PICTURE.resize(sides, mode)
    if crop:
        left, top = (round((side - crop) / 2) for side in picture.size)
        picture = picture.crop((left, top, left + crop, top + crop))
    pixels = np.asarray(picture).astype(np.float64) / 255
    return torch.from_numpy((pixels - mean) / std).permute(2, 0, 1).float()


def made(model=None, name="mine:net", **options):
    return preprocessing(name, model, **options).transform(PICTURE)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"size": 32}, {"size": (32, 32)}),
        ({"size": 40, "crop": 32}, {"size": 40, "crop": 32}),
        ({"crop": 32}, {"size": 32, "crop": 32}),
        (
            {"size": 256, "crop": 224, "interpolation": "bicubic", "mean": 127, "std": [128] * 3},
            {
                "size": 256,
                "crop": 224,
                "mode": Image.Resampling.BICUBIC,
                "mean": 127 / 255,
                "std": 128 / 255,
            },
        ),
        (
            {"size": 32, "mean": [123.675, 116.28, 103.53], "std": 1},
            {"size": (32, 32), "mean": np.array([123.675, 116.28, 103.53]) / 255, "std": 1 / 255},
        ),
        ({"size": 32, "mean": 0, "std": 255}, {"size": (32, 32), "mean": 0, "std": 1}),
        ({"size": 32, "mean": 0.5, "std": [0.5]}, {"size": (32, 32), "mean": 0.5, "std": 0.5}),
        ({"interpolation": "nearest"}, {"size": (224, 224), "mode": Image.Resampling.NEAREST}),
    ],
)
def test_given_steps(options, expected):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.testing.assert_close(made(**options), by_hand(**expected))


def test_nobody_says_it_and_a_warning_does():
    with pytest.warns(UserWarning, match="mine:net does not say its preprocessing; assumed: 224 x"):
        found = preprocessing("mine:net", nn.Identity())
    torch.testing.assert_close(found.transform(PICTURE), by_hand((224, 224)))
    assert str(found).startswith("assumed: 224 x 224 pixels, bilinear, mean (0.485, 0.456, 0.406)")


def test_torchvisions_weights():
    found = preprocessing("resnet50", None)
    torch.testing.assert_close(found.transform(PICTURE), by_hand(232, 224))
    assert str(found).startswith("torchvision's ResNet50_Weights.IMAGENET1K_V2: side 232, center")
    assert found.published == 80.858
    assert found.categories[574] == "golf ball"
    assert preprocessing("resnet50", None, weights="IMAGENET1K_V1").steps.size == 256


def test_options_come_before_the_weights():
    found = preprocessing("resnet50", None, mean=0.5, std=0.5)
    expected = by_hand(232, 224, mean=0.5, std=0.5)
    torch.testing.assert_close(found.transform(PICTURE), expected)
    assert "ResNet50_Weights.IMAGENET1K_V2, but mean, std: side 232, center 224" in str(found)
    torch.testing.assert_close(made(name="resnet50", crop=200), by_hand(232, 200))
    torch.testing.assert_close(made(name="resnet50", size=64), by_hand((64, 64)))


TIMM = {
    "input_size": (3, 48, 48),
    "interpolation": "bicubic",
    "crop_pct": 0.9,
    "mean": (0.5, 0.4, 0.3),
    "std": (0.2, 0.3, 0.4),
}


@dataclasses.dataclass
class Config:
    """As timm's PretrainedCfg."""

    input_size: tuple = (3, 48, 48)
    crop_pct: float | None = None
    interpolation: str = "bilinear"


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            TIMM,  # 48 / 0.9 is 53.3
            {
                "size": 53,
                "crop": 48,
                "mean": (0.5, 0.4, 0.3),
                "std": (0.2, 0.3, 0.4),
                "mode": Image.Resampling.BICUBIC,
            },
        ),
        (
            {"input_size": (3, 48, 48), "crop_mode": "squash", "crop_pct": 1.0},
            {"size": (48, 48), "mode": Image.Resampling.BICUBIC},
        ),
        (Config(), {"size": 54, "crop": 48}),  # timm takes 0.875 of the picture
    ],
)
@pytest.mark.parametrize("attribute", ["pretrained_cfg", "default_cfg"])
def test_timms_configuration(config, expected, attribute):
    model = nn.Identity()
    setattr(model, attribute, config)
    torch.testing.assert_close(made(model), by_hand(**expected))


@pytest.mark.parametrize(
    "changed", [{"input_size": (1, 48, 48)}, {"input_size": (3, 48, 64)}, {"crop_mode": "border"}]
)
def test_a_configuration_that_is_not_followed_is_refused(changed):
    model = nn.Identity()
    model.pretrained_cfg = TIMM | changed
    with pytest.raises(ModelError, match=r"pretrained_cfg wants input_size .*give a transform"):
        preprocessing("mine:net", model)
    tensor = made(model, transform=torchvision.transforms.ToTensor())
    assert tensor.shape == (3, 70, 90)


@pytest.fixture
def timm(monkeypatch):
    """A stand-in for timm, which knows one model."""

    def create_model(name, pretrained=False):
        if name != "tiny.in1k":
            raise RuntimeError(f"Unknown model ({name})")
        model = nn.Linear(2, 2)
        model.pretrained, model.pretrained_cfg = pretrained, TIMM
        return model

    module = types.ModuleType("timm")
    module.create_model = create_model
    monkeypatch.setitem(sys.modules, "timm", module)


@pytest.mark.usefixtures("timm")
def test_a_model_of_timm_by_name(tmp_path):
    model = resolve("timm:tiny.in1k")
    assert model.pretrained
    assert not model.training
    assert preprocessing("timm:tiny.in1k", model).steps.size == 53
    assert not resolve("timm:tiny.in1k", weights=None).pretrained
    torch.save({"model": model.state_dict()}, tmp_path / "a.pth")
    loaded = resolve(str(tmp_path / "a.pth"), arch="timm:tiny.in1k")
    assert torch.equal(loaded.weight, model.weight)
    with pytest.raises(ModelError, match="timm cannot make 'tinny': Unknown model"):
        resolve("timm:tinny")


def test_without_timm_it_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ModelError, match="timm:tiny needs timm: pip install timm"):
        resolve("timm:tiny")


def flipped(picture):
    return torchvision.transforms.functional.to_tensor(picture).flip(2)


def factory():
    return torchvision.transforms.Compose([flipped])


ready = torchvision.transforms.Compose([flipped])


def no_tensor(picture):
    return [picture]


@pytest.mark.parametrize("transform", ["flipped", "factory", "ready"])
def test_a_function_of_the_callers(transform):
    name = f"{__name__}:{transform}"
    found = preprocessing("resnet50", None, transform=name)
    assert torch.equal(found.transform(PICTURE), flipped(PICTURE))
    assert str(found) == name
    assert found.categories[574] == "golf ball"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"transform": "nowhere:f"}, "nowhere:f cannot be called: No module named 'nowhere'"),
        ({"transform": f"{__name__}:TIMM"}, "transform .*:TIMM is no function"),
        ({"transform": f"{__name__}:ready", "size": 3}, "transform excludes size"),
        ({"size": 0}, "size=0 must be a positive whole number"),
        ({"size": -1}, "size=-1 must be a positive whole number"),
        ({"size": 2.5}, r"size=2\.5 must be a positive whole number"),
        ({"crop": True}, "crop=True must be a positive whole number"),
        ({"size": 224, "crop": 256}, "crop=256 must be at most size=224"),
        ({"interpolation": "cubic"}, "interpolation='cubic' is unknown: choose from nearest"),
        ({"mean": [0.5, 0.5]}, r"mean=\[0\.5, 0\.5\] must be one number or three"),
        ({"mean": "gray"}, "mean='gray' must be one number or three"),
        ({"std": 0}, "std=0 must be .* above 0"),
        ({"std": float("nan")}, "std=nan must be"),
        ({"mean": -0.5}, r"mean=-0\.5 must be"),
        ({"mean": 127}, r"mean=127 and std=.*one is of pixels from 0 to 1"),
        ({"mean": 0.5, "std": 128}, r"mean=0\.5 and std=128: one is of pixels from 0 to 1"),
    ],
)
def test_steps_that_cannot_be(options, message):
    with pytest.raises(ModelError, match=message):
        preprocessing("mine:net", None, **options)


def test_a_transform_that_makes_no_tensor_is_named():
    with pytest.raises(ModelError, match=r"transform .*:no_tensor made a list of a picture"):
        made(transform=f"{__name__}:no_tensor")
