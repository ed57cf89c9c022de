"""Write a sweep as a SLURM array job, each of whose tasks runs one point."""

import math
import shlex
import sys

from .. import paths

MOST = 1000  # tasks of an array: SLURM's default MaxArraySize is 1001


def array_script(sweep, *, at_once=100):
    """The text of a script for ``sbatch``.

    Parameters
    ----------
    sweep : Sweep
        Its ``timeout`` and ``retries`` give the time limit of a task, with five minutes to start.
        Comments in the script say what to run first, and how to submit more than `MOST` points.
    at_once : int
        Number of tasks that may run at a time.

    Returns
    -------
    str
    """
    resources, number = sweep.resources, len(sweep.points)
    command = [sys.executable, "-m", "lib.study", "sweep", str(sweep.path.resolve()), "--point"]
    lines = [
        "#!/bin/bash",
        f"#SBATCH --job-name={sweep.name}",
        f"#SBATCH --array={_array(0, number, at_once)}",
        f"#SBATCH --cpus-per-task={resources.get('threads', 1)}",
        "#SBATCH --output=slurm-%A_%a.out",
    ]
    if "timeout" in resources:
        attempts = 1 + resources.get("retries", 0)
        lines.append(f"#SBATCH --time={5 + math.ceil(attempts * resources['timeout'] / 60)}")
    if sweep.first:
        lines += [
            "# The time limit is for one point. Run the first notebooks and point 0 beforehand:",
            f"#   cd {shlex.quote(str(paths.ROOT))} && {shlex.join([*command, '0'])}",
        ]
    if number > MOST:
        lines.append(f"# An array has at most {MOST} tasks; submit the others by")
    lines += [
        f"#   FROM={start} sbatch --array={_array(start, number, at_once)} sweep.sh"
        for start in range(MOST, number, MOST)
    ]
    lines += [
        "set -e",
        f"cd {shlex.quote(str(paths.ROOT))}",
        f"export PYTHONPATH={shlex.quote(str(paths.ROOT))}${{PYTHONPATH:+:$PYTHONPATH}}",
        f'exec {shlex.join(command)} "$((${{FROM:-0}} + SLURM_ARRAY_TASK_ID))"',
    ]
    return "\n".join(lines) + "\n"


def _array(start, number, at_once):
    """Tasks of the array whose first is point `start`."""
    tasks = min(MOST, number - start)
    return f"0-{tasks - 1}%{min(at_once, tasks)}"
