"""papermill, which ends, kernel and all, when the process that started it has ended.

A script: importing our package would cost each notebook seconds. Its first argument is the process
to watch; the others are papermill's.
"""

import contextlib
import logging
import os
import sys
import threading
import time

import psutil
from papermill.__main__ import papermill

SECONDS = 0.5  # between looks


def _watch(parent):
    while os.getppid() == parent:
        time.sleep(SECONDS)
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    os._exit(1)


def _is_news(record):
    """Parameters were checked before: those of a type like `str | None` papermill cannot read."""
    return "unknown parameter" not in record.getMessage()


if __name__ == "__main__":
    logging.getLogger("papermill").addFilter(_is_news)
    threading.Thread(target=_watch, args=(int(sys.argv.pop(1)),), daemon=True).start()
    papermill()
