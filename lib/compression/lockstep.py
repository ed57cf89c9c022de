"""Forward passes side by side: each stops wherever it uses a weight, until that is answered.

So a layer can be compressed when all inputs have reached it, on what the compressed layers before
it made of them, and the passes go on: one forward pass in all, whatever the number of layers. A
pass is a thread, since a forward pass cannot stop in any other way; one runs at a time.
"""

import contextlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from .calls import Call, Uses, called


class _Cancelled(Exception):
    """The passes are given up."""


class Walk:
    """A forward pass of a batch that stops at each use of a weight.

    Attributes
    ----------
    call : Call or None
        What it waits for; None when it has ended.
    outputs : object
        Of the model, when it has ended.
    """

    def __init__(self, model, batch, weights):
        self.model, self.batch, self.weights = model, batch, weights
        self.call: Any = None  # a Call where it waits
        self.outputs = self.error = self.answer = None
        self.cancelled = False
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, name="walk", daemon=True)
        self._thread.start()
        self.advance(None)

    def waits(self, name: str) -> bool:
        """Whether it is stopped at this weight."""
        return self.call is not None and self.call.name == name

    def advance(self, answer: Any) -> None:
        """Let it go on with the output of its call, until it stops again or ends."""
        self.call, self.answer = None, answer
        self._go.release()
        self._stopped.acquire()
        if self.error is not None:
            raise self.error

    def cancel(self) -> None:
        """End it."""
        self.cancelled = True
        self._go.release()
        self._thread.join()

    def _run(self):
        self._go.acquire()
        try:
            if not self.cancelled:
                with torch.no_grad(), Uses(self.weights, self._ask):
                    self.outputs = called(self.model, self.batch)
        except _Cancelled:
            pass
        except BaseException as error:  # raised where the pass is waited for
            self.error = error
        finally:
            self._stopped.release()

    def _ask(self, call):
        self.call = call
        self._stopped.release()
        self._go.acquire()
        if self.cancelled:
            raise _Cancelled
        answer, self.answer = self.answer, None
        return answer


@contextlib.contextmanager
def walks(
    model: nn.Module, batches: Iterable[Any], weights: dict[int, str]
) -> Iterator[list[Walk]]:
    """A `Walk` of each batch, at its first call; ended whatever happens."""
    begun: list[Walk] = []
    try:
        for batch in batches:
            begun.append(Walk(model, batch, weights))
        yield begun
    finally:
        for walk in begun:
            walk.cancel()


class Stop(NamedTuple):
    """Where passes wait.

    Attributes
    ----------
    name : str
        Of the weight.
    ours : list of Walk
        Those that wait there.
    theirs : list of (Call or None)
        What the float model's pass of the same batch calls there.
    exact : list of (torch.Tensor or None)
        What that computes.
    """

    name: str
    ours: list[Walk]
    theirs: list[Call | None]
    exact: list[torch.Tensor | None]


def stops(ours: Sequence[Walk], theirs: Sequence[Walk]) -> Iterator[Stop]:
    """Wherever passes wait.

    The consumer lets ours go on; theirs, of the float model, go on by themselves. Where the way
    through a model depends on its inputs, one of ours may be there without its float one.

    Parameters
    ----------
    ours, theirs : sequence of Walk
        Of the same batches.

    Yields
    ------
    Stop
    """
    both = [*ours, *theirs]
    while waiting := [walk for walk in both if walk.call is not None]:
        name = waiting[0].call.name
        with torch.no_grad():
            exact = {walk: walk.call.output() for walk in theirs if walk.waits(name)}
        pairs = [pair for pair in zip(ours, theirs, strict=True) if pair[0].waits(name)]
        calls = [b.call if b in exact else None for _, b in pairs]
        yield Stop(name, [a for a, _ in pairs], calls, [exact.get(b) for _, b in pairs])
        for walk in list(exact):
            walk.advance(exact.pop(walk))


def paired(
    ours: Sequence[torch.Tensor], theirs: Sequence[torch.Tensor | None]
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Pairs of what `stops` tells of the same batch, where the float pass was there, too."""
    return [(a, b) for a, b in zip(ours, theirs, strict=True) if b is not None]
