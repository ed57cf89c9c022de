"""Export to Core ML with each shared weight as a lookup table, and an audit of what was exported.

Any system can write a package, but only Apple's can run one: what it computes was not tested.
"""

import copy
import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..shared import plain_weights, weight_of
from .calls import plain_attention
from .coding import n_bits
from .exporting import audited, exportable, package

WIDTHS = (1, 2, 3, 4, 6, 8)  # bits of an index in Core ML
FUSIONS = {f"common::fuse_conv_{what}" for what in ("batchnorm", "scale")}


def export_coreml(model: nn.Module, path: str | os.PathLike, example: torch.Tensor) -> int:
    """Write a model whose layers share weights as a Core ML package that stays small.

    Weights stay float32, for iOS 18, macOS 15 and later.

    Parameters
    ----------
    model : nn.Module
        In evaluation mode, on the CPU, with float32 weights and one codebook of at most 256 centers
        a layer. Not modified.
    path : path-like
        A folder that ends in ``.mlpackage``; an existing one is replaced.
    example : torch.Tensor
        An input. The package accepts inputs of this shape.

    Returns
    -------
    int
        Bytes of the package.

    Raises
    ------
    ValueError
        If the path has another ending, a layer cannot be exported as codebook and labels, or the
        converter changed its weight.

    Examples
    --------
    >>> import torch
    >>> import lib
    >>> from lib.compression import export_coreml
    >>> shared = lib.share_weights(torch.nn.Linear(8, 4), 4).model.eval()
    >>> export_coreml(shared, "network.mlpackage", torch.ones(1, 8)) > 0
    True
    """
    path = Path(path)
    if path.suffix != ".mlpackage":
        raise ValueError(f"{path}: the name of a Core ML package ends in .mlpackage.")
    shared = exportable(model)
    ct = _coremltools()
    # Fusions write a normalization's factors into the weights, which are then no lookups.
    passes = ct.PassPipeline.DEFAULT
    passes.remove_passes(FUSIONS)
    options = {
        "pass_pipeline": passes,
        "minimum_deployment_target": ct.target.iOS18,
        "compute_precision": ct.precision.FLOAT32,
    }
    plain = plain_weights(copy.deepcopy(model)).eval()
    with torch.no_grad(), plain_attention():
        traced = torch.jit.trace(plain, example)
    program = ct.convert(
        traced,
        inputs=[ct.TensorType(shape=example.shape, name="input")],
        outputs=[ct.TensorType(name="scores")],
        convert_to="milinternal",
        **options,
    )
    for i, (name, found) in enumerate(shared.items()):
        _look_up(program.functions["main"], _name(i), name, found, weight_of(model, name).numpy())
    package = ct.convert(program, convert_to="mlprogram", skip_model_load=True, **options)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        written = Path(folder, path.name)
        package.save(str(written))
        if path.exists():
            shutil.rmtree(path)
        os.replace(written, path)
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def audit_coreml(path: str | os.PathLike, model: nn.Module) -> list[dict[str, Any]]:
    """Compare the weights that coremltools reads from an exported package with the model's.

    Parameters
    ----------
    path : path-like
    model : nn.Module
        The model that was exported.

    Returns
    -------
    list of dict
        As of `exporting.audited`.

    Examples
    --------
    >>> import torch
    >>> import lib
    >>> from lib.compression import audit_coreml, export_coreml
    >>> shared = lib.share_weights(torch.nn.Sequential(torch.nn.Linear(8, 4)), 4).model.eval()
    >>> _ = export_coreml(shared, "network.mlpackage", torch.ones(1, 8))
    >>> audit_coreml("network.mlpackage", shared)
    [{'layer': '0', 'values_in_file': 4, 'values_in_model': 4, 'equal': True}]
    """
    ct = _coremltools()
    from coremltools.converters.mil.frontend import milproto

    package = ct.models.MLModel(str(path), skip_model_load=True)
    spec = package.get_spec()
    # The package as it is: coremltools' own decompression fuses normalization into weights.
    program = milproto.load.load(spec, spec.specificationVersion, package.weights_dir)
    weights = {
        operation.outputs[0].name: operation
        for operation in program.functions["main"].operations
        if operation.op_type == "constexpr_lut_to_dense"
    }
    found = (weights[_name(i)] for i in range(len(exportable(model))))
    return audited(model, map(_looked_up, found))


def _looked_up(operation):
    """The weight of a lookup in a table, which may be computed: scaled by channel."""
    table = operation.lut.val
    if table is None:
        table = operation.lut.op.materialized_val_inference()
    return operation.decompress(operation.indices.val, table, None)


def _look_up(block, called, name, found, weight):
    """Replace a weight of a program by its lookup in the codebook."""
    from coremltools.converters.mil.mil import Builder, types
    from coremltools.converters.mil.mil.scope import ScopeInfo

    constants = [
        operation
        for operation in block.operations
        if operation.op_type == "const" and np.array_equal(operation.outputs[0].val, weight)
    ]
    if not constants:
        raise ValueError(f"{name}: the converter changed the weight.")
    shared, centers = found[0], found.original.detach().numpy()
    width = next(width for width in WIDTHS if width >= n_bits(len(centers)))
    table = np.pad(centers, (0, 2**width - len(centers)), mode="edge")
    labels = shared.labels.numpy()
    indices = labels.astype(types.nptype_from_builtin(types.string_to_builtin(f"uint{width}")))
    for constant in constants:
        scope = [ScopeInfo(source=key, data=value) for key, value in constant.scopes.items()]
        with block, Builder.scope(*scope):
            weight = Builder.constexpr_lut_to_dense(
                indices=indices,
                lut=table.reshape(*[1] * labels.ndim, -1, 1),
                before_op=constant,
                name=called if shared.scale is None else f"{called}_unscaled",
            )
            if shared.scale is not None:
                weight = Builder.constexpr_blockwise_shift_scale(
                    data=weight, scale=shared.scale.numpy(), before_op=constant, name=called
                )
            block.replace_uses_of_var_after_op(
                anchor_op=constant,
                old_var=constant.outputs[0],
                new_var=weight,
                no_check_var_types=True,
            )
            block.remove_ops([constant])


def _name(i):
    """Name of a program's i-th shared weight: the converter would rewrite names with dots."""
    return f"shared_weight_{i}"


def _coremltools():
    """coremltools, without its warnings about versions of other packages."""
    logging.getLogger("coremltools").setLevel(logging.ERROR)
    return package("coremltools")
