"""Files of weights, clustered tensor by tensor, in little memory."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import lib
from lib.checkpoints import cluster_file


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
    ("options", "message"),
    [
        ({"names": ["c"]}, r"lacks the tensors \['c'\]; it has"),
        ({"names": ["steps"]}, "tensor 'steps': weights have dtype"),
        ({"init": "liner"}, "tensor 'a.weight': init='liner' is unknown"),
    ],
)
def test_errors_name_the_tensor(path, options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        list(cluster_file(path[0], 4, **options))


def test_a_file_of_another_kind_is_named(tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match=r"x\.safetensors cannot be read as safetensors"):
        next(cluster_file(tmp_path / "x.safetensors", 4))


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_memory_stays_below_twice_the_largest_tensor(tmp_path, dtype):
    """Of a file of ten tensors of 64 MB; pages of the file itself are the system's to drop."""
    size = 64 << 20
    values = np.random.default_rng(0).normal(size=size // 4).astype(np.float32)
    weights = torch.from_numpy(values).to(getattr(torch, dtype))
    if dtype == "bfloat16":
        weights = weights.repeat(2)
    path = tmp_path / "large.safetensors"
    save_file({f"{i}": weights.view(-1, 1024).clone() for i in range(10)}, path)
    code = f"""
        import threading
        import numpy as np
        import lib
        from lib.checkpoints import cluster_file

        def anonymous():
            with open("/proc/self/status") as file:
                return 1024 * next(int(l.split()[1]) for l in file if l.startswith("RssAnon"))

        lib.cluster(np.random.normal(size=2_000_000).astype("float32"), 16)
        before, peak, done = anonymous(), [0], threading.Event()

        def watch():
            while not done.wait(0.002):
                peak[0] = max(peak[0], anonymous())

        watcher = threading.Thread(target=watch)
        watcher.start()
        n = sum(len(result.centers) for _, result in cluster_file({str(path)!r}, 16))
        done.set()
        watcher.join()
        assert n == 160, n
        assert peak[0] - before < 2 * {size}, (peak[0] - before) / {size}
        print((peak[0] - before) / {size})
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=300)
