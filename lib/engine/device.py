"""The passes of `lib.engine.passes` by torch, where the weights are: on a CUDA device."""

import numpy as np
import torch

from .passes import SHIFT

PART = 1 << 24  # weights at a time: what a pass makes of them takes 24 bytes each


class DevicePasses:
    """The passes over a tensor, on its device; only sums and chosen weights leave it.

    Parameters
    ----------
    weights : torch.Tensor of shape (n,)
        float32, float16 or bfloat16; contiguous. Kept, not copied, not modified.
    sample_weight : torch.Tensor of shape (n,), optional
        On the same device. Weights of importance 0 are labelled, and otherwise left out.

    Notes
    -----
    Sums of sample weights depend in their last bits on the order in which a device adds them up.
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
            leaf, remainder = self._split(part)
            remainder = remainder.double()
            for sums, mass in ((totals, remainder), (squares, remainder**2)):
                sums += torch.bincount(leaf, mass, self.n_leaves)
            counts += torch.bincount(leaf, minlength=self.n_leaves)
        leaves = counts.nonzero().flatten()
        # Whole numbers below 2 ** 53: exact.
        sums = torch.stack([counts, totals, squares])[:, leaves].long().cpu().numpy()
        self.leaves = leaves
        return leaves.cpu().numpy(), *sums, self._tally_mass()

    def _tally_mass(self):
        if self.sample_weight is None:
            return None
        sums = self.weights.new_zeros((3, self.n_leaves), dtype=torch.float64)
        both = zip(self._parts(self.weights), self._parts(self.sample_weight), strict=True)
        for part, mass in both:
            leaf, remainder = self._split(part)
            for power in range(3):
                moment = mass.double() * remainder.double() ** power
                sums[power] += torch.bincount(leaf, moment, self.n_leaves)
        return sums[:, self.leaves].cpu().numpy()

    def gather(self, chosen):
        """As of `Passes`."""
        wanted = torch.zeros(self.n_leaves, dtype=torch.bool, device=self.weights.device)
        wanted[self.leaves[torch.from_numpy(chosen).to(self.leaves.device)]] = True
        found = [self._places(part) for part in self._parts(self.weights)]
        masks = [wanted[self._leaf(places)] for places in found]
        places = torch.cat([part[mask] for part, mask in zip(found, masks, strict=True)])
        places, order = torch.sort(places, stable=True)
        members = (places & ((1 << self.shift) - 1)).to(torch.int16).cpu().numpy()
        if self.sample_weight is None:
            return members.view(np.uint16), None
        masses = self.sample_weight[torch.cat(masks)][order]
        return members.view(np.uint16), masses.cpu().numpy()

    def label(self, keys, dtype):
        """As of `Passes`; a tensor on the device."""
        keys = torch.from_numpy(keys - (1 << (self.width - 1))).to(self.weights.device)
        labels = torch.empty(
            self.n_labels, dtype=getattr(torch, np.dtype(dtype).name), device=keys.device
        )
        found = zip(self._parts(self.labelled), self._parts(labels), strict=True)
        for part, out in found:
            places = self._places(part)
            out.copy_(torch.searchsorted(keys, places.long(), right=True, out_int32=True))
        return labels

    def _parts(self, tensor):
        return tensor.split(PART)

    def _places(self, weights):
        """Keys less half their number, int32: they ascend with the floats from below zero."""
        integer = torch.int32 if self.width == 32 else torch.int16
        bits = weights.view(integer).int()
        return bits ^ ((bits >> 31) & ((1 << (self.width - 1)) - 1))

    def _leaf(self, places):
        return (places >> self.shift) + self.n_leaves // 2

    def _split(self, weights):
        places = self._places(weights)
        return self._leaf(places), places & ((1 << self.shift) - 1)
