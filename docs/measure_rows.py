"""Time a codebook for each row of a matrix, beside flash1dkmeans where it is installed.

    PYTHONPATH=. python docs/measure_rows.py [--repeats 5]

The peer is its function for one row under numba.prange, with the sort that it needs and labels from
its borders. Prints seconds of wall clock and of all cores, the best of several interleaved runs,
and by how much more inertia the peer ends with.
"""

import argparse
import time

import numba
import numpy as np

import lib
from lib.engine.threads import n_threads

CASES = [(4096, 4096, 8), (4096, 4096, 16), (4096, 512, 8), (512, 4096, 16), (256, 2304, 16)]
MAX_ITER = 10_000  # of the peer, which has no other end but convergence


def peer():
    """Function of weights, sample weights (or None) and number of centers: labels, inertia."""
    from flash1dkmeans import (
        numba_kmeans_1d_k_cluster,
        numba_kmeans_1d_k_cluster_unweighted,
    )

    @numba.njit(parallel=True)
    def rows_of(weights, sample_weight, k):
        n_rows, n = weights.shape
        labels, inertia = np.empty((n_rows, n), np.uint8), np.empty(n_rows)
        for r in numba.prange(n_rows):
            row = weights[r]
            order = np.argsort(row)
            sorted_row = row[order].astype(np.float64)
            total, square, mass = np.zeros(n + 1), np.zeros(n + 1), np.zeros(n + 1)
            for i in range(n):
                weight = 1.0 if sample_weight is None else sample_weight[r, order[i]]
                mass[i + 1] = mass[i] + weight
                total[i + 1] = total[i] + weight * sorted_row[i]
                square[i + 1] = square[i] + weight * sorted_row[i] ** 2
            if sample_weight is None:
                centers, borders = numba_kmeans_1d_k_cluster_unweighted(
                    sorted_row, k, MAX_ITER, total, square, 0, n, 0
                )
            else:
                centers, borders = numba_kmeans_1d_k_cluster(
                    sorted_row, k, MAX_ITER, mass, total, square, 0, n, 0
                )
            inertia[r] = 0.0
            for j in range(k):
                for i in range(borders[j], borders[j + 1]):
                    labels[r, order[i]] = j
                    weight = 1.0 if sample_weight is None else sample_weight[r, order[i]]
                    inertia[r] += weight * (sorted_row[i] - centers[j]) ** 2
        return labels, inertia.sum()

    return rows_of


def ours(weights, sample_weight, k):
    """The same of `lib.cluster_rows`."""
    found = lib.cluster_rows(weights, k, sample_weight=sample_weight)
    return found.labels, found.inertia.sum()


def matrices(rows, n):
    """By name, what is clustered."""
    rng = np.random.default_rng(0)
    normal = rng.normal(size=(rows, n)).astype(np.float32)
    heavy = rng.standard_t(6, (rows, n)).astype(np.float32)
    yield "normal", normal, None
    yield "heavy", heavy, None
    yield "weighted", normal, rng.uniform(0.5, 2, (rows, n))


def main(repeats):
    """Print a line for each case and engine."""
    engines = {"cluster_rows": ours}
    try:
        engines["flash1dkmeans"] = peer()
    except ImportError:
        print("flash1dkmeans is not installed: ours alone.")
    numba.set_num_threads(n_threads())
    for rows, n, k in CASES:
        for name, weights, sample_weight in matrices(rows, n):
            best = {}
            for engine in engines.values():
                engine(weights[:4], None if sample_weight is None else sample_weight[:4], k)
            for _ in range(repeats):
                for label, engine in engines.items():
                    wall, cores = time.perf_counter(), time.process_time()
                    try:
                        inertia = engine(weights, sample_weight, k)[1]
                    except SystemError as error:  # what the peer raises under prange
                        print(f"{label} fails: {error.__cause__}")
                        continue
                    spent = time.perf_counter() - wall, time.process_time() - cores
                    best[label] = *np.minimum(spent, best.get(label, (np.inf, np.inf))[:2]), inertia
            base = best["cluster_rows"]
            for label, (wall, cores, inertia) in best.items():
                print(
                    f"{rows:5} x {n:5}, {k:3} centers, {name:9} {label:14} "
                    f"wall {wall:7.3f} s ({wall / base[0]:5.2f})  "
                    f"cores {cores:7.3f} s ({cores / base[1]:5.2f})  "
                    f"inertia {100 * (inertia / base[2] - 1):+.3f} %",
                    flush=True,
                )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    main(parser.parse_args().repeats)
