"""Tables as plain text."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

Columns = Mapping[str, Callable[[Any], str]]


def text_table(rows: Iterable[Mapping[str, Any]], columns: Columns) -> str:
    """Rows as aligned plain text, under the names of the columns.

    Parameters
    ----------
    rows : iterable of mappings
        From a column's name to its value; a value that is missing or None leaves the cell empty.
    columns : mapping of str to callable
        By name, what writes a value as text. Columns written by `str` are aligned left, others,
        which hold numbers, right.

    Returns
    -------
    str

    Examples
    --------
    >>> rows = [{"layer": "fc", "bytes": 1200}, {"layer": "bias"}]
    >>> print(text_table(rows, {"layer": str, "bytes": "{:,}".format}))
    layer  bytes
    fc     1,200
    bias
    """
    cells = [[*columns]]
    for row in rows:
        values = [row.get(name) for name in columns]
        cells.append(
            [
                "" if value is None else write(value)
                for value, write in zip(values, columns.values(), strict=True)
            ]
        )
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(
            text.ljust(width) if write is str else text.rjust(width)
            for text, width, write in zip(line, widths, columns.values(), strict=True)
        )
        for line in cells
    ]
    return "\n".join(map(str.rstrip, lines))
