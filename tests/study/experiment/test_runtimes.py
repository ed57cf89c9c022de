"""Forms of a network in a runtime."""

import pytest

from lib import share_weights
from lib.study.experiment.data import load_images
from lib.study.experiment.network import prepare
from lib.study.experiment.runtimes import FORMS, runtime_rows, torch_top, write_forms


def test_every_form_is_written_timed_and_judged(tmp_path, narrow_network):
    network = narrow_network
    shared = share_weights(network, 16).model
    images = load_images("test", 30)
    paths = write_forms(tmp_path, network, shared, prepare(load_images("train", 3).pixels))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"{f}.onnx" for f in FORMS)
    reference = {"float32": torch_top(network, images), "shared": torch_top(shared, images)}
    rows = {row["form"]: row for row in runtime_rows(paths, images, reference, 2)}
    assert tuple(rows) == FORMS
    assert rows["float32"]["agreement"] == rows["shared"]["agreement"] == 100
    ratios = [round(rows[form]["ratio"], 1) for form in FORMS]
    assert ratios == pytest.approx([1, 2, 4, 8], rel=0.2)  # of a narrow network the graph counts
    for row in rows.values():
        assert 0 < row["latency_ms_low"] <= row["latency_ms"] <= row["latency_ms_high"]
        assert row["load_seconds"] > 0
        assert row["low"] <= row["top1"] <= row["high"]
