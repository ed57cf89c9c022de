"""The network in a runtime: float32, float16, int8 and shared weights, side by side."""

import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers.float16 import convert_float_to_float16

from ... import compression
from ...compression.onnx import exported
from ...files import write_atomically
from .evaluation import top1_columns
from .network import BATCH, prepare
from .progress import progress

FORMS = ("float32", "float16", "int8", "shared")


def write_forms(folder, network, shared, calibration):
    """Write a network as ONNX in every form.

    Parameters
    ----------
    folder : path-like
    network : nn.Module
        Float32, in evaluation mode.
    shared : nn.Module
        The same network with shared weights.
    calibration : float32 tensor of shape (n, 3, 224, 224)
        Inputs from which the int8 quantizer takes the ranges of activations.

    Returns
    -------
    dict of str to pathlib.Path
    """
    paths = {form: Path(folder) / f"{form}.onnx" for form in FORMS}
    example = calibration[:1]
    plain = exported(network, example)
    write_atomically(paths["float32"], plain.SerializeToString())
    half = convert_float_to_float16(onnx.load(paths["float32"]), keep_io_types=True)
    write_atomically(paths["float16"], half.SerializeToString())
    ready = paths["int8"].with_suffix(".ready.onnx")
    quant_pre_process(str(paths["float32"]), str(ready))
    quantize_static(
        str(ready),
        str(paths["int8"]),
        _Images(calibration),
        per_channel=True,
        weight_type=QuantType.QInt8,
    )
    ready.unlink()
    compression.export_onnx(shared, paths["shared"], example)
    return paths


class _Images(CalibrationDataReader):
    """Images one by one, in the quantizer's interface."""

    def __init__(self, images):
        self.images = iter(images.split(1))

    def get_next(self):
        image = next(self.images, None)
        return None if image is None else {"input": image.numpy()}


def runtime_rows(paths, images, reference, repeats):
    """Rows of the table `runtimes`.

    Forms take turns in loading and in running single images, so that other load of the machine
    slows all of them alike.

    Parameters
    ----------
    paths : dict of str to pathlib.Path
    images : lib.study.experiment.data.Images
        To be classified.
    reference : dict of str to int64 tensor of shape (n,)
        Top-1 in torch, with which each form must agree; forms that it lacks are compared with
        "float32".
    repeats : int
    """
    one = prepare(images.pixels[:1]).numpy()
    loading, latency = {form: [] for form in paths}, {form: [] for form in paths}
    for _ in progress(range(repeats), "repeats"):
        for form, path in paths.items():
            start = time.perf_counter()
            session = onnxruntime.InferenceSession(str(path))
            loading[form].append(time.perf_counter() - start)
            session.run(None, {"input": one})  # the first run allocates
            for _ in range(5):
                start = time.perf_counter()
                session.run(None, {"input": one})
                latency[form].append(time.perf_counter() - start)
    size = paths["float32"].stat().st_size
    rows = []
    for form, path in paths.items():
        top = _top(path, images)
        right = int((top == images.labels).sum())
        quartiles = 1000 * np.quantile(latency[form], [0.25, 0.5, 0.75])
        rows.append(
            {
                "form": form,
                "bytes": path.stat().st_size,
                "ratio": size / path.stat().st_size,
                "load_seconds": float(np.median(loading[form])),
                "latency_ms": quartiles[1],
                "latency_ms_low": quartiles[0],
                "latency_ms_high": quartiles[2],
                **top1_columns(right, len(images)),
                "agreement": 100
                * (top == reference.get(form, reference["float32"])).double().mean().item(),
            }
        )
    return rows


def _top(path, images):
    session = onnxruntime.InferenceSession(str(path))
    parts = [
        session.run(None, {"input": prepare(part).numpy()})[0].argmax(1)
        for part in images.pixels.split(BATCH)
    ]
    return torch.from_numpy(np.concatenate(parts))


def torch_top(network, images):
    """Top-1 of a network in float32, int64 of shape (n,)."""
    with torch.inference_mode():
        parts = [network(prepare(part)).argmax(1) for part in images.pixels.split(BATCH)]
    return torch.cat(parts)
