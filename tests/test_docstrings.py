"""Every public name has an example, and every example of the method runs."""

import doctest
import importlib
import inspect
import pkgutil

import pytest
import torch

import lib
import lib.compression

PUBLIC = [
    (package, name)
    for package in (lib, lib.compression)
    for name in package.__all__
    if callable(getattr(package, name))
]
# Engine and command line are not for users; the study and what reads people's files has its tests.
SKIPPED = ("lib.engine", "lib.study", "lib.__main__")
MODULES = [
    module.name
    for module in pkgutil.walk_packages(lib.__path__, "lib.")
    if not module.name.startswith(SKIPPED)
]


def functions_of(module):
    """By name, the public functions of a module, and the public methods of its public classes."""
    for name, value in vars(module).items():
        if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
            continue
        if inspect.isfunction(value):
            yield name, value
        elif inspect.isclass(value):
            for method, function in vars(value).items():
                function = getattr(function, "fget", None) or inspect.unwrap(
                    getattr(function, "__func__", function)
                )
                if inspect.isfunction(function) and not method.startswith("_"):
                    yield f"{name}.{method}", function


@pytest.mark.parametrize(("package", "name"), PUBLIC, ids=[name for _, name in PUBLIC])
def test_a_public_name_has_an_example(package, name):
    assert ">>>" in (inspect.getdoc(getattr(package, name)) or "")


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where examples write their files
    torch.manual_seed(0)
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert failed == 0


@pytest.mark.parametrize("name", MODULES)
def test_public_functions_are_annotated(name):
    for function_name, function in functions_of(importlib.import_module(name)):
        signature = inspect.signature(function)
        missing = [
            parameter.name
            for parameter in signature.parameters.values()
            if parameter.annotation is parameter.empty and parameter.name not in ("self", "cls")
        ]
        assert not missing, f"{function_name}: {missing}"
        assert signature.return_annotation is not signature.empty, function_name


@pytest.mark.parametrize("name", MODULES)
def test_documented_parameters_say_their_default(name):
    for function_name, function in functions_of(importlib.import_module(name)):
        lines = (inspect.getdoc(function) or "").splitlines()
        for parameter in inspect.signature(function).parameters.values():
            described = [line for line in lines if line.startswith(f"{parameter.name} : ")]
            if described and parameter.default is not parameter.empty:
                assert "default" in described[0] or "optional" in described[0], (
                    f"{function_name}: {described[0]}"
                )
