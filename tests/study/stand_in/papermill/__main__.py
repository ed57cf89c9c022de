"""A notebook's cells, run by plain Python."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import yaml


def papermill():
    """Run a notebook as papermill's command line would.

    Its arguments are those that `lib.study.runs.execution` gives to papermill.
    """
    parser = argparse.ArgumentParser()
    for name in ("source", "output", "--cwd", "-f"):
        parser.add_argument(name)
    given, _ = parser.parse_known_args()
    parameters = yaml.safe_load(Path(given.f).read_text())
    notebook = json.loads(Path(given.source).read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    injected = "".join(f"{name} = {value!r}\n" for name, value in parameters.items())
    texts = ["".join(cell["source"]) for cell in cells]
    program = "\n".join([texts[0], injected, *texts[1:]])
    Path(given.output).write_text(json.dumps(notebook))
    kernel = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=given.cwd,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    _, printed = kernel.communicate()
    if kernel.returncode > 0:
        cells[-1]["outputs"] = [_error(printed)]
        Path(given.output).write_text(json.dumps(notebook))
    sys.exit(kernel.returncode != 0)


def _error(printed):
    """The output of a cell that ended in an exception."""
    name, _, message = printed.strip().splitlines()[-1].partition(": ")
    lines = printed.splitlines()
    return {"output_type": "error", "ename": name, "evalue": message, "traceback": lines}
