"""YAML that people write: read as they mean it, checked by a schema, with file and line in errors.

YAML 1.2, in which ``1e-3`` is a number, and ``no`` and ``on`` are words. A key that stands twice is
refused.
"""

import os
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

SUFFIXES = (".yml", ".yaml")


class WrittenError(ValueError):
    """A file that cannot be read, or does not say what its schema asks for."""


class Written:
    """A YAML file whose content fits a schema.

    Parameters
    ----------
    path : path-like
        ``~`` is the home folder.
    schema : dict
        JSON Schema. Where a value does not fit, the error asks for the schema's `description`.

    Attributes
    ----------
    path : pathlib.Path
    content : dict
        Its values: dictionaries, lists, numbers, text and None.

    Raises
    ------
    WrittenError
        Naming the file and the line.
    """

    def __init__(self, path: str | os.PathLike, schema: dict):
        self.path = Path(path).expanduser()
        self._text = _text(self.path)
        try:
            self.content: Any = YAML(typ="safe", pure=True).load(self._text)
        except YAMLError as error:
            raise WrittenError(f"{self.path.name}{_line(error)}: {_problem(error)}") from error
        if error := best_match(Draft202012Validator(schema).iter_errors(self.content)):
            keys = list(error.absolute_path)
            if error.validator == "additionalProperties":
                keys += _unknown(error)[:1]
            place = ".".join(map(str, error.absolute_path))
            message = _misfit(error)
            raise WrittenError(f"{self.at(*keys)}: {f'{place}: ' if place else ''}{message}")

    def at(self, *keys: Any) -> str:
        """The file and the line of a value, for a message, by the keys that lead to it."""
        node, line = YAML().load(self._text), 0
        for key in keys:
            if not hasattr(node, "lc") or not (isinstance(key, int) or key in node):
                break
            places = node.lc.data or {}
            line = places[key][0] if key in places else line
            node = node[key]
        return f"{self.path.name}, line {line + 1}"


def _text(path):
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise WrittenError(f"cannot read {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise WrittenError(f"{path.name} is not UTF-8: {error.reason} at {error.start}.") from error


def _line(error):
    mark = getattr(error, "problem_mark", None)
    return "" if mark is None else f", line {mark.line + 1}"


def _problem(error):
    if isinstance(error, MarkedYAMLError) and error.problem:
        problem = " ".join(error.problem.split())
        return f"this is not YAML: {problem}" if "duplicate" not in problem else problem
    return f"this is not YAML: {' '.join(str(error).split())}"


def _misfit(error):
    """What is wrong with a value, in words."""
    if error.validator == "additionalProperties":
        return (
            f"unknown keys {_unknown(error)}: choose from {', '.join(error.schema['properties'])}"
        )
    if error.validator == "required":
        missing = [key for key in error.validator_value if key not in error.instance]
        return f"the keys {missing} are missing"
    if error.validator == "enum":
        return f"{error.instance!r} is unknown: choose from {', '.join(error.validator_value)}"
    return f"{error.schema.get('description', error.message)} is needed, got {error.instance!r}"


def _unknown(error):
    return [key for key in error.instance if key not in error.schema["properties"]]
