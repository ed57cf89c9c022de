"""The accuracy of any model on any images, before and after its weights are shared.

What a model says of the images is cached, so that an interrupted run goes on where it stopped.
"""

import hashlib
import time

import torch
from PIL import Image
from torch.utils.data import DataLoader

from ...evaluation import wilson_interval
from ...images import ImagesError, LabelledImages, open_images
from ...models import CHECKPOINTS, resolve, torchvision_weights
from ...sharing import share_weights
from ...vision import torchvision
from ..paths import located
from .data import CLASSES, load_images
from .evaluation import cached, settings, top1_columns
from .network import MEAN, STD, device
from .progress import progress

PUBLISHED_ON, PUBLISHED_CLASSES = "ImageNet-1K", 1000
MOST_OFF = 0.5  # points between published and measured that decoders and resizing may make
SAMPLE = 8  # images whose scores tell models of the same tensors apart


class AnyModel:
    """A model with the images that it is judged by.

    Parameters
    ----------
    model : str
        As of `lib.models.resolve`.
    source, root, label_map
        As of `open_images`; "embedded" are the committed test images.
    network : nn.Module, optional
        The model itself; `model` is then only its name.
    arch : str, optional
        Of a state dict.
    weights : str
        Of torchvision's models, and of `arch`, which weights; they say the preprocessing and the
        categories.
    size : int
        Height and width of the input, where no weights say them.
    n_images : int, optional
        First images, of all classes in turn; all by default.
    batch_size, workers : int
        Images at a time, and processes that read them.
    """

    def __init__(
        self,
        model,
        source,
        root=None,
        *,
        network=None,
        arch=None,
        weights="DEFAULT",
        size=224,
        label_map=None,
        n_images=None,
        batch_size=64,
        workers=0,
    ):
        self.name = model
        if network is None:
            path = str(located(model)) if model.endswith(CHECKPOINTS) else model
            network = resolve(path, arch=arch, weights=weights)
        self.model = network
        known = torchvision_weights(arch or model, weights)
        transform = known.transforms() if known else _transform(size)
        categories = known.meta["categories"] if known else None
        if source == "embedded":
            categories = CLASSES
        images = _open(
            source, root, transform=transform, categories=categories, label_map=label_map
        )
        # In turn even if all: the first batches, over which `reestimate` goes, have all classes.
        self.images = images.first(n_images)
        whole = source == "imagenet" and len(self.images.labels.unique()) == PUBLISHED_CLASSES
        self.published = _published(known) if whole and arch is None else None
        self.loader = DataLoader(self.images, batch_size, num_workers=workers)
        self.sample = torch.stack([inputs for inputs, _ in self.images.first(SAMPLE)])
        self.digest = self.images.digest()
        self.right = self.top(self.model)

    def check_published(self):
        """Compare the float model with its published top-1, if there is one for these images.

        Wrong preprocessing must not look like a loss from compression.

        Returns
        -------
        str
            What was found.

        Raises
        ------
        ImagesError
            If the published figure is more than half a point outside the 99.9 % interval of what
            these images give.
        """
        n = len(self.images)
        measured = 100 * self.right["top1"].double().mean().item()
        if self.published is None:
            return f"top-1 {measured:.2f} %, not checked: none is published for these images"
        low, high = wilson_interval(int(self.right["top1"].sum()), n, level=0.999)
        if not low - MOST_OFF <= self.published <= high + MOST_OFF:
            raise ImagesError(
                f"{self.name}: top-1 is {measured:.2f} % on {n} images, published are "
                f"{self.published:.2f} %: the images, their labels or the preprocessing are not "
                "those of the model."
            )
        return f"top-1 {measured:.2f} % on {n} images; published {self.published:.2f} %"

    def rows(
        self, inits, bits, max_iter=None, seeds=(0,), *, granularity="per_tensor", reestimated=0
    ):
        """Rows of the table `models`: the float model, then all bits and initializations.

        Parameters
        ----------
        inits : sequence of str
        bits : sequence of int
        max_iter : int, optional
        seeds : sequence of int
            Of the random initializations; the others take the first.
        granularity : str
            As of `share_weights`.
        reestimated : int
            First batches of the images, labels unused, over which batch normalization's means and
            variances are taken again after sharing; none if 0.

        Yields
        ------
        dict
        """
        how = {"granularity": granularity, "reestimated": reestimated}
        yield self._row(self.right, {"init": "float", "seed": None} | dict.fromkeys(how))
        for setting in settings(inits, bits, [max_iter], seeds):
            start = time.perf_counter()
            shared = share_weights(self.model, granularity=granularity, **setting.options())
            if reestimated:
                reestimate(shared.model, self.loader, reestimated)
            seconds = time.perf_counter() - start
            given = {name: getattr(setting, name) for name in ("init", "bits", "max_iter", "seed")}
            sizes = {"bytes": shared.bytes_after, "ratio": shared.ratio, "seconds": seconds}
            yield self._row(self.top(shared.model), given | how | sizes)

    def _row(self, right, given):
        n = len(self.images)
        judged = top1_columns(int(right["top1"].sum()), n)
        judged["top5"] = 100 * right["top5"].double().mean().item()
        judged["top1_drop"] = 100 * self.right["top1"].double().mean().item() - judged["top1"]
        blank = dict.fromkeys(["bits", "max_iter", "bytes", "ratio", "seconds"])
        where = {"model": self.name, "images": self.images.name, "n_images": n}
        return where | blank | given | judged

    def top(self, model):
        """Whether the right class is the best, and among the best five, of each image; cached."""
        model = model.eval().to(device())
        return cached(self._key(model), lambda: self._judge(model))

    @torch.inference_mode()
    def _key(self, model):
        """Of images, the model's tensors, and its scores of a few images, which see its code."""
        digest = hashlib.sha256(self.digest)
        for tensor in (model(self.sample.to(device())), *model.state_dict().values()):
            digest.update(tensor.cpu().reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()[:32]

    @torch.inference_mode()
    def _judge(self, model):
        top1, top5 = [], []
        for inputs, labels in progress(self.loader, "images"):
            scores = model(inputs.to(device())).cpu()
            if int(labels.max()) >= scores.shape[1]:
                raise ImagesError(
                    f"{self.name} has {scores.shape[1]} outputs, an image the label "
                    f"{int(labels.max())}: give label_map."
                )
            best = scores.topk(min(5, scores.shape[1])).indices == labels[:, None]
            top1.append(best[:, 0])
            top5.append(best.any(1))
        return {"top1": torch.cat(top1), "top5": torch.cat(top5)}


def _open(source, root, *, transform, **options):
    """As of `open_images`; "embedded" are the committed test images."""
    if source != "embedded":
        return open_images(source, root and located(root), transform=transform, **options)
    images = load_images("test")
    items = [Image.fromarray(pixels) for pixels in images.pixels.numpy()]
    return LabelledImages(source, items, images.labels, transform)


def reestimate(model, loader, n_batches):
    """Take batch normalization's means and variances again, from the first batches; in place."""
    batches = (inputs for _, (inputs, _) in zip(range(n_batches), loader, strict=False))
    torch.optim.swa_utils.update_bn(batches, model, device=device())


def _published(weights):
    metrics = weights.meta.get("_metrics", {}) if weights else {}
    return metrics.get(PUBLISHED_ON, {}).get("acc@1")


def _transform(size):
    """What torchvision's classifiers commonly expect, for models that say nothing."""
    return torchvision.transforms.Compose(
        [
            torchvision.transforms.Resize((size, size)),
            torchvision.transforms.ToTensor(),
            torchvision.transforms.Normalize(MEAN, STD),
        ]
    )
