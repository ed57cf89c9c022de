"""One record per table: all that writing, reading, comparing and publishing a table need.

`TABLES` is in the order in which readers meet the tables: in the report, in papers and in
``results/README.md``.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pandas as pd

from . import printed

# The meaning of columns that several tables have. A record names them with the meaning `SHARED`.
SHARED = None
MEANINGS = {
    "network": "name of the trained network",
    "layer": "`conv1` to `conv5`, `fc6` to `fc8`; `<network>/fc6` for a network beyond the first",
    "scope": "`conv`: only the ImageNet convolutions are clustered (the headline); `all`: all "
    "eight layers",
    "init": "initialization of the centers",
    "gamma": "exponent of the density for `weight-distribution`; blank for the others",
    "revise": "whether the centers are revised at every iteration",
    "bits": "the layer has 2^bits centers",
    "seed": "seed of the initialization",
    "repeat": "number of the timing, from 0",
    "max_iter": "limit on Lloyd's iterations; blank: until no label changes",
    "n_weights": "number of weights of the layer",
    "n_clusters": "number of centers",
    "n_images": "number of test images; rows of the same number have the same images",
    "inertia": "sum of squared distances of the weights from their centers",
    "top1": "percent of the images whose right class has the highest score",
    "low": "lower end of the 95 % interval of `top1` (Wilson)",
    "high": "upper end of the same interval",
    "top1_drop": "points of top-1 lost against the float network on the same images",
    "drop_low": "lower end of the 95 % interval of `top1_drop`, paired by image",
    "drop_high": "upper end of the same interval",
}


@dataclass(frozen=True)
class Table:
    """What is known about a table.

    Attributes
    ----------
    name : str
    row : str
        What one row is, as in "each row is ...".
    caption : str
        A sentence for the report and for papers.
    meanings : dict of str to (str or None)
        From a column's name, or several with spaces between them, to its meaning and unit, in
        the order of the columns. `SHARED` stands for the meaning in `MEANINGS`.
    keys : str
        The columns that identify a row, with spaces between them.
    tolerances : dict of str to ((float, float) or None)
        From each column that is compared with the committed row to the allowed difference:
        absolute, and relative to the committed value. None asks for equal text.
    paper : callable or None
        From the table to what papers and pages print: fewer rows or columns; None prints nothing.
    must_agree : callable or None
        From the table to whether each row follows from the committed convolutions' weights alone:
        it must agree on every machine, within the tolerances. None: no row does.
    may_vary : callable or None
        From the table to whether anything is said of each other row, if it has an interval or
        iterations. None: of every row.
    of_users : bool
        Whether it holds results of users' own models, of which git keeps none.

    Raises
    ------
    ValueError
        For a column without a meaning, and for a key or compared column that is not a column.
    """

    name: str
    row: str
    caption: str
    meanings: Mapping[str, str | None]
    keys: str
    tolerances: Mapping[str, tuple[float, float] | None]
    paper: Callable[[pd.DataFrame], pd.DataFrame] | None = printed.whole
    must_agree: Callable[[pd.DataFrame], pd.Series] | None = None
    may_vary: Callable[[pd.DataFrame], pd.Series] | None = None
    of_users: bool = False

    def __post_init__(self):
        for columns, meaning in self.meanings.items():
            if meaning is SHARED and (unknown := set(columns.split()) - set(MEANINGS)):
                raise ValueError(f"table {self.name!r}: no meaning is known of {sorted(unknown)}.")
        if unknown := {*self.key_columns, *self.tolerances} - set(self.columns):
            raise ValueError(f"table {self.name!r} has no columns {sorted(unknown)}.")

    @functools.cached_property
    def columns(self):
        """Names of the columns, in their order."""
        return tuple(name for names in self.meanings for name in names.split())

    @property
    def key_columns(self):
        """Names of the columns that identify a row."""
        return self.keys.split()


def _of_convolutions(rows):
    """Whether each row is of the committed convolutions."""
    return rows["layer"].str.startswith("conv")


def _counted_on_convolutions(claims):
    """Whether each claim is counted on the committed convolutions."""
    return (claims["claim"] == "C1, counted") & (claims["scope"] == "conv")


def _not_timed(claims):
    """Whether each claim is free of a machine's seconds."""
    return claims["claim"] != "C1, timed"


CLAIM_MEANINGS = {
    "claim": "the paper's claim: `C1, counted` speed in operations, `C1, timed` the same in "
    "seconds, `C2` accuracy",
    "scope": SHARED,
    "network": "name of the trained network; `together`: all of them",
    "baseline": "the initialization that ours is compared with",
    "paper measured": "the paper's figure, and ours: percent saved (C1), points of top-1 (C2)",
    "relative": "C1: the baseline's cost over ours; C2: `measured` in percent of the baseline's "
    "top-1",
    "low high": "95 % interval of `measured`",
    "verdict": "`supported`: the interval is above 0 and reaches the paper's figure; `supported in "
    "part`: above 0, below the figure; `contradicted`: below 0; `left open`: contains 0; blank: "
    "not judged",
}
CLAIM_KEYS = "claim scope network baseline"

TABLES = {
    table.name: table
    for table in (
        Table(
            "claims",
            row="one claim against one baseline",
            caption="The claims: what was measured, its 95 % interval, and the paper's figure.",
            meanings=CLAIM_MEANINGS,
            keys=CLAIM_KEYS,
            tolerances={"verdict": None, "measured": (0.1, 0)},
            must_agree=_counted_on_convolutions,
            may_vary=_not_timed,
        ),
        Table(
            "claims_retrained",
            row="the second claim after retraining, against one baseline",
            caption="What is left of the second claim after retraining.",
            meanings=CLAIM_MEANINGS
            | {
                "claim": "`C2, retrained`; `C2, compressed`: under `lib.compress`, at one price of "
                "a bit; `C2, compressed, trained`: then with the classifier's centers trained",
                "scope": "the layers; of `C2, retrained` the bits of the classifier and the way of "
                "retraining, too",
                "network": "name of the trained network",
                "paper measured": "points of top-1: the paper's figure of C2, since its abstract "
                "does not say whether anything was retrained; ours",
                "relative": "`measured` in percent of the baseline's top-1",
            },
            keys=CLAIM_KEYS,
            tolerances={"verdict": None},
        ),
        Table(
            "frontier",
            row="one compressed file, or one float network",
            caption="Files of every way to compress, loaded back and evaluated on all test images.",
            meanings={
                "scope": SHARED,
                "method": "`k-means`, `pruned` (k-means with nine in ten weights of fc6 and fc7 "
                "at 0), `uniform` (equal steps), `entropy-constrained` or `compensated` cells "
                "(of k-means, with labels that make up for each other's errors); `compress`: "
                "`lib.compress`; `corrected`: with a factor and a bias per channel; `centers "
                "trained`: labels stay; `trained through`: the classifier is trained "
                "behind entropy-constrained cells; `all trained through`: every layer of the "
                "scope is; `standard`: ISO/IEC 15938-17, from `standard.csv`; `float` and `float, "
                "trained`: no file",
                "retrained": "whether weights were trained after they were shared",
                "pruned": "whether many weights are exactly 0",
                "bytes": "bytes of the scope's layers in the file: labels, codebooks, factors of "
                "the channels",
                "ratio": "bytes of the scope's layers in float32 over `bytes`",
                "bits_per_weight": "8 `bytes` over the number of weights",
                "top1 low high top1_drop": SHARED,
                "seconds": "time to make the model, without writing the file and evaluating it",
                "file": "its name in `files/`; of `standard`, its setting",
            },
            keys="scope method retrained pruned",
            tolerances={"top1": (1.0, 0), "bytes": (0, 0.02)},
        ),
        Table(
            "standard",
            row="one setting of the standard's coder",
            caption="ISO/IEC 15938-17 (nncodec) on the same network: coded, decoded, evaluated.",
            meanings={
                "scope": SHARED,
                "method": "`standard`: with its trellis; `standard, no trellis`",
                "qp": "quantization parameter: four more double the step",
                "bytes": "bytes of the scope's layers as it codes them",
                "ratio": "bytes of the scope's layers in float32 over `bytes`",
                "bits_per_weight": "8 `bytes` over the number of weights",
                "distortion": "squared error of the weights, as a share of their squares",
                "cells_bytes": "bytes of a file of entropy-constrained cells, at one price "
                "of a bit, with the same squared error",
                "top1 low high top1_drop drop_low drop_high": SHARED,
                "held_out_drop held_out_low held_out_high": "points of top-1 lost on held-out "
                "images, and their 95 % interval",
                "retrained pruned": "as in `frontier.csv`: False",
                "seconds": "time to code and to decode",
                "file": "what tells its setting",
            },
            keys="scope method qp",
            tolerances={"top1": (1.0, 0), "bytes": (0, 0.02), "cells_bytes": (0, 0.02)},
        ),
        Table(
            "accuracy",
            row="one compressed network",
            caption="Top-1 in % without retraining.",
            meanings={
                "network scope init gamma revise bits seed max_iter top1": SHARED,
                "top5": "percent of the images whose right class is among the best five",
                "low high n_images top1_drop inertia": SHARED,
                "bytes ratio": "bytes of the clustered layers as packed labels and float32 "
                "codebooks; their float32 bytes over these",
            },
            keys="network scope init gamma revise bits seed max_iter n_images",
            tolerances={"top1": (1.0, 0), "inertia": (0, 1e-3)},
            paper=printed.accuracy,
        ),
        Table(
            "chosen",
            row="one file of `frontier.csv`",
            caption="Points lost on held-out images, by which files are chosen.",
            meanings={
                "scope": SHARED,
                "retrained file": "as in `frontier.csv`",
                "held_out_drop": "points of top-1 lost on the held-out training images",
                "chosen": "whether it is the smallest file of its scope, retrained or not, that "
                "loses at most half a point there",
            },
            keys="scope retrained",
            tolerances={"held_out_drop": (1.0, 0)},
        ),
        Table(
            "losses",
            row="one file of `frontier.csv` on one split of the images",
            caption="Points of top-1 that each file loses, with their 95 % intervals.",
            meanings={
                "scope": SHARED,
                "method retrained file": "as in `frontier.csv`",
                "split": "`test`, or `held-out`: training images by which files are chosen",
                "lost": "points of top-1 lost against the float network on the same images",
                "low high": "ends of its 95 % interval, paired by image (Agresti and Min, 2005)",
            },
            keys="scope method retrained split",
            tolerances={"lost": (1.5, 0)},
        ),
        Table(
            "sizes",
            row="one layer of the headline file; then all convolutions, all layers, the rest, "
            "the header and the whole",
            caption="Bytes of the headline file by layer.",
            meanings={
                "file": "as in `frontier.csv`",
                "layer n_weights": SHARED,
                "n_clusters": "number of centers that are used",
                "coding": "of the labels: `entropy` (one table), `contexts`, or the bits that "
                "they are packed at",
                "entropy": "entropy of the labels, in bits; in contexts the bits of a label's code",
                "bits_per_weight": "8 `bytes` over the number of weights",
                "bytes_before": "bytes in float32",
                "label_bytes": "bytes of the labels, the coder's tables included",
                "codebook_bytes": "bytes of the codebook and the channels' factors",
                "bytes ratio": "bytes in the file; `bytes_before` over them",
            },
            keys="layer",
            tolerances={"bytes": (0, 0.02)},
        ),
        Table(
            "retraining",
            row="one epoch of retraining from one initialization",
            caption="Top-1 in % by epoch of retraining from every initialization.",
            meanings={
                "way": "`centers trained`: labels stay; `trained through`: float weights behind "
                "the shared ones",
                "init bits": SHARED,
                "epoch": "0: before retraining",
                "train_loss held_out_top1 test_top1": "as in `training.csv`",
                "seconds": "time since the start of retraining, evaluations included",
            },
            keys="way init bits epoch",
            tolerances={"test_top1": (1.0, 0)},
            paper=printed.retraining,
        ),
        Table(
            "distortion",
            row="one network with remedies against distortion",
            caption="Top-1 in % of every combination of remedies against distortion.",
            meanings={
                "scope bits": SHARED,
                "weighting": "what weights the squared error: `none`, `inputs` (mean square of "
                "each weight's input), `fisher` (diagonal Fisher information)",
                "compensated": "whether later columns compensate the errors of earlier ones",
                "corrected": "whether the channels have a factor and a bias",
                "bytes": "bytes of the scope's layers in a file",
                "top1 low high top1_drop": SHARED,
                "seconds": "time to make the model",
            },
            keys="scope bits weighting compensated corrected",
            tolerances={"top1": (1.5, 0)},
        ),
        Table(
            "allocation",
            row="one layer of one allocated network",
            caption="Centers of each layer under a budget of bytes, and what they are worth.",
            meanings={
                "scope": SHARED,
                "criterion": "what centers and allocation minimize: `squared error`, or `fisher`: "
                "weighted by the diagonal Fisher information",
                "bits": "of the uniform allocation whose bytes are the budget",
                "allocation": "`uniform`; `allocated`: the best within the budget; `smallest`: "
                "the smallest that loses at most half a point on held-out images",
                "layer n_weights n_clusters": SHARED,
                "bytes": "bytes of the layer as packed labels and float32 centers",
                "distortion": "value of the criterion in the layer",
                "total_bytes top1 low high top1_drop": "of the whole network, the same in all its "
                "rows",
            },
            keys="scope criterion bits allocation layer",
            tolerances={"n_clusters": (2, 0.1), "distortion": (0, 0.02), "top1": (1.5, 0)},
        ),
        Table(
            "rates",
            row="one kind of cells in one layer",
            caption="Squared error over the variance, and bits a weight, of each layer by kind of "
            "cells.",
            meanings={
                "layer": SHARED,
                "cells": "`k-means`, `uniform` or `entropy-constrained`; the last two have the "
                "entropy of the first",
                "n_clusters": "number of cells",
                "entropy": "entropy of the labels, in bits a weight",
                "bytes bits_per_weight": "of the labels, packed or entropy-coded with one table, "
                "and float16 centers; in contexts, as in files, dense layers take less",
                "relative_distortion": "squared error over that of one center",
            },
            keys="layer cells n_clusters",
            tolerances={"bits_per_weight": (0, 0.01), "relative_distortion": (0, 0.01)},
            must_agree=_of_convolutions,
        ),
        Table(
            "runtimes",
            row="one form of the network in onnxruntime",
            caption="The network in onnxruntime in every form.",
            meanings={
                "form": "`float32`, `float16`, `int8` (the runtime's static quantization), "
                "`shared` (the chosen file of `frontier.csv`)",
                "bytes ratio": "bytes of the ONNX file; the float32 file's bytes over these",
                "load_seconds": "median time to open a session",
                "latency_ms latency_ms_low latency_ms_high": "median time of one image, and its "
                "quartiles",
                "top1 low high": SHARED,
                "agreement": "percent of the images with the same best class as torch gives in "
                "float32 for the same weights",
            },
            keys="form",
            tolerances={"bytes": (0, 0.02), "top1": (1.5, 0)},
        ),
        Table(
            "models",
            row="one user's model on the user's images, by one method, initialization and size",
            caption="Top-1 in % of each model by every method at equal bytes.",
            meanings={
                "model images": "names, as they were given",
                "method": "`float`: the model before; `k-means` of each layer; `k-means by "
                "channel`: a codebook for each output channel, of as many centers as the bytes "
                "hold; `compress`: `lib.compress`",
                "init": "initialization of the centers; of `compress`, what it starts from in "
                "place of its own",
                "bits": "of k-means, whose bytes all methods have",
                "max_iter seed": SHARED,
                "calibrated_on": "of `compress`: images that are not judged (`others`), or `the "
                "same`; labels are unused",
                "reestimated": "number of batches over which batch normalization was estimated "
                "again",
                "n_images top1": SHARED,
                "top5": "percent of the images whose right class is among the best five",
                "low high top1_drop drop_low drop_high": SHARED,
                "beside beside_low beside_high": "points of top-1 above k-means from the first "
                "initialization at these bits, and their 95 % interval, paired by image",
                "bytes ratio": "bytes of the layers in a file; their bytes before over these",
                "seconds": "time to make the model",
            },
            keys="model images method init bits max_iter seed reestimated n_images",
            tolerances={"top1": (0.5, 0)},
            of_users=True,
        ),
        Table(
            "speed",
            row="one clustering of one layer",
            caption="Iterations until no label changes.",
            meanings={
                "layer n_weights": SHARED,
                "engine": "`sorted` (ours), `textbook` (assignment by distances), `scikit-learn`, "
                "or `textbook, to 1 % of optimal`: the textbook until the inertia is within 1 % "
                "of the optimal one; where it never is, `converged` is False",
                "init gamma revise bits seed repeat max_iter": SHARED,
                "n_iter": "number of iterations done, revisions included",
                "converged": "False where a limit ended the iterations: censored",
                "seconds": "time of initialization, iterations and revision, and of sorting where "
                "that is needed",
                "extrapolated": "whether `seconds` is the measured time of a pass times their "
                "number",
                "inertia": SHARED,
                "relative_inertia": "inertia over that of the optimal initialization",
            },
            keys="layer engine init gamma revise bits seed repeat max_iter",
            tolerances={"n_iter": (0, 0.02), "relative_inertia": (0, 1e-3)},
            paper=printed.speed,
            must_agree=_of_convolutions,
        ),
        Table(
            "passes",
            row="one run of textbook k-means in one layer, counted",
            caption="Operations of textbook k-means until no label changes.",
            meanings={
                "layer n_weights init gamma revise bits seed": SHARED,
                "n_iter": "number of iterations until no label changes",
                "splits_tried": "number of passes that try splits",
                "operations": "start, assignments and tried splits, by the formula in "
                "`03-speed.ipynb`",
                "seconds": "the same passes times the measured seconds of each kind",
            },
            keys="layer init gamma revise bits seed",
            tolerances={"n_iter": (0, 0.02), "operations": (0, 0.02)},
            must_agree=_of_convolutions,
            paper=None,
        ),
        Table(
            "bench",
            row="one clustering of one array by one package",
            caption="Seconds from the weights to centers and labels.",
            meanings={
                "array": "a layer, `heavy-tailed` (Student's t, 3 degrees of freedom), its first "
                "weights (`heavy-tailed, growth`), or a matrix whose rows have a codebook each",
                "n_array": "number of weights of the array",
                "n_weights": "number of weights that the peer got: fewer where all would take "
                "over 4 seconds (`flash1dkmeans`: 90) or tables above 4 GiB",
                "peer": "what clustered it; `copy` only copies",
                "n_clusters repeat": SHARED,
                "seconds": "wall time from the weights to centers and labels",
                "peak_mib": "MiB by which the process grew at most meanwhile; blank where the "
                "system does not tell",
                "relative_inertia": "inertia of its centers over `lib.optimal.inertia_bound` on "
                "the same weights: an upper bound of inertia over the best possible; of rows over "
                "the sum of their exact optima",
            },
            keys="array n_weights peer n_clusters repeat",
            tolerances={"relative_inertia": (0, 1e-2)},
            paper=printed.bench,
        ),
        Table(
            "ratios",
            row="one clustering and something simpler, timed in turn",
            caption="What clusterings take beside something simpler.",
            meanings={
                "case": "what is clustered",
                "n_weights": "number of weights",
                "n_clusters": SHARED,
                "against": "the simpler thing",
                "repeat": SHARED,
                "seconds against_seconds": "time of either",
                "ratio": "`seconds` over `against_seconds`",
            },
            keys="case n_clusters repeat",
            tolerances={},
        ),
        Table(
            "gaps",
            row="one layer at one number of centers",
            caption="Inertia of the optimal centers, and how far it is from the best possible at "
            "most.",
            meanings={
                "layer n_weights n_clusters": SHARED,
                "inertia": "of the optimal centers after Lloyd's algorithm",
                "bound": "proven: no centers have a lower inertia (`lib.optimal.inertia_bound`)",
                "gap": "`inertia` over `bound`, less 1",
            },
            keys="layer n_clusters",
            tolerances={"gap": (1e-4, 0)},
            must_agree=_of_convolutions,
        ),
        Table(
            "layers",
            row="one trained layer (fc6 to fc8) of one network",
            caption="The layers' weights: how many, spread, tails, and whether training made them.",
            meanings={
                "network layer n_weights": SHARED,
                "std kurtosis": "standard deviation and excess kurtosis of the weights (normal: "
                "0, uniform: -1.2)",
                "correlation_with_init": "correlation with the initial weights",
            },
            keys="network layer n_weights",
            tolerances={
                "std": (0, 0.02),
                "kurtosis": (0.1, 0.1),
                "correlation_with_init": (0.02, 0),
            },
        ),
        Table(
            "training",
            row="one epoch of one network",
            caption="Training of the classifier by epoch.",
            meanings={
                "network": SHARED,
                "seed": "seed of the network",
                "initializer": "how the classifier's weights were initialized",
                "epoch": "counted from 1",
                "seconds": "duration of the epoch",
                "train_loss": "mean cross-entropy over the epoch's training images",
                "held_out_top1": "top-1 on the held-out training images",
                "test_top1": "top-1 on the test images, after the last epoch only",
            },
            keys="network seed initializer epoch",
            tolerances={"test_top1": (1.0, 0)},
        ),
        Table(
            "density",
            row="one step of the density of a layer's weights",
            caption="Estimated density of each layer's weights, as steps.",
            meanings={
                "layer": SHARED,
                "weight": "left edge of the step",
                "density": "estimated probability density up to the next step",
            },
            keys="layer",
            tolerances={"weight": (1e-6, 1e-3), "density": (1e-6, 1e-2)},
            must_agree=_of_convolutions,
            paper=None,
        ),
        Table(
            "distribution",
            row="one center",
            caption="Centers of every initialization, before and after Lloyd's algorithm.",
            meanings={
                "layer init gamma bits": SHARED,
                "stage": "`initial`, or `final`: after Lloyd's algorithm",
                "center": "its position, ascending within a stage",
            },
            keys="layer init gamma bits stage",
            tolerances={"center": (1e-6, 1e-3)},
            must_agree=_of_convolutions,
            paper=None,
        ),
    )
}
