"""Run one point: idempotent, one process at a time in its folder, recorded when it is done."""

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

STOPPING = threading.Event()  # set while this process ends its own points
FAILED, ABOUT, LOG = "failed.json", "point.json", "log.txt"


def run_first(sweep):
    """Run the notebooks that come before the points, unless done; wait for another such run.

    Raises
    ------
    NotebookFailed
    SweepError
        If the folder holds the results of another sweep file.
    """
    with folder_lock(sweep.folder / "first", wait=True):
        sweep.claim()
        for name, parameters in sweep.first.items():
            if not fresh_record(sweep.experiment, name, sweep.prints[name]):
                print(f"{name}  runs", flush=True)
                run_notebook(notebook_path(name), parameters, sweep.experiment, sweep.prints[name])


def run_point(notebook, point, *, threads=1, timeout=None, retries=0, wait=False):
    """Execute one point unless it is done.

    Parameters
    ----------
    notebook : str
    point : Point
    threads : int
        Number of threads of torch, NumPy and Numba in its process.
    timeout : float, optional
        Seconds that one attempt may take.
    retries : int
        Number of further attempts after a failed one.
    wait : bool
        Wait while another process works on the same point; otherwise return the state "busy".

    Returns
    -------
    dict
        ``state``: "done", "failed", "busy", or "stopped" if this process is being ended; after a
        failure its ``message``.

    Raises
    ------
    OSError
        If the folder cannot be written: then no other point can run either.
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
    """State of a point, read from its folder: "done", "running", "failed" or "waiting"."""
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
    """End the points that this process runs; they get no record."""
    STOPPING.set()
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if GUARDED in child.cmdline():  # others may be our caller's
                for member in (child, *child.children(recursive=True)):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        member.kill()
