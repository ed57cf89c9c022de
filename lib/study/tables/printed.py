"""What papers and pages print of a table: means and medians of the longest ones."""

import pandas as pd

from ...initialization import INITIALIZATIONS, named
from .raced import is_growing


def whole(frame):
    """Every row."""
    return frame


def accuracy(frame):
    """Mean top-1 of the headline network by bits and budget; columns are initializations."""
    rows = frame[(frame["network"] == frame["network"].iloc[0]) & (frame["init"] != "float")]
    rows = by_default(rows[rows["n_images"] == rows["n_images"].mode()[0]])
    budget = rows["max_iter"].map(lambda most: "to the end" if pd.isna(most) else f"{most:.0f}")
    rows = rows.assign(iterations=budget).sort_values("bits", kind="stable")
    return _pivot(rows, ["scope", "bits", "iterations"], "init", "top1")


def speed(frame):
    """Mean iterations until no label changes, by bits and layer; columns are initializations."""
    rows = by_default(frame[(frame["engine"] == "sorted") & frame["max_iter"].isna()])
    return _pivot(rows.sort_values("bits", kind="stable"), ["bits", "layer"], "init", "n_iter")


def retraining(frame):
    """Top-1 by way, bits and initialization; columns are epochs."""
    frame = frame.assign(epoch="after epoch " + frame["epoch"].astype(str))
    return _pivot(frame, ["way", "bits", "init"], "epoch", "test_top1")


def bench(frame):
    """Median seconds of whole arrays, by number of centers; columns are peers."""
    rows = frame[frame["n_weights"] == frame["n_array"]]
    rows = rows[~is_growing(rows)]
    return _pivot(rows, ["array", "n_clusters"], "peer", "seconds", "median")


def by_default(rows):
    """Rows in which each initialization is revised, or not, as it is by default."""
    return rows[rows["revise"].astype(bool) == rows["init"].map(lambda init: named(init).revised)]


def inits_of(rows):
    """Records of the initializations in a table, in the order of `INITIALIZATIONS`."""
    present = set(rows["init"])
    return [record for name, record in INITIALIZATIONS.items() if name in present]


def _pivot(rows, index, columns, values, how="mean"):
    """A table whose rows and columns are in the order in which they first come."""
    found = rows.pivot_table(index=index, columns=columns, values=values, aggfunc=how, sort=False)
    return found.reset_index().rename_axis(columns=None)
