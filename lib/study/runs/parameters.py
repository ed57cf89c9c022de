"""Parameter files and the parameters that notebooks declare: checked before anything runs."""

import ast
import difflib
from dataclasses import dataclass
from pathlib import Path

import nbformat

from .. import paths
from ..written import SUFFIXES, Written, WrittenError

SCHEMA = {
    "type": "object",
    "description": "a mapping with `notebooks:`",
    "required": ["notebooks"],
    "additionalProperties": False,
    "properties": {
        "description": {"type": "string", "description": "a text"},
        "notebooks": {
            "type": "object",
            "description": "a mapping of notebooks' names to their parameters",
            "additionalProperties": {"type": ["object", "null"], "description": "a mapping"},
        },
    },
}


class ParameterError(ValueError):
    """A parameter file or a parameter that a notebook cannot be run with.

    Attributes
    ----------
    parameter : str or None
        Its name.
    """

    def __init__(self, message, parameter=None):
        super().__init__(message)
        self.parameter = parameter


@dataclass(frozen=True)
class Experiment:
    """One parameter file: the notebooks in their order, with their parameters."""

    name: str
    description: str
    notebooks: dict


def load_experiment(name):
    """Read ``notebooks/experiments/<name>.yml`` and check it against the notebooks.

    Parameters
    ----------
    name : str

    Returns
    -------
    Experiment
        With each notebook's parameters as :func:`check_parameters` returns them.

    Raises
    ------
    ParameterError
        For an unknown experiment or notebook, or parameters that a notebook refuses.
    """
    folder = paths.ROOT / "notebooks" / "experiments"
    found = [folder / f"{name}{suffix}" for suffix in SUFFIXES]
    path = next((path for path in found if path.is_file()), None)
    if path is None:
        known = ", ".join(sorted(f.stem for f in folder.iterdir() if f.suffix in SUFFIXES))
        raise ParameterError(f"unknown experiment {name!r}; the experiments are {known}")
    try:
        written = Written(path, SCHEMA)
    except WrittenError as error:
        raise ParameterError(str(error)) from error
    notebooks = {}
    for notebook, given in written.content["notebooks"].items():
        given = {"experiment": name} | (given or {})
        try:
            notebooks[notebook] = check_parameters(notebook_path(notebook), given)
        except ParameterError as error:
            where = written.at("notebooks", notebook, error.parameter)
            raise ParameterError(f"{where}: {error}", error.parameter) from error
        if given["experiment"] != name:
            where = written.at("notebooks", notebook, "experiment")
            raise ParameterError(f"{where}: {notebook}: experiment must be {name!r}", "experiment")
    return Experiment(name, written.content.get("description", ""), notebooks)


def notebook_path(name):
    """Path of a notebook of the study, given its name."""
    path = paths.ROOT / "notebooks" / f"{name}.ipynb"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in path.parent.glob("*.ipynb")))
        raise ParameterError(f"unknown notebook {name!r}; the notebooks are {known}")
    return path


def declared_parameters(notebook):
    """The parameters that a notebook declares, with their types.

    papermill's own inspection drops ``x: int | None = None`` and any value with a ``=``
    in it, so the cell is read as Python.

    Parameters
    ----------
    notebook : path-like

    Returns
    -------
    dict of str to ast.expr
        Each parameter's type: its annotation or, without one, what its default shows.

    Raises
    ------
    ParameterError
        Without a cell tagged ``parameters`` (papermill would put the values on top, where
        the notebook overwrites them), or with anything in it but literals.
    """
    return {name: annotation for name, (annotation, _) in _declarations(notebook).items()}


def default_parameters(notebook):
    """The values of a notebook's parameters where none are passed."""
    return {name: default for name, (_, default) in _declarations(notebook).items()}


def _declarations(notebook):
    """Type and default of each parameter."""
    name = Path(notebook).stem
    cells = [
        cell.source
        for cell in nbformat.read(notebook, as_version=4).cells
        if "parameters" in cell.metadata.get("tags", ())
    ]
    if len(cells) != 1:
        raise ParameterError(f"{name}: needs one cell tagged 'parameters', has {len(cells)}")
    return dict(_declaration(statement, name) for statement in ast.parse(cells[0]).body)


def _declaration(statement, name):
    match statement:
        case ast.AnnAssign(target=ast.Name(id=target), annotation=annotation, value=ast.expr()):
            pass
        case ast.Assign(targets=[ast.Name(id=target)]):
            annotation = None
        case _:
            raise ParameterError(f"{name}: not a parameter: {ast.unparse(statement)}")
    try:
        default = ast.literal_eval(statement.value)
    except ValueError:
        raise ParameterError(
            f"{name}: {target} must be a literal (an override leaves derived values stale)"
        ) from None
    return target, (annotation or ast.parse(_type_text(default), mode="eval").body, default)


def _type_text(value):
    if value is None:
        return "object"
    if isinstance(value, list) and value:
        return f"list[{' | '.join(sorted({_type_text(element) for element in value}))}]"
    return type(value).__name__


def check_parameters(notebook, parameters, declared=None):
    """Refuse what papermill would only warn of: unknown names and wrong types.

    Parameters
    ----------
    notebook : path-like
    parameters : dict
        Values to pass, as YAML or Python gives them.
    declared : dict, optional
        The notebook's `declared_parameters`, where many values are asked about.

    Returns
    -------
    dict
        The same values, names inside mappings as text: papermill and JSON know no others. A whole
        number passes for a ``float``, True for no number.

    Raises
    ------
    ParameterError
        Naming the notebook, the parameter, what was given and what is asked for.
    """
    name = Path(notebook).stem
    declared = declared or declared_parameters(notebook)
    for parameter, value in parameters.items():
        if parameter not in declared:
            near = difflib.get_close_matches(str(parameter), declared, 1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ParameterError(
                f"{name}: unknown parameter {parameter!r}{hint}; it has {', '.join(declared)}",
                parameter,
            )
        if not _accepts(declared[parameter], value):
            raise ParameterError(
                f"{name}: {parameter} must be {ast.unparse(declared[parameter])}, "
                f"got {value!r} ({type(value).__name__})",
                parameter,
            )
    values = {
        parameter: _text_names(value, f"{name}: {parameter}")
        for parameter, value in parameters.items()
    }
    _check_names(notebook, values)
    return values


def _text_names(value, where):
    """A value in which every name of a mapping is text."""
    if isinstance(value, list):
        return [_text_names(element, where) for element in value]
    if not isinstance(value, dict):
        return value
    named = {}
    for name, element in value.items():
        if name is None or isinstance(name, bool):
            raise ParameterError(
                f"{where} has the name {name!r}: YAML reads true, false and null so; put it into "
                "quotation marks"
            )
        if str(name) in named:
            raise ParameterError(f"{where} has the name {str(name)!r} twice")
        named[str(name)] = _text_names(element, where)
    return named


def _check_names(notebook, parameters):
    """Refuse unknown and missing names in lists of mappings.

    The mappings of the default declare the names; one that all of them have must be given.
    """
    lists = {name: mappings for name, value in parameters.items() if (mappings := _mappings(value))}
    defaults = default_parameters(notebook) if lists else {}
    for parameter, mappings in lists.items():
        declared = [set(mapping) for mapping in _mappings(defaults[parameter])]
        if not declared:
            continue
        known, needed = set.union(*declared), set.intersection(*declared)
        for mapping in mappings:
            unknown, missing = sorted(set(mapping) - known), sorted(needed - set(mapping))
            if unknown or missing:
                problem = f"unknown {unknown[0]!r}" if unknown else f"missing {missing[0]!r}"
                raise ParameterError(
                    f"{Path(notebook).stem}: {problem} in {mapping} of {parameter}; the names are "
                    f"{', '.join(sorted(known))}",
                    parameter,
                )


def _mappings(value):
    """The mappings in a list; none of other values."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _accepts(annotation, value):
    """Whether a value is of the annotated type; True is no int, 1 is a float."""
    match annotation:
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _accepts(left, value) or _accepts(right, value)
        case ast.Constant(value=None):
            return value is None
        case ast.Name(id="object"):
            return True
        case ast.Name(id="float"):
            return type(value) in (float, int)
        case ast.Name(id=kind):
            return type(value).__name__ == kind
        case ast.Subscript(value=ast.Name(id="list"), slice=element):
            return isinstance(value, list) and all(_accepts(element, item) for item in value)
    raise ParameterError(f"the type {ast.unparse(annotation)} is not understood")
