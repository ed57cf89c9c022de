"""What `import lib` offers, and what it loads."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import lib

HEAVY = ("numpy", "numba", "torch", "torchvision", "pandas", "matplotlib", "onnx", "coremltools")


def run(code):
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    return found.stdout


def test_every_public_name_is_there():
    assert [name for name in lib.__all__ if getattr(lib, name, None) is None] == []
    assert set(lib.__all__) < set(dir(lib))


def test_type_checkers_see_the_names_that_python_finds():
    (block,) = [n for n in ast.parse(Path(lib.__file__).read_text()).body if isinstance(n, ast.If)]
    typed = {node.module: tuple(alias.name for alias in node.names) for node in block.body}
    assert typed == lib._NAMES
    assert sorted(lib.__all__) == sorted(name for names in typed.values() for name in names)


def test_modules_are_found_without_importing_them():
    assert run("import lib; print(lib.compression.save.__name__, lib.optimal.__name__)") == (
        "save lib.optimal\n"
    )


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="module 'lib' has no attribute 'clusters'"):
        lib.clusters  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'clusters'"):
        from lib import clusters  # noqa: F401


@pytest.mark.parametrize("module", ["lib.__main__", "lib.study.__main__"])
def test_help_loads_nothing_heavy(module):
    loaded = run(
        f"import sys, {module} as command_line\n"
        "try: command_line.main(['--help'])\n"
        "except SystemExit: pass\n"
        f"print('loaded', {{*{HEAVY}}} & {{*sys.modules}})"
    )
    assert loaded.splitlines()[-1] == "loaded set()"
