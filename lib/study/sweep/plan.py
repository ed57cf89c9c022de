"""Read a sweep file, check all of it before anything runs, and expand it into points."""

import itertools
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from ...files import write_atomically
from .. import paths, tables
from ..paths import results_folder
from ..runs import (
    ParameterError,
    check_parameters,
    declared_parameters,
    fresh_record,
    notebook_path,
)
from ..runs.freshness import content_of, fingerprint
from ..runs.parameters import default_parameters

KEYS = (
    "description",
    "first",
    "notebook",
    "parameters",
    "grid",
    "points",
    "tables",
    "figure",
    "resources",
)
COMPARE = "sweeps/compare"  # the notebook of the figure
RESOURCES = {"workers": int, "threads": int, "timeout": (int, float), "retries": int}


class SweepError(ParameterError):
    """A sweep file that cannot be run, or a sweep that cannot go on; the message says why."""


@dataclass(frozen=True)
class Point:
    """One execution of the sweep's notebook.

    Attributes
    ----------
    id : str
        First digits of `fingerprint`; names its folder.
    fingerprint : str
        Digest of the notebook, the modules it imports, data, packages, parameters and `upstream`.
    varied : dict
        The parameters that differ between points.
    parameters : dict
        All parameters that are passed, with `experiment`.
    upstream : list of str
        Fingerprints of the notebooks that ran before the points.
    """

    id: str
    fingerprint: str
    varied: dict
    parameters: dict
    upstream: list

    @property
    def experiment(self):
        """Its folder below `results/`."""
        return self.parameters["experiment"]

    def has_changed(self, notebook):
        """Whether the notebook, its modules, data or packages changed since the plan was made."""
        given = {k: v for k, v in self.parameters.items() if k != "experiment"}
        try:
            now = fingerprint(notebook_path(notebook), given, self.upstream)
        except (ValueError, SyntaxError):  # deleted, or half written
            return True
        return now != self.fingerprint


@dataclass(frozen=True)
class Sweep:
    """One sweep file.

    Attributes
    ----------
    name : str
        Of the file; its results are in ``results/sweeps/<name>/``.
    path : pathlib.Path
    description : str
    first : dict of str to dict
        Notebooks that run once before the points, with their parameters.
    prints : dict of str to str
        Their fingerprints.
    notebook : str
        Name of the notebook that is swept.
    points : list of Point
    tables : list of str
        Names of the tables to collect; if empty, all tables of the points.
    figure : dict
        Parameters of the notebook that draws the figure; if empty, nothing is drawn.
    resources : dict
        Any of ``workers``, ``threads`` (a point), ``timeout`` (seconds a point), ``retries``.
    """

    name: str
    path: Path
    description: str
    first: dict
    prints: dict
    notebook: str
    points: list
    tables: list = field(default_factory=list)
    figure: dict = field(default_factory=dict)
    resources: dict = field(default_factory=dict)

    @property
    def experiment(self):
        """Its folder below `results/`."""
        return f"sweeps/{self.name}"

    @property
    def folder(self):
        """Where its results are; absolute."""
        return results_folder(self.experiment)

    def claim(self):
        """Mark the folder as that of this file, so that no other file of the same name uses it.

        Raises
        ------
        SweepError
            If it belongs to another file that still exists.
        """
        mine = os.path.relpath(self.path.resolve(), paths.ROOT)
        note = self.folder / "file.txt"
        owner = note.read_text() if note.exists() else None
        if owner not in (None, mine) and (paths.ROOT / owner).exists():
            raise SweepError(
                f"{os.path.relpath(self.folder)} has the results of {owner}: rename {mine}."
            )
        if owner != mine:
            write_atomically(note, mine)

    def record(self, point):
        """The record of a point if it finished and its outputs are unchanged; otherwise None."""
        return fresh_record(point.experiment, self.notebook, point.fingerprint)

    def is_done(self, point):
        """Whether a point has such a record."""
        return self.record(point) is not None


def load_sweep(path):
    """Read a sweep file and check it against its notebooks.

    Parameters
    ----------
    path : path-like
        YAML: ``notebook``, and any of ``description``, ``first`` (notebooks to their parameters),
        ``parameters`` (of all points), ``grid`` (names to lists of values), ``points`` (a list of
        mappings, beside the grid), ``tables``, ``figure``, ``resources``.

    Returns
    -------
    Sweep

    Raises
    ------
    SweepError, ParameterError
        For a missing file or one that is no YAML; for unknown keys, notebooks, parameters or
        tables; for wrong types and empty grids; for two points that are equal once the notebook's
        defaults are filled in.
    """
    path = Path(path)
    content = _read(path)
    name, notebook = path.stem, notebook_path(content["notebook"])
    experiment = f"sweeps/{name}"
    first = {
        other: check_parameters(
            notebook_path(other), {"experiment": experiment} | _mapping(given, f"first: {other}")
        )
        for other, given in _mapping(content.get("first"), "first").items()
    }
    prints = {}
    for other, given in first.items():
        prints[other] = fingerprint(notebook_path(other), given, list(prints.values()))
    return Sweep(
        name,
        path,
        content.get("description", ""),
        first,
        prints,
        content["notebook"],
        _points(content, notebook, experiment, list(prints.values())),
        _tables(content.get("tables", []), path.name),
        check_parameters(notebook_path(COMPARE), _mapping(content.get("figure"), "figure")),
        _resources(content.get("resources"), path.name),
    )


def _read(path):
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise SweepError(f"cannot read {path}: {error.strerror}.") from error
    except yaml.YAMLError as error:
        raise SweepError(f"{path.name} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or not isinstance(content.get("notebook"), str):
        raise SweepError(f"{path.name} needs a line `notebook:` with a notebook's name.")
    if unknown := [key for key in content if key not in KEYS]:
        raise SweepError(f"{path.name}: unknown keys {unknown}; a sweep has {', '.join(KEYS)}.")
    return content


def _points(content, notebook, experiment, upstream):
    """All points, checked; no two are equal."""
    fixed = _mapping(content.get("parameters"), "parameters")
    declared, defaults = declared_parameters(notebook), default_parameters(notebook)
    points, seen, shared = [], set(), content_of(notebook)
    for varied in _expanded(content, fixed, declared):
        given = check_parameters(notebook, fixed | varied, declared)
        varied = {name: given[name] for name in varied}
        whole = _text(_plain(defaults | given))
        if whole in seen:
            raise SweepError(f"two points are equal: {_text(varied)}.")
        seen.add(whole)
        key = fingerprint(notebook, given, upstream, shared)
        folder = f"{experiment}/points/{key[:16]}"
        points.append(Point(key[:16], key, varied, given | {"experiment": folder}, upstream))
    return points


def _expanded(content, fixed, declared):
    """The varied parameters of each point: all combinations of the grid, then explicit points."""
    grid = _mapping(content.get("grid"), "grid")
    for key, values in grid.items():
        if not isinstance(values, list) or not values:
            raise SweepError(f"grid: {key} needs a list of values, got {values!r}.")
    explicit = content.get("points") or []
    if not isinstance(explicit, list) or not all(isinstance(p, dict) for p in explicit):
        raise SweepError(f"points: a list of mappings is needed, got {explicit!r}.")
    expanded = explicit
    if grid:
        products = itertools.product(*grid.values())
        expanded = [dict(zip(grid, values, strict=True)) for values in products] + explicit
    if not expanded:
        raise SweepError("the sweep has no points: give it a `grid:` or `points:`.")
    for varied in expanded:
        if taken := [name for name in varied if name in fixed]:
            raise SweepError(f"{taken} are in `parameters:` and in a point: say them once.")
        _mapping(varied, "points")
    if "experiment" not in declared:
        raise SweepError(f"{content['notebook']} declares no parameter `experiment`.")
    return expanded


def _resources(given, name):
    given = _mapping(given, "resources")
    for key, value in given.items():
        if key not in RESOURCES:
            raise SweepError(f"{name}: unknown resource {key!r}; they are {', '.join(RESOURCES)}.")
        least = 0 if key == "retries" else 1
        if isinstance(value, bool) or not isinstance(value, RESOURCES[key]) or value < least:
            raise SweepError(f"{name}: {key} must be a number of at least {least}, got {value!r}.")
    return given


def _tables(given, name):
    if not isinstance(given, list) or not all(isinstance(table, str) for table in given):
        raise SweepError(f"{name}: tables must be a list of names, got {given!r}.")
    if unknown := [table for table in given if table not in tables.TABLES]:
        known = ", ".join(tables.TABLES)
        raise SweepError(f"{name}: unknown tables {unknown}; the tables are {known}.")
    return given


def _mapping(value, what):
    if not isinstance(value or {}, dict):
        raise SweepError(f"{what}: a mapping is needed, got {value!r}.")
    if "experiment" in (value or {}):
        raise SweepError(f"{what}: the sweep sets `experiment` itself: leave it out.")
    return value or {}


def _plain(value):
    """The value with whole floats as integers: a notebook treats 1.0 and 1 alike."""
    if isinstance(value, dict):
        return {name: _plain(element) for name, element in value.items()}
    if isinstance(value, list):
        return [_plain(element) for element in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _text(varied):
    return json.dumps(varied, sort_keys=True)
