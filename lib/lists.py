"""People's lists: comma-separated files as spreadsheets, scripts and hands write them."""

import csv
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

SEPARATORS = ",;\t|"
MARKS = {  # that begin a file, of which the longer come first
    b"\xff\xfe\x00\x00": "utf-32",
    b"\x00\x00\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}


class ListError(ValueError):
    """A list that cannot be read; the message says its file and line."""


def read_list(
    path: str | os.PathLike[str], columns: Sequence[str]
) -> Iterator[tuple[int, list[str]]]:
    """Rows of a list with a header, whatever its encoding's mark and its separator.

    Parameters
    ----------
    path : path-like
        UTF-8, or UTF-16 or UTF-32 with a byte-order mark. Cells are separated by commas,
        semicolons, tabs or bars, as the header shows; empty lines are skipped.
    columns : sequence of str
        That are needed. Others are ignored; capitals and blanks around a name do not count.

    Yields
    ------
    int
        Number of the row's line, from 1.
    list of str
        Its cells, in the order of `columns`, without blanks around them.

    Raises
    ------
    ListError
        Naming the line where a cell is missing, too much or cannot be decoded.
    """
    text, skipped = _text(path), 0
    separator = None
    if text.lower().startswith("sep="):  # a hint to Excel
        hint, _, text = text.partition("\n")
        separator, skipped = hint[4:].strip("\r") or ",", 1
    header = next(iter(text.lstrip().splitlines()), "")
    separator = separator or max(SEPARATORS, key=header.count)
    rows = _rows(path, text, separator, skipped)
    header = [name.lower() for name in next(rows, (1, []))[1]]
    if any(header.count(name) != 1 for name in columns):
        raise ListError(f"{path} needs a first line `{','.join(columns)}` and a line for each row.")
    for line, cells in rows:
        if len(cells) > len(header):
            raise ListError(
                f"{path}, line {line}: {len(cells)} cells, the header has {len(header)}: put a "
                "cell with a separator in it into quotation marks."
            )
        found = dict(zip(header, cells, strict=False))
        if missing := [name for name in columns if not found.get(name)]:
            raise ListError(f"{path}, line {line}: no {' and no '.join(missing)}.")
        yield line, [found[name] for name in columns]


def _text(path):
    data = Path(path).read_bytes()
    encoding = next((name for mark, name in MARKS.items() if data.startswith(mark)), "utf-8-sig")
    try:
        text = data.decode(encoding)
        where = text.find("\0")  # of UTF-16 without its mark, or of no text
    except UnicodeDecodeError:
        text = data.decode(encoding, errors="replace")
        where = text.find("\ufffd")
    if where >= 0:
        line = text.count("\n", 0, where) + 1
        raise ListError(
            f"{path}, line {line}: not {encoding.removesuffix('-sig').upper()} as it should be: "
            "save the list as UTF-8 (in Excel: CSV UTF-8)."
        )
    return text


def _rows(path, text, separator, skipped):
    """Number of the line and cells of each row that has any."""
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True
    )
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            while cells and not cells[-1]:
                cells.pop()
            if cells:
                yield reader.line_num + skipped, cells
    except csv.Error as error:
        raise ListError(f"{path}, line {reader.line_num + skipped}: {error}.") from error
