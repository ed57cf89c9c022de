"""Training a network whose weights stay shared.

There are two ways. `train_centers` moves the centers and keeps the labels (Han, Mao and Dally 2016,
section 3.3): the gradient of a center is the sum of the gradients of its weights. `train_through`
keeps a latent float weight for each shared one. The network computes with the shared weights; their
gradients move the latent ones (straight-through estimation: Courbariaux, Bengio and David 2015; Yin
et al. 2019). Every few steps cells and labels are chosen again from the latent weights.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from ..clustering import Prepared
from ..codebook import SharedWeight
from ..engine.labels import rounded
from ..sharing import install, shared_parameters, weight_of
from .entropy import Cells

WARM_UP_STEPS = 10


def train_centers(
    model: nn.Module,
    features: torch.Tensor,
    labels: torch.Tensor,
    *,
    epochs: int = 1,
    batch_size: int = 128,
    rate: float = 0.01,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    progress: Callable = iter,
    after_epoch: Callable[[int, float], Any] | None = None,
) -> nn.Module:
    """Train only the centers of a model's shared layers, in place.

    Parameters
    ----------
    model : nn.Module
        With shared layers; returns class scores. Fixed centers, such as the zero of pruned weights,
        do not move.
    features : tensor of shape (n, ...)
        Inputs of the model.
    labels : int64 tensor of shape (n,)
    epochs : int, default 1
    batch_size : int, default 128
    rate : float, default 0.01
        Adam's learning rate, in units of the standard deviation of each layer's weights: the
        gradient of a center sums a million weights in one layer and ten thousand in another. It
        falls linearly to 0.
    seed : int, default 0
        For the order of the inputs and for dropout.
    dtype : torch.dtype, default torch.float32
        Of forward and backward passes: torch.bfloat16 runs them under autocast.
    progress : callable, default iter
        Wraps the steps of an epoch.
    after_epoch : callable, optional
        Called after each epoch with its number and its mean loss; the model is then in evaluation
        mode.

    Returns
    -------
    nn.Module
        The model, in evaluation mode.

    Examples
    --------
    >>> import torch
    >>> import lib
    >>> from lib.compression import train_centers
    >>> model = torch.nn.Sequential(torch.nn.Linear(16, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> shared = lib.share_weights(model, 4).model
    >>> inputs = torch.randn(256, 16)
    >>> losses = []
    >>> _ = train_centers(shared, inputs, (inputs[:, 0] > 0).long(), epochs=10,
    ...                   after_epoch=lambda epoch, loss: losses.append(loss))
    >>> losses[-1] < losses[0]
    True
    """
    found = {id(p.original): (name, p.original) for name, p in shared_parameters(model).items()}
    groups = [
        {"params": [centers], "lr": rate * weight_of(model, name).std().item()}
        for name, centers in found.values()
    ]
    return _train(
        model,
        torch.optim.Adam(groups),
        features,
        labels,
        *(epochs, batch_size, seed, dtype, progress, after_epoch),
    )


def train_through(
    model: nn.Module,
    cells_of: Callable[[str, Prepared], Cells | None],
    features: torch.Tensor,
    labels: torch.Tensor,
    *,
    epochs: int = 1,
    batch_size: int = 128,
    rate: float = 0.01,
    momentum: float = 0.9,
    refit_every: int = 20,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    progress: Callable = iter,
    after_epoch: Callable[[int, float], Any] | None = None,
) -> nn.Module:
    """Train the latent weights that shared ones are rounded from.

    Parameters
    ----------
    model : nn.Module
        With plain weights, from which training starts. Modified in place.
    cells_of : callable
        From the name of a layer and its `Prepared` weights to its `Cells`, or to None for a layer
        that stays plain and does not train. It is called every `refit_every` steps and after each
        epoch. The biases of the layers that train are trained too.
    rate : float, default 0.01
        Learning rate of SGD; it rises for 10 steps and then falls linearly to 0.
    momentum : float, default 0.9
        Of SGD.
    refit_every : int, default 20
        Steps between two choices of the cells.
    features, labels, epochs, batch_size, seed, dtype, progress, after_epoch
        As of `train_centers`. After an epoch the model has the shared weights.

    Returns
    -------
    nn.Module
        The model, whose layers share weights, in evaluation mode.

    Examples
    --------
    >>> import torch
    >>> from lib.compression import train_through, uniform_cells
    >>> model = torch.nn.Sequential(torch.nn.Linear(16, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> inputs = torch.randn(256, 16)
    >>> losses = []
    >>> _ = train_through(model, lambda name, weights: uniform_cells(weights, 0.1), inputs,
    ...                   (inputs[:, 0] > 0).long(), epochs=10,
    ...                   after_epoch=lambda epoch, loss: losses.append(loss))
    >>> losses[-1] < losses[0]
    True
    >>> len(model[0].weight.unique()) < 16
    True
    """
    latent_weights = _LatentWeights(model, cells_of, refit_every)
    biases = [
        layer.bias
        for layer in (model.get_submodule(name) for name in latent_weights.latent)
        if layer.bias is not None
    ]
    optimizer = torch.optim.SGD([*latent_weights.latent.values(), *biases], rate, momentum=momentum)
    settings = (epochs, batch_size, seed, dtype, progress, after_epoch)
    _train(model, optimizer, features, labels, *settings, latent_weights)
    return latent_weights.install()


def train_plain(
    model: nn.Module,
    parameters: Iterable[nn.Parameter],
    features: torch.Tensor,
    labels: torch.Tensor,
    *,
    epochs: int = 1,
    batch_size: int = 128,
    rate: float = 0.01,
    momentum: float = 0.9,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    progress: Callable = iter,
) -> nn.Module:
    """Train a plain model with the steps of `train_through`, as a baseline for it.

    Parameters
    ----------
    model : nn.Module
        Modified in place.
    parameters : iterable of nn.Parameter
        Those of the model that are trained.
    features, labels, epochs, batch_size, rate, momentum, seed, dtype, progress
        As of `train_through`.

    Returns
    -------
    nn.Module
        The model, in evaluation mode.

    Examples
    --------
    >>> import torch
    >>> from lib.compression import train_plain
    >>> model = torch.nn.Sequential(torch.nn.Linear(16, 2))
    >>> inputs = torch.randn(256, 16)
    >>> _ = train_plain(model, model.parameters(), inputs, (inputs[:, 0] > 0).long(), epochs=20)
    >>> bool((model(inputs).argmax(1) == (inputs[:, 0] > 0)).float().mean() > 0.6)
    True
    """
    optimizer = torch.optim.SGD(list(parameters), rate, momentum=momentum)
    return _train(
        model, optimizer, features, labels, *(epochs, batch_size, seed, dtype, progress, None)
    )


class _LatentWeights:
    """The float weights that a model's shared weights are rounded from."""

    def __init__(self, model, cells_of, refit_every):
        self.model, self.cells_of, self.refit_every = model, cells_of, refit_every
        self.latent, self.cells, self.step = {}, {}, 0
        seen = {}
        for name, module in model.named_modules():
            if isinstance(getattr(module, "weight", None), nn.Parameter):
                cells = cells_of(name, Prepared(module.weight))
                if cells is not None:
                    if (first := seen.setdefault(module.weight, name)) != name:
                        raise ValueError(
                            f"{first} and {name} are tied: return cells for one of them."
                        )
                    self.cells[name] = cells
                    self.latent[name] = nn.Parameter(module.weight.detach().clone())
        if not self.latent:
            raise ValueError("cells_of returned no cells for any layer: there is nothing to train.")

    def before(self):
        """Before a step: put the shared weights into the model, of new cells every few steps."""
        if self.step > 0 and self.step % self.refit_every == 0:
            self.refit()
        self.step += 1
        self.show()

    def show(self):
        """Put the shared weights into the model."""
        for name, latent in self.latent.items():
            weight = self.model.get_submodule(name).weight
            weight.data.copy_(self._rounded(name, latent.detach()))

    def after(self):
        """After a backward pass: give the shared weights' gradients to the latent ones."""
        for name, latent in self.latent.items():
            weight = self.model.get_submodule(name).weight
            latent.grad, weight.grad = weight.grad, None

    def refit(self):
        """Choose the cells again."""
        for name, latent in self.latent.items():
            self.cells[name] = self.cells_of(name, Prepared(latent))

    def install(self):
        """Make the layers share weights."""
        for name, latent in self.latent.items():
            install_cells(self.model, name, Prepared(latent), self.cells[name])
        return self.model

    def _rounded(self, name, latent):
        cells = self.cells[name]
        centers = half_centers(cells)
        if latent.is_cuda or latent.dtype != torch.float32:
            cuts = torch.from_numpy(np.asarray(cells.cuts)).to(latent)
            return torch.from_numpy(centers).to(latent)[torch.bucketize(latent, cuts, right=True)]
        values = rounded(latent.numpy().reshape(-1), cells.cuts.astype(np.float32), centers)
        return torch.from_numpy(values).view_as(latent)


def half_centers(cells: Cells) -> np.ndarray:
    """The centers as a file stores them: float32 values that float16 represents exactly.

    Raises
    ------
    ValueError
        If float16 overflows, or changes a center by more than 1/256 of the largest one.
    """
    with np.errstate(over="ignore"):
        centers = cells.centers.astype(np.float16).astype(np.float32)
    largest = np.abs(cells.centers).max()
    if np.abs(centers - cells.centers).max() > largest / 256:
        raise ValueError(f"centers up to {largest:g} do not fit float16: scale the weights.")
    return centers


def install_cells(model: nn.Module, layer: str, prepared: Prepared, cells: Cells) -> None:
    """Make a layer share the centers of cells of its weights, in place.

    The centers are rounded to half precision. A center of exactly 0 is fixed.

    Parameters
    ----------
    model : nn.Module
    layer : str
    prepared : Prepared
        The weights that the cells were made from.
    cells : Cells

    Examples
    --------
    >>> import torch
    >>> import lib
    >>> from lib.compression import install_cells, uniform_cells
    >>> model = torch.nn.Sequential(torch.nn.Linear(16, 8))
    >>> weights = lib.Prepared(model[0].weight)
    >>> cells = uniform_cells(weights, 0.1)
    >>> install_cells(model, "0", weights, cells)
    >>> len(model[0].weight.unique()) == len(cells.centers)
    True
    """
    labels = torch.as_tensor(np.asarray(cells.labels(prepared)).astype(np.int32))
    parameter = f"{layer}.weight".removeprefix(".")
    weight = model.get_parameter(parameter)
    zero = np.flatnonzero(cells.centers == 0)
    fixed = int(zero[0]) if len(zero) else None
    shared = SharedWeight(labels.to(weight.device), len(cells.centers), fixed=fixed)
    install(model, parameter, shared, torch.from_numpy(half_centers(cells)))


def _train(
    model,
    optimizer,
    features,
    labels,
    epochs,
    batch_size,
    seed,
    dtype,
    progress,
    after_epoch,
    latent_weights=None,
):
    """The training loop of `train_centers`, `train_through` and `train_plain`."""
    peaks = [group["lr"] for group in optimizer.param_groups]
    steps, step = epochs * -(-len(features) // batch_size), 0
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    parameters = list(model.parameters())
    if latent_weights is not None:
        trained |= {id(model.get_submodule(name).weight) for name in latent_weights.latent}
    before = [parameter.requires_grad for parameter in parameters]
    for parameter in parameters:
        parameter.requires_grad_(id(parameter) in trained)
    order = torch.Generator().manual_seed(seed)
    device = next(model.parameters()).device
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # dropout
        for epoch in range(1, epochs + 1):
            model.train()
            losses = 0.0
            for batch in progress(torch.randperm(len(features), generator=order).split(batch_size)):
                for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                    group["lr"] = peak * min((step + 1) / WARM_UP_STEPS, 1 - step / steps)
                if latent_weights is not None:
                    latent_weights.before()
                optimizer.zero_grad(set_to_none=True)
                with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                    scores = model(features[batch].float().to(device))
                loss = cross_entropy(scores.float(), labels[batch].to(device))
                loss.backward()
                if latent_weights is not None:
                    latent_weights.after()
                optimizer.step()
                losses, step = losses + loss.item() * len(batch), step + 1
            model.eval()
            if latent_weights is not None:
                latent_weights.refit()  # of the latest weights
                latent_weights.show()
            if after_epoch is not None:
                after_epoch(epoch, losses / len(features))
    for parameter, wanted in zip(parameters, before, strict=True):
        parameter.requires_grad_(wanted)
    return model.eval()
