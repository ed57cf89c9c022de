"""The study's command line in a process of its own, on a small repository, and what it started.

A fork server imports the package once; each command is then forked from it in milliseconds, where a
new interpreter would import for seconds.
"""

import multiprocessing
import os
import signal
import sys
import time
from multiprocessing import forkserver
from pathlib import Path

import psutil

_SERVER = multiprocessing.get_context("forkserver")


def start_server():
    """Start the fork server, if it does not run; it imports what its processes need."""
    _SERVER.set_forkserver_preload(["lib.study.__main__", "lib.study.sweep", "distributed"])
    forkserver.ensure_running()


class Command:
    """A command of `python -m lib.study`, started at once.

    Parameters
    ----------
    repository : pathlib.Path
        Stands in for the root of this one.
    *arguments : str
    """

    def __init__(self, repository, *arguments):
        self._log = repository / f"command-{time.monotonic_ns()}.txt"
        start_server()
        given = (repository, arguments, self._log, dict(os.environ))
        self._process = _SERVER.Process(target=_run, args=given)
        self._process.start()

    def send(self, number):
        """Send a signal."""
        os.kill(self._process.pid, number)

    def wait(self, seconds=600):
        """Exit status; that of a killed process is the signal's number, negative."""
        self._process.join(seconds)
        assert self._process.exitcode is not None, "the command has not ended"
        return self._process.exitcode

    @property
    def printed(self):
        """What it has written to the standard output."""
        return self._log.read_text()


def _run(repository, arguments, log, environment):
    from lib.study import __main__, paths

    os.environ.clear()
    os.environ.update(environment)
    os.chdir(paths.ROOT)
    paths.ROOT = repository
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a fork server ignores it
    with open(log, "w") as file:
        os.dup2(file.fileno(), 1)
    sys.exit(__main__.main(list(arguments)))


def wait_for(condition, seconds=600):
    """Wait until a condition holds and return its value; it is asked twenty times a second."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.05)
    return found


def is_running(pid):
    """Whether a process is there that has not ended."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def pid_in(path):
    """The process whose number a notebook wrote; None until it has."""
    text = Path(path).read_text() if Path(path).exists() else ""
    return int(text) if text else None
