"""Files of weights, clustered tensor by tensor, in little memory."""

import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import save_file

import lib
from lib.streaming import cluster_file


@pytest.fixture
def path(tmp_path):
    torch.manual_seed(0)
    tensors = {
        "a.weight": torch.randn(30, 40),
        "a.bias": torch.randn(30),
        "b.weight": torch.randn(20, 30, dtype=torch.bfloat16),
        "steps": torch.arange(6).view(2, 3),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors", tensors


def test_every_weight_is_clustered_as_alone(path):
    path, tensors = path
    found = dict(cluster_file(path, 4, init="linear"))
    assert sorted(found) == ["a.weight", "b.weight"]
    for name, result in found.items():
        alone = lib.cluster(tensors[name], 4, init="linear")
        assert torch.equal(result.centers, alone.centers)
        assert torch.equal(result.labels, alone.labels)
    assert [name for name, _ in cluster_file(path, 4, names=["a.bias"])] == ["a.bias"]
    assert sorted(dict(cluster_file(path, 4, at_least=1))) == ["a.bias", "a.weight", "b.weight"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"names": ["c"]}, ValueError, r"lacks the tensors \['c'\]; it has"),
        ({"names": ["steps"]}, TypeError, "tensor 'steps': weights have dtype"),
        ({"init": "liner"}, ValueError, "tensor 'a.weight': init='liner' is unknown"),
    ],
)
def test_errors_name_the_tensor(path, options, error, message):
    with pytest.raises(error, match=message):
        list(cluster_file(path[0], 4, **options))


def test_a_file_of_another_kind_is_named(tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match=r"x\.safetensors cannot be read as safetensors"):
        next(cluster_file(tmp_path / "x.safetensors", 4))


def test_a_file_larger_than_memory_is_read(tmp_path):
    """With a hole in it, so that it takes no room."""
    n_large, small = psutil.virtual_memory().total // 2, torch.arange(64.0)
    header = {
        "small": {"dtype": "F32", "shape": [8, 8], "data_offsets": [0, 256]},
        "large": {"dtype": "F32", "shape": [n_large], "data_offsets": [256, 256 + 4 * n_large]},
    }
    text = json.dumps(header).encode()
    path = tmp_path / "large.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + small.numpy().tobytes())
    os.truncate(path, 8 + len(text) + 256 + 4 * n_large)
    [(name, result)] = cluster_file(path, 64)
    assert name == "small"
    assert result.centers.tolist() == small.tolist()


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_twice_the_largest_tensor_is_memory_enough(tmp_path, dtype):
    """For a file of five tensors of 64 MB, where the system grants no more."""
    size = 64 << 20
    values = np.random.default_rng(0).normal(size=size // 4).astype(np.float32)
    weights = torch.from_numpy(values).to(getattr(torch, dtype))
    if dtype == "bfloat16":
        weights = weights.repeat(2)
    path = tmp_path / "large.safetensors"
    save_file({f"{i}": weights.view(-1, 1024).clone() for i in range(5)}, path)
    code = f"""
        import resource
        import numpy as np
        import lib
        from lib.streaming import cluster_file

        lib.cluster(np.random.normal(size=2_000_000).astype("float32"), 16)
        with open("/proc/self/status") as file:
            now = 1024 * next(int(line.split()[1]) for line in file if line.startswith("VmData"))
        resource.setrlimit(resource.RLIMIT_DATA, (now + 2 * {size}, now + 2 * {size}))
        try:
            np.empty(5 * {size}, np.uint8)
        except MemoryError:
            pass
        else:
            raise AssertionError("the limit does not hold")
        assert sum(len(result.centers) for _, result in cluster_file({str(path)!r}, 16)) == 80
    """
    # What is freed goes back to the system at once, and counts no more.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "1000000", "OMP_NUM_THREADS": "2"}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    subprocess.run(command, check=True, timeout=600, env=environment)
