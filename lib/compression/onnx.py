"""Export to ONNX with packed labels and a codebook, and an audit of what was exported.

Each shared weight's initializer is replaced by nodes that compute it. The labels are stored as bit
planes: a byte of a plane holds one bit of eight labels, so that a label takes exactly ceil(log2 k)
bits for any k. The nodes join the bits and look the labels up in the codebook. A runtime folds
these nodes into plain weights when it loads the file.
"""

import copy
import io
import os
from typing import Any

import numpy as np
import torch
from torch import nn

from ..files import write_atomically
from ..shared import plain_weights, weight_of
from .calls import plain_attention
from .coding import n_bits
from .exporting import audited, exportable, names_of, package

OPSET = 18  # the first with bitwise operators


def export_onnx(model: nn.Module, path: str | os.PathLike, example: torch.Tensor) -> int:
    """Write a model whose layers share weights as an ONNX file that stays small.

    Parameters
    ----------
    model : nn.Module
        In evaluation mode, on the CPU, with float32 weights and one codebook of at most 256 centers
        a layer. Not modified.
    path : path-like
        Written whole or not at all.
    example : torch.Tensor
        An input. The exported file accepts any size of its first axis.

    Returns
    -------
    int
        Bytes of the file.

    Raises
    ------
    ValueError
        If a layer has several codebooks or more centers, or torch's exporter changed its weight.

    Examples
    --------
    >>> import torch
    >>> import lib
    >>> from lib.compression import export_onnx
    >>> shared = lib.share_weights(torch.nn.Linear(256, 256), 16).model.eval()
    >>> 4 * 256 * 256 / export_onnx(shared, "network.onnx", torch.ones(1, 256)) > 7
    True
    """
    shared = exportable(model)
    onnx = package("onnx")
    proto = exported(model, example)
    weights = {tensor.name: tensor for tensor in proto.graph.initializer}
    nodes = []
    for names in names_of(model):
        name, found = _name_among(names, weights), shared[names[0]]
        tensor = weights[name]
        plain = weight_of(model, name).numpy()
        if not np.array_equal(onnx.numpy_helper.to_array(tensor), plain):
            raise ValueError(f"{name}: torch's exporter changed the weight.")
        proto.graph.initializer.remove(tensor)
        more, constants = _computed(name, found)
        nodes += more
        proto.graph.initializer.extend(constants)
    for node in reversed(nodes):
        proto.graph.node.insert(0, node)
    onnx.checker.check_model(proto, full_check=True)
    data = proto.SerializeToString()
    write_atomically(path, data)
    return len(data)


def audit(path: str | os.PathLike, model: nn.Module, inputs: torch.Tensor) -> dict[str, Any]:
    """Compare what a runtime computes from an exported file with the model.

    Parameters
    ----------
    path : path-like
    model : nn.Module
        The model that was exported.
    inputs : float32 tensor of shape (n, ...)

    Returns
    -------
    dict
        ``layers``: as of `exporting.audited`; ``agreement``: the share of inputs with the same
        top-1; ``largest_difference`` of the scores.

    Examples
    --------
    >>> import torch
    >>> import lib
    >>> from lib.compression import audit, export_onnx
    >>> shared = lib.share_weights(torch.nn.Sequential(torch.nn.Linear(8, 4)), 4).model.eval()
    >>> _ = export_onnx(shared, "network.onnx", torch.ones(1, 8))
    >>> found = audit("network.onnx", shared, torch.randn(10, 8))
    >>> found["layers"]
    [{'layer': '0', 'values_in_file': 4, 'values_in_model': 4, 'equal': True}]
    >>> found["agreement"]
    1.0
    """
    onnx, runtime = package("onnx"), package("onnxruntime")
    proto = onnx.load(path)
    made = {output for node in proto.graph.node for output in node.output}
    names = [_name_among(same, made) for same in names_of(model)]
    for name in names:
        proto.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    session = runtime.InferenceSession(proto.SerializeToString())
    given = {session.get_inputs()[0].name: inputs[:1].numpy()}
    found = session.run(names, given)
    scores = run_onnx(path, inputs)
    with torch.no_grad():
        expected = torch.cat([model(batch) for batch in inputs.split(100)])
    return {
        "layers": audited(model, found),
        "agreement": float((scores.argmax(1) == expected.argmax(1)).double().mean()),
        "largest_difference": float((scores - expected).abs().max()),
    }


def _name_among(names, known):
    """The one of a weight's names that an exported file has."""
    for name in names:
        if name in known:
            return name
    raise ValueError(f"{names[0]}: torch's exporter made no initializer of this name.")


def run_onnx(path: str | os.PathLike, inputs: torch.Tensor, batch_size: int = 100) -> torch.Tensor:
    """Outputs that onnxruntime computes from a file; float32 tensor of shape (n, classes)."""
    session = package("onnxruntime").InferenceSession(str(path))
    name = session.get_inputs()[0].name
    parts = [session.run(None, {name: part.numpy()})[0] for part in inputs.split(batch_size)]
    return torch.from_numpy(np.concatenate(parts))


def exported(model: nn.Module, example: torch.Tensor) -> Any:
    """The model with plain weights, as torch exports it; an onnx.ModelProto."""
    plain = plain_weights(copy.deepcopy(model)).eval()
    buffer: Any = io.BytesIO()
    with plain_attention():
        torch.onnx.export(
            plain,
            (example,),
            buffer,
            dynamo=False,
            opset_version=OPSET,
            do_constant_folding=False,
            input_names=["input"],
            output_names=["scores"],
            dynamic_axes={"input": {0: "n"}, "scores": {0: "n"}},
        )
    return package("onnx").load_from_string(buffer.getvalue())


def _computed(name, found):
    """Nodes that compute one shared weight, and their constants."""
    onnx = package("onnx")
    shared, centers = found[0], found.original.detach().numpy()
    labels = shared.labels.numpy().reshape(-1)
    bits, shape = n_bits(len(centers)), shared.labels.shape
    constants, nodes, parts = {}, [], []

    def node(operator, inputs, **attributes):
        output = f"{name}:{operator}{len(nodes)}"
        nodes.append(onnx.helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def constant(what, array):
        constants[f"{name}:{what}"] = array
        return f"{name}:{what}"

    one = constant("one", np.uint8(1).reshape(1))
    places = constant("places", np.arange(8, dtype=np.uint8))
    for bit in range(bits):
        plane = np.packbits((labels >> bit) & 1, bitorder="little").reshape(-1, 1)
        spread = node("BitShift", [constant(f"plane{bit}", plane), places], direction="RIGHT")
        single = node("BitwiseAnd", [spread, one])
        shift = constant(f"shift{bit}", np.full(1, bit, np.uint8))
        parts.append(node("BitShift", [single, shift], direction="LEFT"))
    if bits == 0:
        parts.append(constant("plane", np.zeros((-(-len(labels) // 8), 8), np.uint8)))
    joined = parts[0]
    for part in parts[1:]:
        joined = node("BitwiseOr", [joined, part])
    flat = node("Reshape", [joined, constant("all", np.array([-1]))])
    if len(labels) % 8:
        ends = [constant("start", np.array([0])), constant("stop", np.array([len(labels)]))]
        flat = node("Slice", [flat, *ends])
    index = node("Cast", [flat], to=6)  # int32
    looked_up = node("Gather", [constant("centers", centers), index])
    shaped = node("Reshape", [looked_up, constant("shape", np.array(shape))])
    if shared.scale is not None:
        shaped = node("Mul", [shaped, constant("scale", shared.scale.numpy())])
    nodes.append(onnx.helper.make_node("Identity", [shaped], [name], name=f"{name}:weight"))
    return nodes, [onnx.numpy_helper.from_array(array, key) for key, array in constants.items()]
