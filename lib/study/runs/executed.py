"""Executed notebooks as results: small, and without what differs between equal runs."""

import os
import re
import sys

import nbformat

from .. import paths

MAX_BYTES = 2_500_000
PROGRESS = re.compile(r"^.*, about \d+ s left\n?", re.M)  # of `experiment.progress`
ADDRESS = re.compile(r" at 0x[0-9a-f]+")  # of an object in memory
CELL = re.compile(r"\S*/ipykernel_\d+/\d+\.py")  # where a warning says that it comes from
WIDGET = "application/vnd.jupyter.widget-view+json"  # shows nothing without its kernel


def tidy(executed, source):
    """Rewrite an executed notebook without what differs between equal runs.

    Timings, progress, widgets, addresses in memory, absolute paths and what papermill and the
    kernel say of themselves go. Sources, outputs and execution counts stay.

    Parameters
    ----------
    executed, source : pathlib.Path
        What papermill wrote, and the notebook that it ran: its metadata replaces the other's.

    Raises
    ------
    ValueError
        If more than `MAX_BYTES` are left.
    """
    notebook = nbformat.read(executed, as_version=4)
    notebook.metadata = nbformat.read(source, as_version=4).metadata
    for number, cell in enumerate(notebook.cells):
        tags = cell.metadata.get("tags")
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        if "id" in cell:
            cell.id = f"cell-{number:02}"  # papermill draws that of the cell that it adds
        if "outputs" in cell:
            cell.outputs = [_tidy_output(output) for output in _joined(cell.outputs)]
            cell.outputs = [output for output in cell.outputs if _shows_something(output)]
    nbformat.write(notebook, executed)
    if (size := executed.stat().st_size) > MAX_BYTES:
        raise ValueError(
            f"its executed copy has {size:,} bytes, at most {MAX_BYTES:,} may be kept: "
            f"draw fewer or smaller figures, or show fewer rows"
        )


def source_cells(notebook):
    """Kinds and sources of a notebook's cells, without the cell that papermill adds."""
    cells = nbformat.read(notebook, as_version=4).cells
    return [
        (cell.cell_type, cell.source)
        for cell in cells
        if "injected-parameters" not in cell.metadata.get("tags", ())
    ]


def _joined(outputs):
    """Outputs with neighbouring pieces of one stream as one: time decides where it is cut."""
    joined = []
    for output in outputs:
        before = joined[-1] if joined else {}
        if output.output_type == "stream" and before.get("name") == output.name:
            before.text += output.text
        else:
            joined.append(output)
    return joined


def _tidy_output(output):
    if output.output_type == "stream":
        output.text = _tidy_text(PROGRESS.sub("", output.text))
    for kind, content in output.get("data", {}).items():
        if kind.startswith("text/"):
            output.data[kind] = _tidy_text(content)
    return output


def _tidy_text(text):
    text = CELL.sub("<cell>", ADDRESS.sub("", text))
    for folder, name in ((str(paths.ROOT) + os.sep, ""), (sys.prefix, ".venv")):
        text = text.replace(folder, name)
    return text


def _shows_something(output):
    if output.output_type == "stream":
        return output.text != ""
    return WIDGET not in output.get("data", {})
