"""What each remedy against distortion adds at equal bits: weighting, compensation, correction."""

import copy
import itertools
import time

from ... import compression
from .network import SCOPES
from .rates import prepared_by_fisher, prepared_by_inputs, with_optimal_centers

WEIGHTINGS = ("none", "inputs", "fisher")


class Remedies:
    """Applies remedies to one network, alone and together.

    Parameters
    ----------
    compressor : lib.study.experiment.frontier.Compressor
    weightings : sequence of {"none", "inputs", "fisher"}
        Of the squared error that centers minimize: not, by the inputs' second moments, or by the
        diagonal Fisher information.
    scopes : sequence of {"conv", "all"}
        Rows of `conv` are those of `all` with the float classifier: what is done to the
        convolutions does not depend on it.
    progress : callable
        Wraps the images of the Fisher information.
    """

    def __init__(self, compressor, weightings=WEIGHTINGS, scopes=tuple(SCOPES), progress=iter):
        if unknown := [name for name in weightings if name not in WEIGHTINGS]:
            raise ValueError(f"weightings={unknown}: choose from {', '.join(WEIGHTINGS)}.")
        self.compressor, self.prepared = compressor, {"none": compressor.prepared}
        if "inputs" in weightings:
            self.prepared["inputs"] = prepared_by_inputs(compressor)
        if "fisher" in weightings:
            self.prepared["fisher"] = prepared_by_fisher(compressor, progress)
        self.weightings, self.scopes = weightings, scopes

    def combinations(self):
        """Of weighting, compensated and corrected: none first, everything last."""
        return list(itertools.product(self.weightings, (False, True), (False, True)))

    def rows(self, bits, weighting, compensated, corrected):
        """Rows of the table `distortion`, one a scope, at 2 ** bits centers a layer."""
        compressor, start = self.compressor, time.perf_counter()
        numbers = dict.fromkeys(SCOPES["all" if "all" in self.scopes else "conv"], 2**bits)
        model = with_optimal_centers(compressor.network, self.prepared[weighting], numbers)
        if compensated:
            compression.compensate(model, compressor.network, compressor.batches)
        if corrected:
            compression.correct(model, compressor.network, compressor.batches)
        seconds = time.perf_counter() - start
        conv = copy.deepcopy(model)
        conv.classifier = compressor.network.classifier
        how = {"weighting": weighting, "compensated": compensated, "corrected": corrected}
        return [
            {"scope": scope, "bits": bits}
            | how
            | {"bytes": compressor.saved(shared, scope)[1]}
            | compressor.judged(shared, ["test"])
            | {"seconds": seconds}
            for scope, shared in (("all", model), ("conv", conv))
            if scope in self.scopes
        ]
