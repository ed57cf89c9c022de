"""The accuracy of any model on any images, before and after its weights are shared."""

import time

import torch
from torch.utils.data import DataLoader

from ..models import resolve, torchvision_weights
from ..sharing import share_weights
from ..vision import torchvision
from .data import CLASSES
from .datasets import ImagesError, open_images
from .evaluation import default_revision, top1_columns, wilson_interval
from .network import MEAN, STD, device
from .progress import progress

PUBLISHED_ON = "ImageNet-1K"
MOST_OFF = 0.5  # points between a published top-1 and that measured on all images


class AnyModel:
    """A model with the images that it is judged by.

    Parameters
    ----------
    model : str
        As of `lib.models.resolve`.
    source, root, label_map
        As of `open_images`.
    arch : str, optional
        Of a state dict.
    weights : str
        Of torchvision's models which weights; they say the preprocessing and the categories.
    size : int
        Height and width of the input, where the weights do not say them.
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
        arch=None,
        weights="DEFAULT",
        size=224,
        label_map=None,
        n_images=None,
        batch_size=64,
        workers=0,
    ):
        self.name = model
        self.model = resolve(model, arch=arch, weights=weights)
        known = torchvision_weights(model, weights)
        transform = known.transforms() if known else _transform(size)
        categories = known.meta["categories"] if known else None
        if source == "embedded":
            categories = CLASSES
        self.images = open_images(
            source, root, transform=transform, categories=categories, label_map=label_map
        )
        self.whole = n_images is None or n_images >= len(self.images)
        if not self.whole:
            self.images = self.images.first(n_images)
        self.published = _published(known) if source == "imagenet" else None
        self.loader = DataLoader(self.images, batch_size, num_workers=workers)
        self.right = self.top(self.model)

    def check_published(self):
        """Compare the float model with its published top-1, if there is one for these images.

        A wrong preprocessing must not pass for a loss by compression.

        Returns
        -------
        str
            What was found.

        Raises
        ------
        ImagesError
            If the published figure is more than half a point from what all images give, or outside
            the 99.9 % interval of what some give.
        """
        n = len(self.images)
        measured = 100 * self.right["top1"].double().mean().item()
        if self.published is None:
            return f"top-1 {measured:.2f} %; none is published for {self.images.name} images"
        low, high = wilson_interval(int(self.right["top1"].sum()), n, z=3.2905)
        if self.whole:
            low, high = measured - MOST_OFF, measured + MOST_OFF
        if not low <= self.published <= high:
            raise ImagesError(
                f"{self.name}: top-1 is {measured:.2f} % on {n} images, published are "
                f"{self.published:.2f} %: the images, their labels or the preprocessing are not "
                "those of the model."
            )
        return f"top-1 {measured:.2f} % on {n} images; published {self.published:.2f} %"

    def rows(self, inits, bits, max_iter=None, seed=0, granularity="per_tensor", reestimated=0):
        """Rows of the table `models`: the float model, then every initialization and bits.

        Parameters
        ----------
        inits : sequence of str
        bits : sequence of int
        max_iter : int, optional
        seed : int
        granularity : str
            As of `share_weights`.
        reestimated : int
            First batches of the images, labels unused, over which batch normalization's means and
            variances are taken again after sharing; none if 0.

        Yields
        ------
        dict
        """
        how = {"granularity": granularity, "reestimated": reestimated, "seed": seed}
        yield self._row(self.right, {"init": "float"} | dict.fromkeys(how))
        for b in bits:
            for init in inits:
                start = time.perf_counter()
                shared = share_weights(
                    self.model,
                    2**b,
                    granularity=granularity,
                    init=init,
                    revise=default_revision(init),
                    max_iter=max_iter,
                    seed=seed,
                )
                if reestimated:
                    reestimate(shared.model, self.loader, reestimated)
                sizes = {"bytes": shared.bytes_after, "ratio": shared.ratio}
                sizes["seconds"] = time.perf_counter() - start
                given = {"init": init, "bits": b, "max_iter": max_iter} | how | sizes
                yield self._row(self.top(shared.model), given)

    def _row(self, right, given):
        n = len(self.images)
        judged = top1_columns(int(right["top1"].sum()), n)
        judged["top5"] = 100 * right["top5"].double().mean().item()
        judged["top1_drop"] = 100 * self.right["top1"].double().mean().item() - judged["top1"]
        blank = dict.fromkeys(["bits", "max_iter", "bytes", "ratio", "seconds"])
        where = {"model": self.name, "images": self.images.name, "n_images": n}
        return where | blank | given | judged

    @torch.inference_mode()
    def top(self, model):
        """Whether the right class is the best, and among the best five, of each image."""
        model = model.eval().to(device())
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
