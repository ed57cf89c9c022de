"""Where results live: tidy tables, atomic writes, the manifest and the comparison.

Every number of the study passes through :func:`write_table`, which admits exactly the
columns of :data:`COLUMNS`; ``results/README.md`` says what each of them means.
"""

import hashlib
import io
import json
import numbers
import os
import platform
import subprocess
import tempfile
from importlib import metadata
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = tuple(
    "torch torchvision numpy numba pandas matplotlib seaborn scikit-learn papermill".split()
)
INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16")
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
    }.items()
}

# For each table: what identifies a row, and for each compared column the tolerance
# (absolute, relative). A tolerance of None asks for equal text. Seconds are never compared.
TOLERANCES = {
    "training": ("network seed initializer epoch", {"test_top1": (0.5, 0)}),
    "layers": (
        "network layer n_weights",
        {"std": (0, 0.02), "kurtosis": (0.1, 0.1), "correlation_with_init": (0.02, 0)},
    ),
    "density": ("layer", {"weight": (1e-6, 1e-3), "density": (1e-6, 1e-2)}),
    "distribution": ("layer init gamma bits stage", {"center": (1e-6, 1e-3)}),
    "speed": (
        "layer engine init gamma revise bits seed repeat max_iter",
        {"n_iter": (0, 0.02), "relative_inertia": (0, 1e-3)},
    ),
    "accuracy": (
        "network scope init gamma revise bits seed max_iter n_images",
        {"top1": (1.0, 0), "inertia": (0, 1e-3)},
    ),
    "claims": ("claim scope network baseline", {"verdict": None}),
}


def results_folder(experiment):
    """Folder of one experiment's results; the variable ``RESULTS`` moves their root.

    Parameters
    ----------
    experiment : str
        Name of the experiment, such as ``"embedded"``.

    Returns
    -------
    pathlib.Path
        Absolute; it need not exist yet.
    """
    return ROOT / os.environ.get("RESULTS", "results") / experiment


def write_atomically(path, data):
    """Write a file whole or not at all: a reader never sees half of it.

    Parameters
    ----------
    path : path-like
        Missing parent folders are made.
    data : str or bytes
        Text is written as UTF-8.

    Raises
    ------
    OSError
        Where the folder cannot be written, naming the file and the reason.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # In the same folder: a rename is atomic only within one file system.
        handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise type(error)(f"cannot write {path}: {error.strerror or error}") from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(partial, 0o644)
        os.replace(partial, path)
    except BaseException as error:
        Path(partial).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise type(error)(f"cannot write {path}: {error.strerror or error}") from error
        raise


def sha256(path):
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ---------------------------------------------------------------------------- tables


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
    rows = [list(text.columns), ["---"] * text.shape[1], *text.to_numpy().tolist()]
    lines = (" | ".join(cell.replace("|", r"\|") for cell in row) for row in rows)
    return "".join(f"| {line} |\n" for line in lines)


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


# ------------------------------------------------------------------------ provenance


def provenance():
    """What a number depends on besides its inputs: versions, hardware, commit.

    Returns
    -------
    dict
        ``python``, ``packages``, ``hardware`` and ``code``; JSON-ready. What cannot be
        found out is None.
    """
    return {
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "hardware": _hardware(),
        "code": _code(),
    }


def version(package):
    """Installed version of a package; None without it."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _hardware():
    import psutil
    import torch

    cpu = _cpuinfo()
    flags = (cpu.get("flags") or cpu.get("Features") or "").split()
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": cpu.get("model name") or platform.processor() or None,
        "instructions": [name for name in INSTRUCTIONS if name in flags],
        "cores": len(psutil.Process().cpu_affinity()) if cpu else psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _cpuinfo():
    """Linux's description of the first processor; empty elsewhere."""
    try:
        first = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _code():
    # Results are what a run writes: they do not make the code that wrote them unclean.
    status = _git("status", "--porcelain", "--", ".", ":!results")
    return {"commit": _git("rev-parse", "HEAD"), "clean": None if status is None else not status}


def _git(*arguments):
    """Output of a git command in the root; None where git or the commit is not there."""
    try:
        done = subprocess.run(("git", *arguments), cwd=ROOT, capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def write_manifest(experiment, records, parameters):
    """Write ``manifest.json``: how the experiment's results came to be.

    Parameters
    ----------
    experiment : str
    records : dict of str to dict
        For each notebook that was run, its record; ``seconds`` and ``outputs`` are read.
    parameters : dict of str to dict
        The parameters of each notebook.

    Returns
    -------
    dict
        What was written. Inputs are named relative to the repository's root, outputs
        relative to the experiment's folder.
    """
    outputs = {name: sha for record in records.values() for name, sha in record["outputs"].items()}
    manifest = {
        "experiment": experiment,
        **provenance(),
        "parameters": parameters,
        "seconds": {name: record["seconds"] for name, record in records.items()},
        "inputs": {path.relative_to(ROOT).as_posix(): sha256(path) for path in _inputs(experiment)},
        "outputs": dict(sorted(outputs.items())),
    }
    path = results_folder(experiment) / "manifest.json"
    write_atomically(path, json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")
    return manifest


def _inputs(experiment):
    patterns = (
        "requirements.txt",
        f"notebooks/experiments/{experiment}.yml",
        "notebooks/*.ipynb",
        "data/**/*",
        "lib/**/*.py",
    )
    found = {path for pattern in patterns for path in ROOT.glob(pattern) if path.is_file()}
    return sorted(path for path in found if not _by_the_way(path.relative_to(ROOT)))


def _by_the_way(path):
    return any(part.startswith(".") or part == "__pycache__" for part in path.parts)


# ------------------------------------------------------------------------ comparison


def compare_tables(experiment, reference="full"):
    """Compare an experiment's rows with the committed ones, and print how they agree.

    A row is compared with the row of the same keys, the n-th of several with the n-th,
    within :data:`TOLERANCES`. Rows on one side only are counted.

    Parameters
    ----------
    experiment : str
    reference : str, default="full"
        The experiment whose committed tables are compared against. For that experiment
        itself they are read from git's last commit.

    Returns
    -------
    pandas.DataFrame
        One row a table: ``table, shared, agree, only_here, only_there``.
    """
    print(f"{experiment} against the committed tables of {reference}:")
    rows = []
    for name in COLUMNS:
        ours = results_folder(experiment) / "tables" / f"{name}.csv"
        theirs = _committed(experiment, reference, name)
        if not ours.exists() or theirs is None:
            print(f"  {name:12} nothing to compare ({'here' if theirs else 'committed'}: none)")
            continue
        rows.append({"table": name} | _compare(name, _texts(ours), _texts(io.StringIO(theirs))))
    return pd.DataFrame(rows, columns=["table", "shared", "agree", "only_here", "only_there"])


def _committed(experiment, reference, name):
    relative = f"results/{reference}/tables/{name}.csv"
    if experiment == reference:
        return _git("show", f"HEAD:{relative}")
    path = ROOT / relative
    return path.read_text() if path.exists() else None


def _texts(source):
    return pd.read_csv(source, dtype=str, keep_default_na=False)


def _compare(name, ours, theirs):
    keys, tolerances = TOLERANCES[name]
    keys = keys.split()
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
        dtype=bool,
    )
    found = {
        "shared": len(both),
        "agree": int(agrees.all(axis=1).sum()),
        "only_here": len(ours) - len(both),
        "only_there": len(theirs) - len(both),
    }
    print(
        f"  {name:12} {found['agree']} of {found['shared']} shared rows agree "
        f"({_stated(tolerances)}); only here {found['only_here']}, "
        f"only committed {found['only_there']}"
    )
    _print_differences(both, agrees, keys)
    return found


def _close(ours, theirs, tolerance):
    if tolerance is None or not ours or not theirs:
        return ours == theirs
    absolute, relative = tolerance
    return abs(float(ours) - float(theirs)) <= absolute + relative * abs(float(theirs))


def _stated(tolerances):
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
