"""The network of the study: torchvision's AlexNet, its input, and fast passes through it.

The convolutions are trained on ImageNet and frozen. The classifier has ten outputs and is trained
on their features of Fashion-MNIST (`lib.study.experiment.training`).
"""

import contextlib
import copy
import hashlib
from pathlib import Path

import torch
from torch.nn.functional import conv2d, interpolate, pad, pixel_unshuffle

from ...vision import torchvision
from .data import CHECKSUMS_FILE, DATA, load_convolutions
from .progress import progress

CONVOLUTIONS = {f"conv{i + 1}": f"features.{j}" for i, j in enumerate((0, 3, 6, 8, 10))}
LINEARS = {f"fc{i}": f"classifier.{j}" for i, j in ((6, 1), (7, 4), (8, 6))}
LAYERS = CONVOLUTIONS | LINEARS
SCOPES = {"conv": tuple(CONVOLUTIONS), "all": tuple(LAYERS)}

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as the weights expect
SIZE = 224
BATCH = 100


def alexnet():
    """AlexNet of torchvision with ten classes and ImageNet's convolutions, in evaluation mode."""
    network = torchvision.models.alexnet(num_classes=10)
    network.load_state_dict(load_convolutions(), strict=False)
    return network.eval().requires_grad_(False)


def device():
    """CUDA where present, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def precision():
    """bfloat16 where the processor has instructions for it, float32 elsewhere."""
    found = torch.cpu.get_capabilities()
    native = found.get("avx512_bf16") or found.get("amx_bf16") or found.get("bf16")
    return torch.bfloat16 if native and device().type == "cpu" else torch.float32


def numerics_key():
    """Digest of all that features depend on besides the weights: code, data, precision."""
    sums = (DATA / CHECKSUMS_FILE).read_text()
    text = f"{Path(__file__).read_text()}{sums}{device().type}{precision()}{_wide()}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def resized(pixels):
    """Gray images: (n, 28, 28) uint8 to (n, 1, 224, 224) float32 in 0 to 1."""
    images = pixels[:, None].float() / 255
    return interpolate(images, size=SIZE, mode="bilinear")


def prepare(pixels):
    """Input of the network: (n, 28, 28) uint8 to (n, 3, 224, 224) float32, normalized."""
    mean, std = (torch.tensor(v).view(3, 1, 1).to(pixels.device) for v in (MEAN, STD))
    return (resized(pixels) - mean) / std


@torch.inference_mode()
def extract_features(convolutions, pixels, title="features"):
    """Features of the images: the input of the classifier.

    Parameters
    ----------
    convolutions : torch.nn.Sequential
        AlexNet's `features`, float32 on the CPU. Not modified.
    pixels : uint8 tensor of shape (n, 28, 28)
    title : str
        Title of the progress that is shown.

    Returns
    -------
    float32 tensor of shape (n, 9216)
        At 224 x 224 the last map is 6 x 6, so AlexNet's adaptive pooling is the identity.
    """
    forward = _fast(convolutions)
    batches = progress(pixels.split(BATCH), title)
    return torch.cat([forward(batch).flatten(1).float().cpu() for batch in batches])


def _fast(convolutions):
    """The fastest way from pixels through the convolutions that this machine has."""
    if device().type == "cuda":
        on_device = copy.deepcopy(convolutions).to(device())
        return lambda pixels: on_device(prepare(pixels.to(device())))
    first, rest = _on_gray_images(convolutions[0]), _rest(convolutions)
    return lambda pixels: rest(first(resized(pixels)))


def _rest(convolutions):
    """All layers but conv1, by what is fastest on this processor.

    NNPACK's Winograd and FFT take half the time of oneDNN's float32 on vectors of 256 bits, and a
    third more on those of 512.
    """
    if _wide() or not torch.backends.nnpack.is_available():
        layers = copy.deepcopy(convolutions)[1:].to(precision(), memory_format=torch.channels_last)
        return lambda maps: layers(maps.to(precision()))

    def winograd(maps):
        with _without_onednn():
            return convolutions[3:](convolutions[1:3](maps).contiguous())

    return winograd


def _wide():
    """Whether the processor computes in bfloat16 or on vectors of 512 bits."""
    return precision() == torch.bfloat16 or torch.backends.cpu.get_cpu_capability() == "AVX512"


def _on_gray_images(convolution):
    """conv1 as a function of gray images: a third of the work.

    The three channels are one image, scaled and shifted. The kernel takes the scale. The shift adds
    the same map to every output; the map is not constant, since the padding is not shifted. A
    stride of 4 over pixels is a stride of 1 over blocks of 4 x 4 pixels, with a kernel of 3 x 3
    blocks, which oneDNN computes faster.
    """
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    stride, padding = convolution.stride[0], convolution.padding[0]
    white = torch.ones(1, 1, SIZE, SIZE)
    shifts = -(convolution.weight * mean / std).sum(1, keepdim=True)
    shift = conv2d(white, shifts, convolution.bias, stride, padding)
    shift = shift.contiguous(memory_format=torch.channels_last)
    kernel = (convolution.weight / std).sum(1, keepdim=True)
    kernel = pixel_unshuffle(pad(kernel, (0, -kernel.shape[3] % stride) * 2), stride)

    def first(images):
        blocks = pixel_unshuffle(pad(images, (padding,) * 4), stride)
        return conv2d(blocks.contiguous(memory_format=torch.channels_last), kernel).add_(shift)

    return first


@contextlib.contextmanager
def _without_onednn():
    enabled = torch.backends.mkldnn.enabled
    torch.backends.mkldnn.enabled = False
    try:
        yield
    finally:
        torch.backends.mkldnn.enabled = enabled


@torch.inference_mode()
def logits(classifier, features):
    """Class scores, float32 of shape (n, 10), from features of shape (n, 9216)."""
    classifier = classifier.to(device())
    return torch.cat([classifier(part.to(device())).cpu() for part in features.split(1000)])
