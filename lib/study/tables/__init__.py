"""Where results live: tidy tables and atomic writes.

Every number of the study passes through :func:`write_table`, which admits exactly the
columns of :data:`COLUMNS`; ``results/README.md`` says what each of them means.
"""

import numbers

import pandas as pd

from ...files import write_atomically
from ...initialization import named
from ..paths import results_folder

MOST_ROWS_SET = 200  # a longer table is for programs, not for readers

COLUMNS = {
    name: tuple(columns.split())
    for name, columns in {
        "training": "network seed initializer epoch seconds train_loss held_out_top1 test_top1",
        "layers": "network layer n_weights std kurtosis correlation_with_init",
        "density": "layer weight density",
        "distribution": "layer init gamma bits stage center",
        "speed": "layer n_weights engine init gamma revise bits seed repeat max_iter n_iter "
        "converged seconds extrapolated inertia relative_inertia",
        "accuracy": "network scope init gamma revise bits seed max_iter top1 top5 low high "
        "n_images top1_drop inertia bytes ratio",
        "claims": "claim scope network baseline paper measured relative low high verdict",
        "claims_retrained": "claim scope network baseline paper measured relative low high verdict",
        "bench": "array n_array n_weights peer n_clusters repeat seconds peak_mib relative_inertia",
        "frontier": "scope method retrained pruned bytes ratio bits_per_weight top1 low high "
        "top1_drop seconds file",
        "chosen": "scope retrained file held_out_drop chosen",
        "retraining": "way init bits epoch train_loss held_out_top1 test_top1 seconds",
        "rates": "layer cells n_clusters entropy bytes bits_per_weight relative_distortion",
        "allocation": "scope criterion bits allocation layer n_weights n_clusters bytes distortion "
        "total_bytes top1 low high top1_drop",
        "distortion": "scope bits weighting compensated corrected bytes top1 low high top1_drop "
        "seconds",
        "runtimes": "form bytes ratio load_seconds latency_ms latency_ms_low latency_ms_high top1 "
        "low high agreement",
        "models": "model images init bits max_iter seed granularity reestimated n_images top1 top5 "
        "low high top1_drop bytes ratio seconds",
        "sizes": "file layer n_weights n_clusters coding entropy bits_per_weight bytes_before "
        "label_bytes codebook_bytes bytes ratio",
        "gaps": "layer n_weights n_clusters inertia bound gap",
        "ratios": "case n_weights n_clusters against repeat seconds against_seconds ratio",
    }.items()
}


def write_table(frame, experiment, name):
    """Write a table as ``tables/<name>.csv``, ``.md`` and ``.tex`` (booktabs).

    The two for readers are written only when the table has at most 200 rows. The same
    frame always gives the same bytes: numbers have ten significant digits, truth values
    are True and False, a missing value is blank.

    Parameters
    ----------
    frame : pandas.DataFrame
        One observation a row, with exactly the columns of ``COLUMNS[name]``, in any order.
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
    _check_columns(frame, name)
    text = frame[list(COLUMNS[name])].map(_cell).astype(str)
    path = results_folder(experiment) / "tables" / f"{name}.csv"
    write_atomically(path, text.to_csv(index=False, lineterminator="\n"))
    for suffix, render in ((".md", _markdown), (".tex", _latex)):
        if len(text) <= MOST_ROWS_SET:
            write_atomically(path.with_suffix(suffix), render(text))
        else:
            path.with_suffix(suffix).unlink(missing_ok=True)
    return path


def read_table(experiment, name):
    """Read a table that :func:`write_table` wrote.

    Raises
    ------
    FileNotFoundError
        When it is not there, naming the command that makes it.
    ValueError
        When its columns are not those of ``COLUMNS[name]``.
    """
    path = results_folder(experiment) / "tables" / f"{name}.csv"
    if not path.exists():
        raise FileNotFoundError(
            f"table {name!r} of {experiment!r} is not there ({path}); "
            f"`make reproduce EXPERIMENT={experiment}` makes it"
        )
    frame = pd.read_csv(path)
    _check_columns(frame, name)
    return frame


def markdown(heads, rows):
    """A Markdown table of texts."""
    lines = [heads, ["---"] * len(heads), *rows]
    cells = ([cell.replace("|", r"\|") for cell in line] for line in lines)
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)


def as_known(rows):
    """Rows where each initialization is revised, or not, as it is by default."""
    return rows[rows["revise"].astype(bool) == rows["init"].map(lambda init: named(init).revised)]


def _check_columns(frame, name):
    if name not in COLUMNS:
        raise ValueError(f"unknown table {name!r}; the tables are {', '.join(COLUMNS)}")
    missing = [column for column in COLUMNS[name] if column not in frame.columns]
    unexpected = [str(column) for column in frame.columns if column not in COLUMNS[name]]
    if missing or unexpected or frame.columns.has_duplicates:
        raise ValueError(
            f"table {name!r}: missing columns {missing}, unexpected columns {unexpected}; "
            f"it must have exactly {', '.join(COLUMNS[name])}, each once"
        )


def _cell(value):
    if pd.isna(value):
        return ""
    if pd.api.types.is_bool(value):
        return str(bool(value))
    if isinstance(value, numbers.Real) and not isinstance(value, numbers.Integral):
        return f"{value:.10g}"
    return str(value)


def _markdown(text):
    return markdown(text.columns, text.to_numpy().tolist())


_LATEX = str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
)


def _latex(text):
    lines = [
        " & ".join(cell.translate(_LATEX) for cell in row) + r" \\"
        for row in (list(text.columns), *text.to_numpy().tolist())
    ]
    body = "\n".join([r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"])
    return f"\\begin{{tabular}}{{{'l' * text.shape[1]}}}\n{body}\n\\end{{tabular}}\n"
