"""Sentences about tables whose truth is known, written by hand."""

import numpy as np
import pandas as pd
import pytest

from lib.study import tables
from lib.study.experiment import readings
from lib.study.experiment.recipes import losses
from lib.study.experiment.words import beside, bits_of, listed, lost, span

OURS = "weight-distribution"


def test_words():
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert span([1.04, 2.5, 1.3]) == "1.0 to 2.5"
    assert span([1.04, 0.96]) == "1.0"  # written alike
    assert span([-0.01, 0.01]) == "0.0"  # without a sign
    assert [lost(0.5), lost(-0.5)] == ["0.50 points lost", "0.50 points gained"]
    assert [beside(2.0, "x"), beside(-2.0, "x")] == ["2.0 points above x", "2.0 points below x"]
    assert [bits_of(1), bits_of(3.0)] == ["1 bit", "3 bits"]


def test_only_the_last_epoch_has_a_test_accuracy():
    training = pd.DataFrame({"network": ["a", "a"], "test_top1": [np.nan, 88.5]})
    assert readings.float_accuracy(training) == (
        "In this run top-1 on the test images is 88.50 % (a)."
    )


@pytest.mark.parametrize(
    ("correlation", "left"), [(0.02, "hardly anything"), (-0.3, "part"), (0.987, "much")]
)
def test_what_is_left_of_the_initializer_is_judged_by_the_correlation(correlation, left):
    columns = {"layer": ["fc6"], "correlation_with_init": [correlation], "kurtosis": [3.0]}
    text = readings.learned(pd.DataFrame(columns))
    assert f"{left} in fc6 (correlation {abs(correlation):.2f}, excess kurtosis 3.0)" in text


def test_the_farthest_weight_is_counted_in_standard_deviations():
    # Of a uniform density from -4 to 8: 6 over the root of 12.
    uniform = {"layer": "a", "weight": [-4.0, 0.0, 8.0], "density": [1 / 12, 1 / 12, 0.0]}
    # 99 % uniform from -1 to 1, 1 % from 1 to 99: mean 0.5, mean square 33.3.
    heavy = {"layer": "b", "weight": [-1.0, 1.0, 99.0], "density": [0.495, 0.01 / 98, 0.0]}
    text = readings.tails(pd.concat([pd.DataFrame(uniform), pd.DataFrame(heavy)]))
    assert text.endswith("standard deviations is 2 in a and 17 in b.")


def test_centers_of_the_bulk_are_counted():
    density = pd.DataFrame(
        {"layer": "a", "weight": [0.0, 1.0, 101.0], "density": [0.999, 1e-5, 0.0]}
    )
    centers = {"initial": [0.5, 25, 50, 75], "final": [0.2, 0.4, 0.8, 60]}
    rows = [
        {"layer": "a", "init": "linear", "gamma": np.nan, "bits": 2, "stage": stage, "center": c}
        for stage, values in centers.items()
        for c in values
    ]
    text = readings.spread(density, pd.DataFrame(rows))
    assert "at 2 bits" in text
    assert text.endswith("linear 25 → 75 %.")


def speed_rows(values, **columns):
    """Rows of `speed` from (init, layer, value) for one column."""
    usual = {"engine": "sorted", "bits": 4, "max_iter": np.nan, "seed": 0, "repeat": 0}
    usual |= {"extrapolated": True, "converged": True}
    return pd.DataFrame(
        [
            dict.fromkeys(tables.TABLES["speed"].columns)
            | usual
            | {"init": init, "layer": layer, "revise": init == OURS}
            | dict.fromkeys(columns["into"], value)
            for init, layer, value in values
        ]
    )


def test_ours_is_ranked_among_all_but_the_optimal_centers():
    numbers = {"conv1": (5, 9, 7), "conv2": (9, 5, 7), "conv3": (9, 8, 7)}
    values = [
        (init, layer, n)
        for layer, three in numbers.items()
        for init, n in zip((OURS, "linear", "random"), three, strict=True)
    ]
    values += [("optimal", layer, 1) for layer in numbers]
    text = readings.iterations(speed_rows(values, into=["n_iter"]), 4)
    assert "the fewest iterations in 1 of 3 layers and the second fewest in 0." in text


def test_inertia_is_of_each_initialization_as_it_is_by_default():
    rows = speed_rows(
        [(OURS, "a", 1.0), (OURS, "b", 1.02), ("linear", "a", 2.5)], into=["relative_inertia"]
    ).assign(max_iter=20)
    usual = "In this run, after 20 iterations, the inertia over the optimal one is 1.00 to 1.02 "
    usual += "from weight-distribution and 2.50"
    assert readings.inertia(rows, 4, 20) == f"{usual} from linear."
    revised = rows[rows["init"] == "linear"].assign(revise=True, relative_inertia=1.1)
    text = readings.inertia(pd.concat([rows, revised]), 4, 20)
    assert text == f"{usual} from linear. With revision it is 1.10 from linear."


def test_time_may_be_more_and_the_optimum_may_stay_far():
    values = [(OURS, "conv1", 3.0), ("random", "conv1", 4.0), ("linear", "conv1", 2.0)]
    whole = speed_rows(values, into=["seconds"]).assign(engine="textbook")
    near = whole.assign(
        engine="textbook, to 1 % of optimal", seconds=1.0, converged=whole["init"] != "linear"
    )
    text = readings.textbook_time(pd.concat([whole, near]), 4)
    assert "takes 25 % less time than random and 50 % more time than linear to the last" in text
    assert "0 % less time than random and 0 % less time than linear to within 1 %" in text
    assert text.endswith("Starts that never come that near: linear (conv1).")
    text = readings.textbook_time(pd.concat([whole, near.assign(converged=True)]), 4)
    assert text.endswith("that near: none.")


def accuracy_rows(top1, **columns):
    """Rows of `accuracy` by initialization: 88 for the float network."""
    usual = {"network": "net", "scope": "conv", "bits": 4, "max_iter": 20, "seed": 0}
    usual |= {"n_images": 100}
    return pd.DataFrame(
        [
            usual
            | columns
            | {"init": init, "revise": init == OURS, "top1": value}
            | {"top1_drop": 88 - value}
            for init, value in top1.items()
        ]
    )


def test_points_between_the_best_and_the_worst_are_of_the_longest_budget():
    converged = accuracy_rows({OURS: 80.0, "linear": 84.0}, max_iter=np.nan)
    table = pd.concat([accuracy_rows({OURS: 70.0, "linear": 10.0}), converged])
    text = readings.accuracy(table, 100)
    assert "In this run, converged and in `conv`" in text
    assert "initialization are 4.0 at 4 bits." in text
    assert text.endswith("below the float network: 4.0 at 4 bits.")
    assert "after 20 iterations" in readings.accuracy(table[table["max_iter"] == 20], 100)


def test_ours_may_be_above_one_baseline_and_below_another():
    table = accuracy_rows({OURS: 84.0, "random": 82.0, "linear": 85.0})
    text = readings.endpoint(table, 4, 100)
    line = "- `conv`, after 20 iterations: 2.0 points above random and 1.0 points below linear"
    assert text == f"In this run {OURS} is:\n\n{line}"
    revised = accuracy_rows({"random": 86.0, "linear": 86.0}).assign(revise=True)
    text = readings.endpoint(pd.concat([table, revised]), 4, 100)
    assert text.endswith("2.0 points below random and 2.0 points below linear")


@pytest.mark.parametrize(
    ("verdicts", "said"),
    [
        (["supported", "supported"], "*supported* in 2 of 2 judged rows"),
        (["left open", "left open"], "*left open* in 2 of 2 judged rows"),
        (
            ["contradicted", "supported in part"],
            "*contradicted* in 1 of 2 judged rows and *supported in part* in 1 of 2 judged rows",
        ),
        ([None, "supported in part"], "*supported in part* in 1 of 1 judged rows"),
        ([None, None], "not judged"),
    ],
)
def test_every_verdict_is_said_with_its_rows(verdicts, said):
    table = claimed(claim="C1, counted", verdict=verdicts, measured=[16.0, -25.0])
    assert readings.claims(table) == (
        f"In this run:\n\n- C1, counted: {said}; -25.0 to 16.0 % of the operations saved"
    )


def test_claims_of_time_and_accuracy_have_their_units():
    kinds, gains = ["C1, counted", "C1, timed", "C2"], [4.0, 3.0, 2.0]
    table = claimed(claim=kinds, verdict="supported in part", measured=gains)
    text = readings.claims(table, 5)
    assert "4.0 % of the operations saved" in text
    assert "3.0 % of the time saved" in text
    assert text.endswith("2.0 points of top-1 gained")


def claimed(**columns):
    return pd.DataFrame({"scope": "conv", "network": "net"} | columns)


def test_what_stands_on_one_seed_or_one_network_is_said():
    table = claimed(
        claim=["C1, counted", "C1, counted"],
        scope=["conv", "all"],
        verdict=["supported in part", None],
        measured=1,
    )
    text = readings.claims(table, 1)
    assert "C2 stands on one seed" in text
    assert "C1 in `all` is that of one trained network" in text
    assert "one" not in readings.claims(table.assign(network="together"), 2)


def test_operations_are_summed_over_the_convolutions():
    table = pd.DataFrame(
        {
            "layer": ["conv1", "conv2", "conv1", "conv1", "fc6"],
            "init": ["linear", "linear", "random", "random", "random"],
            "seed": [0, 0, 0, 1, 0],
            "operations": [1e9, 2e9, 4e9, 5e9, 1e12],
        }
    )
    assert readings.operations(table) == (
        "In this run the convolutions take, in billions of operations, 3.0 from linear and "
        "4.0 to 5.0 from random (4.5 on average over 2 seeds)."
    )


def test_peers_are_compared_on_equally_many_weights():
    rows = [
        ("ours, weight-distribution", 100, 1.0, 1.01),
        ("ours, optimal", 100, 4.0, 1.0),
        ("copy", 100, 0.1, np.nan),
        ("faiss", 100, 2.0, 1.2),
        ("faiss", 10, 0.01, 1.2),  # on fewer weights: compared with nothing
    ]
    columns = ["peer", "n_weights", "seconds", "relative_inertia"]
    table = pd.DataFrame(rows, columns=columns).assign(array="a", n_clusters=4)
    text = readings.peers(table)
    assert "*ours, weight-distribution*: faster in 1 of 1 cases, 2.0 times as fast" in text
    assert "*ours, optimal*: faster in 0 of 1 cases, 0.5 times as fast" in text
    assert "at most 1.0100 times the bound" in text


def test_the_worst_gap_and_every_ratio():
    gaps = pd.DataFrame({"layer": ["a", "b"], "n_clusters": [4, 16], "gap": [1e-9, 2e-5]})
    assert readings.gaps(gaps) == "In this run the gap is at most 2.0e-05, in b at 16 centers."
    ratios = pd.DataFrame({"case": "all", "against": "a copy", "ratio": [9.0, 10.0, 99.0]})
    assert readings.ratios(ratios).endswith("- all: 10.0 times a copy")


def test_the_chosen_file_of_each_kind_or_none():
    table = pd.DataFrame(
        {
            "scope": ["conv", "all", "all"],
            "retrained": [False, False, True],
            "file": ["a", "b", "c"],
            "ratio": [8.0, 50.0, 100.0],
            "method": "k-means",
            "top1_drop": [0.5, 3.0, -0.1],
            "drop_low": [0.2, 2.0, -0.4],
            "drop_high": [0.8, 4.0, 0.2],
            "held_out_drop": 9.0,
            "held_out_low": 8.0,
            "held_out_high": 10.0,
        }
    )
    chosen = table[["scope", "retrained", "file"]].assign(chosen=[True, False, True])
    text = readings.frontier(table.assign(low=88.0, high=89.0), chosen, losses(table))
    assert "- `conv` without training: 8.0 times smaller, loses 0.50 [0.20, 0.80]\n" in text
    assert "- `all` without training: none" in text
    assert text.endswith("- `all` with training: 100.0 times smaller, loses -0.10 [-0.40, 0.20]")


def test_bytes_of_the_classifier_are_the_rest():
    table = pd.DataFrame(
        {
            "layer": ["all convolutions", "all layers"],
            "n_weights": [100, 1000],
            "bytes": [50, 100],
            "bits_per_weight": [4.0, 0.8],
        }
    )
    text = readings.sizes(table)
    assert "90 % of the weights and 50 % of the bytes, 0.44 bits a weight" in text
    assert "the convolutions take 4.00 bits a weight" in text
    assert readings.sizes(table[1:]) == "In this run the shared layers take 0.80 bits a weight."


def test_retraining_is_compared_before_and_after():
    rows = [("linear", 0, 80.0), ("linear", 1, 83.0), (OURS, 0, 82.0), (OURS, 1, 82.5)]
    table = pd.DataFrame(rows, columns=["init", "epoch", "test_top1"])
    text = readings.retraining(table.assign(way="centers trained", bits=2))
    line = "2 bits: 2.00 before and 0.50 after retraining, which adds 0.50 to 3.00"
    assert text.endswith(f"- centers trained, {line}")


def test_errors_are_compared_at_the_same_step():
    error = {"k-means": [1.0, 0.1], "uniform": [0.8, 0.05], "entropy-constrained": [0.8, 0.04]}
    rows = [(cells, value) for cells, values in error.items() for value in values]
    table = pd.DataFrame(rows, columns=["cells", "relative_distortion"]).assign(layer="a")
    text = readings.rates(table)
    assert "leave 0.50 to 0.80 times the error of k-means" in text
    assert "cells 0.80 to 1.00 times that of equal steps" in text


def test_allocations_of_the_same_bytes_stand_beside_each_other():
    rows = [(3, "uniform", 9.0), (3, "allocated", 1.0), (np.nan, "smallest", 0.5)]
    table = pd.DataFrame(rows, columns=["bits", "allocation", "top1_drop"])
    text = readings.allocation(table.assign(scope="conv", criterion="fisher"))
    line = "9.00 with 3 bits in every layer, 1.00 allocated to the same bytes; 0.50 with the"
    assert text.endswith(f"- `conv`, fisher: {line} smallest allocation")


def test_remedies_together_are_told_by_weighting():
    rows = [
        ("none", False, False, 2.0),
        ("inputs", True, False, 0.3),
        ("none", True, True, 0.6),
        ("inputs", True, True, 0.5),
    ]
    columns = ["weighting", "compensated", "corrected", "top1_drop"]
    table = pd.DataFrame(rows, columns=columns).assign(bits=3, scope="conv")
    assert readings.remedies(table).endswith(
        "3 bits, `conv`: 2.00 plain; compensated and corrected 0.60 not weighted and 0.50 weighted "
        "by inputs"
    )


def test_latencies_are_told_apart_by_their_quartiles():
    table = pd.DataFrame(
        {
            "form": ["float32", "int8", "shared"],
            "ratio": [1.0, 4.0, 6.7],
            "latency_ms": [15.0, 5.0, 15.1],
            "latency_ms_low": [14.0, 4.0, 14.5],
            "latency_ms_high": [15.5, 6.0, 15.9],
        }
    )
    text = readings.runtimes(table)
    assert "15.1 ms an image beside 15.0 ms, and the quartiles overlap" in text
    assert "5.0 ms an image beside 15.0 ms, and the quartiles do not overlap" in text


def test_every_model_has_the_best_of_each_method_with_its_interval():
    rows = [
        ("float", None, np.nan, 56.0, 0.0),
        ("k-means", "linear", 3, 46.0, 10.0),
        ("k-means", OURS, 3, 51.0, 5.0),
        ("compress", None, 3, 55.5, 0.5),
        ("compress", "linear", 3, 55.3, 0.7),
    ]
    columns = ["method", "init", "bits", "top1", "top1_drop"]
    table = pd.DataFrame(rows, columns=columns).assign(model="m")
    table = table.assign(drop_low=table["top1_drop"] - 1, drop_high=table["top1_drop"] + 1)
    text, starts = readings.models(table).rsplit("\n\n", 1)
    assert text.endswith(
        "- m: 56.00 % in float32; at the bytes of 3 bits, k-means 5.00 [4.00, 6.00] and "
        "compress 0.50 [-0.50, 1.50]"
    )
    assert "(its own and linear) moves its top-1 by at most 0.20 points" in starts
    alone = table[table["init"] != "linear"]
    assert "starts from" not in readings.models(alone)
