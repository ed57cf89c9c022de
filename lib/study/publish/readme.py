"""Rewrite the blocks of README and documentation from the committed tables.

A block stands between ``<!-- name -->`` and ``<!-- /name -->``. Its name is one of `BLOCKS`, or an
experiment and a table, as in ``full/layers``: the block then has what papers print of that table.
"""

import re

from .. import paths, tables
from .blocks import BLOCKS, table_block

BLOCK = re.compile(r"(<!-- ([\w/]+) -->\n).*?(<!-- /\2 -->)", re.S)


def pages():
    """Paths of all pages that may have blocks."""
    readmes = [paths.ROOT / "README.md", paths.ROOT / "results/README.md"]
    return [*readmes, *sorted((paths.ROOT / "docs").glob("*.md"))]


def update(text):
    """Text of a page with every block written anew.

    Raises
    ------
    ValueError
        For a block of an unknown name.
    """
    return BLOCK.sub(lambda match: f"{match[1]}{_block(match[2])}{match[3]}", text)


def _block(name):
    experiment, _, table = name.partition("/")
    if table in tables.TABLES and tables.TABLES[table].paper:
        return table_block(experiment, table)
    if name not in BLOCKS:
        raise ValueError(
            f"no block is named {name!r}: choose from {', '.join(BLOCKS)}, or name an experiment "
            "and a table, as in full/layers."
        )
    return BLOCKS[name]()
