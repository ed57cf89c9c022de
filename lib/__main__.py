"""Compress a model by weight sharing; inspect, evaluate and export the file that it becomes."""

# Parsing imports none of the heavy packages: every command imports what it runs.
import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

EXPORTS = (".onnx", ".mlpackage")
DTYPES = ("float32", "int64", "int32")  # of an exported model's input


def main(arguments: list[str] | None = None) -> int:
    """Run a command; return its exit status, errors told in one line."""
    # `python -m` finds the modules of the working folder; so that an installed script does, too.
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    return run(_parser().parse_args(arguments))


def run(options: argparse.Namespace, interrupted: str = "interrupted") -> int:
    """Run the command of parsed options; return its exit status, errors told in one line."""
    try:
        return options.run(options) or 0
    except (ImportError, RuntimeError, OSError, TypeError, ValueError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        return 130


def new_parser(
    program: str | None, description: str | None
) -> tuple[argparse.ArgumentParser, Callable[..., argparse.ArgumentParser]]:
    """A parser of commands, and a function that adds one: `command(run, name, text)`."""
    parser = argparse.ArgumentParser(prog=program, description=description)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(run, name, text):
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        return added

    return parser, command


def _parser():
    called = Path(sys.argv[0]).stem
    program = called if called == __package__ else f"python -m {__package__}"
    parser, command = new_parser(program, __doc__)

    _add_compress(command(_compress, "compress", "share a model's weights; write one small file"))

    inspect = command(_inspect, "inspect", "print the size table of a compressed file")
    inspect.add_argument("file", metavar="FILE")

    evaluate = command(_evaluate, "evaluate", "print a compressed file's top-1 on labelled images")
    _add_file(evaluate)
    evaluate.add_argument(
        "--images",
        required=True,
        metavar="FOLDER|LIST.csv|package.module:function",
        help="a folder of a folder for each class; a list with the columns path and label; or a "
        "function that returns a torch dataset, or batches of inputs and labels",
    )
    evaluate.add_argument("--n-images", type=_positive, metavar="N", help="of all classes in turn")
    evaluate.add_argument("--batch-size", type=_positive, default=64, metavar="N")
    _add_preprocessing(evaluate)

    export = command(_export, "export", "write a compressed file as ONNX or Core ML, labels packed")
    _add_file(export)
    export.add_argument(
        "--input-shape",
        type=_shape,
        metavar="1,3,224,224",
        help="of the model's input; by default what torchvision or timm says of the model",
    )
    export.add_argument("--input-dtype", choices=DTYPES, default=DTYPES[0])
    export.add_argument("--out", type=_export_path, required=True, metavar="FILE.onnx|.mlpackage")
    return parser


def _add_compress(compress):
    compress.add_argument(
        "model",
        nargs="?",
        help="a name of torchvision.models, timm:NAME, package.module:function, or a checkpoint "
        "(with --arch)",
    )
    compress.add_argument("--arch", help="the model that a checkpoint is of")
    compress.add_argument(
        "--checkpoint",
        metavar="FILE.safetensors",
        help="in place of a model: compressed tensor by tensor, by the weights alone; may be "
        "larger than memory",
    )
    compress.add_argument(
        "--images",
        metavar="FOLDER|LIST.csv|package.module:function",
        help="pictures by which layers are compressed, a few hundred; without them, by k-means. "
        "--max-loss takes labelled ones, as `evaluate` does",
    )
    compress.add_argument("--n-images", type=_positive, default=256, metavar="N", help="(256)")
    target = compress.add_mutually_exclusive_group()
    target.add_argument("--bits", type=_bits, help="a weight; without images 2 ** BITS centers (4)")
    target.add_argument("--ratio", type=float, help="times smaller, of the layers; needs --images")
    target.add_argument(
        "--max-loss", type=float, metavar="POINTS", help="of top-1: the smallest; needs --images"
    )
    _add_preprocessing(compress)
    compress.add_argument(
        "--init",
        help=f"of k-means, a name in {__package__}.INITIALIZATIONS (weight-distribution; a "
        "checkpoint gets entropy-constrained cells without it)",
    )
    compress.add_argument("--layers", nargs="+", help="by default convolutions and linear layers")
    compress.add_argument("--rest", default="exact", choices=("exact", "float16"), help="all else")
    compress.add_argument("--out", required=True, metavar="FILE")


def _add_file(parser):
    parser.add_argument("file", metavar="FILE", help="that `compress` wrote")
    parser.add_argument("--arch", metavar="MODEL", help="by default what the file says of itself")


def _add_preprocessing(parser):
    steps = parser.add_argument_group(
        "preprocessing", "of a folder's or a list's pictures; by default what the model says"
    )
    steps.add_argument("--weights", default="DEFAULT", help="of torchvision, which say it")
    steps.add_argument("--transform", metavar="package.module:function", help="picture to tensor")
    steps.add_argument(
        "--size", type=_positive, help="of the shorter side; without --crop, of both"
    )
    steps.add_argument("--crop", type=_positive, help="side of the square in the middle")
    steps.add_argument("--mean", type=float, nargs="+", help="one number, or one for each channel")
    steps.add_argument("--std", type=float, nargs="+", help="likewise")
    steps.add_argument("--interpolation", help="nearest, bilinear, bicubic or lanczos")


# ------------------------------------------------------------------------ values of options


def _bits(text):
    try:
        bits = float(text)
    except ValueError:
        bits = 0.0
    if not 0 < bits <= 16:
        raise argparse.ArgumentTypeError(f"{text} must be from 1 to 16, or less with images")
    return bits


def _positive(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} must be a positive whole number")
    return int(text)


def _shape(text):
    sides = text.split(",")
    if not all(side.strip().isdecimal() and int(side) > 0 for side in sides):
        raise argparse.ArgumentTypeError(f"{text} must be positive whole numbers and commas")
    return tuple(map(int, sides))


def _export_path(text):
    if Path(text).suffix not in EXPORTS:
        raise argparse.ArgumentTypeError(f"{text} must end in {' or '.join(EXPORTS)}")
    return text


# ------------------------------------------------------------------------------- commands


def _compress(options):
    from . import compression, models

    if (options.model is None) == (options.checkpoint is None):
        raise ValueError("name a model, or give --checkpoint FILE.safetensors.")
    if options.checkpoint is not None:
        return _compress_checkpoint(options)
    model = models.resolve(options.model, arch=options.arch)
    name = options.arch or options.model
    made = _by_k_means(options, model) if options.images is None else _by_images(options, model)
    compression.save(made, options.out, rest=options.rest, about=name)
    return _inspect(argparse.Namespace(file=options.out))


def _compress_checkpoint(options):
    """Compress a file's tensors without a model."""
    from tqdm import tqdm

    from . import compression

    refused = ("images", "ratio", "max_loss", "layers")
    if given := [name for name in refused if getattr(options, name) is not None]:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ValueError(f"{names}: for a model, not for --checkpoint.")
    if options.rest != "exact":
        raise ValueError("--rest float16: for a model, not for --checkpoint.")
    bits = 4.0 if options.bits is None else options.bits
    how = {"init": options.init, "about": options.arch or "", "progress": tqdm}
    compression.compress_checkpoint(options.checkpoint, options.out, bits, **how)
    _inspect(argparse.Namespace(file=options.out))


def _by_k_means(options, model):
    """The model with layers shared by k-means, in place."""
    from . import sharing

    if options.ratio is not None or options.max_loss is not None:
        raise ValueError("--ratio and --max-loss need --images.")
    bits = 4 if options.bits is None else options.bits
    if bits not in range(1, 17):
        raise ValueError(f"--bits {bits:g} must be a whole number from 1 to 16 without --images.")
    return sharing.share_weights(
        model,
        2 ** int(bits),
        layers=options.layers,
        init=options.init or "weight-distribution",
        inplace=True,
        progress=True,
    ).model


def _by_images(options, model):
    """The model compressed by images; prints the table by layer, and what was lost on them."""
    from .compression.compressing import compress

    target = {name: getattr(options, name) for name in ("bits", "ratio", "max_loss")}
    if all(value is None for value in target.values()):
        raise ValueError("say how small: --bits, --ratio or --max-loss.")
    batches = _some_batches(options, model)
    if options.max_loss is not None:
        target["evaluate"] = lambda network: 100 * _top1(network, batches)
    inputs = [batch[0] for batch in batches]
    made = compress(model, inputs, layers=options.layers, progress=True, **target)
    print(made.report())
    _print_agreement(model, made.model, inputs)
    if _are_labelled(options):
        _print_loss(model, made.model, batches)
    return made.model


def _print_agreement(model, made, inputs):
    """Of how many inputs, which need no labels, the best class stayed the same."""
    import torch

    from . import evaluation

    with torch.no_grad():
        before = [(batch, model(batch).argmax(1)) for batch in inputs]
    right, n = evaluation.count_right(made, before)
    low, high = evaluation.wilson_interval(right, n)
    print(f"same top-1 as before: {100 * right / n:.2f} % [{low:.2f}, {high:.2f}] of {n:,} images")


def _print_loss(model, made, batches):
    """What was lost on labelled inputs, paired by input."""
    from . import evaluation

    before, after = (evaluation.right_ones(network, batches) for network in (model, made))
    loss, low, high = evaluation.paired_interval(before, after)
    print(
        f"top-1: {100 * before.double().mean():.2f} % before, {100 * after.double().mean():.2f} % "
        f"after; lost {loss:.2f} points [{low:.2f}, {high:.2f}] on {len(after):,} images"
    )


def _top1(network, batches):
    from . import evaluation

    right, n = evaluation.count_right(network, batches)
    return right / n


def _are_labelled(options):
    """Whether the images have labels: those of a folder need none unless a loss is asked for."""
    return options.max_loss is not None or not Path(options.images).expanduser().is_dir()


def _some_batches(options, model):
    """Batches of inputs and labels; of a folder that need not be labelled, without labels."""
    from . import evaluation

    name, folder = options.arch or options.model, Path(options.images).expanduser()
    if not _are_labelled(options):
        from . import images

        source = images.open_pictures(folder, transform=_prepared(options, name, model).transform)
        source = source.first(options.n_images)
    else:
        source = _images(options, name, model)
    found, n = [], 0
    for batch in evaluation.batches_of(source):
        found.append(batch)
        n += len(batch[1])
        if n >= options.n_images:
            break
    return found


def _inspect(options):
    from . import compression

    print(compression.size_table(options.file))


def _evaluate(options):
    from . import evaluation

    name, model = _load(options)
    batches = evaluation.batches_of(_images(options, name, model), options.batch_size)
    n_right, n = evaluation.count_right(model, batches, options.n_images)
    low, high = evaluation.wilson_interval(n_right, n)
    print(f"top-1 {100 * n_right / n:.2f} % [{low:.2f}, {high:.2f}] on {n:,} images")


def _images(options, name, model):
    """The labelled images that the options name: a dataset, or batches."""
    from . import models

    steps = _steps(options)
    if ":" in options.images and not Path(options.images).exists():
        if given := [f"--{step}" for step, value in steps.items() if value is not None]:
            raise ValueError(f"{', '.join(given)}: {options.images} prepares its own inputs.")
        return models.function_of(options.images)()
    from . import images

    prepared = _prepared(options, name, model)
    if not Path(options.images).expanduser().exists():
        raise ValueError(f"{options.images} is no folder, list or package.module:function.")
    source = "folder" if Path(options.images).expanduser().is_dir() else "csv"
    found = images.open_images(
        source, options.images, transform=prepared.transform, categories=prepared.categories
    )
    return found.first(options.n_images)


def _steps(options):
    steps = ("transform", "size", "crop", "mean", "std", "interpolation")
    return {step: getattr(options, step) for step in steps}


def _prepared(options, name, model):
    """The preprocessing of pictures, which is printed."""
    from . import preprocessing

    found = preprocessing.preprocessing(name, model, weights=options.weights, **_steps(options))
    print(f"preprocessing: {found}")
    return found


def _export(options):
    import torch

    from . import compression

    name, model = _load(options, shared=True)
    shape = options.input_shape or _input_shape(name, model)
    inputs = torch.zeros(shape, dtype=getattr(torch, options.input_dtype))
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


def _input_shape(name, model):
    from . import preprocessing

    said = preprocessing.said_by(name, model)
    if said is None:
        raise ValueError(f"{name} does not say the shape of its input: give --input-shape.")
    return (1, 3, said.steps.side, said.steps.side)


def _load(options, **how):
    """The name and the model of a file. What a file says of itself does not run anyone's code."""
    from . import compression, models

    name = options.arch or compression.about(options.file)
    if options.arch is None and ":" in name:
        raise ValueError(f"{options.file} is of {name!r}: say so, if you trust it: --arch {name}")
    model = models.resolve(name, weights=None)
    return name, compression.load(options.file, model, **how).eval()


if __name__ == "__main__":
    sys.exit(main())
