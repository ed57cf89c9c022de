"""Sweep files: what is refused before anything runs, points, their names, SLURM."""

import subprocess

import nbformat
import pytest

from lib.study import sweep
from lib.study.runs import ParameterError
from lib.study.sweep import SweepError


def ids(plan):
    return [point.id for point in plan.points]


def test_a_grid_is_expanded_in_order_and_points_follow(repository, make_sweep):
    plan = sweep.load_sweep(
        make_sweep(
            "notebook: toy\nparameters: {rate: 0.5}\n"
            "grid: {seed: [0, 1], names: [[a], [a, b]]}\npoints:\n  - {seed: 7}\n"
        )
    )
    assert [point.varied for point in plan.points] == [
        {"seed": 0, "names": ["a"]},
        {"seed": 0, "names": ["a", "b"]},
        {"seed": 1, "names": ["a"]},
        {"seed": 1, "names": ["a", "b"]},
        {"seed": 7},
    ]
    first = plan.points[0]
    assert first.experiment == f"sweeps/toy-sweep/points/{first.id}"
    assert first.parameters == {"rate": 0.5, "experiment": first.experiment} | first.varied
    assert len(set(ids(plan))) == 5
    assert plan.folder == repository / "results/sweeps/toy-sweep"


def test_a_points_name_follows_all_that_it_depends_on(repository, make_sweep):
    text = "notebook: toy\nparameters: {rate: 0.5}\ngrid: {seed: [0]}\n"
    before = ids(sweep.load_sweep(make_sweep(text)))
    assert ids(sweep.load_sweep(make_sweep(f"description: other words\n{text}"))) == before
    assert ids(sweep.load_sweep(make_sweep(text.replace("0.5", "0.25")))) != before
    assert ids(sweep.load_sweep(make_sweep(f"{text}first: {{before: {{}}}}\n"))) != before
    (repository / "lib/unused.py").write_text("x = 1\n")
    assert ids(sweep.load_sweep(make_sweep(text))) == before
    for file in ("lib/helper.py", "data/SHA256SUMS", "requirements.txt"):
        path = repository / file
        path.write_text(path.read_text() + "# changed\n")
        assert ids(sweep.load_sweep(make_sweep(text))) != before, file
        before = ids(sweep.load_sweep(make_sweep(text)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("grid: {seed: [0]}", r"toy-sweep.yaml, line 1: the keys \['notebook'\] are missing"),
        ("notebook: toi", "unknown notebook 'toi'; the notebooks are before, toy"),
        ("notebook: toy", "it has no points"),
        (
            "notebook: toy\ngird: {seed: [0]}",
            r"line 2: unknown keys \['gird'\]: choose",
        ),
        ("notebook: toy\ngrid: {sed: [0]}", r"unknown parameter 'sed' \(did you mean 'seed'"),
        ("notebook: toy\ngrid: {seed: [zero]}", "seed must be int, got 'zero'"),
        (
            "notebook: toy\ngrid: {seed: []}",
            r"grid.seed: a list of values is needed, got \[\]",
        ),
        ("notebook: toy\ngrid: {seed: 3}", "line 2: grid.seed: a list of values is needed, got 3"),
        ("notebook: toy\ngrid: [seed]", "grid: a mapping is needed"),
        ("notebook: toy\npoints: {seed: 1}", "points: a list of mappings is needed"),
        ("notebook: toy\ngrid: {seed: [1, 1]}", r'two points are equal: {"seed": 1}'),
        (
            "notebook: toy\ngrid: {seed: [1, 2]}\npoints: [{seed: 2}]",
            r'two points are equal: {"seed": 2}',
        ),
        (
            "notebook: toy\nparameters: {seed: 1}\ngrid: {seed: [2]}",
            r"\['seed'\] are in `parameters:` and in a point",
        ),
        ("notebook: toy\ngrid: {experiment: [a]}", "the sweep sets `experiment` itself"),
        (
            "notebook: toy\ngrid: {seed: [1]}\nresources: {cores: 2}",
            r"line 3: resources: unknown keys \['cores'\]: choose from workers, threads",
        ),
        (
            "notebook: toy\ngrid: {seed: [1]}\nresources: {workers: 0}",
            "line 3: resources.workers: a whole number of at least 1 is needed, got 0",
        ),
        ("notebook: toy\ngrid: {seed: [1]}\nfirst: {befor: {}}", "unknown notebook 'befor'"),
        ("notebook: toy\ngrid: {seed: [1]}\nfigure: {hew: a}", "unknown parameter 'hew'"),
        (
            "notebook: toy\ngrid: {seed: [0, 5]}\npoints: [{rate: 0.1}]",
            r'two points are equal: {"rate"',
        ),
        ("notebook: toy\ngrid: {rate: [1, 1.0]}", r'two points are equal: {"rate": 1.0}'),
        (
            "notebook: toy\ngrid: {seed: [1]}\nfirst: {before: {experiment: full}}",
            "line 3: the sweep sets `experiment` itself",
        ),
        (
            "notebook: toy\ngrid: {seed: [1]}\nfigure: {experiment: full}",
            "line 3: the sweep sets `experiment` itself",
        ),
        ("notebook: toy\ngrid: {seed: [1]}\ntables: accuracy", "tables: a list of names of tables"),
        ("notebook: toy\ngrid: {seed: [1]}\ntables: [1]", r"tables.0: 1 is unknown: choose from"),
        (
            "notebook: toy\ngrid: {seed: [1]}\ntables: [acuracy]",
            "line 3: tables.0: 'acuracy' is unknown: choose from claims",
        ),
        ("notebook: [toy", "line 1: this is not YAML"),
        (
            "notebook: toy\ngrid:\n  seed: [1]\n  seed: [2]",
            'toy-sweep.yaml, line 4: found duplicate key "seed"',
        ),
        ("notebook: toy\ngrid: {seed: [1]}\nparameters:\n  rat: 1", "line 4: toy: unknown paramet"),
        ("notebook: toy\npoints:\n  - seed: 1\n  - sed: 2", "line 4: toy: unknown parameter 'sed'"),
    ],
)
def test_what_cannot_run_is_refused(repository, make_sweep, text, message):
    with pytest.raises(ParameterError, match=message):
        sweep.load_sweep(make_sweep(text))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SweepError, match=r"cannot read .*nothing\.yaml: No such file"):
        sweep.load_sweep(tmp_path / "nothing.yaml")


def test_an_array_job_runs_the_same_command_for_each_point(repository, make_sweep):
    path = make_sweep(
        "notebook: toy\ngrid: {seed: [0, 1, 2]}\nresources: {threads: 4, timeout: 90, retries: 1}\n"
    )
    lines = sweep.array_script(sweep.load_sweep(path), at_once=2).splitlines()
    assert lines[0] == "#!/bin/bash"
    assert "#SBATCH --array=0-2%2" in lines
    assert "#SBATCH --cpus-per-task=4" in lines
    assert "#SBATCH --time=8" in lines  # minutes: two attempts of 90 s, and 5 to start
    assert f"cd {repository}" in lines
    assert point_of(lines, SLURM_ARRAY_TASK_ID="2") == f"-m lib.study sweep {path} --point 2"
    assert not any("beforehand" in line or "FROM=" in line for line in lines)


def point_of(lines, **environment):
    """The arguments of Python that a task of the array is run with."""
    script = "\n".join(lines).replace("exec ", "echo ")
    shown = subprocess.check_output(["bash", "-c", script], env=environment, text=True)
    return shown.strip().partition(" ")[2]


def test_an_array_job_says_what_comes_first_and_how_to_submit_the_rest(repository, make_sweep):
    path = make_sweep(
        f"notebook: toy\nfirst: {{before: {{}}}}\ngrid: {{seed: {list(range(2001))}}}\n"
    )
    lines = sweep.array_script(sweep.load_sweep(path)).splitlines()
    assert "#SBATCH --array=0-999%100" in lines
    assert "#   FROM=1000 sbatch --array=0-999%100 sweep.sh" in lines
    assert "#   FROM=2000 sbatch --array=0-0%1 sweep.sh" in lines
    assert sum("FROM=" in line for line in lines) == 2
    assert point_of(lines, FROM="1000", SLURM_ARRAY_TASK_ID="7").endswith("--point 1007")
    before = next(line for line in lines if line.startswith("#   cd "))
    assert before.endswith(f"-m lib.study sweep {path} --point 0")


def test_a_notebook_is_read_once_for_all_points(repository, make_sweep, monkeypatch):
    path = make_sweep(f"notebook: toy\ngrid: {{seed: {list(range(100))}}}\n")
    read, opened = nbformat.read, []
    monkeypatch.setattr(nbformat, "read", lambda *a, **k: opened.append(a) or read(*a, **k))
    assert len(sweep.load_sweep(path).points) == 100
    assert len(opened) < 10


def test_settings_of_a_slurm_cluster_make_a_script():
    from dask_jobqueue import SLURMCluster

    cluster = SLURMCluster(
        cores=1, processes=1, memory="4GB", walltime="01:00:00", scheduler_options={"port": 0}
    )
    try:
        script = cluster.job_script()
    finally:
        cluster.close()
    assert "#SBATCH --cpus-per-task=1" in script
    assert "--nthreads 1" in script
