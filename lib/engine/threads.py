"""Compiled loops over parts of an array, on all cores.

The kernels are compiled without Numba's own parallelism: that takes several times as long to
compile, and forking after it has started threads is an error. They release the GIL instead.
"""

import functools
import os
from concurrent.futures import ThreadPoolExecutor


@functools.cache
def n_threads():
    """Cores that this process may use: those it is given, or fewer by OMP_NUM_THREADS."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, max(1, int(wanted))) if wanted.isdigit() else cores


def parts(n, at_most=1 << 25, at_least=1 << 16):
    """Slices that cover `n` elements, a multiple of the cores in number where that pays."""
    cores = max(1, min(n_threads(), n // at_least))
    number = cores * -(-n // (cores * at_most))
    return [slice(n * i // number, n * (i + 1) // number) for i in range(number)]


def split(array):
    """The same of an array: views of it."""
    return [array[part] for part in parts(len(array))]


def run(function, *columns):
    """Results of a function for each row of arguments, in order."""
    rows = list(zip(*columns, strict=True))
    if len(rows) == 1 or n_threads() == 1:
        return [function(*row) for row in rows]
    with ThreadPoolExecutor(n_threads()) as pool:
        return list(pool.map(function, *columns))
