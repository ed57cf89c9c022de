"""What a number depends on: versions, hardware, commit, inputs; the manifest that records it."""

import json
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from .. import files
from . import paths

PACKAGES = tuple(
    "torch torchvision numpy numba pandas matplotlib seaborn scikit-learn papermill".split()
)
CACHED = ("features", "networks", "predictions")  # folders that runs fill
REDRAWN = "redrawn.json"  # the record of figures that were drawn again after a run
INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16")


def provenance():
    """What a number depends on besides its inputs: versions, hardware, commit.

    Returns
    -------
    dict
        ``python``, ``packages``, ``hardware`` and ``code``; JSON-ready. What cannot be
        found out is None.
    """
    return {
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "hardware": _hardware(),
        "code": _code(),
    }


def version(package):
    """Installed version of a package; None without it."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _hardware():
    import psutil
    import torch

    cpu = _cpuinfo()
    flags = (cpu.get("flags") or cpu.get("Features") or "").split()
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": cpu.get("model name") or platform.processor() or None,
        "instructions": [name for name in INSTRUCTIONS if name in flags],
        "cores": len(psutil.Process().cpu_affinity()) if cpu else psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _cpuinfo():
    """Linux's description of the first processor; empty elsewhere."""
    try:
        first = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _code():
    # Results are what a run writes: they do not make the code that wrote them unclean.
    status = git("status", "--porcelain", "--", ".", ":!results")
    return {"commit": git("rev-parse", "HEAD"), "clean": None if status is None else not status}


def git(*arguments):
    """Output of a git command in the root; None where git or the commit is not there."""
    try:
        done = subprocess.run(("git", *arguments), cwd=paths.ROOT, capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def cached():
    """Number of files in each folder of the cache: a run that begins with some goes on from them.

    Returns
    -------
    dict of str to int
    """
    folders = {name: paths.ROOT / ".cache" / name for name in CACHED}
    return {name: sum(1 for _ in path.iterdir()) for name, path in folders.items() if path.exists()}


def write_manifest(experiment, records, parameters, began_with=None):
    """Write ``manifest.json``: how the experiment's results came to be.

    Parameters
    ----------
    experiment : str
    records : dict of str to dict
        For each notebook that was run, its record; ``seconds`` and ``outputs`` are read.
    parameters : dict of str to dict
        The parameters of each notebook.
    began_with : dict, optional
        ``finished``: notebooks that an earlier, cut run had finished; ``cached``: see `cached`.

    Returns
    -------
    dict
        What was written. Inputs are named relative to the repository's root, outputs
        relative to the experiment's folder.
    """
    outputs = {name: sha for record in records.values() for name, sha in record["outputs"].items()}
    manifest = {
        "experiment": experiment,
        **provenance(),
        "began_with": began_with or {"finished": [], "cached": {}},
        "parameters": parameters,
        "seconds": {name: record["seconds"] for name, record in records.items()},
        "inputs": {
            path.relative_to(paths.ROOT).as_posix(): files.sha256(path)
            for path in _inputs(experiment)
        },
        "outputs": dict(sorted(outputs.items())),
    }
    path = paths.results_folder(experiment) / "manifest.json"
    files.write_atomically(path, json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")
    path.with_name(REDRAWN).unlink(missing_ok=True)  # of the run before
    return manifest


def read_manifest(experiment):
    """The manifest of an experiment's finished results.

    Raises
    ------
    FileNotFoundError
        If there is none, naming the command that makes it.
    """
    folder = paths.results_folder(experiment)
    try:
        return json.loads((folder / "manifest.json").read_text())
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{experiment!r} has no finished results in {folder}: "
            f"`make reproduce EXPERIMENT={experiment}` makes them."
        ) from None


def _inputs(experiment):
    patterns = (
        "requirements.txt",
        f"notebooks/experiments/{experiment}.yml",
        "notebooks/*.ipynb",
        "data/**/*",
        "lib/**/*.py",
    )
    found = {path for pattern in patterns for path in paths.ROOT.glob(pattern) if path.is_file()}
    return sorted(path for path in found if not _by_the_way(path.relative_to(paths.ROOT)))


def _by_the_way(path):
    return any(part.startswith(".") or part == "__pycache__" for part in path.parts)
