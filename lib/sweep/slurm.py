"""A sweep as a SLURM array job: each task runs one point by the same command as anywhere."""

import math
import shlex
import sys

from .. import results


def array_script(sweep, *, at_once=100):
    """The text of a script for ``sbatch``.

    Parameters
    ----------
    sweep : Sweep
        Its ``timeout`` and ``retries`` become the tasks' time limit, with five minutes to start.
    at_once : int
        Tasks that may run at a time.

    Returns
    -------
    str
    """
    resources, last = sweep.resources, len(sweep.points) - 1
    lines = [
        "#!/bin/bash",
        f"#SBATCH --job-name={sweep.name}",
        f"#SBATCH --array=0-{last}%{min(at_once, last + 1)}",
        f"#SBATCH --cpus-per-task={resources.get('threads', 1)}",
        "#SBATCH --output=slurm-%A_%a.out",
    ]
    if "timeout" in resources:
        attempts = 1 + resources.get("retries", 0)
        lines.append(f"#SBATCH --time={5 + math.ceil(attempts * resources['timeout'] / 60)}")
    command = [sys.executable, "-m", "lib", "sweep", str(sweep.path.resolve())]
    lines += [
        "set -e",
        f"cd {shlex.quote(str(results.ROOT))}",
        f"export PYTHONPATH={shlex.quote(str(results.ROOT))}",
        f'exec {shlex.join(command)} --point "$SLURM_ARRAY_TASK_ID"',
    ]
    return "\n".join(lines) + "\n"
