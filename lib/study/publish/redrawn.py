"""Figures drawn again from an experiment's tables: what they depend on is recorded beside them.

The manifest is written by runs alone. ``redrawn.json`` has the code that drew the figures last, the
tables they come from, and the digests of those that are no longer the run's.
"""

import json

import matplotlib.pyplot as plt

from ... import files
from .. import figures, paths
from ..provenance import REDRAWN, provenance, read_manifest
from .paper import every_figure


def redraw(experiment):
    """Draw the figures that an experiment's run drew from its tables again.

    Parameters
    ----------
    experiment : str

    Returns
    -------
    list of str
        Files that are not as the run made them, relative to the experiment's folder.

    Raises
    ------
    FileNotFoundError
        If the experiment has no finished results.
    """
    folder, outputs = paths.results_folder(experiment), read_manifest(experiment)["outputs"]
    drawn = []
    for name, draw in every_figure(experiment):
        if f"figures/{name}.png" in outputs:
            figure = draw()
            figures.save_figure(figure, experiment, name)
            plt.close(figure)
            drawn += [f"figures/{name}.{suffix}" for suffix in ("pdf", "png")]
    found = {name: files.sha256(folder / name) for name in drawn}
    others = {name: digest for name, digest in found.items() if digest != outputs[name]}
    tables = {name: sha for name, sha in outputs.items() if name.endswith(".csv")}
    text = {"experiment": experiment, **provenance(), "figures": others, "tables": tables}
    files.write_atomically(folder / REDRAWN, json.dumps(text, indent=2, ensure_ascii=False) + "\n")
    return list(others)
