"""What runs a notebook in tests: plain Python, papermill, or both in turn."""

import os
from pathlib import Path

import pytest

STAND_IN = Path(__file__).with_name("stand_in")


@pytest.fixture(params=["stand-in", pytest.param("papermill", marks=pytest.mark.slow)])
def executor(request, monkeypatch):
    """Run notebooks by plain Python processes and, in the long tests, by papermill too."""
    if request.param == "stand-in":
        search = [str(STAND_IN), os.environ.get("PYTHONPATH")]
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, search)))
    return request.param
