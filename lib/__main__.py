"""Command line: ``python -m lib COMMAND``; each has its own ``--help``."""

import argparse
import signal
import sys


def main(arguments=None):
    """Run a command; return its exit status, errors told in one line."""
    return run(_parser().parse_args(arguments))


def run(options):
    """Run the command of parsed options; return its exit status, errors told in one line."""
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


def new_parser(program, description):
    """A parser of commands, and a function that adds one: `command(run, name, text)`."""
    parser = argparse.ArgumentParser(prog=program, description=description)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(run, name, text):
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        return added

    return parser, command


def _parser():
    parser, command = new_parser("python -m lib", __doc__)

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

    print(compression.size_table(options.file))


def _evaluate(options):
    from . import compression
    from .study.experiment.evaluation import evaluate_network

    model = compression.load(options.file, _architecture(options))
    top1, low, high = evaluate_network(model, options.n_images)
    print(f"top-1 {top1:.2f} % [{low:.2f}, {high:.2f}] on {options.n_images} test images")


def _export(options):
    from . import compression
    from .study.experiment.data import load_images
    from .study.experiment.network import prepare

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
