"""The passes of `lib.engine.passes` by torch, on the CUDA device that has the weights."""

import numpy as np
import torch

from .passes import SHIFT

PART = 1 << 24  # weights at a time: a pass takes 24 bytes for each


class DevicePasses:
    """The passes over a tensor, on its device; only sums and chosen weights leave it.

    Parameters
    ----------
    weights : torch.Tensor of shape (n,)
        float32, float16 or bfloat16; contiguous. Kept, not copied, not modified.
    sample_weight : torch.Tensor of shape (n,), optional
        On the same device. Weights of sample weight 0 are labelled, and otherwise left out.

    Notes
    -----
    The last bits of sums of sample weights depend on the order in which a device adds them up.
    """

    def __init__(self, weights, sample_weight=None):
        self.kind = str(weights.dtype).removeprefix("torch.")
        self.shift, self.width = SHIFT[self.kind], 8 * weights.itemsize
        self.n_leaves, self.n_labels = 1 << (self.width - self.shift), len(weights)
        self.labelled = weights
        if sample_weight is not None and not sample_weight.all():
            ranked = (sample_weight > 0) | ~weights.isfinite()  # these are refused
            weights, sample_weight = weights[ranked], sample_weight[ranked]
        self.weights, self.sample_weight = weights, sample_weight

    def tally(self):
        """As of `Passes`."""
        counts, totals, squares = self.weights.new_zeros((3, self.n_leaves), dtype=torch.float64)
        for part in self._parts(self.weights):
            number, remainder = self._split(part)
            remainder = remainder.double()
            for sums, power in ((totals, remainder), (squares, remainder**2)):
                sums += torch.bincount(number, power, self.n_leaves)
            counts += torch.bincount(number, minlength=self.n_leaves)
        numbers = counts.nonzero().flatten()
        # Whole numbers below 2 ** 53: exact.
        sums = torch.stack([counts, totals, squares])[:, numbers].long().cpu().numpy()
        self.numbers = numbers
        return numbers.cpu().numpy(), *sums, self._tally_weighted()

    def _tally_weighted(self):
        if self.sample_weight is None:
            return None
        sums = self.weights.new_zeros((3, self.n_leaves), dtype=torch.float64)
        both = zip(self._parts(self.weights), self._parts(self.sample_weight), strict=True)
        for part, sample_weight in both:
            number, remainder = self._split(part)
            for power in range(3):
                moment = sample_weight.double() * remainder.double() ** power
                sums[power] += torch.bincount(number, moment, self.n_leaves)
        return sums[:, self.numbers].cpu().numpy()

    def gather(self, chosen):
        """As of `Passes`."""
        wanted = torch.zeros(self.n_leaves, dtype=torch.bool, device=self.weights.device)
        wanted[self.numbers[torch.from_numpy(chosen).to(self.numbers.device)]] = True
        found = [self._ordinals(part) for part in self._parts(self.weights)]
        masks = [wanted[self._leaf_number(ordinals)] for ordinals in found]
        ordinals = torch.cat([part[mask] for part, mask in zip(found, masks, strict=True)])
        ordinals, order = torch.sort(ordinals, stable=True)
        members = (ordinals & ((1 << self.shift) - 1)).to(torch.int16).cpu().numpy()
        if self.sample_weight is None:
            return members.view(np.uint16), None
        theirs = self.sample_weight[torch.cat(masks)][order]
        return members.view(np.uint16), theirs.cpu().numpy()

    def label(self, keys, dtype):
        """As of `Passes`; a tensor on the device."""
        keys = torch.from_numpy(keys - (1 << (self.width - 1))).to(self.weights.device)
        labels = torch.empty(
            self.n_labels, dtype=getattr(torch, np.dtype(dtype).name), device=keys.device
        )
        found = zip(self._parts(self.labelled), self._parts(labels), strict=True)
        for part, out in found:
            ordinals = self._ordinals(part)
            out.copy_(torch.searchsorted(keys, ordinals.long(), right=True, out_int32=True))
        return labels

    def _parts(self, tensor):
        return tensor.split(PART)

    def _ordinals(self, weights):
        """Ordinals of the floats, int32."""
        integer = torch.int32 if self.width == 32 else torch.int16
        bits = weights.view(integer).int()
        return bits ^ ((bits >> 31) & ((1 << (self.width - 1)) - 1))

    def _leaf_number(self, ordinals):
        return (ordinals >> self.shift) + self.n_leaves // 2

    def _split(self, weights):
        ordinals = self._ordinals(weights)
        return self._leaf_number(ordinals), ordinals & ((1 << self.shift) - 1)
