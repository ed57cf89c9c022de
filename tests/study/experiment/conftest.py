"""A narrow network and few images, where neither the width nor the number matters."""

import copy

import pytest
import torch
from torch import nn

from lib.study.experiment.data import load_images
from lib.study.experiment.network import CONVOLUTIONS, LINEARS, alexnet


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
