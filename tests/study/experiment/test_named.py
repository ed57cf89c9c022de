"""Records from values by name, and the parameters of every experiment that are such records."""

import dataclasses

import pytest

from lib.study import paths, runs
from lib.study.experiment.named import from_mapping
from lib.study.experiment.recipes import Recipe, Retraining
from lib.study.experiment.training import TrainingConfig
from lib.study.runs.parameters import default_parameters

EXPERIMENTS = sorted(path.stem for path in (paths.ROOT / "notebooks/experiments").glob("*.yml"))
RECORDS = {
    ("01-train", "networks"): TrainingConfig,
    ("07-frontier", "recipes"): Recipe,
    ("07-frontier", "retrained"): Retraining,
}


@dataclasses.dataclass(frozen=True)
class Point:
    """A record."""

    name: str
    x: float
    flat: bool = False


def test_values_go_to_the_fields_of_their_names():
    assert from_mapping(Point, {"x": 2, "name": "a"}) == Point("a", 2)
    assert from_mapping(Point, {"flat": True, "x": 0.5, "name": "b"}) == Point("b", 0.5, True)


def test_an_unknown_name_is_refused_with_the_known_ones():
    message = r"'falt' is unknown \(did you mean 'flat'\?\): Point takes name, x, flat\."
    with pytest.raises(ValueError, match=message):
        from_mapping(Point, {"name": "a", "x": 1, "falt": True})
    with pytest.raises(ValueError, match=r"'colour' is unknown: Point takes"):
        from_mapping(Point, {"name": "a", "x": 1, "colour": "red"})


def test_a_missing_name_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'x' is missing from .*: Point takes name, x, flat\."):
        from_mapping(Point, {"name": "a"})


@pytest.mark.parametrize("values", [["a", 1, False], "a", None])
def test_values_by_position_are_refused(values):
    with pytest.raises(TypeError, match=r"should be a mapping of names to values: Point takes"):
        from_mapping(Point, values)


@pytest.mark.parametrize(("name", "value"), [("x", "1e-3"), ("x", True), ("flat", 1), ("name", 1)])
def test_a_value_of_another_type_is_refused(name, value):
    with pytest.raises(TypeError, match=rf"{name}={value!r} should be of type"):
        from_mapping(Point, {"name": "a", "x": 1, name: value})


@pytest.mark.parametrize("experiment", [None, *EXPERIMENTS])
def test_records_in_notebooks_and_parameter_files_are_known(experiment):
    """None: the notebooks' defaults."""
    for (notebook, parameter), record in RECORDS.items():
        if experiment is None:
            given = default_parameters(runs.notebook_path(notebook))
        else:
            given = runs.load_experiment(experiment).notebooks.get(notebook, {})
        for values in given.get(parameter, []):
            assert isinstance(from_mapping(record, values), record)
