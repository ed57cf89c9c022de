"""Run a sweep's points through any executor of `concurrent.futures`."""

import contextlib
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from threading import Thread

from tqdm import tqdm

from ...engine.threads import n_threads
from ..runs import folder_lock, notebook_path, run_notebook
from .collect import collect
from .plan import COMPARE, SweepError
from .point import STOPPING, run_first, run_point, state_of, stop

SEVERAL = "workers have several threads, and points would share their cores"
ONE = "start them with --nthreads 1"
ANSWERS_WITHIN = 10  # seconds, a Dask scheduler
SHOWN_WITHIN = 60  # seconds: NFS caches that a file is missing


@dataclass(frozen=True)
class Pool:
    """Where points run: `submit` takes a call, `size` is how many run at a time, `note` says it.

    `killed` are the exceptions that say that a point has ended each worker that tried it.
    """

    submit: Callable
    size: Callable
    note: str
    killed: tuple[type[Exception], ...] = ()


def run_sweep(sweep, *, workers=None, scheduler=None, scheduler_file=None):
    """Run the points that are not done, then collect the tables of all.

    Parameters
    ----------
    sweep : Sweep
    workers : int, optional
        Points at a time on this machine. Default: the number in the file, or the number of cores
        over its threads a point.
    scheduler : str, optional
        Address of a Dask scheduler, such as ``tcp://host:8786``: its workers run the points.
    scheduler_file : path-like, optional
        The file that a Dask scheduler wrote, in place of its address.

    Returns
    -------
    dict
        Number of points by state: "done" and, if any, "failed".

    Raises
    ------
    SweepError
        If the scheduler cannot be used or was lost. Finished points stay finished.
    OSError
        If the folder of results cannot be written.
    """
    run_first(sweep)
    options = options_of(sweep)
    todo = [point for point in sweep.points if not sweep.is_done(point)]
    counts = Counter(done=len(sweep.points) - len(todo))
    failures = []
    try:
        if todo:
            if scheduler or scheduler_file:
                opened = _dask(scheduler, scheduler_file, options["threads"])
            else:
                opened = _local(workers or sweep.resources.get("workers"), options["threads"])
            with opened as pool:
                _drive(pool, sweep, todo, options, counts, failures)
        if counts["done"]:
            collect(sweep)
            _compare(sweep)
    finally:
        for point, message in failures:
            print(f"failed: {point.id} {point.varied}: {message}", file=sys.stderr)
        print(_summary(sweep, counts, failures), flush=True)
    return dict(counts)


def _compare(sweep):
    """Draw what the file's `figure` asks for, in a notebook."""
    if not sweep.figure:
        return
    parameters = {"experiment": sweep.experiment} | sweep.figure
    with folder_lock(sweep.folder / "figure", wait=True):
        run_notebook(notebook_path(COMPARE), parameters, sweep.experiment, "")


def options_of(sweep):
    """Arguments of `run_point` that the resources of a sweep file give."""
    return {
        "threads": sweep.resources.get("threads", 1),
        "timeout": sweep.resources.get("timeout"),
        "retries": sweep.resources.get("retries", 0),
    }


def _drive(pool, sweep, todo, options, counts, failures):
    """Submit all points; at the end, wait for those that another process runs."""
    print(f"{sweep.name}: {len(todo)} of {len(sweep.points)} points, {pool.note}", flush=True)
    busy = todo
    with tqdm(total=len(todo), desc=sweep.name, disable=None) as bar:
        for wait in (False, True):
            run = partial(run_point, sweep.notebook, wait=wait, **options)
            futures = {pool.submit(partial(run, point)): point for point in busy}
            busy, left = [], len(futures)
            bar.set_postfix_str(_states(counts, min(left, pool.size())))
            for future in as_completed(futures):
                point, found = futures[future], _result(pool, future)
                left -= 1
                if found["state"] == "busy":
                    busy.append(point)
                    continue
                if found["state"] == "done" and not _shown(sweep, point):
                    raise SweepError(
                        f"point {point.id} was done where this folder is not: the workers must "
                        f"share {sweep.folder} and the sources."
                    )
                counts[found["state"]] += 1
                if found["state"] == "failed":
                    failures.append((point, found["message"]))
                bar.update()
                bar.set_postfix_str(_states(counts, min(left, pool.size())))
                if not sys.stderr.isatty():
                    print(_line(point, found, counts, len(sweep.points)), flush=True)
            if not busy:
                return


def _result(pool, future):
    """Result of a point; a `SweepError` if the executor failed and not the point."""
    try:
        return future.result()
    except pool.killed as error:
        name = type(error).__name__
        return {"state": "failed", "message": f"each worker that tried it died ({name})"}
    except BrokenExecutor as error:
        raise SweepError(
            f"the points' executor failed ({type(error).__name__}: {error}); "
            "the next call goes on where this one stopped."
        ) from error


def _shown(sweep, point):
    """Whether the record of a finished point appears here within `SHOWN_WITHIN` seconds."""
    end = time.monotonic() + SHOWN_WITHIN
    while not sweep.is_done(point):
        if time.monotonic() > end:
            return False
        time.sleep(0.5)
    return True


@contextlib.contextmanager
def _local(workers, threads):
    """A pool on this machine. Leaving it by an error ends the points that still run."""
    cores = n_threads()
    workers = workers or max(1, cores // threads)
    if workers * threads > cores:
        print(f"warning: {workers} workers x {threads} threads > {cores} cores", file=sys.stderr)
    executor = ThreadPoolExecutor(workers)  # each thread waits for a process
    try:
        yield Pool(executor.submit, lambda: workers, f"{workers} at a time")
    except BaseException:
        ended = Thread(target=executor.shutdown, kwargs={"cancel_futures": True})
        ended.start()
        while ended.is_alive():  # a process may just be starting
            stop()
            ended.join(0.2)
        raise
    finally:
        executor.shutdown()
        STOPPING.clear()


@contextlib.contextmanager
def _dask(address, file, threads):
    """The executor of a running Dask cluster. Leaving it by an error releases waiting points."""
    try:
        from distributed import Client, KilledWorker
    except ImportError as error:
        raise SweepError("Dask is not installed: pip install -r requirements-dask.txt.") from error
    if threads > 1:
        raise SweepError(f"threads: {threads}, but a Dask worker has one: leave `threads` out.")
    where = address or os.fspath(file)
    if not address and not os.path.exists(file):  # Dask would wait for it
        raise SweepError(f"no Dask scheduler's file {where}.")
    try:
        client = Client(address, scheduler_file=None if address else where, timeout=ANSWERS_WITHIN)
    except (OSError, TimeoutError, ValueError) as error:
        raise SweepError(f"no Dask scheduler at {where}: {error}") from error
    with client:

        def workers():
            return client.scheduler_info(n_workers=-1)["workers"]

        if wide := {name: w["nthreads"] for name, w in workers().items() if w["nthreads"] != 1}:
            raise SweepError(f"{SEVERAL}: {wide}; {ONE}.")
        executor = client.get_executor(pure=False)
        try:
            yield Pool(
                partial(executor.submit, _on_worker),
                lambda: len(workers()),
                f"{len(workers())} Dask workers, dashboard {client.dashboard_link}",
                (KilledWorker,),
            )
        except CancelledError as error:
            raise SweepError(
                f"the Dask scheduler at {where} was lost; "
                "the next call goes on where this one stopped."
            ) from error


def _on_worker(run):
    """Run a point on a Dask worker; check its threads again, since workers may join later."""
    from distributed import get_worker

    worker = get_worker()
    if worker.state.nthreads != 1:
        raise SweepError(f"{SEVERAL}: {worker.address}; {ONE}.")
    return run()


def _line(point, found, counts, total):
    done = counts["done"] + counts["failed"]
    return f"{done} of {total}: {point.varied} {found['state']}"


def _states(counts, running):
    """Number of points in each state, for the progress bar."""
    return ", ".join(f"{n} {state}" for state, n in (counts | {"running": running}).items() if n)


def _summary(sweep, counts, failures):
    parts = [f"{counts['done']} of {len(sweep.points)} points done"]
    if failures:
        ids = " ".join(point.id for point, _ in failures)
        parts.append(f"{len(failures)} failed, with tracebacks in their notebooks: {ids}")
    return f"{sweep.name} in {os.path.relpath(sweep.folder)}: {', '.join(parts)}"


def status(sweep):
    """Number of points in each state, read from their folders, and the failed points.

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
