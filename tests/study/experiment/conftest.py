"""A narrow network, a tiny one, and a clock, where width, number and time do not matter."""

import copy

import pytest
import torch
from torch import nn

from lib.study.experiment import timing
from lib.study.experiment.data import load_images
from lib.study.experiment.network import CONVOLUTIONS, LINEARS, alexnet
from lib.study.experiment.textbook import TextbookCells


@pytest.fixture
def clocked(monkeypatch):
    """Textbook cells on a clock that their passes alone move: 1 to assign, 0.5 to try splits."""
    passed = [0.0]

    class Clocked(TextbookCells):
        def assign(self, centers):
            passed[0] += 1
            return super().assign(centers)

        def lower_parts(self, means):
            passed[0] += 0.5
            return super().lower_parts(means)

    monkeypatch.setattr(timing.time, "perf_counter", lambda: passed[0])
    return Clocked


@pytest.fixture
def three_weights():
    """A network whose layers all have the same three weights."""

    class Layers:
        def get_submodule(self, path):
            return nn.Linear(3, 1)

    return Layers()


@pytest.fixture(scope="session")
def narrow_network():
    """The study's network at a quarter of its width; the classifier, of 64 neurons, untrained.

    The convolutions hold the first weights of ImageNet's, so that they are distributed alike.
    """
    torch.manual_seed(0)
    network, n_in = alexnet(), 3
    for path in CONVOLUTIONS.values():
        wide = network.get_submodule(path)
        n_out = wide.out_channels // 4
        narrow = nn.Conv2d(n_in, n_out, wide.kernel_size, wide.stride, wide.padding)
        narrow.weight.data = wide.weight[:n_out, :n_in].clone()
        narrow.bias.data = wide.bias[:n_out].clone()
        network.set_submodule(path, narrow)
        n_in = n_out
    sizes = [(36 * n_in, 64), (64, 64), (64, 10)]
    for path, size in zip(LINEARS.values(), sizes, strict=True):
        layer = nn.Linear(*size)
        nn.init.normal_(layer.weight, std=0.02)
        network.set_submodule(path, layer)
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def narrow(narrow_network, tmp_path_factory):
    """The narrow network, in place of the study's; 40 held-out images; results of their own."""
    folder = tmp_path_factory.mktemp("narrow")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESULTS", str(folder))
        patch.setattr("lib.study.experiment.evaluation.CACHE", folder)
        patch.setattr("lib.compression.entropy.N_BINS", 1024)  # a quarter, for few weights
        for module in ("network", "frontier"):
            patch.setattr(
                f"lib.study.experiment.{module}.alexnet", lambda: copy.deepcopy(narrow_network)
            )
        patch.setattr(
            "lib.study.experiment.frontier.load_images",
            lambda split, n=None: load_images(split, 40 if split == "held-out" else n),
        )
        yield narrow_network
