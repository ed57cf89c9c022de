"""Compare a run's tables with the committed ones, row by row, in two groups.

What follows from the committed convolutions' weights alone *must agree* on every machine, within
the stated tolerances. What comes of a trained classifier *may vary*, since another processor trains
another network: intervals must overlap, and what is counted on one network must be what the
committed networks predict. Of the rest nothing is said.
"""

import io

import numpy as np
import pandas as pd
from scipy import stats

from .. import paths
from ..provenance import git, read_manifest
from .records import TABLES

REFERENCE = "full"  # tables of other experiments are compared with this one's
COMMITTED = (REFERENCE, "bench", "compress", "standard")  # theirs are compared with their own

COUNTS = "shared must_agree agree may_vary within only_here only_there".split()
CONFIDENCE = 0.95  # of all that the committed networks predict for the networks of a run
RUINED = 50  # points of top-1 lost: what is left is another number on every machine

TRAINING = "01-train"
# Parameters of the training notebook that do not change a network of a given name. Manifests of
# earlier versions have seeds and initializers in place of networks.
HARMLESS = {"experiment", "networks", "seeds", "initializers", "n_test"}


def compare_tables(experiment, reference=None):
    """Compare an experiment's rows with the committed ones, and print how they agree.

    A row is compared with the row of the same keys, the n-th of several with the n-th. Rows on one
    side only are counted. If the classifiers were not trained alike, only rows of the convolutions
    are compared. The last line says whether the run reproduces the committed one.

    Parameters
    ----------
    experiment : str
    reference : str, optional
        The experiment whose committed tables to compare with; by default itself if it is in
        `COMMITTED`, else `REFERENCE`. Its own are read from git's last commit.

    Returns
    -------
    pandas.DataFrame
        One row a table: ``table, shared``; ``must_agree, agree``: rows that must, and that do;
        ``may_vary, within``: rows that may, and that do so within their limits; ``only_here,
        only_there``.
    """
    reference = reference or (experiment if experiment in COMMITTED else REFERENCE)
    print(f"{experiment} against the committed tables of {reference}:")
    alike = _training(experiment) == _training(reference)
    if not alike:
        print("  (its classifier was trained otherwise: only rows of convolutions are compared)")
    rows = []
    for name, table in TABLES.items():
        ours = paths.results_folder(experiment) / "tables" / f"{name}.csv"
        theirs = _committed(experiment, reference, name)
        if not ours.exists() and theirs is None:
            continue
        if not ours.exists() or theirs is None:
            print(f"  {name:12} nothing to compare ({'here' if theirs else 'committed'}: none)")
            continue
        sides = (_texts(ours), _texts(io.StringIO(theirs)))
        sides = sides if alike else [side[_must_agree(table, side)] for side in sides]
        rows.append({"table": name} | _compare(table, *sides))
    found = pd.DataFrame(rows, columns=["table", *COUNTS])
    print(_verdict(found))
    return found


def _verdict(found):
    """Whether a run reproduces the committed one, in one line."""
    if found["must_agree"].sum() + found["may_vary"].sum() == 0:
        return "nothing to reproduce: no rows are shared with the committed tables"
    wrong = found.assign(
        agree=found["must_agree"] - found["agree"], within=found["may_vary"] - found["within"]
    )
    texts = [
        f"{n} rows of {row['table']} {what}"
        for _, row in wrong.iterrows()
        for n, what in ((row["agree"], "differ"), (row["within"], "vary too far"))
        if n
    ]
    if texts:
        return f"not reproduced: {'; '.join(texts)}"
    return (
        f"reproduced: {found['agree'].sum():,} rows that must agree do, "
        f"{found['within'].sum():,} vary within their limits"
    )


def _committed(experiment, reference, name):
    relative = f"results/{reference}/tables/{name}.csv"
    if experiment == reference:
        return git("show", f"HEAD:{relative}")
    path = paths.ROOT / relative
    return path.read_text() if path.exists() else None


def _training(experiment):
    """Parameters that an experiment's classifiers depend on; None without a manifest."""
    try:
        given = read_manifest(experiment)["parameters"].get(TRAINING, {})
    except FileNotFoundError:
        return None
    return {name: value for name, value in given.items() if name not in HARMLESS}


def _texts(source):
    return pd.read_csv(source, dtype=str, keep_default_na=False)


def _compare(table, ours, theirs):
    keys, tolerances = table.key_columns, table.tolerances
    sides = [side.assign(nth=side.groupby(keys).cumcount()) for side in (ours, theirs)]
    both = sides[0].merge(sides[1], on=[*keys, "nth"], suffixes=("", "_there"))
    agrees = pd.DataFrame(
        {
            column: [
                _close(a, b, tolerance)
                for a, b in zip(both[column], both[f"{column}_there"], strict=True)
            ]
            for column, tolerance in tolerances.items()
        },
        index=both.index,
        dtype=bool,
    )
    must = _must_agree(table, both)
    limits = _limits(table, both, theirs)
    varies = ~must & limits.notna()
    right = agrees.all(axis=1)
    found = {
        "shared": len(both),
        "must_agree": int(must.sum()),
        "agree": int(right[must].sum()),
        "may_vary": int(varies.sum()),
        "within": int(limits[varies].astype(bool).sum()),
        "only_here": len(ours) - len(both),
        "only_there": len(theirs) - len(both),
    }
    print(
        f"  {table.name:12} {found['agree']} of {found['must_agree']} rows that must agree do"
        f"{f' ({stated(tolerances)})' if must.any() else ''}, "
        f"{found['within']} of {found['may_vary']} vary within their limits; "
        f"only here {found['only_here']}, only committed {found['only_there']}"
    )
    wrong = (must & ~right) | (varies & ~limits.fillna(True).astype(bool))
    _print_differences(both[wrong], agrees[wrong], keys)
    return found


def _must_agree(table, rows):
    """Which rows must agree."""
    if table.must_agree is None or rows.empty:
        return pd.Series(False, index=rows.index)
    return table.must_agree(rows)


def _limits(table, both, theirs):
    """Whether each row is within its limits; None where it has none."""
    limits = pd.Series(None, index=both.index, dtype=object)
    if table.may_vary is not None:
        both, theirs = (rows[table.may_vary(rows)] for rows in (both, theirs))
    if both.empty:
        return limits
    if {"low", "high"} <= set(table.columns):
        found = _intervals_overlap(table, both, theirs)
        if "verdict" in table.columns:
            found = found.mask(both["verdict"] == "", _gains_predicted(table, both, theirs))
    elif "n_iter" in table.tolerances:
        found = _iterations_predicted(table, both, theirs)
    else:
        return limits
    return found.reindex(limits.index)


def _intervals_overlap(table, both, theirs):
    """Whether intervals overlap those of the committed networks, taken together.

    Of networks that are ruined on both sides nothing is said.
    """
    keys = [key for key in table.key_columns if key != "network"]
    ends = theirs[keys].assign(
        least=pd.to_numeric(theirs["low"]), most=pd.to_numeric(theirs["high"])
    )
    ranges = ends.groupby(keys).agg(least=("least", "min"), most=("most", "max"))
    there = both[keys].join(ranges, on=keys)
    low, high = pd.to_numeric(both["low"]), pd.to_numeric(both["high"])
    found = ((low <= there["most"]) & (there["least"] <= high)).astype(object)
    if "top1_drop" not in table.columns:
        return found
    ruined = [pd.to_numeric(both[name]) > RUINED for name in ("top1_drop", "top1_drop_there")]
    return found.mask(ruined[0] & ruined[1], None)


def _gains_predicted(table, both, theirs):
    """Whether gains without a verdict are those that the committed networks predict.

    Each is of one network, a part of the verdict on several.
    """
    keys = [key for key in table.key_columns if key != "network"]
    return _predicted(_gains_of_one(both), _gains_of_one(theirs), keys)


def _gains_of_one(claims):
    """The gains without a verdict."""
    single = claims[claims["verdict"] == ""]
    return single.assign(value=pd.to_numeric(single["measured"]))


def _iterations_predicted(table, both, theirs):
    """Whether iterations are those that the committed networks predict, by their logarithms.

    Seeds of one network are not independent: a line has all of them.
    """
    keys = [key for key in table.key_columns if key not in ("seed", "repeat")]
    return _predicted(_paths_to_the_end(both), _paths_to_the_end(theirs), keys)


def _paths_to_the_end(rows):
    """The paths that ended by themselves: others have no number of iterations to compare."""
    ended = rows[_converged(rows)]
    return ended.assign(
        network=ended["layer"],
        layer=ended["layer"].str.rpartition("/")[2],
        value=np.log(pd.to_numeric(ended["n_iter"]).clip(lower=1)),
    )


def _predicted(ours, theirs, keys):
    """Whether each `value` is in the prediction interval of its line, where that has one.

    A line has equal `keys`, and several networks. Its interval is mean +- t sd sqrt(1 + 1 /
    networks), by Student's t with networks - 1 degrees of freedom, and with Bonferroni's correction
    for the predictions: one for each line of each network in `ours`.
    """
    lines = theirs.groupby(keys).agg(
        mean=("value", "mean"), sd=("value", "std"), networks=("network", "nunique")
    )
    known = ours.join(lines[lines["networks"] > 1], on=keys).dropna(subset="networks")
    predictions = max(known.groupby([*keys, "network"]).ngroups, 1)
    t = stats.t.ppf(1 - (1 - CONFIDENCE) / 2 / predictions, known["networks"] - 1)
    reach = t * known["sd"] * np.sqrt(1 + 1 / known["networks"])
    return ((known["value"] - known["mean"]).abs() <= reach).astype(object)


def _converged(rows):
    """Whether each path ended by itself."""
    if "converged" in rows:
        return rows["converged"] == "True"
    return pd.Series(True, index=rows.index)


def _close(ours, theirs, tolerance):
    if tolerance is None or not ours or not theirs:
        return ours == theirs
    absolute, relative = tolerance
    return abs(float(ours) - float(theirs)) <= absolute + relative * abs(float(theirs))


def stated(tolerances):
    """The tolerances of a table in words."""

    def text(tolerance):
        if tolerance is None:
            return "equal"
        absolute, relative = tolerance
        parts = [f"{absolute:g}"] * (absolute > 0) + [f"{relative:.2g} of it"] * (relative > 0)
        return "within " + " + ".join(parts)

    return ", ".join(f"{column} {text(tolerance)}" for column, tolerance in tolerances.items())


def _print_differences(differing, agrees, keys, most=5):
    for index, row in differing.head(most).iterrows():
        where = " ".join(f"{key}={row[key]}" for key in keys if row[key])
        what = ", ".join(
            f"{column} {row[column] or 'blank'}, committed {row[f'{column}_there'] or 'blank'}"
            for column in agrees.columns[~agrees.loc[index].astype(bool)]
        )
        print(f"    differs: {where}: {what}")
    if len(differing) > most:
        print(f"    and {len(differing) - most} more")
