"""Sweeps: one notebook at many parameters, each point a job that is done once, anywhere."""

from .collect import collect
from .plan import Point, Sweep, SweepError, load_sweep
from .point import run_first, run_point
from .run import options_of, run_sweep, status
from .slurm import array_script

__all__ = [
    "Point",
    "Sweep",
    "SweepError",
    "array_script",
    "collect",
    "load_sweep",
    "options_of",
    "run_first",
    "run_point",
    "run_sweep",
    "status",
]
