"""Measure what docs/scale.md says: python docs/measure_scale.py, some minutes on two cores."""

import shutil
import tempfile
import time
from concurrent.futures import as_completed
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from distributed import Client, LocalCluster

import lib
from lib.study import sweep

POINTS = 10_000
EIGHT = """\
first:
  01-train: {networks: [{initializer: normal, seed: 0}], n_test: 2000}
notebook: 04-accuracy
parameters: {bits: [], budgets: [20], n_images: 500}
grid: {inits: [[linear], [weight-distribution]], endpoint_bits: [3, 4, 5, 6]}
resources: {threads: 1}
"""


def nothing(point):
    """A point that does nothing."""
    return {"state": "done", "point": point}


def overhead():
    """Seconds that the scheduler takes for each of many points that do nothing."""
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        executor, start = client.get_executor(pure=False), time.perf_counter()
        futures = [executor.submit(nothing, i) for i in range(POINTS)]
        found = {future.result()["point"] for future in as_completed(futures)}
        assert found == set(range(POINTS))
        return (time.perf_counter() - start) / POINTS


@contextmanager
def no_predictions():
    """A cache without predictions, as a first sweep finds it; the user's are put back."""
    cached, aside = Path(".cache/predictions"), Path(".cache/predictions-aside")
    _put_back(aside, cached)  # of a call that was killed
    if cached.exists():
        cached.rename(aside)
    try:
        yield
    finally:
        _put_back(aside, cached)


def _put_back(aside, cached):
    """Move files to those that are there: names are hashes, so that equal ones are equal."""
    if aside.exists():
        cached.mkdir(exist_ok=True)
        for file in aside.iterdir():
            file.replace(cached / file.name)
        aside.rmdir()


def scaling():
    """Seconds of eight points with one worker and with two."""
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        for workers in (1, 2):
            path = Path(folder, f"scaling-{workers}.yaml")
            path.write_text(EIGHT)
            plan = sweep.load_sweep(path)
            shutil.rmtree(plan.folder, ignore_errors=True)
            sweep.run_first(plan)
            with no_predictions():
                start = time.perf_counter()
                assert sweep.run_sweep(plan, workers=workers) == {"done": 8}
                seconds[workers] = time.perf_counter() - start
            shutil.rmtree(plan.folder)
    return seconds


def codebooks():
    """Nanoseconds a weight by tensor, by row and by group, from either start."""
    weights = np.random.default_rng(0).standard_t(5, size=(4096, 4096)).astype(np.float32)
    shapes = {"tensor": weights.reshape(-1), "row": weights, "group": weights.reshape(-1, 512)}
    for name, array in shapes.items():
        for k in (8, 16):
            for init in ("weight-distribution", "optimal"):
                function = lib.cluster if array.ndim == 1 else lib.cluster_rows
                function(array, k, init=init)  # compiled
                seconds = []
                for _ in range(3):
                    start = time.perf_counter()
                    function(array, k, init=init)
                    seconds.append(time.perf_counter() - start)
                print(f"{name}, {k}, {init}: {1e9 * sorted(seconds)[1] / weights.size:.1f} ns")


if __name__ == "__main__":
    codebooks()
    found = scaling()  # first: a cluster's workers leave one thread to their parent too
    print(f"eight points: {found[1]:.0f} s with one worker, {found[2]:.0f} s with two")
    print(f"a point that does nothing: {1000 * overhead():.2f} ms")
