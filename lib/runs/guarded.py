"""papermill, which ends, kernel and all, when the process that started it has ended.

A script: importing our package would cost each notebook seconds. Its first argument is the process
to watch; the others are papermill's.
"""

import contextlib
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


if __name__ == "__main__":
    threading.Thread(target=_watch, args=(int(sys.argv.pop(1)),), daemon=True).start()
    papermill()
