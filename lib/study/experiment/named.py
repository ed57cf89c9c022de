"""Records from parameter files: values by name, checked before anything is computed."""

import dataclasses
import difflib
import typing


def from_mapping(record, values):
    """Make a record from its values by name.

    Parameters
    ----------
    record : type
        A dataclass whose fields are annotated with str, int, float, bool, or unions of these.
    values : dict of str to object
        A whole number passes for a float, True for no number.

    Returns
    -------
    object of the type `record`

    Raises
    ------
    TypeError
        If `values` is no mapping, or a value is not of its field's type.
    ValueError
        For an unknown or a missing name, with the known ones.
    """
    fields = {field.name: field for field in dataclasses.fields(record)}
    known = f"{record.__name__} takes {', '.join(fields)}"
    if not isinstance(values, dict):
        raise TypeError(f"{values!r} should be a mapping of names to values: {known}.")
    if unknown := [name for name in values if name not in fields]:
        near = difflib.get_close_matches(str(unknown[0]), fields, 1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(f"{unknown[0]!r} is unknown{hint}: {known}.")
    required = [name for name, field in fields.items() if field.default is dataclasses.MISSING]
    if missing := [name for name in required if name not in values]:
        raise ValueError(f"{missing[0]!r} is missing from {values}: {known}.")
    for name, value in values.items():
        if not _is_of(fields[name].type, value):
            kind = getattr(fields[name].type, "__name__", fields[name].type)
            raise TypeError(f"{name}={value!r} should be of type {kind}.")
    return record(**values)


def _is_of(kind, value):
    kinds = typing.get_args(kind) or (kind,)
    return type(value) in kinds or (float in kinds and type(value) is int)
