"""Where the repository and the results of its experiments are."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "data"


def results_folder(experiment):
    """Folder of one experiment's results; the variable ``RESULTS`` moves their root.

    Parameters
    ----------
    experiment : str
        Name of the experiment, such as ``"embedded"``.

    Returns
    -------
    pathlib.Path
        Absolute; it need not exist yet.
    """
    return ROOT / os.environ.get("RESULTS", "results") / experiment


def located(path):
    """A path, relative to the repository's root if it is not there from the working directory.

    A sweep's points run in folders of their own. ``~`` is the home folder.
    """
    path = Path(path).expanduser()
    return path if path.exists() else ROOT / path
