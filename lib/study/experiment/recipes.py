"""Ways to compress the network, said in a few words, and which of their files are chosen."""

import dataclasses

from ..tables import TABLES
from .network import LINEARS, SCOPES

CELLS = ("k-means", "pruned", "uniform", "entropy-constrained")
MOST_LOST = 0.5  # points of held-out top-1, of a file that is chosen


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A way to compress without retraining.

    Attributes
    ----------
    cells : {"k-means", "pruned", "uniform", "entropy-constrained"}
        "k-means" has 2 ** bits centers, "pruned" too, nine in ten weights of fc6 and fc7 at 0; the
        others have as many as their labels' entropy allows.
    conv_bits, linear_bits : float
        A weight, of the convolutions and of the classifier; fc8 always gets 4 at least, since it
        has 0.1 % of the weights.
    corrected : bool
        Whether channels get a factor and a bias (`lib.compression.correct`).
    """

    cells: str
    conv_bits: float
    linear_bits: float
    corrected: bool

    def __post_init__(self):
        if self.cells not in CELLS:
            raise ValueError(f"cells={self.cells!r} is unknown: choose from {', '.join(CELLS)}.")

    @property
    def method(self):
        """Its name in tables."""
        return self.cells + (", corrected" if self.corrected else "")

    def of(self, scope):
        """What it makes of a scope's layers: equal for recipes that make the same file."""
        kind = "k-means" if self.cells == "pruned" and scope == "conv" else self.cells
        return scope, kind, self.corrected, *(self.bits(layer) for layer in SCOPES[scope])

    def bits(self, layer):
        """Bits a weight of a layer."""
        if layer == "fc8":
            return max(4, self.linear_bits)
        return self.linear_bits if layer in LINEARS else self.conv_bits


@dataclasses.dataclass(frozen=True)
class Retraining:
    """A way to compress while training goes on behind the shared weights.

    Attributes
    ----------
    cells : {"entropy-constrained", "k-means", "pruned"}
    conv_bits, linear_bits : float
        As of `Recipe`. What a bit is worth is what gives them before training.
    epochs : int
    trained : {"classifier", "conv", "all"}
        Layers that train. Of "classifier" the convolutions are compressed as a corrected `Recipe`
        would, and stay; of "conv" the classifier stays as it is, in float32.
    rate : float
        Of SGD. A tenth of it, which is better where no weight is zero (`08-retraining`), moves too
        few of the many that are.
    """

    cells: str
    conv_bits: float
    linear_bits: float
    epochs: int
    trained: str
    rate: float = 0.01

    def __post_init__(self):
        for name, value, known in (
            ("cells", self.cells, ("entropy-constrained", "k-means", "pruned")),
            ("trained", self.trained, ("classifier", *SCOPES)),
        ):
            if value not in known:
                raise ValueError(f"{name}={value!r} is unknown: choose from {', '.join(known)}.")

    @property
    def recipe(self):
        """The same without training."""
        return Recipe(self.cells, self.conv_bits, self.linear_bits, corrected=True)

    @property
    def scope(self):
        """Of the layers that share weights."""
        return "conv" if self.trained == "conv" else "all"

    @property
    def method(self):
        """Its name in tables."""
        what = "trained through" if self.trained == "classifier" else "all trained through"
        return what if self.cells == "entropy-constrained" else f"{self.cells}, {what}"

    @property
    def prunes(self):
        """Whether the classifier's weights around 0 become 0."""
        return self.scope == "all" and self.cells != "k-means"

    @property
    def layers(self):
        """Those that train."""
        return LINEARS if self.trained == "classifier" else SCOPES[self.trained]


def choose(rows):
    """The table `chosen`: the smallest files that may be used, by held-out images.

    Parameters
    ----------
    rows : pandas.DataFrame
        Rows of files as `Compressor.row` gives them.

    Returns
    -------
    pandas.DataFrame
        `chosen` is true of one row at most of each scope, with and without retraining: the smallest
        file that loses at most half a point of held-out top-1.
    """
    files = rows[rows["file"].notna()]
    good = files[files["held_out_drop"] <= MOST_LOST]
    smallest = good.sort_values("bytes").groupby(["scope", "retrained"]).head(1)
    found = files.assign(chosen=files.index.isin(smallest.index))
    return found[list(TABLES["chosen"].columns)]


def headline(frontier, chosen, scope):
    """Name of the smallest chosen file of a scope, or of the most accurate on held-out images."""
    files = frontier[frontier["scope"] == scope].merge(chosen, on=["scope", "retrained", "file"])
    good = files[files["chosen"].astype(bool)]
    best = good.nsmallest(1, "bytes") if len(good) else files.nsmallest(1, "held_out_drop")
    return best["file"].iloc[0]
