"""Join the tables of all points; each row gets the parameters of its point."""

import io
import json

import pandas as pd

from ...files import write_atomically
from ..paths import results_folder
from ..runs import notebook_path
from ..runs.parameters import default_parameters
from .point import ABOUT


def collect(sweep):
    """Join each table over the finished points and write it as CSV and Parquet.

    Parameters
    ----------
    sweep : Sweep

    Returns
    -------
    dict of str to pandas.DataFrame
        From a table's name to the rows of all points, with columns for the point (``point``, the
        name of its folder), for each parameter that the sweep file names (``sweep.<parameter>``),
        and for ``sweep.seconds``, ``sweep.commit`` and ``sweep.processor``.
    """
    given, found = _given(sweep), {}
    for i, point in enumerate(sweep.points):
        record = sweep.record(point)
        if record is None:
            continue
        folder = results_folder(point.experiment)
        about = json.loads((folder / ABOUT).read_text())["provenance"]
        more = {name: values[i] for name, values in given.items()}
        more |= {"sweep.seconds": record["seconds"], "sweep.commit": about["code"]["commit"]}
        more |= {"sweep.processor": about["hardware"]["processor"]}
        names = [n[len("tables/") : -len(".csv")] for n in record["outputs"] if n.endswith(".csv")]
        for name in names:
            if not sweep.tables or name in sweep.tables:
                rows = pd.read_csv(folder / "tables" / f"{name}.csv")
                found.setdefault(name, []).append(rows.assign(point=point.id, **more))
    tables = {name: pd.concat(p, ignore_index=True).apply(_even) for name, p in found.items()}
    for name, table in tables.items():
        path = sweep.folder / "tables" / f"{name}.csv"
        write_atomically(path, table.to_csv(index=False, lineterminator="\n"))
        buffer = io.BytesIO()
        table.to_parquet(buffer, index=False)
        write_atomically(path.with_suffix(".parquet"), buffer.getvalue())
    return tables


def _given(sweep):
    """A column for each parameter that the file names; the notebook's default where it does not.

    A list of one value counts as that value. If any point has a longer list, all become JSON.
    """
    defaults = default_parameters(notebook_path(sweep.notebook))
    names = dict.fromkeys(name for point in sweep.points for name in point.parameters)
    return {
        f"sweep.{name}": _scalars([p.parameters.get(name, defaults[name]) for p in sweep.points])
        for name in names
        if name != "experiment"
    }


def _scalars(values):
    """Values that a column can hold."""
    single = [v[0] if isinstance(v, list) and len(v) == 1 else v for v in values]
    if any(isinstance(value, (list, dict)) for value in single):
        return [json.dumps(value) for value in values]
    return single


def _even(column):
    """The column with one type, as Parquet requires: numbers become text if there is any text."""
    kinds = set(map(type, column.dropna())) if column.dtype == object else set()
    mixed = len(kinds) > 1 and not kinds <= {int, float}
    return column.map(str, na_action="ignore") if mixed else column
