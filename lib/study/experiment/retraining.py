"""Whether the initialization still matters once shared weights are retrained.

Deep Compression found linear initialization best after retraining; the paper claims that its own
is better. Here the classifier is retrained from every initialization, on the features of
convolutions whose codebooks are fixed.
"""

import copy
import time

import numpy as np
import torch
from torch.nn.utils import parametrize

from ... import compression
from ...clustering import Prepared
from ...compression.entropy import cells_of_centers
from ...initialization import INITIALIZATIONS, named
from .claims import BASELINES, OURS, accuracy_claims
from .evaluation import Setting
from .network import LINEARS, logits, precision
from .progress import progress
from .recipes import Retraining

WAYS = ("centers trained", "trained through")
NAMES = {name: path.removeprefix("classifier.") for name, path in LINEARS.items()}
REFITS = 3  # iterations of Lloyd's algorithm, from the previous centers, at each refit


def retraining_rows(retrainer, network, ways, bits, inits):
    """Rows of the tables `retraining` and `claims_retrained`.

    Parameters
    ----------
    retrainer : Retrainer
    network : str
        Its name.
    ways : sequence of {"centers trained", "trained through"}
    bits : sequence of int
        Of the classifier's layers.
    inits : sequence of str, optional
        Among them ours and the baselines of the claims; by default every initialization.

    Returns
    -------
    rows, claims : lists of dict
    """
    rows, claims = [], []
    for way in ways:
        for b in bits:
            correct = {}
            for init in INITIALIZATIONS if inits is None else inits:
                epochs, last = retrainer.rows(way, init, b)
                rows, correct[init] = rows + epochs, last[None]
                before, after = epochs[0]["test_top1"], epochs[-1]["test_top1"]
                print(f"{way}, {b} bits, {init}: {before:.2f} to {after:.2f}", flush=True)
            judged = accuracy_claims(correct, "all", network, "C2, retrained")
            claims += [row | {"scope": f"all, {b} bits, {way}"} for row in judged]
    return rows, claims


def compressed_claims(compressor, network, multiplier, epochs, rate):
    """Rows of `claims_retrained` under `lib.compress`: before, and after its centers are trained.

    Parameters
    ----------
    compressor : lib.study.experiment.frontier.Compressor
    network : str
        Its name.
    multiplier : float
        The price of a bit, the same from every initialization.
    epochs : int
        Of training the classifier's centers.
    rate : float
        Of Adam, in units of each codebook's spread.
    """
    before, after = {}, {}
    for init in (OURS, *BASELINES):
        how = {"multiplier": multiplier, "init": init, "rate": rate}
        retraining = Retraining("compress", None, None, epochs, "classifier", **how)
        plain, _ = compressor.compressed(retraining.recipe, "all")
        trained, _ = compressor.retrained(retraining)
        for correct, model in ((before, plain), (after, trained)):
            correct[init] = compressor.correct(model)[None]
        print(f"from {init}: {compressor.saved(plain, 'all')[1]:,} bytes", flush=True)
    return [
        row
        for claim, correct in (("C2, compressed", before), ("C2, compressed, trained", after))
        for row in accuracy_claims(correct, "all", network, claim)
    ]


class Retrainer:
    """Retrains one network's classifier from any initialization.

    Parameters
    ----------
    compressor : lib.study.experiment.frontier.Compressor
    recipe : lib.study.experiment.recipes.Recipe
        Of the convolutions.
    max_iter : int
        Budget of the clustering before retraining.
    epochs : int
    rates : dict of str to float
        Learning rate of each way.
    """

    def __init__(self, compressor, recipe, max_iter, epochs, rates):
        self.max_iter, self.epochs, self.rates = max_iter, epochs, rates
        model, _ = compressor.compressed(recipe, "conv")
        self.classifier, self.prepared = compressor.network.classifier, compressor.prepared
        images = compressor.images
        self.labels = {split: part.labels for split, part in images.items()}
        self.features = {
            split: compressor.features(model.features, part).half()
            for split, part in images.items()
        }

    def rows(self, way, init, bits, seed=0):
        """Retrain from one initialization.

        Returns
        -------
        rows : list of dict
            Of the table `retraining`: epoch 0, before retraining, then every epoch.
        correct : bool array of shape (n_images,)
            Whether each test image is classified correctly after the last epoch.
        """
        if way not in WAYS:
            raise ValueError(f"way={way!r} is unknown: choose from {', '.join(WAYS)}.")
        model = copy.deepcopy(self.classifier)
        centers = {name: self._centers(name, init, bits, seed) for name in LINEARS}
        shared = copy.deepcopy(model)
        for name, path in NAMES.items():
            cells = cells_of_centers(self.prepared[name], centers[name])
            compression.install_cells(shared, path, self.prepared[name], cells)
        rows, start = [self._row(shared, way, init, bits, 0, None, 0.0)], time.perf_counter()

        def after_epoch(epoch, loss):
            seconds = time.perf_counter() - start
            rows.append(self._row(trained, way, init, bits, epoch, loss, seconds))

        options = {
            "epochs": self.epochs,
            "rate": self.rates[way],
            "seed": seed,
            "dtype": precision(),
            "progress": lambda steps: progress(steps, f"{way}, {init}, {bits} bits"),
            "after_epoch": after_epoch,
        }
        data = self.features["train"], self.labels["train"]
        if way == "centers trained":
            trained = shared
            compression.train_centers(shared, *data, **options)
        else:
            trained = model
            compression.train_through(model, _refits(centers), *data, **options)
        return rows, self._correct(trained, "test")

    def _centers(self, name, init, bits, seed):
        setting = Setting(init, bits, named(init).revised, self.max_iter, seed)
        return np.asarray(self.prepared[name].cluster(**setting.options(), labels=False).centers)

    def _row(self, classifier, way, init, bits, epoch, loss, seconds):
        return {
            "way": way,
            "init": init,
            "bits": bits,
            "epoch": epoch,
            "train_loss": loss,
            "held_out_top1": 100 * self._correct(classifier, "held-out").mean(),
            "test_top1": 100 * self._correct(classifier, "test").mean(),
            "seconds": seconds,
        }

    def _correct(self, classifier, split):
        with torch.no_grad(), parametrize.cached():
            top = [
                logits(classifier, part.float()).argmax(1)
                for part in self.features[split].split(1000)
            ]
        return (torch.cat(top) == self.labels[split]).numpy()


def _refits(centers):
    """Function that refits the cells of a layer to its current weights, from its last centers."""
    by_path = {NAMES[name]: values for name, values in centers.items()}

    def cells_of(path, prepared: Prepared):
        if path not in by_path:
            return None
        refitted = prepared.cluster(
            len(by_path[path]), init=by_path[path], revise=False, max_iter=REFITS, labels=False
        )
        by_path[path] = np.asarray(refitted.centers)
        return cells_of_centers(prepared, by_path[path])

    return cells_of
