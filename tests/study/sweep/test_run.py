"""Points that run, fail, hang, die, are interrupted and go on; pools, clusters, two at once."""

import concurrent.futures
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import dask
import distributed
import pandas as pd
import psutil
import pytest
from processes import Command, is_running, pid_in, start_server, wait_for

from lib.study import paths, runs, sweep
from lib.study.runs import execution
from lib.study.sweep import SweepError, point

TWENTY = """\
notebook: toy
grid: {{seed: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]}}
points:
  - {{seed: 17, how: badly}}
  - {{seed: 18, how: killed}}
  - {{seed: 19, how: slowly}}
resources: {{workers: 4, timeout: {timeout}}}
"""


@pytest.fixture
def twenty(executor):
    """A sweep of twenty points: one fails, one kills its kernel, one runs out of its time."""
    return TWENTY.format(timeout=60 if executor == "papermill" else 8)


def start(repository, path, *arguments):
    """Start a sweep of the small repository in a process of its own."""
    return Command(repository, "sweep", str(path), *arguments)


def done_of(plan):
    return [point for point in plan.points if plan.is_done(point)]


def kernels(repository):
    """Processes that still work for the small repository."""
    found = map(pid_in, repository.glob("results/sweeps/*/points/*/work.pid"))
    return [pid for pid in found if pid and is_running(pid)]


def records(repository):
    """When each finished point's record was written."""
    return {
        path: path.stat().st_mtime_ns
        for path in repository.glob("results/sweeps/*/points/*/.records/*.json")
    }


def executions(repository):
    """How often each point's notebook was started, as it wrote down itself."""
    return Counter((repository / "executions.txt").read_text().split())


def test_twenty_points_of_which_three_fail(repository, make_sweep, twenty, capsys):
    plan = sweep.load_sweep(make_sweep(twenty))
    assert sweep.run_sweep(plan) == {"done": 17, "failed": 3}
    printed = capsys.readouterr()
    assert "17 of 20 points done, 3 failed" in printed.out
    for message in (
        "ValueError: it was to fail; executed copy: ",
        "toy failed: its kernel died",
        "toy failed: it reached its time limit",
    ):
        assert message in printed.err
    assert not kernels(repository)
    bad = paths.results_folder(plan.points[17].experiment)
    assert "it was to fail" in (bad / "notebooks/toy.failed.ipynb").read_text()
    good = paths.results_folder(plan.points[3].experiment)
    assert (good / "where.txt").exists()  # a working directory of its own
    assert sweep.status(plan)[0] == {"done": 17, "running": 0, "failed": 3, "waiting": 0}

    table = pd.read_parquet(plan.folder / "tables/toy.parquet")
    assert sorted(table["value"]) == [10 * seed for seed in range(17)]
    assert (table["value"] == 10 * table["sweep.seed"]).all()
    assert (table["threads"] == 1).all()
    assert set(table["point"]) == {point.id for point in done_of(plan)}
    text = pd.read_csv(plan.folder / "tables/toy.csv")
    commit = ["sweep.commit"]  # none here: the small repository is none of git's
    pd.testing.assert_frame_equal(
        text.drop(columns=commit), table.drop(columns=commit), check_dtype=False
    )

    assert sweep.run_sweep(plan) == {"done": 17, "failed": 3}  # the failed ones are tried again
    assert executions(repository) == {
        point.experiment: 1 + (point.varied["seed"] > 16) for point in plan.points
    }


def test_points_run_by_papermill_itself(repository, make_sweep, capsys):
    text = "notebook: toy\npoints: [{seed: 1}, {how: killed}]\n"
    plan = sweep.load_sweep(make_sweep(text))
    assert sweep.run_sweep(plan) == {"done": 1, "failed": 1}
    assert "toy failed: its kernel died" in capsys.readouterr().err
    table = pd.read_parquet(plan.folder / "tables/toy.parquet")
    assert table[["value", "threads"]].to_numpy().tolist() == [[10, 1]]
    assert (paths.results_folder(plan.points[0].experiment) / "where.txt").exists()


def test_a_retry_helps_what_fails_once(executor, repository, make_sweep):
    text = "notebook: toy\npoints: [{how: once}]\nresources: {retries: 1}\n"
    assert sweep.run_sweep(sweep.load_sweep(make_sweep(text))) == {"done": 1}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_sweep_leaves_no_kernel_and_goes_on(executor, repository, make_sweep, number):
    path = make_sweep(
        "notebook: toy\ngrid: {seed: [0, 1, 2, 3, 4, 5]}\n"
        "points: [{seed: 9, how: slowly}]\nresources: {workers: 3}\n"
    )
    plan = sweep.load_sweep(path)
    command = start(repository, path)
    slow = paths.results_folder(plan.points[-1].experiment) / "work.pid"
    wait_for(lambda: slow.exists() and len(done_of(plan)) >= 2)
    command.send(number)
    assert command.wait() == (-number if number == signal.SIGKILL else 128 + number)
    wait_for(lambda: not kernels(repository), 10)
    assert not plan.is_done(plan.points[-1])
    wait_for(lambda: sweep.status(plan)[0]["running"] == 0, 10)
    assert sweep.status(plan)[0]["failed"] == 0
    before = records(repository)

    short = sweep.load_sweep(make_sweep(path.read_text().replace("[{seed: 9, how: slowly}]", "[]")))
    assert sweep.run_sweep(short) == {"done": 6}
    again = records(repository)
    assert before.items() <= again.items()  # nothing was done twice


def test_two_sweeps_in_one_folder_share_the_work(executor, repository, make_sweep):
    path = make_sweep("notebook: toy\ngrid: {seed: [0, 1, 2, 3, 4, 5]}\n")
    both = [start(repository, path, "--workers", "2") for _ in range(2)]
    assert [command.wait() for command in both] == [0, 0]
    assert all("6 of 6 points done" in command.printed for command in both)
    assert executions(repository) == {
        point.experiment: 1 for point in sweep.load_sweep(path).points
    }


def test_the_command_line(executor, repository, make_sweep, capsys):
    from lib.study import __main__ as command_line

    path = make_sweep("notebook: toy\ngrid: {seed: [3, 4]}\n")
    assert command_line.main(["sweep", str(path), "--dry-run"]) == 0
    assert "2 points of toy" in capsys.readouterr().out
    assert command_line.main(["sweep", str(path), "--point", "1"]) == 0
    assert command_line.main(["sweep", "status", str(path)]) == 0
    assert "1 done, 0 running, 0 failed, 1 waiting" in capsys.readouterr().out
    assert command_line.main(["sweep", str(path), "--slurm"]) == 0
    assert capsys.readouterr().out.startswith("#!/bin/bash")
    assert command_line.main(["sweep", str(path), "--point", "2"]) == 1
    assert "toy-sweep has points 0 to 1" in capsys.readouterr().err
    assert command_line.main(["sweep", "look", str(path)]) == 1
    path = make_sweep("notebook: toy\npoints: [{how: badly}]\n")
    assert command_line.main(["sweep", str(path)]) == 1


def test_a_folder_that_cannot_be_written_is_one_error(repository, make_sweep):
    plan = sweep.load_sweep(make_sweep("notebook: toy\ngrid: {seed: [0, 1]}\n"))
    plan.folder.parent.mkdir(parents=True)
    plan.folder.write_text("a file, so that even root cannot write into it")
    with pytest.raises(OSError, match=r"cannot write .*toy-sweep"):
        sweep.run_sweep(plan)


def test_a_full_disk_ends_the_sweep(repository, make_sweep, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    # For want of a small disk; the next test needs no pretence.
    monkeypatch.setattr("lib.study.sweep.point.write_atomically", full)
    plan = sweep.load_sweep(make_sweep("notebook: toy\ngrid: {seed: [0, 1]}\n"))
    with pytest.raises(OSError, match="No space left"):
        sweep.run_sweep(plan)
    assert not done_of(plan)


def test_a_folder_lost_meanwhile_ends_the_sweep_and_what_is_done_stays(
    executor, repository, make_sweep
):
    path = make_sweep(
        "notebook: toy\npoints: [{seed: 0}, {how: taking the folder away}, {seed: 2}]\n"
    )
    plan = sweep.load_sweep(path)
    with pytest.raises(OSError, match=r"cannot write .*toy-sweep/points"):
        sweep.run_sweep(plan, workers=1)
    (plan.folder / "points").unlink()
    shutil.copytree(repository / "aside", plan.folder / "points")
    assert done_of(plan) == plan.points[:1]
    assert sweep.run_sweep(plan, workers=1) == {"done": 3}
    assert list(executions(repository).values()) == [1, 2, 1]


@pytest.mark.slow
def test_the_accuracy_notebook_swept_with_its_figure(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RESULTS", str(tmp_path / "results"))
    path = tmp_path / "accuracy.yaml"
    path.write_text(
        "first:\n  01-train: {epochs: 1, n_images: 200, n_held_out: 100, n_test: 50}\n"
        "notebook: 04-accuracy\nparameters: {bits: [], budgets: [20], n_images: 50}\n"
        "grid: {inits: [[linear], [weight-distribution]], endpoint_bits: [2, 3, 4]}\n"
        "tables: [accuracy]\n"
        "figure: {table: accuracy, x: bits, y: top1, hue: init, column: scope}\n"
    )
    plan = sweep.load_sweep(path)
    assert sweep.run_sweep(plan) == {"done": 6}, capsys.readouterr().err
    table = pd.read_parquet(plan.folder / "tables/accuracy.parquet")
    shared = table[table["init"] != "none"].dropna(subset="bits")
    assert (shared["bits"] == shared["sweep.endpoint_bits"]).all()
    assert (shared["init"] == shared["sweep.inits"]).all()
    settings = shared.groupby(["init", "bits", "scope"]).size()
    assert len(settings) == 12
    assert (settings == 1).all()
    assert (table["n_images"] == 50).all()
    for suffix in ("pdf", "png"):
        assert (plan.folder / f"figures/accuracy-top1.{suffix}").stat().st_size > 1000
    figure = (plan.folder / "notebooks/compare.ipynb").read_text()
    assert "6 points, " in figure


@pytest.fixture(scope="module")
def cluster():
    """Two workers, forked from the server that has the packages imported."""
    start_server()
    with (
        dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=50
        ) as found,
    ):
        yield found


class TestDask:
    @pytest.fixture
    def at_home(self, cluster, executor, repository):
        """Tell the workers where the small repository is, those too that are started later."""

        class Home(distributed.WorkerPlugin):
            def setup(self, worker):
                os.environ["PYTHONPATH"] = path
                self.before, paths.ROOT = paths.ROOT, repository

            def teardown(self, worker):
                paths.ROOT = self.before

        path = os.environ.get("PYTHONPATH", "")
        with distributed.Client(cluster) as client:
            client.register_plugin(Home(), name="home")
            yield cluster.scheduler_address
            client.unregister_worker_plugin("home")

    @pytest.mark.slow
    def test_points_run_on_a_cluster_and_go_on_anywhere(
        self, at_home, repository, make_sweep, twenty
    ):
        plan = sweep.load_sweep(make_sweep(twenty))
        assert sweep.run_sweep(plan, scheduler=at_home) == {"done": 17, "failed": 3}
        before = records(repository)
        assert sweep.run_sweep(plan) == {"done": 17, "failed": 3}
        assert records(repository) == before
        assert not kernels(repository)

    def test_a_retry_helps_what_fails_once(self, at_home, repository, make_sweep):
        text = "notebook: toy\npoints: [{how: once}, {how: badly}]\nresources: {retries: 1}\n"
        plan = sweep.load_sweep(make_sweep(text))
        assert sweep.run_sweep(plan, scheduler=at_home) == {"done": 1, "failed": 1}
        assert list(executions(repository).values()) == [2, 2]

    @pytest.mark.slow
    def test_a_client_killed_twice_is_resumed(self, at_home, repository, make_sweep, twenty):
        path = make_sweep(twenty)
        plan = sweep.load_sweep(path)
        for least in (3, 8):
            command = start(repository, path, "--scheduler", at_home)
            wait_for(lambda least=least: len(done_of(plan)) >= least)
            command.send(signal.SIGKILL)
            command.wait()
        assert len(done_of(plan)) < 17
        assert sweep.run_sweep(plan, scheduler=at_home) == {"done": 17, "failed": 3}
        assert {executions(repository)[point.experiment] for point in plan.points[:17]} == {1}
        assert not kernels(repository)

    def test_a_second_client_shares_the_work(self, at_home, repository, make_sweep):
        path = make_sweep(f"notebook: toy\ngrid: {{seed: {list(range(16))}}}\n")
        plan = sweep.load_sweep(path)
        first = start(repository, path, "--scheduler", at_home)
        wait_for(lambda: done_of(plan))
        second = start(repository, path, "--scheduler", at_home)
        assert [first.wait(), second.wait()] == [0, 0]
        assert all("16 of 16 points done" in command.printed for command in (first, second))
        assert re.search(r"\d of 16 points, 2 Dask workers", second.printed)  # some were left
        assert executions(repository) == {point.experiment: 1 for point in plan.points}

    def test_a_killed_worker_loses_nothing(self, at_home, repository, make_sweep):
        path = make_sweep("notebook: toy\ngrid: {seed: [0, 1, 2, 3, 4, 5]}\n")
        plan = sweep.load_sweep(path)
        command = start(repository, path, "--scheduler", at_home)
        wait_for(lambda: len(done_of(plan)) >= 1)
        kernel = psutil.Process(wait_for(lambda: kernels(repository))[0])
        kernel.parent().parent().kill()  # the worker, which started papermill
        assert command.wait() == 0
        assert "6 of 6 points done" in command.printed
        assert len(done_of(plan)) == 6
        wait_for(lambda: not kernels(repository), 10)

    def test_a_point_that_kills_its_workers_fails_alone(self, at_home, repository, make_sweep):
        path = make_sweep("notebook: toy\ngrid: {seed: [0, 1, 2]}\npoints: [{how: deadly}]\n")
        plan = sweep.load_sweep(path)
        assert sweep.run_sweep(plan, scheduler=at_home) == {"done": 3, "failed": 1}
        assert done_of(plan) == plan.points[:3]

    def test_workers_of_several_threads_are_refused(self, repository, make_sweep):
        plan = sweep.load_sweep(make_sweep("notebook: toy\ngrid: {seed: [0]}\n"))
        with (
            distributed.LocalCluster(
                n_workers=1, threads_per_worker=3, processes=False, dashboard_address=":0"
            ) as found,
            pytest.raises(SweepError, match="start them with --nthreads 1"),
        ):
            sweep.run_sweep(plan, scheduler=found.scheduler_address)

    def test_a_worker_of_several_threads_that_comes_later_is_refused(self, repository, make_sweep):
        plan = sweep.load_sweep(make_sweep("notebook: toy\ngrid: {seed: [0]}\n"))
        with distributed.LocalCluster(
            n_workers=0, threads_per_worker=3, processes=False, dashboard_address=":0"
        ) as found:
            threading.Timer(1, found.scale, (1,)).start()
            with pytest.raises(SweepError, match="start them with --nthreads 1"):
                sweep.run_sweep(plan, scheduler=found.scheduler_address)

    def test_threads_that_a_worker_has_not_are_refused(self, repository, make_sweep):
        text = "notebook: toy\ngrid: {seed: [0]}\nresources: {threads: 2}\n"
        plan = sweep.load_sweep(make_sweep(text))
        with pytest.raises(SweepError, match="threads: 2, but a Dask worker has one"):
            sweep.run_sweep(plan, scheduler="tcp://127.0.0.1:1")

    def test_a_missing_file_of_the_scheduler_is_named(self, repository, make_sweep):
        plan = sweep.load_sweep(make_sweep("notebook: toy\ngrid: {seed: [0]}\n"))
        with pytest.raises(SweepError, match=r"no Dask scheduler's file .*nothing\.json"):
            sweep.run_sweep(plan, scheduler_file=repository / "nothing.json")

    def test_a_lost_scheduler_is_named(self, repository, make_sweep):
        plan = sweep.load_sweep(make_sweep("notebook: toy\ngrid: {seed: [0]}\n"))
        file = repository / "scheduler.json"
        command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--port", "0"]
        command += ["--host", "127.0.0.1", "--dashboard-address", ":0", "--scheduler-file", file]
        scheduler = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        wait_for(file.exists)
        threading.Timer(3, scheduler.kill).start()
        with (
            dask.config.set({"distributed.comm.timeouts.connect": "2s"}),
            pytest.raises(SweepError, match=r"the Dask scheduler at .*scheduler\.json was lost"),
        ):
            sweep.run_sweep(plan, scheduler_file=file)
        scheduler.wait()

    def test_no_scheduler_is_one_error(self, repository, make_sweep, monkeypatch):
        monkeypatch.setattr("lib.study.sweep.run.ANSWERS_WITHIN", 0.5)
        plan = sweep.load_sweep(make_sweep("notebook: toy\ngrid: {seed: [0]}\n"))
        with pytest.raises(SweepError, match="no Dask scheduler at tcp://127"):
            sweep.run_sweep(plan, scheduler="tcp://127.0.0.1:1")


@pytest.mark.parametrize(
    ("names", "column"),
    [
        ("[[3], [4]]", [3, 4]),
        ("[[3], [3, 4]]", ["[3]", "[3, 4]"]),
        ("[[20], [20, null]]", ["[20]", "[20, null]"]),
        ("[[3], [[1]]]", ["[3]", "[[1]]"]),
        ("[[3], [a]]", ["3", "a"]),
        ("[[3], [0.5]]", [3, 0.5]),
    ],
)
def test_collected_lists(repository, make_sweep, stub, names, column):
    plan = sweep.load_sweep(make_sweep(f"notebook: toy\ngrid: {{names: {names}}}\n"))
    assert sweep.run_sweep(plan) == {"done": 2}
    table = pd.read_parquet(plan.folder / "tables/toy.parquet")
    assert table["sweep.names"].tolist() == column


def test_collected_parameters_are_those_of_every_point(repository, make_sweep, stub):
    text = "notebook: toy\nparameters: {how: well}\ngrid: {seed: [0, 1]}\npoints: [{rate: 0.5}]\n"
    plan = sweep.load_sweep(make_sweep(text.replace("rate: 0.5", "seed: 2, rate: 0.5")))
    assert sweep.run_sweep(plan) == {"done": 3}
    table = pd.read_parquet(plan.folder / "tables/toy.parquet")
    assert table["sweep.seed"].tolist() == [0, 1, 2]
    assert table["sweep.rate"].tolist() == [0.1, 0.1, 0.5]  # the first two by the notebook
    assert table["sweep.how"].tolist() == ["well"] * 3


def test_failures_are_told_though_collecting_fails(
    repository, make_sweep, stub, monkeypatch, capsys
):
    def fails(_):
        raise ValueError("no table")

    monkeypatch.setattr("lib.study.sweep.run.collect", fails)
    plan = sweep.load_sweep(make_sweep("notebook: toy\npoints: [{seed: 1}, {how: badly}]\n"))
    with pytest.raises(ValueError, match="no table"):
        sweep.run_sweep(plan)
    printed, bad = capsys.readouterr(), plan.points[1].id
    assert f"failed: {bad} {{'how': 'badly'}}: toy failed" in printed.err
    last = printed.out.splitlines()[-1]
    assert "1 of 2 points done, 1 failed" in last
    assert last.endswith(bad)


def test_a_sweep_stopped_before_a_point_starts_does_not_start_it(
    repository, make_sweep, stub, monkeypatch
):
    plan = sweep.load_sweep(make_sweep("notebook: toy\npoints: [{seed: 1}]\n"))
    monkeypatch.setattr(point, "provenance", lambda: point.STOPPING.set() or {})
    try:
        assert sweep.run_point("toy", plan.points[0]) == {"state": "stopped"}
        with runs.folder_lock(paths.results_folder(plan.points[0].experiment)):  # nor waits for it
            assert sweep.run_point("toy", plan.points[0], wait=True) == {"state": "stopped"}
    finally:
        point.STOPPING.clear()
    assert not stub


def test_what_starts_while_a_sweep_is_stopped_is_ended_and_nothing_else(
    repository, make_sweep, monkeypatch
):
    started, ended = threading.Event(), []

    def late(*_, **__):
        started.set()
        point.STOPPING.wait(10)
        time.sleep(0.5)  # the first look finds nothing to end
        command = [sys.executable, "-c", "import time; time.sleep(30)", execution.GUARDED]
        ended.append(subprocess.Popen(command).wait())
        raise runs.NotebookFailed("ended")

    def interrupted(_):
        started.wait(10)
        raise KeyboardInterrupt

    monkeypatch.setattr(point, "run_notebook", late)
    monkeypatch.setattr("lib.study.sweep.run.as_completed", interrupted)
    plan = sweep.load_sweep(make_sweep("notebook: toy\npoints: [{seed: 1}]\n"))
    other = subprocess.Popen(["sleep", "60"])
    try:
        with pytest.raises(KeyboardInterrupt):
            sweep.run_sweep(plan)
        assert ended == [-signal.SIGKILL]
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()
    assert not point.STOPPING.is_set()
    assert sweep.status(plan)[0]["waiting"] == 1


class Elsewhere(concurrent.futures.ThreadPoolExecutor):
    """Workers whose files show here after a while, or never."""

    after = None

    def submit(self, run):
        if self.after is not None:
            threading.Timer(self.after, run).start()
        return super().submit(lambda: {"state": "done"})


def test_a_record_may_show_late(repository, make_sweep, stub, monkeypatch):
    monkeypatch.setattr("lib.study.sweep.run.ThreadPoolExecutor", Elsewhere)
    monkeypatch.setattr(Elsewhere, "after", 1)
    plan = sweep.load_sweep(make_sweep("notebook: toy\npoints: [{seed: 1}]\n"))
    assert sweep.run_sweep(plan) == {"done": 1}


def test_a_record_that_never_shows_is_an_error(repository, make_sweep, monkeypatch):
    monkeypatch.setattr("lib.study.sweep.run.ThreadPoolExecutor", Elsewhere)
    monkeypatch.setattr("lib.study.sweep.run.SHOWN_WITHIN", 0.1)
    plan = sweep.load_sweep(make_sweep("notebook: toy\npoints: [{seed: 1}]\n"))
    with pytest.raises(SweepError, match="was done where this folder is not"):
        sweep.run_sweep(plan)


def test_half_a_notebook_is_its_points_failure(repository, make_sweep, monkeypatch):
    def killed(notebook, output, *_, **__):
        output.write_text('{"cells": [{"cell_')
        return -signal.SIGKILL

    monkeypatch.setattr(execution, "_papermill", killed)
    plan = sweep.load_sweep(make_sweep("notebook: toy\ngrid: {seed: [1, 2]}\n"))
    assert sweep.run_sweep(plan) == {"done": 0, "failed": 2}
    failure = paths.results_folder(plan.points[0].experiment) / "failed.json"
    assert "its executed copy is incomplete" in json.loads(failure.read_text())["message"]


def test_a_kernel_finds_what_the_reader_put_on_the_path(repository, make_sweep, monkeypatch):
    class Started(Exception):
        pass

    def started(command, env, **_):
        raise Started(env["PYTHONPATH"])

    monkeypatch.setenv("PYTHONPATH", "/of/the/reader")
    monkeypatch.setattr(execution.subprocess, "Popen", started)
    with pytest.raises(Started, match=f"^{repository}:/of/the/reader$"):
        execution._papermill(repository / "notebooks/toy.ipynb", repository / "out", {}, None)


def test_sources_changed_meanwhile_fail_the_point(repository, make_sweep, stub, monkeypatch):
    papermill = execution._papermill

    def edited(*arguments, **options):
        with open(repository / "lib/helper.py", "a") as file:
            file.write("# edited\n")
        return papermill(*arguments, **options)

    monkeypatch.setattr(execution, "_papermill", edited)
    path = make_sweep("notebook: toy\ngrid: {seed: [1, 2]}\n")
    plan = sweep.load_sweep(path)
    assert sweep.run_sweep(plan, workers=1) == {"done": 0, "failed": 2}
    assert len(stub) == 1  # the second is not begun
    assert not done_of(plan)
    failure = paths.results_folder(plan.points[0].experiment) / "failed.json"
    assert "changed since the sweep was started" in json.loads(failure.read_text())["message"]
    monkeypatch.setattr(execution, "_papermill", papermill)
    assert sweep.run_sweep(sweep.load_sweep(path)) == {"done": 2}


def test_files_of_one_name_in_two_folders_are_kept_apart(repository, make_sweep, stub):
    path = make_sweep("notebook: toy\npoints: [{seed: 1}]\n")
    sweep.run_sweep(sweep.load_sweep(path))
    other = repository / path.name
    other.write_text("notebook: toy\npoints: [{seed: 2}]\n")
    with pytest.raises(SweepError, match=r"has the results of notebooks/sweeps/toy-sweep\.yaml"):
        sweep.run_sweep(sweep.load_sweep(other))
    path.unlink()  # it was moved
    assert sweep.run_sweep(sweep.load_sweep(other)) == {"done": 1}


def test_more_threads_than_cores_are_told(repository, make_sweep, stub, capsys):
    text = "notebook: toy\npoints: [{seed: 1}]\nresources: {workers: 64, threads: 8}\n"
    sweep.run_sweep(sweep.load_sweep(make_sweep(text)))
    assert "warning: 64 workers x 8 threads > " in capsys.readouterr().err


def test_the_bar_shows_what_runs(repository, make_sweep, stub, monkeypatch):
    shown = []
    monkeypatch.setattr(
        "lib.study.sweep.run.tqdm.set_postfix_str", lambda bar, text: shown.append(text)
    )
    plan = sweep.load_sweep(make_sweep("notebook: toy\ngrid: {seed: [0, 1, 2]}\n"))
    sweep.run_sweep(plan, workers=2)
    assert shown == ["2 running", "1 done, 2 running", "2 done, 1 running", "3 done"]


def test_a_lock_is_free_once_its_block_ends(repository):
    folder = repository / "results/somewhere"
    with runs.folder_lock(folder):
        child = subprocess.Popen(["sleep", "30"], close_fds=False)
        with pytest.raises(runs.FolderBusy), runs.folder_lock(folder):
            pass
    try:
        with runs.folder_lock(folder):
            pass
    finally:
        child.kill()
        child.wait()
