"""Points that run, fail, hang, die, are interrupted and go on; pools, clusters, two at once."""

import json
import os
import signal
import subprocess
import sys
import time

import distributed
import pandas as pd
import psutil
import pytest

from lib import results, runs, sweep
from lib.sweep import SweepError

TWENTY = """\
notebook: toy
grid: {seed: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]}
points:
  - {seed: 17, how: badly}
  - {seed: 18, how: killed}
  - {seed: 19, how: slowly}
resources: {workers: 4, timeout: 20}
"""
REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(results.__file__)))


def start(repository, path, *arguments):
    """The command line on the small repository, in a process of its own."""
    code = (
        "import pathlib, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from lib import __main__, results; "
        f"results.ROOT = pathlib.Path({str(repository)!r}); "
        f"sys.exit(__main__.main({['sweep', str(path), *arguments]!r}))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )


def done_of(plan):
    return [point for point in plan.points if plan.is_done(point)]


def wait_for(condition, seconds=60):
    for _ in range(10 * seconds):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("it did not happen")


def kernels(repository):
    """Processes that still work for the small repository."""
    alive = []
    for path in repository.glob("results/sweeps/*/points/*/work.pid"):
        pid = int(path.read_text())
        if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie":
            alive.append(pid)
    return alive


def executions(repository):
    """How often each point's executed notebook or log was written: inode of its record."""
    return {
        path: path.stat().st_mtime_ns
        for path in repository.glob("results/sweeps/*/points/*/.records/*.json")
    }


@pytest.mark.slow
def test_twenty_points_of_which_three_fail(repository, make_sweep, capsys):
    plan = sweep.load_sweep(make_sweep(TWENTY))
    assert sweep.run_sweep(plan) == {"done": 17, "failed": 3}
    printed = capsys.readouterr()
    assert "17 of 20 points done, 3 failed" in printed.out
    for message in (
        "ValueError: it was to fail; executed copy: ",
        "toy failed: its kernel died",
        "toy failed: it ran out of its time",
    ):
        assert message in printed.err
    assert not kernels(repository)
    bad = results.results_folder(plan.points[17].experiment)
    assert "it was to fail" in (bad / "notebooks/toy.failed.ipynb").read_text()
    good = results.results_folder(plan.points[3].experiment)
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

    before = executions(repository)
    assert sweep.run_sweep(plan) == {"done": 17, "failed": 3}  # the failed ones are tried again
    assert executions(repository) == before


@pytest.mark.slow
def test_a_retry_helps_what_fails_once(repository, make_sweep):
    text = "notebook: toy\npoints: [{how: once}]\nresources: {retries: 1}\n"
    assert sweep.run_sweep(sweep.load_sweep(make_sweep(text))) == {"done": 1}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_sweep_leaves_no_kernel_and_goes_on(repository, make_sweep, number):
    path = make_sweep(
        "notebook: toy\ngrid: {seed: [0, 1, 2, 3, 4, 5]}\n"
        "points: [{seed: 9, how: slowly}]\nresources: {workers: 3}\n"
    )
    plan = sweep.load_sweep(path)
    process = start(repository, path)
    slow = results.results_folder(plan.points[-1].experiment) / "work.pid"
    wait_for(lambda: slow.exists() and len(done_of(plan)) >= 2)
    process.send_signal(number)
    process.wait(30)
    wait_for(lambda: not kernels(repository), 10)
    assert not plan.is_done(plan.points[-1])
    wait_for(lambda: sweep.status(plan)[0]["running"] == 0, 10)
    assert sweep.status(plan)[0]["failed"] == 0
    before = executions(repository)

    short = sweep.load_sweep(make_sweep(path.read_text().replace("[{seed: 9, how: slowly}]", "[]")))
    assert sweep.run_sweep(short) == {"done": 6}
    again = executions(repository)
    assert before.items() <= again.items()  # nothing was done twice


@pytest.mark.slow
def test_two_sweeps_in_one_folder_share_the_work(repository, make_sweep):
    path = make_sweep("notebook: toy\ngrid: {seed: [0, 1, 2, 3, 4, 5]}\n")
    both = [start(repository, path, "--workers", "2") for _ in range(2)]
    printed = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert all("6 of 6 points done" in text for text in printed)
    assert len(executions(repository)) == 6


@pytest.mark.slow
def test_the_command_line(repository, make_sweep, capsys):
    from lib import __main__ as command_line

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

    monkeypatch.setattr("lib.sweep.point.write_atomically", full)
    plan = sweep.load_sweep(make_sweep("notebook: toy\ngrid: {seed: [0, 1]}\n"))
    with pytest.raises(OSError, match="No space left"):
        sweep.run_sweep(plan)
    assert not done_of(plan)


@pytest.fixture(scope="module")
def cluster():
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=50
    ) as found:
        yield found


class TestDask:
    @pytest.fixture
    def at_home(self, cluster, repository):
        """Tell the workers where the small repository is."""

        def move(root):
            results.ROOT = root

        with distributed.Client(cluster) as client:
            before = results.ROOT
            client.run(move, repository)
            yield cluster.scheduler_address
            client.run(move, before)

    @pytest.mark.slow
    def test_points_run_on_a_cluster_and_go_on_anywhere(self, at_home, repository, make_sweep):
        path = make_sweep(TWENTY)
        plan = sweep.load_sweep(path)
        assert sweep.run_sweep(plan, scheduler=at_home) == {"done": 17, "failed": 3}
        before = executions(repository)
        assert sweep.run_sweep(plan) == {"done": 17, "failed": 3}
        assert executions(repository) == before
        assert not kernels(repository)

    @pytest.mark.slow
    def test_a_killed_client_is_resumed_by_another(self, at_home, repository, make_sweep):
        path = make_sweep(TWENTY)
        plan = sweep.load_sweep(path)
        process = start(repository, path, "--scheduler", at_home)
        wait_for(lambda: len(done_of(plan)) >= 3)
        process.kill()
        process.wait()
        assert sweep.run_sweep(plan, scheduler=at_home) == {"done": 17, "failed": 3}
        assert not kernels(repository)

    @pytest.mark.slow
    def test_a_killed_worker_loses_nothing(self, at_home, repository, make_sweep):
        path = make_sweep("notebook: toy\ngrid: {seed: [0, 1, 2, 3, 4, 5]}\n")
        plan = sweep.load_sweep(path)
        process = start(repository, path, "--scheduler", at_home)
        wait_for(lambda: len(done_of(plan)) >= 1)
        kernel = psutil.Process(next(iter(kernels_until(repository))))
        kernel.parent().parent().kill()  # the worker, which started papermill
        process.wait(120)
        assert sweep.run_sweep(plan)["done"] == 6
        wait_for(lambda: not kernels(repository), 10)

    def test_workers_of_several_threads_are_refused(self, repository, make_sweep):
        plan = sweep.load_sweep(make_sweep("notebook: toy\ngrid: {seed: [0]}\n"))
        with (
            distributed.LocalCluster(
                n_workers=1, threads_per_worker=3, processes=False, dashboard_address=":0"
            ) as found,
            pytest.raises(SweepError, match="start them with --nthreads 1"),
        ):
            sweep.run_sweep(plan, scheduler=found.scheduler_address)

    def test_no_scheduler_is_one_error(self, repository, make_sweep):
        plan = sweep.load_sweep(make_sweep("notebook: toy\ngrid: {seed: [0]}\n"))
        with pytest.raises(SweepError, match="no Dask scheduler at tcp://127"):
            sweep.run_sweep(plan, scheduler="tcp://127.0.0.1:1")


def kernels_until(repository):
    found = []
    wait_for(lambda: found.extend(kernels(repository)) or found)
    return found


def test_collected_values_of_points(repository, make_sweep):
    from lib.sweep.collect import _scalar

    assert [_scalar(value) for value in (3, [3], ["a"], [1, 2], [[1]], None)] == [
        3,
        3,
        "a",
        "[1, 2]",
        "[[1]]",
        None,
    ]
    assert json.loads(_scalar({"a": 1})) == {"a": 1}


def test_a_lock_is_free_once_its_block_ends(repository):
    folder = repository / "results/somewhere"
    with runs.alone(folder):
        child = subprocess.Popen(["sleep", "30"], close_fds=False)
        with pytest.raises(runs.FolderBusy), runs.alone(folder):
            pass
    try:
        with runs.alone(folder):
            pass
    finally:
        child.kill()
        child.wait()
