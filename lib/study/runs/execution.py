"""Execute one notebook by papermill, and record that it finished.

A notebook counts as done when papermill exited with 0 and our record was then renamed into place.
The executed notebook alone does not show it: a killed kernel leaves one that looks complete.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import psutil
import yaml

from ... import files
from .. import paths
from .executed import tidy
from .parameters import check_parameters

GUARDED = str(Path(__file__).with_name("guarded.py"))
OUTPUTS = ("tables", "figures", "headline")  # folders whose new files a run records
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


class NotebookFailed(RuntimeError):
    """A notebook did not run to its end; the message says where to look."""


def run_notebook(
    notebook, parameters, experiment, fingerprint, *, timeout=None, check=None, **options
):
    """Execute one notebook in its own process and record it.

    The executed copy is tidied and goes to ``results/<experiment>/notebooks/<name>.ipynb``. The
    copy of a failed run goes to ``<name>.failed.ipynb`` as it is.

    Parameters
    ----------
    notebook : path-like
    parameters : dict
    experiment : str
        Names the folder of the results.
    fingerprint : str
        Written into the record.
    timeout : float, optional
        Seconds after which the run is ended and counts as failed.
    check : callable, optional
        Called before the run and again before the record is written. If it raises, there is no
        record.
    **options
        ``threads``: number of threads of the numerical packages; ``cwd``: working directory of the
        notebook, by default the root; ``log``: file for its output, by default the terminal.

    Returns
    -------
    dict
        The record: ``fingerprint``, ``seconds`` and ``outputs``: SHA-256 of the executed copy and
        of what the notebook wrote into the folders `OUTPUTS`.

    Raises
    ------
    ParameterError
        Before anything runs.
    NotebookFailed
        If it did not run to its end, or its executed copy is too large.
    """
    parameters = check_parameters(notebook, parameters)
    check = check or (lambda: None)
    check()
    notebook = Path(notebook)
    executed = _executed(experiment, notebook.stem)
    partial = executed.with_suffix(".part.ipynb")
    executed.parent.mkdir(parents=True, exist_ok=True)
    for stale in (_record_path(experiment, notebook.stem), _failed(executed), executed):
        stale.unlink(missing_ok=True)
    before, start = _written(experiment), time.monotonic()
    try:
        status = _papermill(notebook, partial, parameters, timeout, **options)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    seconds = time.monotonic() - start
    if status != 0:
        raise NotebookFailed(_keep_failed(notebook.stem, partial, _failed(executed), status))
    try:
        tidy(partial, notebook)
    except ValueError as error:
        os.replace(partial, _failed(executed))
        copy = os.path.relpath(_failed(executed))
        raise NotebookFailed(f"{notebook.stem}: {error}; it is {copy}") from error
    os.replace(partial, executed)
    check()
    after = _written(experiment)
    folder = paths.results_folder(experiment)
    written = [name for name in sorted(after) if after[name] != before.get(name)]
    written.append(executed.relative_to(folder).as_posix())
    record = {
        "fingerprint": fingerprint,
        "seconds": round(seconds, 1),
        "outputs": {name: files.sha256(folder / name) for name in written},
    }
    files.write_atomically(
        _record_path(experiment, notebook.stem), json.dumps(record, indent=2) + "\n"
    )
    return record


def _papermill(notebook, output, parameters, timeout, threads=None, cwd=None, log=None):
    """Exit status of papermill, or "timeout" if the run took too long and was ended."""
    progress = "--progress-bar" if sys.stderr.isatty() else "--no-progress-bar"
    # Relative, since papermill writes these paths into the notebook.
    names = [os.path.relpath(path, paths.ROOT) for path in (notebook, output)]
    where = os.path.relpath(cwd or paths.ROOT, paths.ROOT)
    command = [sys.executable, "-P", GUARDED, str(os.getpid()), *names, "-k", "python3"]
    command += ["--cwd", where]
    command += ["--stdout-file", "-", "--log-level", "WARNING", progress]
    search = [str(paths.ROOT), os.environ.get("PYTHONPATH")]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, search)),
        "PYTHONHASHSEED": "0",
        "SOURCE_DATE_EPOCH": os.environ.get("SOURCE_DATE_EPOCH", "0"),
    }
    if threads is not None:
        environment |= dict.fromkeys(THREADS, str(threads))
    # The kernel's own folder: its sockets, and not the user's settings of IPython.
    with tempfile.TemporaryDirectory() as ipython, _opened(log) as shown:
        # In a file, since a command line has a limit. YAML by PyYAML: papermill reads JSON's 1e-05
        # as text.
        values = Path(ipython, "parameters.yml")
        values.write_text(yaml.safe_dump(parameters, allow_unicode=True), encoding="utf-8")
        command += ["-f", str(values)]
        # Its own process group: Ctrl-C reaches only us, and we end the whole tree. It inherits the
        # folder's lock: if we are killed and it is not, it still keeps other runs out.
        process = subprocess.Popen(
            command,
            cwd=paths.ROOT,
            env=environment | {"IPYTHONDIR": ipython},
            stdin=subprocess.DEVNULL,
            stdout=shown,
            stderr=shown and subprocess.STDOUT,
            start_new_session=True,
            close_fds=False,
        )
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            return "timeout"
        finally:
            _end(process)


def _opened(log):
    """The open log; None if the output goes to the terminal."""
    return contextlib.nullcontext() if log is None else open(log, "w")


def _end(process):
    """End a process and its children; kernels have their own process groups."""
    if process.poll() is not None:
        return
    tree = [psutil.Process(process.pid)]
    tree += tree[0].children(recursive=True)
    for member in tree:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    process.wait()


def _keep_failed(name, partial, failed, status):
    """Keep the copy of a failed run; return one line that says what happened."""
    if partial.exists():
        os.replace(partial, failed)
    if status == "timeout":
        reason = "it reached its time limit"
    elif not failed.exists():
        reason = f"it did not start (exit status {status})"
    else:
        reason = _last_error(failed) or f"its kernel died (exit status {status})"
    copy = f"; executed copy: {os.path.relpath(failed)}" if failed.exists() else ""
    return f"{name} failed: {reason}{copy}"


def _last_error(notebook):
    """``Name: message`` of the error that a cell ended with; None without one."""
    try:
        cells = nbformat.read(notebook, as_version=4).cells
    except ValueError:  # no JSON: papermill was killed or the disk was full while it wrote
        return "its executed copy is incomplete"
    errors = [
        output
        for cell in cells
        for output in cell.get("outputs", ())
        if output.output_type == "error"
    ]
    if not errors:
        return None
    message = errors[-1].evalue.strip().splitlines() or [""]
    return f"{errors[-1].ename}: {message[-1]}"


def _executed(experiment, name):
    return paths.results_folder(experiment) / "notebooks" / f"{name}.ipynb"


def _failed(executed):
    return executed.with_suffix(".failed.ipynb")


def _record_path(experiment, name):
    return paths.results_folder(experiment) / ".records" / f"{name}.json"


def _written(experiment):
    """Inode and time of each file in the folders `OUTPUTS`; writing a file changes them."""
    folder = paths.results_folder(experiment)
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_ino, path.stat().st_mtime_ns)
        for kind in OUTPUTS
        for path in folder.glob(f"{kind}/*")
        if not path.name.startswith(".")
    }


def fresh_record(experiment, name, current):
    """The record of a finished run if content and outputs are unchanged; otherwise None."""
    folder = paths.results_folder(experiment)
    try:
        record = json.loads(_record_path(experiment, name).read_text())
        outputs = record["outputs"]
        stand = f"notebooks/{name}.ipynb" in outputs and all(
            files.sha256(folder / file) == sha for file, sha in outputs.items()
        )
    except (FileNotFoundError, ValueError, KeyError):
        return None
    return record if stand and record["fingerprint"] == current else None
