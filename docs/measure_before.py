"""How many times as fast clustering is as it was in an earlier commit, both in turn.

    .venv/bin/python docs/measure_before.py [COMMIT]

It trains the study's network first, unless its cache has it.
"""

import io
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np

from lib.study.experiment.peers import heavy_tailed
from lib.study.experiment.training import TrainingConfig, trained_network

BEFORE = "6c64ad0"  # the last commit before the engine kept its place between look-ups
ROOT = Path(__file__).parents[1]
ROUNDS = 3
TIMED = """\
import sys, time
import numpy, lib
weights, k = numpy.load(sys.argv[1]), int(sys.argv[2])
lib.cluster(weights, k)
seconds = []
for _ in range(3):
    start = time.perf_counter()
    lib.cluster(weights, k)
    seconds.append(time.perf_counter() - start)
print(sorted(seconds)[1])
"""


def arrays():
    """Arrays by name: a trained layer, and draws of Student's t with 6 and 3 degrees of freedom."""
    fc6 = trained_network(TrainingConfig())[0].classifier[1].weight.detach().numpy().reshape(-1)
    t6 = np.random.default_rng(0).standard_t(6, size=fc6.size)
    return {"fc6": fc6, "t, 6": np.float32(0.01 * t6), "t, 3": heavy_tailed(fc6.size)}


def seconds(root, path, n_clusters):
    """Median seconds of a clustering by the library in a folder."""
    command = [sys.executable, "-c", TIMED, path, str(n_clusters)]
    own = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run(command, env=own, cwd=root, check=True, capture_output=True, text=True)
    return float(done.stdout)


def main(commit=BEFORE):
    """Print the ratio of seconds of each array, the median of some rounds, and its range."""
    archive = subprocess.run(
        ["git", "archive", commit, "lib"], cwd=ROOT, check=True, capture_output=True
    ).stdout
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
            packed.extractall(folder, filter="data")
        path = str(Path(folder, "weights.npy"))
        for name, weights in arrays().items():
            np.save(path, weights)
            for k in (16, 256):
                ratios = [seconds(folder, path, k) / seconds(ROOT, path, k) for _ in range(ROUNDS)]
                low, median, high = sorted(ratios)
                print(f"{name}, {k} centers: {median:.2f} times [{low:.2f}, {high:.2f}]")


if __name__ == "__main__":
    main(*sys.argv[1:])
