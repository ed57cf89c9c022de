"""One pool of threads, in which nested calls run in their caller."""

import os
import threading
from itertools import pairwise

import numpy as np
import pytest

from lib.engine import threads


@pytest.fixture
def three(monkeypatch):
    """A pool of three threads, whatever the machine has."""
    monkeypatch.setattr(threads, "n_threads", lambda: 3)
    threads._pool.cache_clear()
    yield
    threads._pool().shutdown()
    threads._pool.cache_clear()


def test_results_come_in_order(three):
    assert threads.run(lambda a, b: a - b, range(50), range(0, 100, 2)) == list(range(0, -50, -1))


def test_a_call_from_inside_the_pool_runs_in_its_caller(three):
    def outer(i):
        inner = threads.run(lambda _: threading.get_ident(), range(4))
        return {threading.get_ident()} == set(inner)

    assert all(threads.run(outer, range(20)))


def test_calls_at_every_depth_end(three):
    def nested(depth):
        return 1 if depth == 0 else sum(threads.run(nested, [depth - 1] * 4))

    found = []
    callers = [threading.Thread(target=lambda: found.append(nested(4))) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert found == [4**4] * 4


def test_no_more_threads_than_the_pool_has(three):
    names = set()
    for _ in range(20):
        names |= set(threads.run(lambda _: threading.current_thread().name, range(9)))
    assert 1 <= len(names) <= 3


def test_errors_reach_the_caller_and_the_pool_goes_on(three):
    def fails(i):
        raise ValueError(f"number {i}")

    with pytest.raises(ValueError, match="number 0"):
        threads.run(fails, range(9))
    assert threads.run(abs, [-1, -2]) == [1, 2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_a_pool_of_its_own(three):
    threads.run(abs, range(9))
    child = os.fork()
    if child == 0:
        os._exit(int(threads.run(abs, range(3)) != [0, 1, 2]))
    assert os.waitpid(child, 0)[1] == 0


def test_parts_cover_the_whole():
    for n in (1, 1000, 1 << 17, (1 << 26) + 3):
        parts = threads.parts(n)
        assert parts[0].start == 0
        assert parts[-1].stop == n
        assert all(a.stop == b.start for a, b in pairwise(parts))
    assert sum(map(len, threads.split(np.zeros(300_001)))) == 300_001
