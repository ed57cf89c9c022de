"""The tables of all points as one, each row with the parameters that made it."""

import io
import json

import pandas as pd

from ..results import results_folder, write_atomically
from .point import ABOUT


def collect(sweep):
    """Write each table of the finished points as one, CSV and Parquet.

    Parameters
    ----------
    sweep : Sweep

    Returns
    -------
    dict of str to pandas.DataFrame
        By name of table: the rows of every point, and for each its ``point`` (the name of its
        folder), what varies (``sweep.<parameter>``; a list of one value as that value, other lists
        as JSON), ``sweep.seconds``, ``sweep.commit`` and ``sweep.processor``.
    """
    found = {}
    for point in sweep.points:
        record = sweep.record(point)
        if record is None:
            continue
        folder = results_folder(point.experiment)
        about = json.loads((folder / ABOUT).read_text())["provenance"]
        given = {f"sweep.{name}": _scalar(value) for name, value in point.varied.items()}
        given |= {"sweep.seconds": record["seconds"], "sweep.commit": about["code"]["commit"]}
        given |= {"sweep.processor": about["hardware"]["processor"]}
        names = [n[len("tables/") : -len(".csv")] for n in record["outputs"] if n.endswith(".csv")]
        for name in names:
            if not sweep.tables or name in sweep.tables:
                rows = pd.read_csv(folder / "tables" / f"{name}.csv")
                found.setdefault(name, []).append(rows.assign(point=point.id, **given))
    tables = {name: pd.concat(parts, ignore_index=True) for name, parts in found.items()}
    for name, table in tables.items():
        path = sweep.folder / "tables" / f"{name}.csv"
        write_atomically(path, table.to_csv(index=False, lineterminator="\n"))
        buffer = io.BytesIO()
        table.to_parquet(buffer, index=False)
        write_atomically(path.with_suffix(".parquet"), buffer.getvalue())
    return tables


def _scalar(value):
    """A value that a column can hold."""
    if isinstance(value, list) and len(value) == 1 and not isinstance(value[0], (list, dict)):
        return value[0]
    return json.dumps(value) if isinstance(value, (list, dict)) else value
