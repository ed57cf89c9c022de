"""Ways to compress the network, and the choice among their files by held-out images."""

import dataclasses

import pandas as pd

from ..tables import TABLES
from .network import LINEARS, SCOPES

CELLS = ("k-means", "pruned", "uniform", "entropy-constrained", "compensated", "compress")
CALIBRATED = ("compensated", "compress")  # whose classifier sees features of all training images
# By the split that reports and the one that chooses: columns of the points lost and the ends of
# their interval.
LOSSES = {
    "test": ("top1_drop", "drop_low", "drop_high"),
    "held-out": ("held_out_drop", "held_out_low", "held_out_high"),
}
MOST_LOST = 0.5  # points of held-out top-1 that a chosen file may lose


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A way to compress without retraining.

    Attributes
    ----------
    cells : {"k-means", "pruned", "uniform", "entropy-constrained", "compensated", "compress"}
        "k-means" has 2 ** bits centers. So has "pruned", which also sets nine in ten weights of
        fc6 and fc7 to 0. "uniform" and "entropy-constrained" have as many centers as their labels'
        entropy allows. "compensated" has 2 ** bits centers, optimal for errors weighted by the
        inputs, and labels by `lib.compression.compensate`. "compress" is `lib.compress`, at a
        price of a bit.
    conv_bits, linear_bits : float, optional
        Bits a weight of the convolutions and of the classifier. fc8, with 0.1 % of the weights,
        gets at least 4, but of "compensated". Not of "compress".
    corrected : bool
        Whether each channel gets a factor and a bias (`lib.compression.correct`). Not of
        "compensated" and "compress", which always do.
    multiplier : float, optional
        The price, as of `lib.compress`; of "compress" alone.
    linear_multiplier : float, optional
        The price in the classifier, by default the same.
    init : str, optional
        What "compress" starts from, in place of its own start.
    """

    cells: str
    conv_bits: float | None = None
    linear_bits: float | None = None
    corrected: bool = False
    multiplier: float | None = None
    linear_multiplier: float | None = None
    init: str | None = None

    def __post_init__(self):
        if self.cells not in CELLS:
            raise ValueError(f"cells={self.cells!r} is unknown: choose from {', '.join(CELLS)}.")
        bits = self.conv_bits, self.linear_bits
        priced = {self.multiplier, self.linear_multiplier, self.init} != {None}
        if self.cells == "compress":
            if self.multiplier is None or bits != (None, None) or self.corrected:
                raise ValueError(f"{self}: compress takes multipliers, and an init, alone.")
        elif None in bits or priced:
            raise ValueError(f"{self}: {self.cells} takes conv_bits and linear_bits.")
        elif self.cells == "compensated" and self.corrected:
            raise ValueError(f"{self}: compensated cells are always corrected.")

    @property
    def method(self):
        """Its name in tables."""
        start = "" if self.init is None else f" from {self.init}"
        return self.cells + start + (", corrected" if self.corrected else "")

    def file_key(self, scope):
        """Equal for recipes that make the same file of a scope."""
        if self.cells == "compress":
            return scope, self.method, *(self.price(layer) for layer in SCOPES[scope])
        kind = "k-means" if self.cells == "pruned" and scope == "conv" else self.cells
        return scope, kind, self.corrected, *(self.bits(layer) for layer in SCOPES[scope])

    def price(self, layer):
        """Price of a bit in a layer."""
        apart = layer in LINEARS and self.linear_multiplier is not None
        return self.linear_multiplier if apart else self.multiplier

    def bits(self, layer):
        """Bits a weight of a layer."""
        if layer == "fc8" and self.cells != "compensated":
            return max(4, self.linear_bits)
        return self.linear_bits if layer in LINEARS else self.conv_bits


@dataclasses.dataclass(frozen=True)
class Retraining:
    """A way to compress with training.

    Float weights are trained through the shared ones; with cells that are calibrated, the centers
    are trained and the labels stay, so that the file has the bytes of the one without training.

    Attributes
    ----------
    cells : {"entropy-constrained", "k-means", "pruned", "compensated", "compress"}
    conv_bits, linear_bits : float or None
        Bits a weight before training, as of `Recipe`; None of "compress". The price of a bit that
        gives them is kept. Where convolutions have a `multiplier`, their bits are None.
    epochs : int
    trained : {"classifier", "conv", "all"}
        Layers that train. With "classifier" the convolutions are compressed as by a corrected
        `Recipe` and do not train; with "conv" the classifier stays in float32. With "all" the
        layers train together, or, where convolutions have a `multiplier` of their own, first the
        convolutions' centers for an epoch, then the classifier.
    rate : float
        Learning rate of SGD. 0.001 is better where no weight is zero (`08-retraining`), but moves
        too few weights away from zero where most are. Where centers are trained that of
        `lib.compression.train_centers`.
    multiplier, linear_multiplier, init : optional
        Of "compress", as of `Recipe`. With other cells in the classifier, the first is that of the
        convolutions, which are then compressed by "compress".
    """

    cells: str
    conv_bits: float | None
    linear_bits: float | None
    epochs: int
    trained: str
    rate: float = 0.01
    multiplier: float | None = None
    linear_multiplier: float | None = None
    init: str | None = None

    def __post_init__(self):
        for name, value, known in (
            ("cells", self.cells, ("entropy-constrained", "k-means", "pruned", *CALIBRATED)),
            ("trained", self.trained, ("classifier", *SCOPES)),
        ):
            if value not in known:
                raise ValueError(f"{name}={value!r} is unknown: choose from {', '.join(known)}.")
        _ = self.recipe  # which checks what the cells take

    @property
    def recipe(self):
        """The recipe of the same cells and bits without training."""
        if self._priced_apart:
            bits = self.linear_bits, self.linear_bits  # of convolutions they are not read
            return Recipe(self.cells, *bits, True, linear_multiplier=self.linear_multiplier)
        bits = self.conv_bits, self.linear_bits
        prices = self.multiplier, self.linear_multiplier, self.init
        return Recipe(self.cells, *bits, not self.trains_centers, *prices)

    @property
    def convolutions(self):
        """What makes the convolutions before the classifier trains: a recipe or a retraining."""
        price = {"multiplier": self.multiplier, "init": self.init}
        if not self._priced_apart:
            return self.recipe
        if self.trained == "all":
            return Retraining("compress", None, None, 1, "conv", **price)
        return Recipe("compress", **price)

    @property
    def in_classifier(self):
        """Whether the classifier trains alone, behind convolutions that are done."""
        return self.trained == "classifier" or self._priced_apart

    @property
    def _priced_apart(self):
        """Whether the convolutions have a price, and the classifier bits."""
        apart = self.multiplier is not None and not self.trains_centers
        return apart and self.trained != "conv" and self.conv_bits is None

    @property
    def trains_centers(self):
        """Whether centers are trained, in place of float weights behind the shared ones."""
        return self.cells in CALIBRATED

    @property
    def scope(self):
        """Scope of the layers that share weights."""
        return "conv" if self.trained == "conv" else "all"

    @property
    def method(self):
        """Its name in tables."""
        every = "" if self.trained == "classifier" else "all "
        if self.trains_centers:
            return f"{self.recipe.method}, {every}centers trained"
        way = f"{every}trained through"
        if self._priced_apart:
            return f"compress, {way}"
        return way if self.cells == "entropy-constrained" else f"{self.cells}, {way}"

    @property
    def prunes(self):
        """Whether weights of the classifier in the cell around 0 become 0."""
        return self.scope == "all" and self.cells in ("entropy-constrained", "pruned")

    @property
    def layers(self):
        """Names of the layers that train, after convolutions that are done."""
        return LINEARS if self.in_classifier else SCOPES[self.trained]


def choose(rows):
    """The table `chosen`: the smallest file of each kind that is accurate on held-out images.

    Parameters
    ----------
    rows : pandas.DataFrame
        Rows of files as `Compressor.row` gives them.

    Returns
    -------
    pandas.DataFrame
        `chosen` is True in at most one row for each scope, with and without retraining: that of the
        smallest file that loses at most half a point of held-out top-1.
    """
    files = rows[rows["file"].notna()]
    good = files[files["held_out_drop"] <= MOST_LOST]
    smallest = good.sort_values("bytes").groupby(["scope", "retrained"]).head(1)
    judged = files.assign(chosen=files.index.isin(smallest.index))
    return judged[list(TABLES["chosen"].columns)]


def losses(rows):
    """The table `losses`: what each file loses on each split of the images.

    Parameters
    ----------
    rows : pandas.DataFrame
        Rows of files as `Compressor.row` gives them, and of float networks trained further.
    """
    rows = rows[rows["method"] != "float"]
    kind, found = ["scope", "method", "retrained", "file"], ["lost", "low", "high"]
    return pd.concat(
        rows[[*kind, *columns]].set_axis([*kind, *found], axis=1).assign(split=split)
        for split, columns in LOSSES.items()
    )


def headline(frontier, chosen, scope):
    """Name of a scope's smallest chosen file.

    If none is chosen, that of the file that is most accurate on held-out images.
    """
    files = frontier[frontier["scope"] == scope].merge(chosen, on=["scope", "retrained", "file"])
    good = files[files["chosen"].astype(bool)]
    best = good.nsmallest(1, "bytes") if len(good) else files.nsmallest(1, "held_out_drop")
    return best["file"].iloc[0]
