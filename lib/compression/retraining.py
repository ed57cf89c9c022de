"""Training a network whose weights stay shared.

There are two ways. `train_centers` moves the centers and keeps the labels (Han, Mao and Dally 2016,
section 3.3): the gradient of a center is the sum of the gradients of its weights. `train_through`
keeps a latent float weight for each shared one. The network computes with the shared weights; their
gradients move the latent ones (straight-through estimation: Courbariaux, Bengio and David 2015; Yin
et al. 2019). Every few steps cells and labels are chosen again from the latent weights.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from ..clustering import Prepared
from ..codebook import SharedWeight
from ..engine.labels import rounded
from ..shared import as_it_was_on_error, install, shared_parameters, weight_of
from .calls import called, mapped, n_inputs, part
from .entropy import Cells

WARM_UP_STEPS = 10


def train_centers(
    model: nn.Module,
    features: Any,
    labels: torch.Tensor,
    *,
    epochs: int = 1,
    batch_size: int = 128,
    rate: float = 0.01,
    loss: Callable[[Any, torch.Tensor], torch.Tensor] = cross_entropy,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    progress: Callable = iter,
    after_epoch: Callable[[int, float], Any] | None = None,
) -> nn.Module:
    """Train only the centers of a model's shared layers, in place.

    Half-precision centers move by float32 copies.

    Parameters
    ----------
    model : nn.Module
        With shared layers, of any floating-point dtype. Fixed centers, such as the zero of pruned
        weights, do not move. On an error, KeyboardInterrupt included, it is as it was.
    features : tensor of shape (n, ...), or a tuple or dictionary of tensors
        Inputs of the model. Floating-point and uint8 ones are given to it in its own dtype.
    labels : tensor of shape (n, ...)
        What `loss` compares the outputs with: classes, by default.
    epochs : int, default 1
    batch_size : int, default 128
    rate : float, default 0.01
        Adam's learning rate, in units of the standard deviation of each layer's weights: the
        gradient of a center sums a million weights in one layer and ten thousand in another. It
        falls linearly to 0.
    loss : callable, default torch.nn.functional.cross_entropy
        From the model's outputs and the labels to a scalar, the mean over the inputs. A tensor in
        half precision arrives in float32.
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

    Raises
    ------
    ValueError
        If no layer shares weights.

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
    copies = _Copies(centers for _, centers in found.values())
    groups = [
        {"params": [copies.of(centers)], "lr": rate * _spread(weight_of(model, name))}
        for name, centers in found.values()
    ]
    steps = _Steps(epochs, batch_size, loss, seed, dtype, progress, after_epoch)
    return _train(model, torch.optim.Adam(groups), features, labels, steps, copies)


def _spread(weight):
    """Standard deviation of weights; of equal ones their size."""
    spread, size = weight.float().std(correction=0).item(), weight.float().abs().mean().item()
    return spread or size or 1.0


def train_through(
    model: nn.Module,
    cells_of: Callable[[str, Prepared], Cells | None],
    features: Any,
    labels: torch.Tensor,
    *,
    epochs: int = 1,
    batch_size: int = 128,
    rate: float = 0.01,
    momentum: float = 0.9,
    refit_every: int = 20,
    loss: Callable[[Any, torch.Tensor], torch.Tensor] = cross_entropy,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    progress: Callable = iter,
    after_epoch: Callable[[int, float], Any] | None = None,
) -> nn.Module:
    """Train the latent weights that shared ones are rounded from.

    Parameters
    ----------
    model : nn.Module
        With plain weights, from which training starts, of any floating-point dtype. Modified in
        place; on an error, KeyboardInterrupt included, it is as it was.
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
    features, labels, epochs, batch_size, loss, seed, dtype, progress, after_epoch
        As of `train_centers`. After an epoch the model has the shared weights.

    Returns
    -------
    nn.Module
        The model, whose layers share weights, in evaluation mode.

    Raises
    ------
    ValueError
        If no layer gets cells, or two that are tied do.

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
    biases = _biases(model, latent_weights.latent)
    copies = _Copies(biases)
    moved = [*latent_weights.latent.values(), *map(copies.of, biases)]
    optimizer = torch.optim.SGD(moved, rate, momentum=momentum)
    steps = _Steps(epochs, batch_size, loss, seed, dtype, progress, after_epoch)
    return _train(model, optimizer, features, labels, steps, copies, latent_weights)


def _biases(model, names):
    """The biases of layers, each once."""
    found = [getattr(model.get_submodule(name), "bias", None) for name in names]
    return list({id(bias): bias for bias in found if bias is not None}.values())


def train_plain(
    model: nn.Module,
    parameters: Iterable[nn.Parameter],
    features: Any,
    labels: torch.Tensor,
    *,
    epochs: int = 1,
    batch_size: int = 128,
    rate: float = 0.01,
    momentum: float = 0.9,
    loss: Callable[[Any, torch.Tensor], torch.Tensor] = cross_entropy,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    progress: Callable = iter,
) -> nn.Module:
    """Train a plain model with the steps of `train_through`, as a baseline for it.

    Parameters
    ----------
    model : nn.Module
        Modified in place; on an error, KeyboardInterrupt included, it is as it was.
    parameters : iterable of nn.Parameter
        Those of the model that are trained.
    features, labels, epochs, batch_size, rate, momentum, loss, seed, dtype, progress
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
    parameters = list(parameters)
    copies = _Copies(parameters)
    optimizer = torch.optim.SGD(map(copies.of, parameters), rate, momentum=momentum)
    steps = _Steps(epochs, batch_size, loss, seed, dtype, progress, None)
    return _train(model, optimizer, features, labels, steps, copies)


class _Copies:
    """Float32 copies that an optimizer moves in place of half-precision parameters."""

    def __init__(self, parameters):
        self.parameters = list(parameters)
        self.copies = {
            id(p): nn.Parameter(p.detach().float()) for p in self.parameters if p.itemsize < 4
        }

    def of(self, parameter):
        """What the optimizer gets: the parameter itself, if it is no half-precision one."""
        return self.copies.get(id(parameter), parameter)

    def take(self):
        """After a backward pass: the parameters' gradients."""
        for parameter in self.parameters:
            if parameter is not (copied := self.of(parameter)) and parameter.grad is not None:
                copied.grad, parameter.grad = parameter.grad.float(), None

    @torch.no_grad()
    def give(self):
        """After a step: the parameters' values."""
        for parameter in self.parameters:
            if parameter is not (copied := self.of(parameter)):
                parameter.copy_(copied)


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
                    wide = torch.promote_types(module.weight.dtype, torch.float32)
                    self.latent[name] = nn.Parameter(module.weight.detach().to(wide, copy=True))
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
            if weight.grad is not None:  # else no input has reached it
                latent.grad, weight.grad = weight.grad.to(latent.dtype), None

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


class _Steps(NamedTuple):
    """How a training goes on; as the parameters of `train_centers`."""

    epochs: int
    batch_size: int
    loss: Callable
    seed: int
    dtype: torch.dtype
    progress: Callable
    after_epoch: Callable | None


def _train(model, optimizer, features, labels, steps, copies, latent_weights=None):
    """The training loop of `train_centers`, `train_through` and `train_plain`."""
    before = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    trained = {id(parameter) for parameter in copies.parameters}
    if latent_weights is not None:
        trained |= {id(model.get_submodule(name).weight) for name in latent_weights.latent}
    with as_it_was_on_error(model, [*model.parameters(), *model.buffers()]):
        for parameter, _ in before:
            parameter.requires_grad_(id(parameter) in trained)
        with torch.random.fork_rng():
            torch.manual_seed(steps.seed)  # dropout
            _epochs(model, optimizer, features, labels, steps, copies, latent_weights)
        for parameter, wanted in before:
            parameter.requires_grad_(wanted)
        model.eval()
        if latent_weights is not None:
            latent_weights.install()
    return model


def _epochs(model, optimizer, features, labels, steps, copies, latent_weights):
    peaks = [group["lr"] for group in optimizer.param_groups]
    n, order = n_inputs(features), torch.Generator().manual_seed(steps.seed)
    total, step = steps.epochs * -(-n // steps.batch_size), 0
    for epoch in range(1, steps.epochs + 1):
        model.train()
        losses = 0.0
        for index in steps.progress(torch.randperm(n, generator=order).split(steps.batch_size)):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * min((step + 1) / WARM_UP_STEPS, 1 - step / total)
            if latent_weights is not None:
                latent_weights.before()
            optimizer.zero_grad(set_to_none=True)
            loss = _loss(model, part(features, index), labels[index], steps)
            loss.backward()
            if latent_weights is not None:
                latent_weights.after()
            copies.take()
            optimizer.step()
            copies.give()
            losses, step = losses + loss.item() * len(index), step + 1
        model.eval()
        if latent_weights is not None:
            latent_weights.refit()  # of the latest weights
            latent_weights.show()
        if steps.after_epoch is not None:
            steps.after_epoch(epoch, losses / n)


def _loss(model, inputs, labels, steps):
    """The loss of a batch, in float32 at least."""
    like = next(p for p in model.parameters() if p.is_floating_point())

    def given(value):
        is_value = value.is_floating_point() or value.dtype == torch.uint8
        return value.to(like) if is_value else value.to(like.device)

    with torch.autocast(like.device.type, steps.dtype, enabled=steps.dtype != torch.float32):
        outputs = called(model, mapped(inputs, given))
    if isinstance(outputs, torch.Tensor) and outputs.is_floating_point() and outputs.itemsize < 4:
        outputs = outputs.float()
    return steps.loss(outputs, labels.to(like.device))
