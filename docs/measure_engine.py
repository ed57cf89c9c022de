"""Time the engine's tuned constants, each at several values.

    PYTHONPATH=. python docs/measure_engine.py [NAME ...]

Each value runs in a process of its own with a fresh compilation cache, since compiled loops hold
constants. Prints the best milliseconds of several runs; the chosen value has a star.
"""

import os
import subprocess
import sys
import tempfile
import time

import numpy as np

CONSTANTS = {  # by name: module, values to try, and the task that feels it
    "FEW": ("__init__", [1 << 18, 1 << 20, 1 << 22], "million"),
    "MARGIN": ("leaves", [0, 2, 8, 32], "large"),
    "SHIFT": ("passes", [11, 12, 13], "large"),
    "FEW_KEYS": ("passes", [8, 32, 128], "labels"),
    "BLOCK": ("tables", [16, 64, 256, 1024], "sorted"),
    "STRIDE": ("tables", [16, 64, 256], "large"),
    "TILE": ("labels", [1024, 4096, 16384], "labels"),
    "FEW_THRESHOLDS": ("labels", [16, 64, 256], "sorted"),
    "LANES": ("labels", [1, 4, 8], "sums"),
}


def tasks():
    """By name, what is timed."""
    import lib
    from lib.engine.labels import sum_by_label

    rng = np.random.default_rng(0)
    large = rng.standard_t(6, 16_000_000).astype(np.float32)
    labels, values = rng.integers(0, 16, 16_000_000).astype(np.uint8), large
    return {
        "million": lambda: [lib.cluster(large[:1_500_000], k) for k in (16, 64)],
        "large": lambda: [lib.cluster(large, k) for k in (16, 128)],
        "labels": lambda: [lib.cluster(large, k, max_iter=0) for k in (16, 64, 128)],
        "sorted": lambda: [lib.cluster(large[:100_000], k) for k in (16, 64, 128, 256)],
        "sums": lambda: sum_by_label(values, np.sort(labels), 16),
    }


def measure(name, value):
    """Milliseconds of the task of a constant at a value."""
    import importlib

    home, _, task = CONSTANTS[name]
    module = importlib.import_module("lib.engine" if home == "__init__" else f"lib.engine.{home}")
    if name == "SHIFT":
        module.SHIFT["float32"] = value
    else:
        setattr(module, name, value)
    if name == "FEW":
        importlib.import_module("lib.clustering").FEW = value
    run = tasks()[task]
    run()
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return 1e3 * min(seconds)


def chosen(name):
    """The value in the source."""
    import importlib

    home = CONSTANTS[name][0]
    module = importlib.import_module("lib.engine" if home == "__init__" else f"lib.engine.{home}")
    value = getattr(module, name)
    return value["float32"] if isinstance(value, dict) else value


def main(names):
    """Print a line for each constant."""
    for name in names or CONSTANTS:
        line = []
        for value in CONSTANTS[name][1]:
            with tempfile.TemporaryDirectory() as cache:
                found = subprocess.run(
                    [sys.executable, __file__, "--one", name, str(value)],
                    env={**os.environ, "NUMBA_CACHE_DIR": cache},
                    capture_output=True,
                    text=True,
                    check=True,
                )
            star = "*" if value == chosen(name) else ""
            line.append(f"{value}{star}: {float(found.stdout):.1f}")
        print(f"{name:15} {CONSTANTS[name][2]:8}", *line, sep="  ", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(measure(sys.argv[2], int(sys.argv[3])))
    else:
        main(sys.argv[1:])
