"""What a model wants done to a picture before it sees it.

Wrong preprocessing looks like a loss from compression. So whoever says it is named: the caller,
torchvision's weights or timm's ``pretrained_cfg``; and where nobody does, a warning says what is
done.
"""

import dataclasses
import inspect
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from .models import ModelError, function_of, torchvision_weights

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")
PUBLISHED_ON = "ImageNet-1K"
TIMM_CROP = 0.875  # of the picture, where a pretrained_cfg does not say


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """From a picture to a model's input.

    Attributes
    ----------
    transform : callable
        From an RGB PIL image to a tensor.
    source : str
        Who says so.
    steps : Steps or None
        What is done; None where only the transform knows.
    categories : list of str or None
        Names of the model's outputs.
    published : float or None
        Top-1 on ImageNet in percent, as torchvision publishes it for these weights.
    """

    transform: Callable[[Any], torch.Tensor]
    source: str
    steps: "Steps | None"
    categories: list[str] | None = None
    published: float | None = None

    def __str__(self):
        return f"{self.source}: {self.steps}" if self.steps else self.source


@dataclasses.dataclass(frozen=True)
class Steps:
    """Resize, crop and normalize.

    `size` is that of the shorter side, or the height and width that a picture is squeezed into;
    `crop` is the side of the square in its middle that stays, None for all of it.
    """

    size: int | tuple[int, int] = (224, 224)
    crop: int | None = None
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)  # of ImageNet
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    interpolation: str = "bilinear"

    def __str__(self):
        squeezed = isinstance(self.size, tuple)
        resized = f"{self.size[0]} x {self.size[1]} pixels" if squeezed else f"side {self.size}"
        cropped = f", center {self.crop}" if self.crop else ""
        mean, std = (tuple(round(value, 4) for value in v) for v in (self.mean, self.std))
        return f"{resized}{cropped}, {self.interpolation}, mean {mean}, std {std}"

    @property
    def side(self) -> int:
        """Height and width of what remains."""
        return self.crop or (self.size if isinstance(self.size, int) else self.size[0])

    def transform(self) -> Callable[[Any], torch.Tensor]:
        """The steps as torchvision's: from an RGB PIL image to a tensor."""
        from .vision import torchvision

        transforms = torchvision.transforms
        mode = transforms.InterpolationMode(self.interpolation)
        steps = [transforms.Resize(self.size, mode)]
        if self.crop:
            steps.append(transforms.CenterCrop(self.crop))
        steps += [transforms.ToTensor(), transforms.Normalize(self.mean, self.std)]
        return transforms.Compose(steps)


def preprocessing(
    name: str,
    model: nn.Module | None,
    *,
    weights: str = "DEFAULT",
    transform: str | Callable[[Any], torch.Tensor] | None = None,
    size: int | None = None,
    crop: int | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    interpolation: str | None = None,
) -> Preprocessing:
    """How pictures become a model's inputs.

    The options come before what the model's weights say; where neither says a step, it is that of
    torchvision's classifiers at 224 x 224 pixels.

    Parameters
    ----------
    name : str
        Of the model, or of the architecture of its checkpoint, as of `models.resolve`.
    model : nn.Module
        Its `pretrained_cfg`, if it has one as timm's models do, says the preprocessing.
    weights : str, default "DEFAULT"
        Which of torchvision's weights say it.
    transform : str or callable, optional
        From an RGB PIL image to a tensor, or "package.module:function", which does that or, if it
        takes no arguments, returns what does. Excludes the other options.
    size : int, optional
        With `crop`: what the shorter side is resized to. Alone: the height and width that the
        picture is squeezed into.
    crop : int, optional
        Side of the square in the middle that stays. Alone: what the shorter side is resized to,
        too, unless the weights say another size.
    mean, std : float or sequence of three floats, optional
        Of pixels from 0 to 1; or both of pixels from 0 to 255, if one of them is above 1.
    interpolation : {"nearest", "bilinear", "bicubic", "lanczos"}, optional

    Returns
    -------
    Preprocessing

    Raises
    ------
    ModelError
        If an option cannot be, or a `pretrained_cfg` asks for what is not done here.

    Warns
    -----
    UserWarning
        If neither the options nor the model say any step.

    Examples
    --------
    >>> print(preprocessing("mine:net", None, size=256, crop=224, mean=127, std=128))
    given: side 256, center 224, bilinear, mean (0.498, 0.498, 0.498), std (0.502, 0.502, 0.502)
    """
    given = {"size": size, "crop": crop, "mean": mean, "std": std, "interpolation": interpolation}
    given = {option: value for option, value in given.items() if value is not None}
    if transform is not None:
        if given:
            raise ModelError(f"transform excludes {', '.join(given)}: it does all of it.")
        made, known = _Transform(transform), _of_torchvision(name, weights)
        if known:
            return dataclasses.replace(known, transform=made, source=str(transform), steps=None)
        return Preprocessing(made, str(transform), None)
    said = said_by(name, model, weights)
    if said and not given:
        return said
    if said:
        steps = _changed(said.steps, **given)
        source = f"{said.source}, but {', '.join(given)}"
        return dataclasses.replace(said, transform=steps.transform(), source=source, steps=steps)
    steps = _changed(Steps(), **given)
    if not given:
        warnings.warn(
            f"{name} does not say its preprocessing; assumed: {steps}. If it is another, say it: "
            "size, crop, mean, std and interpolation, or a transform.",
            stacklevel=2,
        )
    return Preprocessing(steps.transform(), "given" if given else "assumed", steps)


def said_by(name: str, model: nn.Module | None, weights: str = "DEFAULT") -> Preprocessing | None:
    """What torchvision's weights, or else a model itself, say of its preprocessing; None: nothing.

    Parameters and errors are those of `preprocessing`.

    Examples
    --------
    >>> said_by("resnet50", None).steps.size
    232
    """
    return _of_torchvision(name, weights) or _of_timm(model)


class _Transform:
    """A transform of the caller's, whose results are checked."""

    def __init__(self, transform):
        self.name = transform
        self.transform = function_of(transform) if isinstance(transform, str) else transform
        if not callable(self.transform):
            raise ModelError(f"transform {self.name} is no function.")
        if isinstance(transform, str) and _takes_nothing(self.transform):
            self.transform = self.transform()

    def __call__(self, image):
        found = self.transform(image)
        if not isinstance(found, torch.Tensor):
            raise ModelError(
                f"transform {self.name} made a {type(found).__name__} of a picture, not a tensor."
            )
        return found


def _takes_nothing(function):
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        return True
    return False


def _of_torchvision(name, weights):
    record = torchvision_weights(name, weights)
    if record is None:
        return None
    said = record.transforms()
    steps = Steps(
        size=said.resize_size[0],
        crop=said.crop_size[0],
        mean=tuple(said.mean),
        std=tuple(said.std),
        interpolation=said.interpolation.value,
    )
    published = record.meta.get("_metrics", {}).get(PUBLISHED_ON, {}).get("acc@1")
    return Preprocessing(
        said, f"torchvision's {record}", steps, record.meta["categories"], published
    )


def _of_timm(model):
    """What a timm model's configuration says; its keys and defaults are those of timm.data."""
    said = getattr(model, "pretrained_cfg", None) or getattr(model, "default_cfg", None)
    if dataclasses.is_dataclass(said):
        said = dataclasses.asdict(said)
    if not isinstance(said, Mapping) or not said.get("input_size"):
        return None
    channels, height, width = said["input_size"]
    mode = said.get("crop_mode") or "center"
    if channels != 3 or height != width or mode not in ("center", "squash"):
        raise ModelError(
            f"the model's pretrained_cfg wants input_size {tuple(said['input_size'])} and "
            f"crop_mode {mode!r}; only squares of 3 channels, 'center' or 'squash', are made here: "
            "give a transform."
        )
    size = math.floor(height / (said.get("crop_pct") or TIMM_CROP))
    normalization = {name: said[name] for name in ("mean", "std") if said.get(name) is not None}
    interpolation = said.get("interpolation") or "bicubic"
    steps = _changed(Steps(), size=size, crop=height, interpolation=interpolation, **normalization)
    if mode == "squash":
        steps = dataclasses.replace(steps, size=(size, size))
    return Preprocessing(steps.transform(), "the model's pretrained_cfg", steps)


def _changed(steps, **options):
    """The steps with other options, checked."""
    for name in ("size", "crop"):
        value = options.get(name, 1)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ModelError(f"{name}={value!r} must be a positive whole number of pixels.")
    if "interpolation" in options and options["interpolation"] not in INTERPOLATIONS:
        raise ModelError(
            f"interpolation={options['interpolation']!r} is unknown: choose from "
            f"{', '.join(INTERPOLATIONS)}."
        )
    if "mean" in options or "std" in options:
        options |= _normalization(options.get("mean", steps.mean), options.get("std", steps.std))
    if "size" in options and "crop" not in options:
        options |= {"size": (options["size"],) * 2, "crop": None}
    elif "crop" in options and "size" not in options:
        sized = steps.crop and not isinstance(steps.size, tuple)
        options["size"] = steps.size if sized else options["crop"]
    changed = dataclasses.replace(steps, **options)
    least = min(changed.size) if isinstance(changed.size, tuple) else changed.size
    if changed.crop and changed.crop > least:
        raise ModelError(f"crop={changed.crop} must be at most size={least}.")
    return changed


def _normalization(mean, std):
    """Mean and std of three channels, of pixels from 0 to 1."""
    both = {}
    for name, value in (("mean", mean), ("std", std)):
        values = (value,) * 3 if isinstance(value, int | float) else value
        try:
            values = tuple(float(v) for v in values)
        except (TypeError, ValueError):
            values = ()
        lowest = 0 if name == "mean" else math.nextafter(0, 1)
        if len(values) not in (1, 3) or not all(lowest <= v <= 255 for v in values):
            raise ModelError(
                f"{name}={value!r} must be one number or three, of channels, of pixels from 0 to 1 "
                f"or from 0 to 255{', and above 0' * (name == 'std')}."
            )
        both[name] = values * (3 // len(values))
    if max(*both["mean"], *both["std"]) <= 1:
        return both
    if 0 < max(both["mean"]) <= 1 or min(both["std"]) < 1:
        raise ModelError(
            f"mean={mean!r} and std={std!r}: one is of pixels from 0 to 1, the other of pixels "
            "from 0 to 255."
        )
    return {name: tuple(v / 255 for v in values) for name, values in both.items()}
