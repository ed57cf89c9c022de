"""Train the classifier on cached features until training has formed its weights.

After a few epochs of plain SGD fc6 still has almost the weights that torch's initializer drew, and
their distribution is the initializer's. So in the first half of training fc6 and fc7 decay
strongly, which removes the initial weights; in the second half they do not decay and fit the data.
"""

import dataclasses
import hashlib
import json
import time
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch.nn.functional import cross_entropy

from ...files import write_atomically
from ..paths import ROOT, results_folder
from .data import load_images
from .named import from_mapping
from .network import LINEARS, alexnet, device, extract_features, logits, numerics_key, precision
from .progress import progress

CACHE = ROOT / ".cache"
NETWORKS = "networks.json"
NORMAL_STD = {"fc6": 0.005, "fc7": 0.005, "fc8": 0.01}  # Krizhevsky et al. (2012), section 5
INITIALIZERS = ("normal", "torch")
WARM_UP_STEPS = 20


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How one classifier is trained.

    Attributes
    ----------
    seed : int
        Of the initial weights, the order of the images and dropout.
    initializer : str
        "normal" (Krizhevsky et al. 2012) or "torch" (torch's default).
    epochs : int
    batch_size : int
    peak_rate : float
        Learning rate after 20 warm-up steps; constant for the first half, then linear to 0.
    momentum : float
    decay : float
        Share of fc6's and fc7's weights taken off at each step of the first half.
    n_images, n_held_out : int
        Training images, and held-out images for the history.
    """

    seed: int = 0
    initializer: str = "normal"
    epochs: int = 5
    batch_size: int = 128
    peak_rate: float = 0.02
    momentum: float = 0.9
    decay: float = 0.03
    n_images: int = 10_000
    n_held_out: int = 1_000

    def __post_init__(self):
        if self.initializer not in INITIALIZERS:
            known = " or ".join(map(repr, INITIALIZERS))
            raise ValueError(f"initializer={self.initializer!r} is unknown: choose {known}.")

    @property
    def name(self):
        """Short name of the network in tables."""
        return f"{self.initializer}-{self.seed}"

    @property
    def checkpoint(self):
        """File of the trained classifier."""
        return CACHE / "networks" / f"{self.name}-{self.key}.safetensors"

    @property
    def key(self):
        """Content key of what the training depends on."""
        text = json.dumps(dataclasses.asdict(self)) + Path(__file__).read_text() + numerics_key()
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def training_configs(networks, **common):
    """How each network of an experiment is trained.

    Parameters
    ----------
    networks : sequence of dict
        Fields of `TrainingConfig` by name, in which the networks differ.
    **common
        Fields that all of them share.

    Raises
    ------
    TypeError, ValueError
        For an unknown field, a value of another type, or two networks of the same name.
    """
    configs = [from_mapping(TrainingConfig, common | network) for network in networks]
    names = [config.name for config in configs]
    if len(set(names)) < len(names):
        raise ValueError(f"networks {', '.join(names)}: no two may have the same name.")
    return configs


def train_networks(experiment, configs):
    """Train an experiment's networks and record them for the notebooks that follow.

    Returns
    -------
    dict of str to torchvision.models.AlexNet
        By name, the headline one first.
    """
    networks = {config.name: trained_network(config)[0] for config in configs}
    save_configs(experiment, configs)
    return networks


def training_rows(configs, test_top1):
    """Rows of the table `training`: one an epoch; the last one has the test accuracy too.

    Parameters
    ----------
    configs : sequence of TrainingConfig
        Of networks that are trained.
    test_top1 : dict of str to float
        Percent, by the network's name.
    """
    rows = []
    for config in configs:
        columns = {"network": config.name, "seed": config.seed, "initializer": config.initializer}
        epochs = [columns | epoch | {"test_top1": None} for epoch in _history(config.checkpoint)]
        epochs[-1]["test_top1"] = test_top1[config.name]
        rows += epochs
    return rows


def trained_network(config):
    """The trained network and its history, from the cache if they are in it.

    Parameters
    ----------
    config : TrainingConfig

    Returns
    -------
    network : torchvision.models.AlexNet
        float32, on the CPU, in evaluation mode.
    history : list of dict
        One an epoch: `epoch`, `seconds`, `train_loss` and `held_out_top1`.
    """
    network, path = alexnet(), config.checkpoint
    if not path.exists():
        history = train_classifier(network.classifier, config)
        state = {
            name: tensor.contiguous() for name, tensor in network.classifier.state_dict().items()
        }
        write_atomically(path, save(state, {"history": json.dumps(history)}))
    network.classifier.load_state_dict(load_file(path))
    return network.eval(), _history(path)


def _history(path):
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["history"])


def save_configs(experiment, configs):
    """Record the experiment's networks for the notebooks that follow."""
    text = json.dumps([dataclasses.asdict(config) for config in configs], indent=1)
    write_atomically(results_folder(experiment) / NETWORKS, text)


def load_networks(experiment):
    """The experiment's trained networks by name, the headline one first.

    A point of a sweep has the networks of its sweep, in whose folder its own folder is.
    """
    folder = results_folder(experiment)
    records = [place / NETWORKS for place in (folder, *folder.parents)]
    record = next((path for path in records if path.exists()), None)
    if record is None:
        raise FileNotFoundError(f"{NETWORKS} of {experiment!r} is missing: run 01-train first.")
    configs = [TrainingConfig(**fields) for fields in json.loads(record.read_text())]
    return {config.name: trained_network(config)[0] for config in configs}


def initialize(classifier, config):
    """Set the classifier's initial weights, by `config.seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        for name, module in named_linears(classifier):
            module.reset_parameters()
            if config.initializer == "normal":
                torch.nn.init.normal_(module.weight, std=NORMAL_STD[name])
                torch.nn.init.zeros_(module.bias)


def named_linears(classifier):
    """fc6, fc7 and fc8 of the classifier with their names."""
    return [(name, classifier[int(path.split(".")[1])]) for name, path in LINEARS.items()]


def train_classifier(classifier, config):
    """Train in place on the cached features of the training images; returns the history."""
    features, labels = cached_features("train", config.n_images)
    held_out = cached_features("held-out", config.n_held_out)
    initialize(classifier, config)
    classifier.to(device()).train().requires_grad_(True)
    optimizer = torch.optim.SGD(
        classifier.parameters(), config.peak_rate, momentum=config.momentum, fused=True
    )
    forgetful = [module.weight for name, module in named_linears(classifier) if name != "fc8"]
    steps = config.epochs * -(-len(features) // config.batch_size)
    order = torch.Generator().manual_seed(config.seed)
    history, step = [], 0
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)  # dropout
        for epoch in range(1, config.epochs + 1):
            start, loss_sum = time.perf_counter(), 0.0
            shuffled = torch.randperm(len(features), generator=order).split(config.batch_size)
            for batch in progress(shuffled, f"{config.name}, epoch {epoch}"):
                for group in optimizer.param_groups:
                    group["lr"] = config.peak_rate * rate(step, steps)
                loss = _step(classifier, optimizer, features[batch], labels[batch])
                if step < steps // 2:
                    torch._foreach_mul_([w.data for w in forgetful], 1 - config.decay)
                loss_sum, step = loss_sum + loss * len(batch), step + 1
            seconds = time.perf_counter() - start
            history.append(
                {
                    "epoch": epoch,
                    "seconds": seconds,
                    "train_loss": loss_sum / len(features),
                    "held_out_top1": top1(classifier.eval(), *held_out),
                }
            )
            classifier.train()
    classifier.cpu().eval().requires_grad_(False)
    return history


def rate(step, steps):
    """Learning rate as a share of its peak: warm-up, constant, then linear to 0."""
    return min((step + 1) / WARM_UP_STEPS, 1.0, 2 * (steps - step) / steps)


def _step(classifier, optimizer, features, labels):
    """One step of SGD; the batch's mean loss."""
    reduced = precision() if device().type == "cpu" else torch.bfloat16
    with torch.autocast(device().type, reduced, enabled=reduced == torch.bfloat16):
        scores = classifier(features.float().to(device()))
    loss = cross_entropy(scores.float(), labels.to(device()))
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss.item()


def top1(classifier, features, labels):
    """Top-1 accuracy in percent."""
    return 100 * (logits(classifier, features.float()).argmax(1) == labels).float().mean().item()


def cached_features(split, n_images):
    """Features (float16, n x 9216) and labels of a split's images; extracted once, then cached."""
    images = load_images(split, n_images)
    path = CACHE / "features" / f"{split}-{n_images}-{numerics_key()}.safetensors"
    if not path.exists():
        features = extract_features(alexnet().features, images.pixels, f"features of {split}")
        write_atomically(path, save({"features": features.half()}))
    return load_file(path)["features"], images.labels


def layer_rows(networks, configs):
    """Rows of the table `layers` for every network."""
    return [row for config in configs for row in weight_statistics(networks[config.name], config)]


def weight_statistics(network, config):
    """Rows of the table `layers`: spread, tails, and correlation with the initial weights."""
    initial = alexnet()
    initialize(initial.classifier, config)
    rows = []
    for name, path in LINEARS.items():
        weight = network.get_submodule(path).weight.numpy().reshape(-1)
        before = initial.get_submodule(path).weight.numpy().reshape(-1)
        centered = weight - weight.mean(dtype=np.float64)
        variance = np.mean(centered**2, dtype=np.float64)
        rows.append(
            {
                "network": config.name,
                "layer": name,
                "n_weights": weight.size,
                "std": variance**0.5,
                "kurtosis": np.mean(centered**4, dtype=np.float64) / variance**2 - 3,
                "correlation_with_init": np.corrcoef(weight, before)[0, 1],
            }
        )
    return rows
