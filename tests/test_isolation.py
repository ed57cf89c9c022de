"""The method works without the packages of its study, and loads none of them."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[1]
STUDY = """
    IPython PIL coremltools jupyter jupyter_client lib.study matplotlib nbconvert nbformat onnx
    onnxruntime pandas papermill seaborn sklearn torchvision yaml
""".split()
HEAVY = "PIL constriction coremltools matplotlib onnx onnxruntime pandas torchvision".split()


def run(*programs, folder=ROOT):
    """Run programs, one after another, in a process of its own; what it prints."""
    found = subprocess.run(
        [sys.executable, "-c", "".join(map(textwrap.dedent, programs))],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


WITHOUT_STUDY = f"""
    import sys

    class Refused:
        def find_spec(self, name, path=None, target=None):
            if any(name == n or name.startswith(n + ".") for n in {STUDY}):
                raise ModuleNotFoundError(f"{{name}} is of the study", name=name)

    sys.meta_path.insert(0, Refused())
"""


def test_clusters_shares_saves_and_loads_without_the_studys_packages(tmp_path):
    program = """
    import torch
    import lib
    from lib import compression, streaming
    from lib.compression import load, save, size_table

    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Flatten(),
                                  torch.nn.Linear(72, 10))
    assert len(lib.cluster(network[2].weight, 4).centers) == 4
    shared = lib.share_weights(network, 4).model
    save(shared, "network.safetensors")
    plain = lib.plain_weights(shared)
    for parameter in network.parameters():
        parameter.data.zero_()
    images = torch.randn(2, 3, 5, 5)
    assert torch.equal(load("network.safetensors", network)(images), plain(images))
    print(size_table("network.safetensors"))
    [(name, found)] = streaming.cluster_file("network.safetensors", 2, names=["0.bias"])
    assert (name, len(found.centers)) == ("0.bias", 2)
    """
    assert "the whole file" in run(WITHOUT_STUDY, program, folder=tmp_path)


def test_a_missing_package_of_an_export_is_named():
    program = """
    import torch
    import lib
    from lib.compression import export_coreml, export_onnx

    shared = lib.share_weights(torch.nn.Linear(4, 4), 2).model
    for export, suffix in ((export_onnx, "onnx"), (export_coreml, "mlpackage")):
        try:
            export(shared, f"network.{suffix}", torch.ones(1, 4))
        except ImportError as error:
            print(error)
    """
    printed = run(WITHOUT_STUDY, program).splitlines()
    assert printed == [
        "this export needs onnx: pip install onnx",
        "this export needs coremltools: pip install coremltools",
    ]


def test_imports_load_nothing_that_is_not_asked_for():
    program = f"""
    import sys
    import lib, lib.compression, lib.streaming

    print([name for name in {HEAVY} if name in sys.modules])
    print([name for name in sys.modules if name.startswith("lib.study")])
    """
    assert run(program).splitlines() == ["[]", "[]"]
