"""A network of depthwise convolutions, which plain k-means hurts most, trained for a minute."""

import pytest
import torch
from torch import nn

import lib
from lib.study.experiment.data import load_images

N_TRAIN, N_TEST, EPOCHS, BATCH = 10_000, 2_000, 3, 64


def block(into, out, stride):
    """A depthwise and a pointwise convolution, each with batch normalization."""
    return nn.Sequential(
        nn.Conv2d(into, into, 3, stride, 1, groups=into, bias=False),
        nn.BatchNorm2d(into),
        nn.ReLU6(),
        nn.Conv2d(into, out, 1, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU6(),
    )


def depthwise():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, 2, 1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU6(),
        block(16, 32, 1),
        block(32, 64, 2),
        block(64, 64, 1),
        block(64, 128, 2),
        block(128, 128, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(128, 10),
    )


def prepared(images):
    return images.pixels[:, None].float() / 128 - 1, images.labels


@pytest.fixture(scope="module")
def trained():
    """The network, and its inputs and labels for calibration and for the test."""
    model = depthwise()
    inputs, labels = prepared(load_images("train", N_TRAIN))
    steps = EPOCHS * -(-N_TRAIN // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    for _ in range(EPOCHS):
        for index in torch.randperm(N_TRAIN).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs[index]), labels[index]).backward()
            optimizer.step()
            schedule.step()
    return model.eval(), inputs[:512], prepared(load_images("test", N_TEST))


@torch.no_grad()
def top1(model, inputs, labels):
    return 100 * (model(inputs).argmax(1) == labels).double().mean().item()


@pytest.mark.slow
@pytest.mark.parametrize(("n_clusters", "k_means_loses"), [(16, 0), (8, 4)])
def test_it_loses_little_where_k_means_of_the_same_size_loses_much(
    trained, n_clusters, k_means_loses
):
    """Measured: 86.05 % in float; at 4 bits 85.3 and 86.05 %, at 3 bits 78.25 and 86.15 %."""
    model, calibration, test = trained
    before = top1(model, *test)
    assert before > 80
    plain = lib.share_weights(model, n_clusters)
    small = lib.compress(model, calibration.split(64), n_bytes=plain.bytes_after)
    assert small.bits_per_weight == pytest.approx(plain.bits_per_weight, rel=0.011)
    assert before - top1(small.model, *test) < 2
    assert before - top1(plain.model, *test) > k_means_loses
