"""What the records of the tables say: any table, and the meaning of every column."""

from ... import paths, tables
from ...experiment.words import listed
from ...provenance import read_manifest
from ...tables.comparison import COMMITTED, stated
from ...tables.records import MEANINGS

HEADS = ["Column", "Meaning"]


def table_block(experiment, name):
    """What papers print of a table, and its caption."""
    record = tables.TABLES[name]
    heads, rows, _ = tables.for_readers(record.paper(tables.read_table(experiment, name)))
    return f"{tables.markdown(heads, rows)}\n{record.caption}\n"


def columns_block():
    """Meaning of every column, and how a run's rows are compared with the committed ones."""
    shared = tables.markdown(HEADS, [[f"`{name}`", text] for name, text in MEANINGS.items()])
    sections = "".join(_columns(record) for record in tables.TABLES.values())
    return f"Columns of several tables:\n\n{shared}{sections}"


def _columns(record):
    """The section of one table."""
    own = [
        [", ".join(f"`{name}`" for name in names.split()), meaning]
        for names, meaning in record.meanings.items()
        if meaning is not tables.SHARED
    ]
    keys = ", ".join(f"`{name}`" for name in record.key_columns)
    agreeing = " Those that follow from the committed convolutions must agree on every machine."
    return (
        f"\n### `{record.name}.csv`\n\n{record.caption} Each row is {record.row}.\n\n"
        f"{tables.markdown(HEADS, own)}\n"
        f"Rows of equal {keys} are compared: {stated(record.tolerances) or 'no column'}."
        f"{agreeing * (record.must_agree is not None)}\n"
    )


def commits_block():
    """Which commit each committed experiment's results are of, in one line."""
    found = [
        f"`{name}` of commit {read_manifest(name)['code']['commit'][:7]}"
        for name in COMMITTED
        if (paths.results_folder(name) / "manifest.json").exists()
    ]
    return (
        f"Committed results: {listed(found)}. `.venv/bin/python -m lib.study stale` lists what of "
        "the code they come from has changed since.\n"
    )
