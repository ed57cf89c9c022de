"""Digests of all that a run depends on: contents, and file times only for a user's pictures."""

import ast
import functools
import hashlib
import importlib.util
import json
import platform
import threading
from pathlib import Path

import nbformat
from IPython.core.inputtransformer2 import TransformerManager

from ... import files
from .. import paths, provenance

_FILES = ("data/SHA256SUMS", "requirements.txt")
_PARSING = threading.Lock()  # two threads that parse at once may fail in CPython 3.11
# Parameters that name checkpoints, modules and pictures.
_NAMING = ("models", "arch", "root", "transform")


def fingerprint(notebook, parameters, upstream=(), content=None):
    """Digest of the content that a run's results depend on.

    Parameters
    ----------
    notebook : path-like
        Its cells count, not its outputs and metadata.
    parameters : dict
    upstream : sequence of str, optional
        Fingerprints of the notebooks before it, whose tables it may read.
    content : dict, optional
        The notebook's `content_of`, where many parameters are asked about.

    Returns
    -------
    str
        SHA-256 over the cells, the parameters, the modules of ``lib`` that they import
        (directly or through others), the data's checksums, the pinned and the installed
        packages, Python's version, and the checkpoints, packages and pictures of a reader's own
        that parameters name.
    """
    parts = {"parameters": parameters, "upstream": list(upstream)}
    parts |= content or content_of(notebook)
    if named := _named(parameters):
        parts["named"] = named
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def content_of(notebook):
    """What a run's results depend on besides parameters and what ran before; JSON-ready."""
    _state.cache_clear()  # read once for all points of a sweep
    cells = [(c.cell_type, c.source) for c in nbformat.read(notebook, as_version=4).cells]
    read = (*imported_modules(notebook), *map(paths.ROOT.joinpath, _FILES))
    return {
        "cells": cells,
        "files": {
            path.relative_to(paths.ROOT).as_posix(): files.sha256(path)
            for path in read
            if path.exists()
        },
        "python": platform.python_version(),
        "packages": {name: provenance.version(name) for name in provenance.PACKAGES},
    }


def _named(parameters):
    """State of each file, folder and module that the parameters name."""
    values = [parameters.get(name) for name in _NAMING]
    names = [name for v in values for name in (v if isinstance(v, list) else [v])]
    return {name: state for name in names if isinstance(name, str) and (state := _state(name))}


@functools.cache
def _state(name):
    """SHA-256 of a file, or of what a folder or a function's package lists; None of others."""
    path = paths.ROOT / Path(name).expanduser()
    if path.is_file():
        return files.sha256(path)
    package, colon, _ = name.partition(":")
    if colon and (spec := importlib.util.find_spec(package.partition(".")[0])):
        sources = [spec.origin] if spec.has_location else []
        for folder in spec.submodule_search_locations or ():
            sources += sorted(Path(folder).rglob("*.py"))
        listed = [files.sha256(file) for file in sources]
    elif path.is_dir():
        listed = sorted(
            (str(file.relative_to(path)), about.st_size, about.st_mtime_ns)
            for file in path.rglob("*")
            if file.is_file() and file.name != ".lock" and (about := file.stat())
        )
    else:
        return None
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()


def imported_modules(notebook):
    """Files of the modules of ``lib`` that a notebook imports, itself or through others.

    Parameters
    ----------
    notebook : path-like

    Returns
    -------
    list of pathlib.Path
        Sorted.
    """
    cells = nbformat.read(notebook, as_version=4).cells
    plain = TransformerManager().transform_cell  # so that %magic lines parse
    source = "\n".join(plain(cell.source) for cell in cells if cell.cell_type == "code")
    found, waiting = set(), _imports(source, package="")
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            package = ".".join(path.relative_to(paths.ROOT).parent.parts)
            waiting |= _imports(path.read_text(), package)
    return sorted(found)


def _imports(source, package):
    """Files of ``lib`` that a piece of Python names in its import statements."""
    names = set()
    with _PARSING:
        tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            relative = "." * node.level + (node.module or "")
            base = importlib.util.resolve_name(relative, package) if node.level else relative
            names |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return {path for name in names if name.split(".")[0] == "lib" for path in _files_of(name)}


def _files_of(name):
    """Files that importing a dotted name executes: its packages' and its own."""
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        stem = paths.ROOT.joinpath(*parts[:end])
        yield from (p for p in (stem / "__init__.py", stem.with_suffix(".py")) if p.is_file())
