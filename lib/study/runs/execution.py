"""One notebook executed by papermill, and the record that says that it was.

A notebook counts as done when papermill exited 0 *and* a record of ours was renamed into
place after it: papermill's own output cannot be trusted for that, since a kernel that
was killed leaves a notebook that looks complete.
"""

import base64
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
STARTS = 3  # of a kernel
OUTPUTS = ("tables", "figures", "headline")  # folders of what a run is recorded to have written
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


class NotebookFailed(RuntimeError):
    """A notebook did not run to its end; the message says where to look."""


def run_notebook(
    notebook, parameters, experiment, fingerprint, *, timeout=None, check=None, **options
):
    """Execute one notebook in a process of its own and record it.

    The executed copy, tidied, goes to ``results/<experiment>/notebooks/<name>.ipynb``; that of a
    failed run, as it is, to ``<name>.failed.ipynb``.

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
        Called before the run and before it is recorded; where it raises, nothing is.
    **options
        ``threads``: how many the numerical packages may use; ``cwd``: the folder that the notebook
        runs in, by default the root; ``log``: a file for what it prints, by default shown.

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
        When it did not run to its end, whatever the reason, or its executed copy is too large.
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
        status = _started(notebook, partial, parameters, timeout, **options)
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


def _started(notebook, output, parameters, timeout, **options):
    """Exit status of papermill, which is called again where the notebook's kernel did not start.

    Kernels look for free ports and take them a moment later: of many that start at once, now and
    then one finds them taken. No cell has run then.
    """
    for _ in range(STARTS):
        status = _papermill(notebook, output, parameters, timeout, **options)
        if status != 1 or not _is_untouched(output):
            break
        print(f"{notebook.stem}: its kernel did not start", file=sys.stderr)
    return status


def _is_untouched(executed):
    """Whether papermill wrote the notebook, and began no cell of it."""
    try:
        cells = nbformat.read(executed, as_version=4).cells
    except (OSError, ValueError):  # not there, or no notebook
        return False
    return not any(cell.metadata.get("papermill", {}).get("start_time") for cell in cells)


def _papermill(notebook, output, parameters, timeout, threads=None, cwd=None, log=None):
    """Exit status of papermill; "timeout" when the run was ended for its length."""
    # YAML by PyYAML itself, since its reader takes JSON's 1e-05 for text.
    values = base64.b64encode(yaml.safe_dump(parameters, allow_unicode=True).encode()).decode()
    progress = "--progress-bar" if sys.stderr.isatty() else "--no-progress-bar"
    # Relative, since papermill writes these paths into the notebook.
    names = [os.path.relpath(path, paths.ROOT) for path in (notebook, output)]
    where = os.path.relpath(cwd or paths.ROOT, paths.ROOT)
    command = [sys.executable, "-P", GUARDED, str(os.getpid()), *names, "-k", "python3"]
    command += ["--cwd", where]
    command += ["-b", values, "--stdout-file", "-", "--log-level", "WARNING", progress]
    search = [str(paths.ROOT), os.environ.get("PYTHONPATH")]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, search)),
        "PYTHONHASHSEED": "0",
        "SOURCE_DATE_EPOCH": os.environ.get("SOURCE_DATE_EPOCH", "0"),
    }
    if threads is not None:
        environment |= dict.fromkeys(THREADS, str(threads))
    with _ipython_folder() as ipython, _opened(log) as shown:
        # Its own process group: Ctrl-C reaches us alone, and we end the whole tree. It inherits
        # the lock, so that for as long as it outlives us, killed outright, it keeps others out.
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
    """The log to be written; nothing where what is printed shall be seen."""
    return contextlib.nullcontext() if log is None else open(log, "w")


@contextlib.contextmanager
def _ipython_folder():
    """Settings of IPython for one run: the reader's own and their startup files stay out."""
    with tempfile.TemporaryDirectory() as folder:
        profile = Path(folder, "profile_default")
        profile.mkdir()
        # Else every kernel warns that what it says to papermill, on this machine, is plain text.
        quiet = 'get_config().IPKernelApp.log_level = "ERROR"\n'
        (profile / "ipython_kernel_config.py").write_text(quiet)
        yield folder


def _end(process):
    """End a process and all that it started; kernels have process groups of their own."""
    if process.poll() is not None:
        return
    tree = [psutil.Process(process.pid)]
    tree += tree[0].children(recursive=True)
    for member in tree:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    process.wait()


def _keep_failed(name, partial, failed, status):
    """Keep the copy of a failed run and say in one line what happened."""
    if partial.exists():
        os.replace(partial, failed)
    if status == "timeout":
        reason = "it ran out of its time"
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
    except ValueError:  # no JSON: papermill was killed, or the disk was full, while it wrote
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
    """What a notebook may write and a run records, with what changes when it is written again."""
    folder = paths.results_folder(experiment)
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_ino, path.stat().st_mtime_ns)
        for kind in OUTPUTS
        for path in folder.glob(f"{kind}/*")
        if not path.name.startswith(".")
    }


def fresh_record(experiment, name, current):
    """The record of a finished run, if it is of this content and its outputs still stand."""
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
