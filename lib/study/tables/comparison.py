"""Compare a run's tables with the committed ones, row by row, within stated tolerances."""

import io

import pandas as pd

from .. import paths
from ..provenance import git, read_manifest
from .records import TABLES

REFERENCE = "full"  # tables of other experiments are compared with this one's
COMMITTED = (REFERENCE, "bench", "compress")  # theirs are compared with their own

TRAINING = "01-train"
# Parameters of the training notebook that do not change a network of a given name. Manifests of
# earlier versions have seeds and initializers in place of networks.
HARMLESS = {"experiment", "networks", "seeds", "initializers", "n_test"}


def compare_tables(experiment, reference=None):
    """Compare an experiment's rows with the committed ones, and print how they agree.

    A row is compared with the row of the same keys, the n-th of several with the n-th, within the
    tolerances of the table's record. Rows on one side only are counted. If the classifiers were
    not trained alike, only rows of the convolutions are compared.

    Parameters
    ----------
    experiment : str
    reference : str, optional
        The experiment whose committed tables to compare with; by default itself if it is in
        `COMMITTED`, else `REFERENCE`. Its own are read from git's last commit.

    Returns
    -------
    pandas.DataFrame
        One row a table: ``table, shared, agree, only_here, only_there``.
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
        sides = sides if alike else map(_of_convolutions, sides)
        rows.append({"table": name} | _compare(table, *sides))
    return pd.DataFrame(rows, columns=["table", "shared", "agree", "only_here", "only_there"])


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


def _of_convolutions(table):
    """The rows that do not depend on a trained classifier."""
    if "layer" not in table:
        return table.iloc[:0]
    return table[table["layer"].str.startswith("conv")]


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
    found = {
        "shared": len(both),
        "agree": int(agrees.all(axis=1).sum()),
        "only_here": len(ours) - len(both),
        "only_there": len(theirs) - len(both),
    }
    print(
        f"  {table.name:12} {found['agree']} of {found['shared']} shared rows agree "
        f"({stated(tolerances)}); only here {found['only_here']}, "
        f"only committed {found['only_there']}"
    )
    _print_differences(both, agrees, keys)
    return found


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


def _print_differences(both, agrees, keys, most=5):
    differing = both[~agrees.all(axis=1)]
    for index, row in differing.head(most).iterrows():
        where = " ".join(f"{key}={row[key]}" for key in keys if row[key])
        what = ", ".join(
            f"{column} {row[column] or 'blank'}, committed {row[f'{column}_there'] or 'blank'}"
            for column in agrees.columns[~agrees.loc[index]]
        )
        print(f"    differs: {where}: {what}")
    if len(differing) > most:
        print(f"    and {len(differing) - most} more")
