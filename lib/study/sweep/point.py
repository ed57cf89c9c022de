"""One point as a job: idempotent, alone in its folder, recorded only when it is done."""

import contextlib
import json
import threading
import time
from functools import partial

import psutil

from ...files import write_atomically
from ..paths import results_folder
from ..provenance import provenance
from ..runs import (
    FolderBusy,
    NotebookFailed,
    folder_lock,
    fresh_record,
    notebook_path,
    run_notebook,
)
from ..runs.execution import GUARDED

STOPPING = threading.Event()  # set where this process ends its points itself
FAILED, ABOUT, LOG = "failed.json", "point.json", "log.txt"


def run_first(sweep):
    """Run what comes before the points, unless it is done; waits for another that is at it.

    Raises
    ------
    NotebookFailed
    SweepError
        If the sweep's folder is another file's.
    """
    with folder_lock(sweep.folder / "first", wait=True):
        sweep.claim()
        for name, parameters in sweep.first.items():
            if not fresh_record(sweep.experiment, name, sweep.prints[name]):
                print(f"{name}  runs", flush=True)
                run_notebook(notebook_path(name), parameters, sweep.experiment, sweep.prints[name])


def run_point(notebook, point, *, threads=1, timeout=None, retries=0, wait=False):
    """Execute one point, unless it is done.

    Parameters
    ----------
    notebook : str
    point : Point
    threads : int
        Of torch, NumPy and Numba in its process.
    timeout : float, optional
        Seconds an attempt.
    retries : int
        Attempts after a failed one.
    wait : bool
        For another process that works on the same point; otherwise this one comes back "busy".

    Returns
    -------
    dict
        ``state``: "done", "failed", "busy", or "stopped" where this process was being ended;
        ``message`` of a failure.

    Raises
    ------
    OSError
        If the folder cannot be written: no other point could do better.
    """
    folder = results_folder(point.experiment)
    while not STOPPING.is_set():
        try:
            with folder_lock(folder):
                if fresh_record(point.experiment, notebook, point.fingerprint):
                    return {"state": "done"}
                return _attempts(notebook, point, folder, threads, timeout, retries)
        except FolderBusy:
            if not wait:
                return {"state": "busy"}
            STOPPING.wait(0.5)
    return {"state": "stopped"}


def _attempts(notebook, point, folder, threads, timeout, retries):
    (folder / FAILED).unlink(missing_ok=True)
    about = {"parameters": point.parameters, "varied": point.varied, "started": time.time()}
    write_atomically(folder / ABOUT, json.dumps(about | {"provenance": provenance()}, indent=1))
    for attempt in range(1 + retries):
        if STOPPING.is_set():
            break
        try:
            run_notebook(
                notebook_path(notebook),
                point.parameters,
                point.experiment,
                point.fingerprint,
                timeout=timeout,
                check=partial(_check_unchanged, notebook, point),
                threads=threads,
                cwd=folder,
                log=folder / LOG,
            )
            return {"state": "done"}
        except NotebookFailed as error:
            failure = {"message": str(error), "attempts": attempt + 1}
    if STOPPING.is_set():
        return {"state": "stopped"}
    write_atomically(folder / FAILED, json.dumps(failure, indent=1))
    return {"state": "failed"} | failure


def _check_unchanged(notebook, point):
    if point.has_changed(notebook):
        raise NotebookFailed(
            f"{notebook} failed: the notebook, its modules, data or packages changed "
            "since the sweep was started: start it again"
        )


def state_of(sweep, point):
    """State of a point by its folder alone: "done", "running", "failed" or "waiting"."""
    folder = results_folder(point.experiment)
    if not folder.exists():
        return "waiting"
    try:
        with folder_lock(folder):
            pass
    except FolderBusy:
        return "running"
    if sweep.is_done(point):
        return "done"
    return "failed" if (folder / FAILED).exists() else "waiting"


def stop():
    """End the points that this process works on; what they wrote does not count."""
    STOPPING.set()
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if GUARDED in child.cmdline():  # others may be our caller's
                for member in (child, *child.children(recursive=True)):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        member.kill()
