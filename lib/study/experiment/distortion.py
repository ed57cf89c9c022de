"""Remedies against distortion at equal bits: weighting, compensation, correction."""

import copy
import itertools
import time

from ... import compression
from .network import SCOPES
from .progress import progress
from .rates import prepared_by_fisher, prepared_by_inputs, with_optimal_centers

WEIGHTINGS = ("none", "inputs", "fisher")


class Remedies:
    """Applies remedies to one network, alone and together.

    Parameters
    ----------
    compressor : lib.study.experiment.frontier.Compressor
    weightings : sequence of {"none", "inputs", "fisher"}
        What each weight's squared error is multiplied by: nothing, the mean square of its input, or
        its diagonal Fisher information.
    scopes : sequence of {"conv", "all"}
        The network of `conv` is that of `all` with the float classifier, since remedies of the
        convolutions do not depend on the classifier.
    """

    def __init__(self, compressor, weightings=WEIGHTINGS, scopes=tuple(SCOPES)):
        if unknown := [name for name in weightings if name not in WEIGHTINGS]:
            raise ValueError(f"weightings={unknown}: choose from {', '.join(WEIGHTINGS)}.")
        self.compressor, self.prepared = compressor, {"none": compressor.prepared}
        if "inputs" in weightings:
            self.prepared["inputs"] = prepared_by_inputs(compressor.network, compressor.batches)
        if "fisher" in weightings:
            self.prepared["fisher"] = prepared_by_fisher(compressor)
        self.weightings, self.scopes = weightings, scopes

    def combinations(self):
        """All combinations of weighting, compensated and corrected, the one without any first."""
        return list(itertools.product(self.weightings, (False, True), (False, True)))

    def rows(self, bits):
        """Rows of the table `distortion` for every combination.

        Parameters
        ----------
        bits : sequence of int
            For each, every layer has 2 ** bits centers.
        """
        settings = [(b, *combination) for b in bits for combination in self.combinations()]
        return [row for setting in progress(settings, "remedies") for row in self.applied(*setting)]

    def applied(self, bits, weighting, compensated, corrected):
        """Rows of one combination, one a scope."""
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
