"""Command line: ``python -m lib COMMAND``; each has its own ``--help``."""

import argparse
import os
import signal
import sys

from . import readme, results, runs


def main(arguments=None):
    """Run a command; return its exit status, errors told in one line."""
    options = _parser().parse_args(arguments)
    # So that a terminated run, like an interrupted one, ends its kernel first.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        return options.run(options) or 0
    except (RuntimeError, OSError, TypeError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the next call goes on where this one stopped", file=sys.stderr)
        return 130


def _parser():
    parser = argparse.ArgumentParser(prog="python -m lib", description=__doc__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(run, name, text):
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        return added

    reproduce = command(_reproduce, "reproduce", "run an experiment's notebooks")
    reproduce.add_argument("experiment", nargs="?", default="embedded")
    reproduce.add_argument("--only", metavar="NAME", help="stop after this notebook")
    reproduce.add_argument("--force", action="store_true", help="run what is up to date, too")

    report = command(_report, "report", "one HTML page of an experiment's results")
    report.add_argument("experiment", nargs="?", default="full")

    site = command(_site, "site", "an experiment's notebooks and figures as a static site")
    site.add_argument("experiment", nargs="?", default="full")

    paper = command(_figures, "figures", "figures and tables as a venue wants them")
    paper.add_argument("experiments", nargs="*", default=["full"], metavar="EXPERIMENT")
    paper.add_argument("--style", default="icml", help="icml, neurips, ieee or acm")
    paper.add_argument("--columns", type=int, default=1, help="that a figure is wide: 1 or 2")

    sweep = command(_sweep, "sweep", "run a notebook at many parameters; `sweep status FILE` looks")
    sweep.add_argument("file", nargs="+", metavar="[status] FILE")
    sweep.add_argument("--dry-run", action="store_true", help="print the points and their number")
    sweep.add_argument("--workers", type=int, help="points at a time on this machine")
    sweep.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster: tcp://host:8786")
    sweep.add_argument("--scheduler-file", metavar="JSON", help="that a Dask scheduler wrote")
    sweep.add_argument("--slurm", action="store_true", help="print an array job for sbatch")
    sweep.add_argument("--point", type=int, metavar="N", help="run this one point, from 0")

    command(_readme, "readme", "rewrite the README's numbers from the committed tables")

    compress = command(_compress, "compress", "share a model's weights and write one small file")
    compress.add_argument(
        "model",
        help="a name of torchvision.models, package.module:function, or a state dict (with --arch)",
    )
    compress.add_argument("--arch", help="the model that a state dict is of")
    compress.add_argument("--bits", type=int, default=4, help="2 ** BITS centers a layer (4)")
    compress.add_argument("--init", default="weight-distribution", help="of k-means")
    compress.add_argument("--layers", nargs="+", help="by default convolutions and linear layers")
    compress.add_argument("--rest", default="exact", choices=("exact", "float16"), help="all else")
    compress.add_argument("--out", required=True, metavar="FILE")

    inspect = command(_inspect, "inspect", "the size table of a compressed file")
    inspect.add_argument("file")

    evaluate = command(_evaluate, "evaluate", "top-1 of a compressed file on the test images")
    evaluate.add_argument("file")
    evaluate.add_argument("--arch", help="by default what the file says of itself")
    evaluate.add_argument("--n-images", type=int, default=10_000)

    export = command(_export, "export", "a compressed file as ONNX or Core ML, labels packed")
    export.add_argument("file")
    export.add_argument("--arch", help="by default what the file says of itself")
    export.add_argument("--out", required=True, metavar="FILE.onnx|FILE.mlpackage")
    return parser


def _reproduce(options):
    runs.reproduce(options.experiment, only=options.only, force=options.force)


def _report(options):
    from . import report

    print(os.path.relpath(report.write_report(options.experiment)))


def _site(options):
    from . import site

    print(os.path.relpath(site.write_site(options.experiment)))


def _figures(options):
    from . import paper

    for experiment in options.experiments:
        print(os.path.relpath(paper.write_paper(experiment, options.style, options.columns)))


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


def _readme(options):
    results.write_atomically(readme.PATH, readme.update(readme.PATH.read_text()))


def _compress(options):
    from . import compression, models, sharing

    if not 1 <= options.bits <= 16:
        raise ValueError(f"--bits {options.bits} must be from 1 to 16.")
    model = models.resolve(options.model, arch=options.arch)
    shared = sharing.share_weights(
        model,
        2**options.bits,
        layers=options.layers,
        init=options.init,
        inplace=True,
        progress=True,
    )
    about = options.arch or options.model
    compression.save(shared.model, options.out, rest=options.rest, about=about)
    _inspect(argparse.Namespace(file=options.out))


def _inspect(options):
    from . import compression

    print(compression.size_table(options.file).to_string(index=False))


def _evaluate(options):
    from . import compression
    from .experiment.evaluation import evaluate_network

    model = compression.load(options.file, _architecture(options))
    top1, low, high = evaluate_network(model, options.n_images)
    print(f"top-1 {top1:.2f} % [{low:.2f}, {high:.2f}] on {options.n_images} test images")


def _export(options):
    from . import compression
    from .experiment.data import load_images
    from .experiment.network import prepare

    model = compression.load(options.file, _architecture(options), shared=True).eval()
    inputs = prepare(load_images("test", 10).pixels[:1])
    if options.out.endswith(".mlpackage"):
        size = compression.export_coreml(model, options.out, inputs)
        layers = compression.audit_coreml(options.out, model)
    else:
        size = compression.export_onnx(model, options.out, inputs)
        layers = compression.audit(options.out, model, inputs)["layers"]
    print(f"{options.out}: {size:,} bytes")
    if wrong := [layer["layer"] for layer in layers if not layer["equal"]]:
        raise ValueError(f"{options.out} has other weights than the model in {', '.join(wrong)}.")
    print(f"read back: the weights of {len(layers)} layers are equal bit by bit")


def _architecture(options):
    """The model that a file is loaded into. A file names none of ours: it is not to run code."""
    from . import compression, models

    name = options.arch or compression.about(options.file)
    if options.arch is None and ":" in name:
        raise ValueError(f"{options.file} is of {name!r}: say so, if you trust it: --arch {name}")
    return models.resolve(name, weights=None)


if __name__ == "__main__":
    sys.exit(main())
