"""How many centers each layer gets: against exhaustive search."""

from itertools import product

import numpy as np
import pytest

import lib
from lib.compression import allocation
from lib.compression.allocation import Offers, frontier, offers
from lib.optimal import inertia_curve
from lib.study.experiment.data import load_convolutions


def layers_of(rng, n_layers=4, n_offers=6):
    return {
        f"layer{i}": Offers(
            np.arange(2, 2 + n_offers),
            rng.integers(1, 40, n_offers),
            rng.integers(0, 50, n_offers).astype(float),
        )
        for i in range(n_layers)
    }


@pytest.mark.parametrize("seed", range(10))
def test_no_allocation_within_any_budget_is_better(seed):
    layers = layers_of(np.random.default_rng(seed))
    found = frontier(layers)
    everything = [
        (
            sum(offer.sizes[i] for offer, i in zip(layers.values(), choice, strict=True)),
            sum(offer.distortions[i] for offer, i in zip(layers.values(), choice, strict=True)),
        )
        for choice in product(range(6), repeat=4)
    ]
    for budget in range(min(size for size, _ in everything), 130):
        best = min(distortion for size, distortion in everything if size <= budget)
        chosen = found.within(budget)
        places = {name: list(layers[name].n_clusters).index(k) for name, k in chosen.items()}
        assert sum(layers[name].sizes[i] for name, i in places.items()) <= budget
        assert sum(layers[name].distortions[i] for name, i in places.items()) == best


@pytest.mark.parametrize("tol", [0.01, 0.3])
@pytest.mark.parametrize("seed", range(5))
def test_in_units_the_size_is_off_by_no_more_than_is_said(monkeypatch, seed, tol):
    layers = layers_of(np.random.default_rng(seed))
    exact = frontier(layers, tol=0)
    monkeypatch.setattr(allocation, "MOST_COMBINATIONS", 0)
    found = frontier(layers, tol=tol)
    for place, size in enumerate(found.sizes):
        chosen = found.allocation(place).items()
        offers = [(layers[name], list(layers[name].n_clusters).index(k)) for name, k in chosen]
        assert sum(offer.sizes[i] for offer, i in offers) == size
        assert sum(offer.distortions[i] for offer, i in offers) == found.distortions[place]
    for size, distortion in zip(exact.sizes, exact.distortions, strict=True):
        place = np.searchsorted(found.sizes, (1 + tol) * size, side="right") - 1
        assert found.distortions[place] <= distortion + 1e-9


def test_fifty_layers_are_counted_in_units():
    rng = np.random.default_rng(0)
    layers = {}
    for i in range(50):
        n = int(rng.integers(1_000, 1_000_000))
        k = np.arange(2, 257)
        sizes = n * np.ceil(np.log2(k)).astype(np.int64) // 8 + 4 * k
        layers[str(i)] = Offers(k, sizes, n * rng.uniform(0.5, 2) / k**2)
    found = frontier(layers, tol=0.01)
    assert (np.diff(found.sizes) > 0).all()
    assert (np.diff(found.distortions) < 0).all()
    smallest = sum(int(offer.sizes.min()) for offer in layers.values())
    assert found.sizes[0] == smallest
    # No worse than equal bits at 1 % more of its bytes.
    equal = sum(offer.sizes[14] for offer in layers.values())
    chosen = found.within(1.01 * equal)
    distortion = sum(layers[name].distortions[k - 2] for name, k in chosen.items())
    assert distortion <= sum(offer.distortions[14] for offer in layers.values())


@pytest.mark.parametrize(("layers", "tol"), [({}, 0.1), (layers_of(np.random.default_rng(0)), -1)])
def test_nothing_to_allocate(layers, tol):
    with pytest.raises(ValueError, match="give layers, and tol of 0 or more"):
        frontier(layers, tol=tol)


def test_smallest_that_is_accepted():
    found = frontier(layers_of(np.random.default_rng(0)))
    limit = found.distortions[len(found.sizes) // 2]
    sizes = dict(zip(map(tuple, found.n_clusters.tolist()), found.distortions, strict=True))
    chosen = found.smallest(lambda allocation: sizes[tuple(allocation.values())] <= limit)
    assert tuple(chosen.values()) == tuple(found.n_clusters[len(found.sizes) // 2])
    asked = []

    def accepted(allocation):
        asked.append(allocation)
        return sizes[tuple(allocation.values())] <= limit

    near = found.smallest(accepted, tol=0.2)
    place = found.n_clusters.tolist().index(list(near.values()))
    best = found.sizes[len(found.sizes) // 2]
    assert best <= found.sizes[place] <= 1.2 * best
    assert sizes[tuple(near.values())] <= limit
    assert len(asked) < np.log2(len(found.sizes)) + 1
    with pytest.raises(ValueError, match="even the largest allocation is not accepted"):
        found.smallest(lambda allocation: False)


def test_a_budget_below_the_smallest_is_refused():
    found = frontier(layers_of(np.random.default_rng(0)))
    with pytest.raises(ValueError, match=r"budget=1 bytes: the smallest allocation has \d+"):
        found.within(1)


@pytest.fixture(scope="module")
def convolutions():
    return {name: w for name, w in load_convolutions().items() if name.endswith("weight")}


def test_the_curve_is_that_of_optimal_centers(convolutions):
    weight = convolutions["features.0.weight"].numpy().reshape(-1)[:6000]
    curve = inertia_curve(np.sort(weight), 33)
    for k in (2, 3, 8, 33):
        exact = lib.cluster(weight, k, init="optimal").inertia
        assert curve[k - 1] == pytest.approx(exact, rel=1e-3)
    assert (np.diff(curve) < 0).all()


def test_a_curve_ends_with_the_distinct_weights():
    curve = inertia_curve(np.array([0.0, 0.0, 1.0, 3.0]), 10)
    np.testing.assert_allclose(curve, [6.0, 2 / 3, 0.0], atol=1e-12)


def test_equal_weights_have_one_center():
    found = frontier({"a": offers(np.full(100, 0.5)), "b": offers(np.arange(4.0), max_clusters=4)})
    assert found.within(1000) == {"a": 1, "b": 4}


def test_less_error_than_equal_bits_at_their_size(convolutions):
    layers = {name: offers(weight, max_clusters=64) for name, weight in convolutions.items()}
    found = frontier(layers)
    for bits in (3, 4, 5):
        place = {name: list(offer.n_clusters).index(2**bits) for name, offer in layers.items()}
        size = sum(layers[name].sizes[i] for name, i in place.items())
        equal = sum(layers[name].distortions[i] for name, i in place.items())
        at = np.searchsorted(found.sizes, size, side="right") - 1
        assert found.sizes[at] <= size
        assert found.distortions[at] < equal


def test_sizes_are_those_of_packed_labels():
    offer = offers(np.linspace(0, 1, 1001), max_clusters=5)
    assert offer.n_clusters.tolist() == [2, 3, 4, 5]
    assert offer.sizes.tolist() == [126 + 8, 251 + 12, 251 + 16, 376 + 20]
