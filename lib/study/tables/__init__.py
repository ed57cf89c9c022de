"""The study's tables: written, read, compared and shown by one record each (`TABLES`).

Every number of the study passes through `write_table`, which takes exactly the columns of the
table's record.
"""

import numbers

import pandas as pd

from ...files import write_atomically
from ..paths import results_folder
from .printed import by_default, inits_of
from .records import SHARED, TABLES, Table
from .text import for_readers, latex, latex_text, markdown, number

__all__ = [
    "SHARED",
    "TABLES",
    "Table",
    "by_default",
    "for_readers",
    "inits_of",
    "latex",
    "latex_text",
    "markdown",
    "number",
    "read_table",
    "write_table",
]

MOST_ROWS_SET = 200  # a longer table is for programs, not for readers


def write_table(frame, experiment, name):
    """Write a table as ``tables/<name>.csv``, ``.md`` and ``.tex`` (booktabs).

    Markdown and LaTeX are for readers: they are written only if the table has at most 200 rows.
    The same frame always gives the same bytes: numbers have ten significant digits, truth values
    are True and False, a missing value is blank.

    Parameters
    ----------
    frame : pandas.DataFrame
        One observation a row, with exactly the columns of ``TABLES[name]``, in any order.
    experiment, name : str

    Returns
    -------
    pathlib.Path
        The CSV file.

    Raises
    ------
    ValueError
        For an unknown table, missing columns or unexpected ones, naming them.
    """
    columns = _checked_columns(frame, name)
    text = frame[columns].map(_cell).astype(str)
    path = _path(experiment, name)
    write_atomically(path, text.to_csv(index=False, lineterminator="\n"))
    for suffix, render in ((".md", markdown), (".tex", latex)):
        if len(text) <= MOST_ROWS_SET:
            write_atomically(path.with_suffix(suffix), render(columns, text.to_numpy().tolist()))
        else:
            path.with_suffix(suffix).unlink(missing_ok=True)
    return path


def read_table(experiment, name):
    """Read a table that `write_table` wrote.

    Raises
    ------
    FileNotFoundError
        If there is none, naming the command that makes it.
    ValueError
        If its columns are not those of ``TABLES[name]``.
    """
    path = _path(experiment, name)
    if not path.exists():
        raise FileNotFoundError(
            f"table {name!r} of {experiment!r} is not there ({path}); "
            f"`make reproduce EXPERIMENT={experiment}` makes it"
        )
    frame = pd.read_csv(path)
    _checked_columns(frame, name)
    return frame


def tables_of(experiment):
    """Names of the tables that an experiment has, in the order of their records."""
    return [name for name in TABLES if _path(experiment, name).exists()]


def _path(experiment, name):
    return results_folder(experiment) / "tables" / f"{name}.csv"


def _checked_columns(frame, name):
    """The table's columns in their order; ValueError if the frame has others."""
    if name not in TABLES:
        raise ValueError(f"unknown table {name!r}; the tables are {', '.join(TABLES)}")
    columns = TABLES[name].columns
    missing = [column for column in columns if column not in frame.columns]
    unexpected = [str(column) for column in frame.columns if column not in columns]
    if missing or unexpected or frame.columns.has_duplicates:
        raise ValueError(
            f"table {name!r}: missing columns {missing}, unexpected columns {unexpected}; "
            f"it must have exactly {', '.join(columns)}, each once"
        )
    return list(columns)


def _cell(value):
    if pd.isna(value):
        return ""
    if pd.api.types.is_bool(value):
        return str(bool(value))
    if isinstance(value, numbers.Real) and not isinstance(value, numbers.Integral):
        return f"{value:.10g}"
    return str(value)
