"""Rate-aware labels against exhaustive search, and the alternation that fits their codebook."""

import itertools

import numpy as np
import pytest
import torch

from lib.compression import entropy_constrained_cells
from lib.compression.rate_aware import (
    BITS_OF_CENTER,
    Factor,
    Start,
    choose_labels,
    coded_bytes,
    factor,
    fit,
)


def layer(groups=1, rows=3, columns=5, n=40, seed=0):
    """A weight, the moments of correlated inputs, and what each row's error costs."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(groups, rows, columns, generator=generator)
    mixing = torch.randn(groups, columns, columns, generator=generator)
    inputs = torch.randn(groups, n, columns, generator=generator) @ mixing
    importance = torch.rand(groups, rows, generator=generator) + 0.5
    return weight, inputs.transpose(1, 2) @ inputs / n, importance


def output_error(weight, values, moments, importance):
    """Importance times (w - q) H (w - q)^T, summed over rows, from the definition."""
    error = (weight - values).double()
    return float(((error @ moments.double() * error).sum(2) * importance).sum())


def in_order(weight, found):
    return weight.gather(2, found.order[:, None].expand_as(weight)).contiguous()


def test_the_factor_is_of_the_moments():
    _, moments, _ = layer(groups=2)
    found = factor(moments.clone(), damping=0.0)
    made = found.unit @ torch.diag_embed(found.curvature) @ found.unit.transpose(1, 2)
    for group in range(2):
        order = found.order[group]
        torch.testing.assert_close(made[group], moments[group][order][:, order])
        assert moments[group].diagonal()[order].diff().le(0).all()  # largest first
    assert torch.equal(found.unit, found.unit.triu())
    assert (found.unit.diagonal(dim1=1, dim2=2) == 1).all()


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("columns", [5, 300])  # within a block of columns, and of several
def test_the_distortion_is_that_of_the_outputs(groups, columns):
    weight, moments, importance = layer(groups, columns=columns, n=2 * columns)
    found = factor(moments.clone(), damping=0.0)
    centers = np.array([-1.5, -0.5, 0.25, 1.0], np.float32)
    lengths = np.array([3.0, 1.5, 1.0, 3.0], np.float32)
    chosen = choose_labels(in_order(weight, found), found, importance, 0.01, centers, lengths)
    values = torch.from_numpy(centers[chosen.used])[chosen.labels.int()]
    back = torch.empty_like(weight).scatter_(2, found.order[:, None].expand_as(values), values)
    expected = output_error(weight, back, moments, importance)
    assert chosen.distortion == pytest.approx(expected, rel=1e-3)


def test_labels_of_uncorrelated_inputs_are_the_best_of_all():
    weight, _, importance = layer(rows=2, columns=3)
    curvature = torch.tensor([[0.5, 1.0, 4.0]])
    found = factor(torch.diag_embed(curvature), damping=0.0)
    centers = np.array([-1.0, 0.0, 0.8], np.float32)
    lengths, multiplier = np.array([2.0, 0.5, 3.0], np.float32), 0.2
    chosen = choose_labels(in_order(weight, found), found, importance, multiplier, centers, lengths)

    def cost(labels):
        labels = np.array(labels).reshape(1, 2, 3)
        values = torch.from_numpy(centers[labels])
        error = output_error(weight, values, torch.diag_embed(curvature), importance)
        return error + multiplier * lengths[labels].sum()

    best = min(itertools.product(range(3), repeat=6), key=cost)
    place = torch.empty_like(chosen.labels)
    place.scatter_(2, found.order[:, None].expand_as(place), chosen.labels)
    assert tuple(chosen.used[place.flatten().numpy()]) == best


@pytest.mark.parametrize("seed", range(5))
def test_compensated_labels_are_near_the_best_of_all_and_beat_nearest_ones(seed):
    weight, moments, importance = layer(rows=1, columns=6, seed=seed)
    found = factor(moments.clone(), damping=0.0)
    centers = np.array([-1.2, 0.0, 1.1], np.float32)
    lengths, multiplier = np.array([2.0, 0.6, 2.5], np.float32), 0.05
    every = torch.tensor(list(itertools.product(range(3), repeat=6)))
    values = torch.from_numpy(centers)[every]
    error = weight[0] - values
    costs = (error @ moments[0] * error).sum(1) * importance.flatten()
    costs = costs + multiplier * torch.from_numpy(lengths)[every].sum(1)
    chosen = choose_labels(in_order(weight, found), found, importance, multiplier, centers, lengths)
    bits = float(lengths[chosen.used[chosen.labels.flatten().numpy()]].sum())
    cost = chosen.distortion + multiplier * bits
    assert cost >= costs.min() - 1e-4
    assert (costs < cost - 1e-4).float().mean() < 0.1  # among the best of 729
    nearest = (weight[0, 0][:, None] - torch.from_numpy(centers)).abs().argmin(1)
    alone = float(costs[(every == nearest).all(1)])
    assert cost <= alone + 1e-4


def test_cost_falls_in_the_alternation_and_the_least_is_returned():
    weight, moments, importance = layer(rows=64, columns=48, n=100)
    multiplier = 0.02
    found = fit(weight, factor(moments.clone()), importance, multiplier, init="linear")
    assert found.cost == min(found.history)
    assert list(found.history[:-1]) == sorted(found.history[:-1], reverse=True)
    assert found.history[-1] < found.history[0]
    counts = np.bincount(found.labels.flatten().numpy(), minlength=len(found.centers))
    assert np.array_equal(counts, found.counts)
    assert (np.diff(found.centers) > 0).all()
    values = torch.from_numpy(found.centers)[found.labels.int()]
    mean = moments.diagonal(dim1=1, dim2=2).mean()
    damped = (moments + 0.01 * mean * torch.eye(48)) / 1.01
    expected = output_error(weight, values, damped, importance)
    assert found.distortion == pytest.approx(expected, rel=1e-3)


def test_a_larger_multiplier_takes_fewer_bytes_and_costs_more_error():
    weight, moments, importance = layer(rows=64, columns=48, n=100)
    made = [fit(weight, factor(moments.clone()), importance, m) for m in (1e-4, 1e-2, 1.0)]
    sizes = [coded_bytes(found.counts) for found in made]
    errors = [found.distortion for found in made]
    assert sizes == sorted(sizes, reverse=True)
    assert errors == sorted(errors)


@pytest.mark.parametrize("multiplier", [1e-3, 0.1, 3.0])
def test_it_starts_where_the_first_labels_cost_least(multiplier):
    weight, moments, importance = layer(rows=64, columns=48, n=100)
    found = fit(weight, factor(moments.clone()), importance, multiplier)
    octaves, *kind = found.start
    for other in (Start(octaves - 1, *kind), Start(octaves + 1, *kind), Start(0, not kind[0], 3)):
        made = fit(weight, factor(moments.clone()), importance, multiplier, start=other)
        assert made.start == other
        assert made.history[0] >= found.history[0]


def test_labels_that_make_up_for_each_other_outlive_cells_that_do_not():
    """Inputs nearly the same: each weight alone is worth less than its bits, their sum more."""
    generator = torch.Generator().manual_seed(0)
    weight = 0.1 + 0.1 * torch.randn(1, 64, 64, generator=generator)
    inputs = torch.randn(400, 1, generator=generator)
    inputs = inputs + 0.1 * torch.randn(400, 64, generator=generator)
    found, multiplier = factor((inputs.T @ inputs / 400)[None]), 0.001
    worth = float(found.curvature.log().mean().exp())
    cells = entropy_constrained_cells(weight, multiplier / worth, cell_bits=BITS_OF_CENTER)
    assert len(cells.centers) == 1
    importance, emptied = torch.ones(1, 64), np.zeros(1, np.float32)
    empty = choose_labels(weight, found, importance, multiplier, cells.centers, emptied)
    assert fit(weight, found, importance, multiplier).cost < 0.2 * empty.distortion


def test_inputs_that_never_occur_cost_no_bits_and_break_nothing():
    weight, moments, importance = layer(rows=32, columns=16, n=64)
    moments[:, 3] = moments[:, :, 3] = 0.0
    found = fit(weight, factor(moments.clone(), damping=1e-6), importance, 0.02)
    assert len(set(found.labels[0, :, 3].tolist())) == 1
    silent = fit(weight, factor(torch.zeros_like(moments)), importance, 0.02)
    assert np.isfinite(silent.cost)


def test_a_matrix_without_correlation_needs_no_unit():
    weight, _, importance = layer(rows=8, columns=7)
    curvature = torch.linspace(0.5, 2.0, 7)[None]
    order = torch.arange(7)[None]
    found = fit(weight, Factor(order, None, curvature), importance, 0.01)
    other = fit(weight, factor(torch.diag_embed(curvature), damping=0.0), importance, 0.01)
    assert found.distortion == pytest.approx(other.distortion, rel=1e-4)
    assert torch.equal(found.labels, other.labels)


@pytest.mark.parametrize("unit", [1e-60, 1e50])
def test_what_errors_cost_may_be_in_any_unit(unit):
    """Float32, in which labels are chosen, could hold neither."""
    weight, moments, importance = layer(rows=8, columns=40, n=100)
    found = factor(moments.clone())
    usual = fit(weight, found, importance, 0.05)
    other = fit(weight, found, importance.double() * unit, 0.05 * unit)
    assert torch.equal(usual.labels, other.labels)
    np.testing.assert_array_equal(usual.centers, other.centers)
    assert other.distortion == pytest.approx(unit * usual.distortion)
    assert other.cost == pytest.approx(unit * usual.cost)


def test_errors_that_cost_nothing_get_one_center():
    weight, moments, importance = layer(rows=8, columns=40, n=100)
    found = fit(weight, factor(moments), torch.zeros_like(importance), 0.05)
    assert len(found.centers) == 1
    assert np.isfinite(found.centers).all()
