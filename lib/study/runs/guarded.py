"""Run papermill, and end it with its kernel when the parent process has ended.

This is a script, since importing our package would take seconds for each notebook. The first
argument is the process to watch; papermill gets the others.
"""

import contextlib
import logging
import os
import sys
import threading
import time

import psutil
from papermill.__main__ import papermill

SECONDS = 0.5  # between two checks of the parent process


def _watch(parent):
    while os.getppid() == parent:
        time.sleep(SECONDS)
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    os._exit(1)


def _is_news(record):
    """False for warnings of unknown parameters: we checked them, and papermill misreads types."""
    return "unknown parameter" not in record.getMessage()


if __name__ == "__main__":
    logging.getLogger("papermill").addFilter(_is_news)
    threading.Thread(target=_watch, args=(int(sys.argv.pop(1)),), daemon=True).start()
    papermill()
