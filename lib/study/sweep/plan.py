"""Read a sweep file, check all of it before anything runs, and expand it into points."""

import itertools
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

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
from ..written import Written, WrittenError

COMPARE = "sweeps/compare"  # the notebook of the figure
_MAPPING = {"type": ["object", "null"], "description": "a mapping"}
_COUNT = {"type": "integer", "minimum": 1, "description": "a whole number of at least 1"}
_LIST = {"type": "array", "minItems": 1, "description": "a list of values"}
SCHEMA = {
    "type": "object",
    "description": "a mapping with a `notebook:`",
    "required": ["notebook"],
    "additionalProperties": False,
    "properties": {
        "description": {"type": "string", "description": "a text"},
        "first": _MAPPING | {"additionalProperties": _MAPPING},
        "notebook": {"type": "string", "description": "a notebook's name"},
        "parameters": _MAPPING,
        "grid": _MAPPING | {"additionalProperties": _LIST},
        "points": {
            "type": ["array", "null"],
            "description": "a list of mappings",
            "items": {"type": "object", "description": "a mapping"},
        },
        "tables": {
            "type": "array",
            "description": "a list of names of tables",
            "items": {"enum": [*tables.TABLES], "description": "a name of a table"},
        },
        "figure": _MAPPING,
        "resources": _MAPPING
        | {
            "additionalProperties": False,
            "properties": {
                "workers": _COUNT,
                "threads": _COUNT,
                "timeout": {
                    "type": "number",
                    "minimum": 1,
                    "description": "a number of seconds, at least 1,",
                },
                "retries": {
                    "type": "integer",
                    "minimum": 0,
                    "description": "a whole number of at least 0",
                },
            },
        },
    },
}


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
        Naming the file and the line: for a missing file or one that is no YAML; for keys that are
        unknown or stand twice; for unknown notebooks, parameters or tables; for wrong types and
        empty grids; for two points that are equal once the notebook's defaults are filled in.
    """
    try:
        written = Written(path, SCHEMA)
    except WrittenError as error:
        raise SweepError(str(error)) from error
    path, content = written.path, written.content
    notebook = _checked(written, ["notebook"], notebook_path, content["notebook"])
    experiment = f"sweeps/{path.stem}"
    first, prints = {}, {}
    for other, given in (content.get("first") or {}).items():
        keys = "first", other
        source = _checked(written, keys, notebook_path, other)
        given = {"experiment": experiment} | _unset(written, given, *keys)
        first[other] = _checked(written, keys, check_parameters, source, given)
        prints[other] = fingerprint(source, first[other], list(prints.values()))
    figure = _unset(written, content.get("figure"), "figure")
    return Sweep(
        path.stem,
        path,
        content.get("description", ""),
        first,
        prints,
        content["notebook"],
        _points(written, notebook, experiment, list(prints.values())),
        content.get("tables", []),
        _checked(written, ["figure"], check_parameters, notebook_path(COMPARE), figure),
        content.get("resources") or {},
    )


def _checked(written, keys, function, *given):
    """What a check of a part of the file returns; its error names the line."""
    try:
        return function(*given)
    except ParameterError as error:
        raise SweepError(f"{written.at(*keys, error.parameter)}: {error}") from error


def _points(written, notebook, experiment, upstream):
    """All points, checked; no two are equal."""
    fixed = _unset(written, written.content.get("parameters"), "parameters")
    declared, defaults = declared_parameters(notebook), default_parameters(notebook)
    points, seen, shared = [], set(), content_of(notebook)
    _checked(written, ["parameters"], check_parameters, notebook, fixed, declared)
    for keys, varied in _expanded(written, fixed, declared):
        given = fixed | varied
        given = _checked(written, keys, check_parameters, notebook, given, declared)
        varied = {name: given[name] for name in varied}
        whole = _text(_plain(defaults | given))
        if whole in seen:
            raise SweepError(f"{written.at(*keys)}: two points are equal: {_text(varied)}.")
        seen.add(whole)
        key = fingerprint(notebook, given, upstream, shared)
        folder = f"{experiment}/points/{key[:16]}"
        points.append(Point(key[:16], key, varied, given | {"experiment": folder}, upstream))
    return points


def _expanded(written, fixed, declared):
    """Where each point stands and its varied parameters: first all combinations of the grid."""
    content = written.content
    grid = _unset(written, content.get("grid"), "grid")
    explicit = [
        (("points", i), _unset(written, point, "points", i))
        for i, point in enumerate(content.get("points") or [])
    ]
    products = itertools.product(*grid.values()) if grid else ()
    expanded = [(("grid",), dict(zip(grid, values, strict=True))) for values in products]
    expanded += explicit
    if not expanded:
        raise SweepError(f"{written.path.name}: it has no points: give it a `grid:` or `points:`.")
    for keys, varied in expanded:
        if taken := [name for name in varied if name in fixed]:
            raise SweepError(
                f"{written.at(*keys, taken[0])}: {taken} are in `parameters:` and in a point: say "
                "them once."
            )
    if "experiment" not in declared:
        raise SweepError(f"{content['notebook']} declares no parameter `experiment`.")
    return expanded


def _unset(written, given, *keys):
    """Parameters in which `experiment`, which the sweep sets, is not given."""
    if "experiment" in (given or {}):
        raise SweepError(
            f"{written.at(*keys, 'experiment')}: the sweep sets `experiment` itself: leave it out."
        )
    return given or {}


def _plain(value):
    """The value with whole floats as integers: a notebook treats 1.0 and 1 alike."""
    if isinstance(value, dict):
        return {name: _plain(element) for name, element in value.items()}
    if isinstance(value, list):
        return [_plain(element) for element in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _text(varied):
    return json.dumps(varied, sort_keys=True)
