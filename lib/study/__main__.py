"""Run the study's experiments and sweeps, and publish their results."""

import os
import signal
import sys

from ..__main__ import new_parser, run


def main(arguments=None):
    """Run a command; return its exit status, errors told in one line."""
    options = _parser().parse_args(arguments)
    # A terminated run, like an interrupted one, first ends the notebook that it started.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    return run(options, interrupted="interrupted; the next call goes on where this one stopped")


def _parser():
    parser, command = new_parser(f"python -m {__package__}", __doc__)

    reproduce = command(_reproduce, "reproduce", "run an experiment's notebooks")
    reproduce.add_argument("experiment", nargs="?", default="embedded")
    reproduce.add_argument("--only", metavar="NAME", help="stop after this notebook")
    reproduce.add_argument("--force", action="store_true", help="run what is up to date, too")

    report = command(_report, "report", "one HTML page of an experiment's results")
    report.add_argument("experiment", nargs="?", default="full")

    paper = command(_figures, "figures", "figures and tables as a venue wants them")
    paper.add_argument("experiments", nargs="*", default=["full"], metavar="EXPERIMENT")
    paper.add_argument("--style", default="icml", help="icml, neurips, ieee or acm")
    paper.add_argument("--columns", type=int, default=1, help="that a figure is wide: 1 or 2")

    again = command(_redraw, "redraw", "draw figures again from their tables, with a record")
    again.add_argument("experiments", nargs="+", metavar="EXPERIMENT")

    sweep = command(_sweep, "sweep", "run a notebook at many parameters; `sweep status FILE` looks")
    sweep.add_argument("file", nargs="+", metavar="[status] FILE")
    sweep.add_argument("--dry-run", action="store_true", help="print the points and their number")
    sweep.add_argument("--workers", type=int, help="points at a time on this machine")
    sweep.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster: tcp://host:8786")
    sweep.add_argument("--scheduler-file", metavar="JSON", help="that a Dask scheduler wrote")
    sweep.add_argument("--slurm", action="store_true", help="print an array job for sbatch")
    sweep.add_argument("--point", type=int, metavar="N", help="run this one point, from 0")

    command(_readme, "readme", "rewrite the numbers in README and docs from the tables")
    command(_stale, "stale", "list committed results that are older than the code")
    return parser


def _reproduce(options):
    from . import runs

    runs.reproduce(options.experiment, only=options.only, force=options.force)


def _report(options):
    from .publish import report

    print(os.path.relpath(report.write_report(options.experiment)))


def _figures(options):
    from .publish import paper

    for experiment in options.experiments:
        print(os.path.relpath(paper.write_paper(experiment, options.style, options.columns)))


def _redraw(options):
    from .publish import redrawn

    for experiment in options.experiments:
        print(f"{experiment}:", ", ".join(redrawn.redraw(experiment)) or "as the run drew them")


def _sweep(options):
    from . import sweep

    *action, path = options.file
    if action not in ([], ["status"]):
        raise ValueError(f"sweep takes FILE or `status FILE`, got {' '.join(options.file)!r}.")
    plan = sweep.load_sweep(path)
    if action:
        counts, failed = sweep.status(plan)
        print(", ".join(f"{number} {state}" for state, number in counts.items()))
        for point in failed:
            print(f"failed: {point.id} {point.varied}")
    elif options.dry_run:
        for number, point in enumerate(plan.points):
            print(number, point.id, point.varied)
        print(f"{len(plan.points)} points of {plan.notebook}")
    elif options.slurm:
        print(sweep.array_script(plan), end="")
    elif options.point is not None:
        return _one_point(plan, options.point)
    else:
        counts = sweep.run_sweep(
            plan,
            workers=options.workers,
            scheduler=options.scheduler,
            scheduler_file=options.scheduler_file,
        )
        return int(counts.get("failed", 0) > 0)


def _one_point(plan, number):
    from . import sweep

    if not 0 <= number < len(plan.points):
        raise ValueError(f"--point {number}: {plan.name} has points 0 to {len(plan.points) - 1}.")
    sweep.run_first(plan)
    found = sweep.run_point(plan.notebook, plan.points[number], wait=True, **sweep.options_of(plan))
    print(plan.points[number].id, found["state"], found.get("message", ""))
    return int(found["state"] != "done")


def _stale(options):
    from .runs.stale import ages

    for age in ages():
        if age.changed != []:
            print(age, *(f"  {name}" for name in age.changed or ()), sep="\n")


def _readme(options):
    from .. import files
    from .publish import readme

    for path in readme.pages():
        files.write_atomically(path, readme.update(path.read_text()))


if __name__ == "__main__":
    sys.exit(main())
