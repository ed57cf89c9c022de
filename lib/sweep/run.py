"""Run a sweep's points through any executor of `concurrent.futures`."""

import contextlib
import os
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed

from tqdm import tqdm

from ..engine.threads import n_threads
from ..runs import alone, notebook_path, run_notebook
from .collect import collect
from .plan import COMPARE, SweepError
from .point import STOPPING, run_first, run_point, state_of, stop


def run_sweep(sweep, *, workers=None, scheduler=None, scheduler_file=None):
    """Run the points of a sweep that are not done, then collect their tables.

    Parameters
    ----------
    sweep : Sweep
    workers : int, optional
        Points at a time on this machine; by default the file's, or as many as its threads leave
        room for.
    scheduler : str, optional
        Address of a Dask scheduler, such as ``tcp://host:8786``: its workers run the points.
    scheduler_file : path-like, optional
        The file that a Dask scheduler wrote, instead.

    Returns
    -------
    dict
        Number of points by state: "done" and, if any, "failed".

    Raises
    ------
    SweepError
        If the scheduler cannot be used, or was lost; what is done stays done.
    OSError
        If the folder of results cannot be written.
    """
    STOPPING.clear()
    run_first(sweep)
    options = options_of(sweep)
    todo = [point for point in sweep.points if not sweep.is_done(point)]
    counts = Counter(done=len(sweep.points) - len(todo))
    failures = []
    if todo:
        if scheduler or scheduler_file:
            pool = _dask(scheduler, scheduler_file)
        else:
            room = max(1, n_threads() // options["threads"])
            pool = _local(workers or sweep.resources.get("workers", room))
        with pool as (executor, note):
            print(f"{sweep.name}: {len(todo)} of {len(sweep.points)} points, {note}", flush=True)
            _drive(executor, sweep, todo, options, counts, failures)
    if counts["done"]:
        collect(sweep)
        _compare(sweep)
    for point, message in failures:
        print(f"failed: {point.id} {point.varied}: {message}", file=sys.stderr)
    print(_summary(sweep, counts), flush=True)
    return dict(counts)


def _compare(sweep):
    """Draw what the file's `figure` asks for, in a notebook."""
    if not sweep.figure:
        return
    parameters = {"experiment": sweep.experiment} | sweep.figure
    with alone(sweep.folder / "figure", wait=True):
        run_notebook(notebook_path(COMPARE), parameters, sweep.experiment, "")


def options_of(sweep):
    """What a sweep's resources ask of each point: arguments of `run_point`."""
    return {
        "threads": sweep.resources.get("threads", 1),
        "timeout": sweep.resources.get("timeout"),
        "retries": sweep.resources.get("retries", 0),
    }


def _drive(executor, sweep, todo, options, counts, failures):
    """Submit all points; those that another process works on are waited for at the end."""
    busy = todo
    with tqdm(total=len(todo), desc=sweep.name, disable=None) as bar:
        for wait in (False, True):
            futures = {
                executor.submit(run_point, sweep.notebook, point, wait=wait, **options): point
                for point in busy
            }
            busy = []
            for future in as_completed(futures):
                point, found = futures[future], _result(future)
                if found["state"] == "busy":
                    busy.append(point)
                    continue
                if found["state"] == "done" and not sweep.is_done(point):
                    raise SweepError(
                        f"point {point.id} was done where this folder is not: the workers must "
                        f"share {sweep.folder} and the sources."
                    )
                counts[found["state"]] += 1
                if found["state"] == "failed":
                    failures.append((point, found["message"]))
                bar.update()
                bar.set_postfix_str(", ".join(f"{n} {state}" for state, n in counts.items() if n))
                if not sys.stderr.isatty():
                    print(_line(point, found, counts, len(sweep.points)), flush=True)
            if not busy:
                return


def _result(future):
    """What a point came back with; a lost cluster is told apart from a lost disk."""
    try:
        return future.result()
    except OSError:
        raise
    except Exception as error:
        raise SweepError(
            f"the points' executor failed ({type(error).__name__}: {error}); "
            "the next call goes on where this one stopped."
        ) from error


@contextlib.contextmanager
def _local(workers):
    """A pool of this machine. Left early, it ends what still runs: nothing of that counts."""
    executor = ThreadPoolExecutor(workers)  # each thread waits for a process
    try:
        yield executor, f"{workers} at a time"
    except BaseException:
        executor.shutdown(wait=False, cancel_futures=True)
        stop()
        raise
    finally:
        executor.shutdown()


@contextlib.contextmanager
def _dask(address, file):
    """The executor of a running Dask cluster. Left early, its waiting points are released."""
    try:
        from distributed import Client
    except ImportError as error:
        raise SweepError("Dask is not installed: pip install -r requirements-dask.txt.") from error
    try:
        client = Client(address, scheduler_file=None if address else os.fspath(file), timeout=10)
    except (OSError, TimeoutError, ValueError) as error:
        raise SweepError(f"no Dask scheduler at {address or file}: {error}") from error
    with client:
        workers = client.scheduler_info(n_workers=-1)["workers"]
        if wide := {name: w["nthreads"] for name, w in workers.items() if w["nthreads"] != 1}:
            raise SweepError(
                f"workers have several threads, and points would share their cores: {wide}; "
                "start them with --nthreads 1."
            )
        note = f"{len(workers)} Dask workers, dashboard {client.dashboard_link}"
        yield client.get_executor(retries=3, pure=False), note


def _line(point, found, counts, total):
    done = counts["done"] + counts["failed"]
    return f"{done} of {total}: {point.varied} {found['state']}"


def _summary(sweep, counts):
    parts = [f"{counts['done']} of {len(sweep.points)} points done"]
    if counts["failed"]:
        parts.append(f"{counts['failed']} failed; their notebooks have the tracebacks")
    return f"{sweep.name}: {', '.join(parts)}; {os.path.relpath(sweep.folder)}"


def status(sweep):
    """Number of points by state, by their folders alone; failures with their messages.

    Returns
    -------
    counts : dict of str to int
        Of "done", "running", "failed" and "waiting".
    failed : list of Point
    """
    states = [(point, state_of(sweep, point)) for point in sweep.points]
    counts = Counter({"done": 0, "running": 0, "failed": 0, "waiting": 0})
    counts.update(state for _, state in states)
    return dict(counts), [point for point, state in states if state == "failed"]
