"""One process at a time in a folder."""

import contextlib
import fcntl
import os


class FolderBusy(RuntimeError):
    """Another run is writing to the folder."""


@contextlib.contextmanager
def alone(folder, *, wait=False):
    """Keep a second run out of the same folder; the system frees the lock of a killed one.

    Parameters
    ----------
    folder : pathlib.Path
        Made if it is not there.
    wait : bool
        Until the other run has ended.

    Raises
    ------
    FolderBusy
        If there is another run, and nobody waits.
    OSError
        If the folder cannot be written, naming it and the reason.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / ".lock", "w")  # noqa: SIM115
    except OSError as error:
        raise type(error)(f"cannot write {folder}: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise FolderBusy(
                f"another run is writing to {os.path.relpath(folder)}: wait for it, or end it"
            ) from None
        # A notebook's process inherits it, and keeps others out until it has ended, too.
        os.set_inheritable(lock.fileno(), True)
        try:
            yield
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)  # for processes, too, that inherited it by chance
