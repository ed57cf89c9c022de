"""Rows of the bench, on peers that are always installed."""

import time

import numpy as np
import pandas as pd
import pytest

from lib.study.experiment import bench, peers
from lib.study.experiment.network import alexnet
from lib.study.tables import TABLES

ALWAYS = [peers.COPY, peers.OURS, peers.OPTIMAL, "scikit-learn", "scikit-learn, our start"]


@pytest.fixture(scope="module")
def rows():
    peers.require(ALWAYS)
    race = bench.Race("small", peers.heavy_tailed(5000), ALWAYS)
    return pd.DataFrame(race.rows(4, repeats=2) + race.rows(9, repeats=2))


def test_rows_have_the_columns_of_the_table(rows):
    assert set(rows) == set(TABLES["bench"].columns)
    assert len(rows) == len(ALWAYS) * 2 * 2
    assert (rows["seconds"] > 0).all()
    assert (rows["n_weights"] == 5000).all()


def test_no_peer_is_better_than_the_bound_and_ours_is_on_it(rows):
    inertia = rows.set_index(["peer", "n_clusters"])["relative_inertia"]
    assert inertia[peers.COPY].isna().all()
    others = inertia.drop(peers.COPY)
    assert (others >= 1).all()
    assert (others[peers.OPTIMAL] < 1 + 1e-9).all()  # few weights: the optimum is exact
    own, theirs = others[peers.OURS], others["scikit-learn, our start"]
    np.testing.assert_allclose(own.groupby("n_clusters").first(), 1, rtol=0.2)
    np.testing.assert_allclose(theirs.groupby("n_clusters").first(), 1, rtol=0.2)


def test_repeats_are_interleaved(rows):
    order = rows[rows["n_clusters"] == 4][["repeat", "peer"]].to_numpy().tolist()
    assert order == [[repeat, peer] for repeat in (0, 1) for peer in ALWAYS]


def test_a_slow_peer_gets_fewer_weights(monkeypatch):
    def slow(weights, k):
        time.sleep(len(weights) * 2e-5)
        return np.zeros(k)

    monkeypatch.setitem(peers.PEERS, "slow", peers.Peer("numpy", slow))
    weights = peers.heavy_tailed(1_000_000)
    race = bench.Race("large", weights, ["slow"])
    chosen = race._array("slow", 2)
    assert len(chosen) in (20_000, 50_000)  # about a second
    assert not np.array_equal(chosen, weights[: len(chosen)])
    assert np.isin(chosen, weights).all()
    fast = peers.Peer("numpy", lambda weights, k: np.zeros(k))
    monkeypatch.setitem(peers.PEERS, "slow", fast)
    assert len(race._array("slow", 2)) == len(weights)


def test_a_peer_whose_tables_would_be_too_large_gets_fewer_weights(monkeypatch):
    hungry = peers.Peer("numpy", lambda weights, k: np.zeros(k), bytes_per_cell=16)
    monkeypatch.setitem(peers.PEERS, "hungry", hungry)
    race = bench.Race("large", peers.heavy_tailed(1_000_000), ["hungry"])
    assert len(race._array("hungry", 2)) == 1_000_000
    assert len(race._array("hungry", 1000)) == 200_000


@pytest.mark.parametrize(("number", "rounded"), [(1, 1), (19, 10), (20, 20), (99_999, 50_000)])
def test_rounded(number, rounded):
    assert bench._rounded(number) == rounded


def test_memory_is_that_of_the_call():
    def allocate(size):
        return np.ones(size << 17).sum()  # so many MiB

    for size in (64, 256):
        _, _, peak = bench.measured(allocate, size)
        assert np.isnan(peak) or abs(peak / 2**20 - size) < 16


def test_unknown_and_missing_peers_are_named(monkeypatch):
    with pytest.raises(ValueError, match="'fastest' is unknown: choose from copy"):
        peers.require(["fastest"])
    monkeypatch.setitem(peers.PEERS, "absent", peers.Peer("no_such_package", None))
    with pytest.raises(ModuleNotFoundError, match=r"'no_such_package'.*requirements-bench\.txt"):
        peers.require(["absent"])


@pytest.mark.parametrize("weighted", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_rows_of_a_matrix_are_raced_against_their_exact_optima(monkeypatch, weighted):
    def first_values(weights, k, importance):
        centers = np.sort(weights, axis=1)[:, :k]
        return centers, np.abs(weights[:, :, None] - centers[:, None]).argmin(axis=2)

    monkeypatch.setitem(peers.ROW_PEERS, peers.FLASH, first_values)
    monkeypatch.delitem(peers.ROW_PEERS, peers.FLASH_SORTED)
    race = bench.RowsRace(peers.NORMAL, (8, 300), weighted)
    rows = pd.DataFrame(race.rows(4, repeats=1)).set_index("peer")
    assert set(rows.reset_index()) == set(TABLES["bench"].columns)
    assert (rows["n_weights"] == 2400).all()
    assert rows.loc[peers.OPTIMAL, "relative_inertia"] == 1
    assert 1 <= rows.loc[peers.OURS, "relative_inertia"] < 1.2
    assert rows.loc[peers.FLASH, "relative_inertia"] > 2


def test_a_short_call_is_timed_by_the_mean_of_many():
    calls = []
    _, seconds, _ = bench.measured(lambda: (calls.append(0), time.sleep(0.001)))
    assert len(calls) > 5
    assert 0.001 <= seconds < bench.SHORT


@pytest.mark.slow
def test_ratios_are_of_two_calls_in_turn():
    rng = np.random.default_rng(0)
    layers = {
        "conv1": rng.normal(size=(4, 3, 5, 5)).astype(np.float32),
        "conv2": rng.normal(size=(8, 4, 5, 5)).astype(np.float32),
        "fc6": rng.normal(size=(60, 70)).astype(np.float32),
    }
    rows = pd.DataFrame(bench.ratio_rows(layers, 4, repeats=2))
    assert set(rows) == set(TABLES["ratios"].columns)
    assert list(dict.fromkeys(rows["case"])) == [
        "all layers",
        "all layers, optimal",
        "fc6, weighted",
        "conv2, a codebook a channel",
    ]
    assert rows["n_weights"].tolist() == [5300, 5300] * 2 + [4200] * 2 + [800] * 2
    np.testing.assert_allclose(rows["ratio"], rows["seconds"] / rows["against_seconds"])
    assert (rows.groupby("case")["ratio"].median()["all layers"]) > 1


def test_gaps():
    rows = pd.DataFrame(bench.gap_rows({"small": peers.heavy_tailed(20_000)}, [2, 16]))
    assert set(rows) == set(TABLES["gaps"].columns)
    assert (rows["bound"] <= rows["inertia"]).all()
    np.testing.assert_allclose(rows["gap"], rows["inertia"] / rows["bound"] - 1)
    assert (rows["gap"] < 1e-5).all()


def test_heavy_tailed_is_the_same_every_time():
    first = peers.heavy_tailed(1000)
    np.testing.assert_array_equal(first, peers.heavy_tailed(1000))
    assert first.dtype == np.float32
    assert np.abs(first).max() > 6 * np.quantile(np.abs(first), 0.68)


def test_races_are_of_every_array_and_number_of_centers(monkeypatch):
    raced = []

    class Raced(bench.Race):
        def rows(self, n_clusters, repeats):
            raced.append((self.name, len(self.weights), n_clusters, repeats))
            return [n_clusters]

    monkeypatch.setattr(bench, "Race", Raced)
    arrays = bench.arrays_of(None, 50)
    assert bench.race_rows(arrays, [peers.HEAVY_TAILED], ["copy"], [2, 4], 3) == [2, 4]
    assert bench.growth_rows([10, 20], ["copy"], [4, 16], 3) == [4, 4, 16]
    assert raced == [
        ("heavy-tailed", 50, 2, 3),
        ("heavy-tailed", 50, 4, 3),
        ("heavy-tailed, growth", 10, 4, 3),
        ("heavy-tailed, growth", 20, 4, 3),
        ("heavy-tailed, growth", 20, 16, 3),
    ]


def test_arrays_and_weights_are_the_layers_own():
    network = alexnet()
    weight = network.features[0].weight
    flat = bench.arrays_of(network, 1)("conv1")
    np.testing.assert_array_equal(flat, weight.numpy().reshape(-1))
    assert bench.layer_weights(network, ["conv1"])["conv1"].shape == weight.shape
