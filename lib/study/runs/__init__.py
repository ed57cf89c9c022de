"""Notebook runs: parameters checked, executed, recorded, and skipped when up to date."""

from ...files import FolderBusy, folder_lock
from .. import paths, provenance
from ..tables import comparison
from .execution import NotebookFailed, fresh_record, run_notebook
from .freshness import fingerprint, imported_modules
from .parameters import (
    Experiment,
    ParameterError,
    check_parameters,
    declared_parameters,
    load_experiment,
    notebook_path,
)

__all__ = [
    "Experiment",
    "FolderBusy",
    "NotebookFailed",
    "ParameterError",
    "check_parameters",
    "declared_parameters",
    "fingerprint",
    "folder_lock",
    "fresh_record",
    "imported_modules",
    "load_experiment",
    "notebook_path",
    "reproduce",
    "run_notebook",
]


def reproduce(experiment, only=None, force=False):
    """Run what is not up to date, then write the manifest and compare the tables.

    Parameters
    ----------
    experiment : str
    only : str, optional
        Stop after this notebook; those before it run only if they are out of date.
    force : bool, default=False
        Run all of them, or `only` that one, even if up to date.

    Raises
    ------
    ParameterError, NotebookFailed
        Finished notebooks stay finished: the next call goes on where this one stopped.
    """
    plan = load_experiment(experiment)
    names = list(plan.notebooks)
    print(f"{experiment}: {plan.description}; {len(names)} notebooks", flush=True)
    if only is not None and only not in names:
        raise ParameterError(f"{experiment} has no notebook {only!r}; it has {', '.join(names)}")
    last = names.index(only) + 1 if only else len(names)
    folder = paths.results_folder(experiment)
    with folder_lock(folder):
        records, prints = {}, _fingerprints(plan)
        began_with = {"finished": [], "cached": provenance.cached()}
        for name in names[:last]:
            forced = force and only in (None, name)
            record = None if forced else fresh_record(experiment, name, prints[name])
            if record:
                print(f"{name}  up to date", flush=True)
                began_with["finished"].append(name)
            else:
                # An old manifest would describe tables that are about to change.
                (folder / "manifest.json").unlink(missing_ok=True)
                print(f"{name}  runs", flush=True)
                record = run_notebook(
                    notebook_path(name), plan.notebooks[name], experiment, prints[name]
                )
                print(f"{name}  done in {record['seconds']:.0f} s", flush=True)
            records[name] = record
        if last == len(names):
            if not (folder / "manifest.json").exists():  # otherwise nothing ran
                provenance.write_manifest(experiment, records, plan.notebooks, began_with)
            comparison.compare_tables(experiment)


def _fingerprints(plan):
    prints = {}
    for name, parameters in plan.notebooks.items():
        prints[name] = fingerprint(notebook_path(name), parameters, list(prints.values()))
    return prints
