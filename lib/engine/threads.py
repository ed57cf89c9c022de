"""The process's one pool of threads.

The kernels are compiled without Numba's own parallelism: that takes several times as long to
compile, and a process must not fork after Numba has started threads. They release the GIL instead.
"""

import functools
import os
import threading
from concurrent.futures import ThreadPoolExecutor

_inside = threading.local()  # has `worker` in the pool's own threads


@functools.cache
def n_threads():
    """Cores that this process may use: those it is given, or fewer by OMP_NUM_THREADS."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, max(1, int(wanted))) if wanted.isdigit() else cores


def parts(n, at_most=1 << 25, at_least=1 << 16):
    """Slices that cover `n` elements; their number is a multiple of the cores where that pays."""
    cores = max(1, min(n_threads(), n // at_least))
    number = cores * -(-n // (cores * at_most))
    return [slice(n * i // number, n * (i + 1) // number) for i in range(number)]


def split(array):
    """Views of the parts of an array."""
    return [array[part] for part in parts(len(array))]


def run(function, *columns):
    """Results of a function for each row of arguments, in order.

    Calls from inside the pool run in the caller's thread. So no thread of the pool ever waits for
    another, and nested calls cannot deadlock.
    """
    rows = list(zip(*columns, strict=True))
    if len(rows) == 1 or n_threads() == 1 or hasattr(_inside, "worker"):
        return [function(*row) for row in rows]
    return list(_pool().map(function, *columns))


@functools.cache
def _pool():
    return ThreadPoolExecutor(n_threads(), __package__, initializer=_mark)


def _mark():
    _inside.worker = True


if hasattr(os, "register_at_fork"):  # a forked child has none of its parent's threads
    os.register_at_fork(after_in_child=_pool.cache_clear)
