"""Files written whole, digests, and one process at a time in a folder."""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path


def write_atomically(path: str | os.PathLike, data: str | bytes | Iterable[bytes]) -> None:
    """Write a file whole or not at all: a reader never sees half of it.

    Parameters
    ----------
    path : path-like
        Missing parent folders are made.
    data : str, bytes, or iterable of bytes
        Text is written as UTF-8.

    Raises
    ------
    OSError
        If the folder cannot be written, naming the file and the reason.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # In the same folder: a rename is atomic only within one file system.
        handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise type(error)(f"cannot write {path}: {error.strerror or error}") from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.writelines(_pieces(data))
            file.flush()
            os.fsync(file.fileno())
        os.chmod(partial, 0o644)
        os.replace(partial, path)
    except BaseException as error:
        Path(partial).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise type(error)(f"cannot write {path}: {error.strerror or error}") from error
        raise


def _pieces(data):
    if isinstance(data, str):
        return [data.encode()]
    return [data] if isinstance(data, bytes) else data


def sha256(path: str | os.PathLike) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class FolderBusy(RuntimeError):
    """Another process is writing to the folder."""


@contextlib.contextmanager
def folder_lock(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Keep other processes out of a folder; a killed process loses its lock.

    Parameters
    ----------
    folder : pathlib.Path
        Made if it is missing.
    wait : bool, default False
        Wait until another process frees the folder, instead of raising FolderBusy.

    Raises
    ------
    FolderBusy
        If another process has the folder and `wait` is False.
    OSError
        If the folder cannot be written, naming it and the reason.
    """
    import fcntl  # here, since Windows has no such module

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
        # A notebook's process inherits the lock, and holds it if it outlives this one.
        os.set_inheritable(lock.fileno(), True)
        try:
            yield
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)  # also for processes that inherited the file by chance
