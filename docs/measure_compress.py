"""Measure what docs/your-model.md says of compress: python docs/measure_compress.py EXPERIMENT.

The network is that which 01-train of the experiment trained; 20 to 30 minutes on two cores.
"""

import resource
import sys
import time

import torch

from lib.compression.compressing import compress
from lib.compression.rate_aware import Factor, fit
from lib.evaluation import paired_interval, right_ones
from lib.models import resolve
from lib.study.experiment.data import load_convolutions, load_images, test_images
from lib.study.experiment.network import prepare
from lib.study.experiment.training import load_networks

N_CALIBRATION, N_TEST = 256, 2000
PRICES = (2**-2, 2**-5, 2**-8)  # of a bit, in units of the layer's variance
CASES = (  # of the convolutions or of all layers: the target, and what a bit starts from
    ("conv", {"ratio": 8}),
    ("conv", {"ratio": 24}),
    ("conv", {"ratio": 24, "init": "linear"}),
    ("conv", {"ratio": 24, "init": "random"}),
    ("all", {"multiplier": 1e-9}),
    ("all", {"ratio": 60}),
    ("all", {"ratio": 100}),
)


def groups():
    """Cost of a codebook for each group of channels over that of one codebook, in percent."""
    for name, weight in load_convolutions().items():
        if weight.dim() < 2:
            continue
        matrix = weight.float().flatten(1)[None]
        for price in PRICES:
            multiplier = float(matrix.var()) * price
            whole = _cost(matrix, multiplier)
            for n in (2, 8, 32):
                parts = matrix[0].chunk(n)
                cost = sum(_cost(part[None].contiguous(), multiplier) for part in parts)
                print(f"{name}, {price:g}, {n} groups: {100 * (cost / whole - 1):+.1f} %")


def _cost(matrix, multiplier):
    rows, columns = matrix.shape[1:]
    order = torch.arange(columns)[None]
    found = fit(
        matrix, Factor(order, None, torch.ones(1, columns)), torch.ones(1, rows), multiplier
    )
    return found.distortion + multiplier * 8 * found.n_bytes


def compressed(experiment):
    """Seconds and losses of `compress` on the experiment's network."""
    network = next(iter(load_networks(experiment).values())).eval()
    pixels = load_images("train", N_CALIBRATION).pixels
    batches = [prepare(part) for part in pixels.split(32)]
    before = right_ones(network, test_images(), N_TEST)
    layers = [n for n, m in network.named_modules() if isinstance(m, torch.nn.Conv2d)]
    for scope, target in CASES:
        start = time.perf_counter()
        chosen = {"layers": layers} if scope == "conv" else {}
        made = compress(network, batches, **target, **chosen)
        seconds = time.perf_counter() - start
        loss, low, high = paired_interval(before, right_ones(made.model, test_images(), N_TEST))
        print(
            f"{scope} {target}: {made.ratio:.2f} times, {made.bits_per_weight:.2f} bits, "
            f"{loss:.2f} [{low:.2f}, {high:.2f}] points lost, {seconds:.0f} s, "
            f"{made.n_passes} passes",
            flush=True,
        )


def of_torchvision():
    """Seconds and memory for networks of torchvision, at random weights."""
    batches = [torch.randn(32, 3, 224, 224) for _ in range(N_CALIBRATION // 32)]
    for name in ("mobilenet_v3_small", "resnet18"):
        model = resolve(name, weights=None).eval()
        start = time.perf_counter()
        made = compress(model, batches, ratio=10)
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"{name}: {made.ratio:.2f} times, {seconds:.0f} s, at most {peak:.1f} GB", flush=True)


if __name__ == "__main__":
    of_torchvision()
    groups()
    compressed(*sys.argv[1:2])
