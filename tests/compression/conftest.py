"""What tests of exports share."""

import pytest
import torch
from torch import nn

from lib.codebook import SharedWeight
from lib.shared import install


@pytest.fixture(scope="session")
def network():
    """From a number of centers to a small network of so many, with factors of channels or not."""
    return _network


def _network(k, scale=False):
    torch.manual_seed(k)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 25, 7)
    ).eval()
    for layer in (model[0], model[3]):
        labels = torch.randint(0, k, layer.weight.shape)
        labels.view(-1)[:k] = torch.arange(k)[: labels.numel()]
        factors = torch.rand(len(labels), *[1] * (labels.dim() - 1)) + 0.5 if scale else None
        shared = SharedWeight(labels, k, scale=factors)
        install(layer, "weight", shared, torch.randn(k).sort().values)
    return model
