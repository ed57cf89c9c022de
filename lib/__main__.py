"""Command line: ``python -m lib reproduce [EXPERIMENT] [--only NAME] [--force]``, ``readme``."""

import argparse
import signal
import sys

from . import readme, results, runs


def main(arguments=None):
    """Run a command; return its exit status, errors told in one line."""
    parser = argparse.ArgumentParser(prog="python -m lib", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    reproduce = commands.add_parser("reproduce", help="run an experiment's notebooks")
    reproduce.add_argument("experiment", nargs="?", default="embedded")
    reproduce.add_argument("--only", metavar="NAME", help="stop after this notebook")
    reproduce.add_argument("--force", action="store_true", help="run what is up to date, too")
    commands.add_parser("readme", help="rewrite the README's numbers from the committed tables")
    options = parser.parse_args(arguments)
    # So that a terminated run, like an interrupted one, ends its kernel first.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        if options.command == "readme":
            results.write_atomically(readme.PATH, readme.update(readme.PATH.read_text()))
        else:
            runs.reproduce(options.experiment, only=options.only, force=options.force)
    except (runs.ParameterError, runs.NotebookFailed, RuntimeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the next call goes on where this one stopped", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
