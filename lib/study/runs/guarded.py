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
from papermill.engines import NBClientEngine, papermill_engines
from traitlets.config import Config

SECONDS = 0.5  # between two checks of the parent process


class Engine(NBClientEngine):
    """Papermill's engine, with a kernel that listens at sockets in the run's own folder.

    By default it listens at five ports, which are looked for before the kernel takes them. When
    many kernels start at once, another may take one first. Then the kernel dies or, if it is the
    port of its output, hangs.
    """

    @classmethod
    def execute_managed_notebook(cls, *arguments, **options):
        """Run the cells; arguments as those of papermill's engine."""
        connection = os.path.join(os.environ["IPYTHONDIR"], "kernel.json")
        config = Config(KernelManager={"transport": "ipc", "connection_file": connection})
        return super().execute_managed_notebook(*arguments, config=config, **options)


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
    papermill_engines.register(None, Engine)
    threading.Thread(target=_watch, args=(int(sys.argv.pop(1)),), daemon=True).start()
    papermill()
