"""InnerProduct, Embed, and layers that hold a constant.

Source: BVLC Caffe, src/caffe/layers/inner_product_layer.cpp, embed_layer.cpp.
"""

from __future__ import annotations

import math

import numpy as np

from onnxsmith.pipeline.frontends.caffe.builder import Tensor
from onnxsmith.pipeline.frontends.caffe.dims import Dims, count
from onnxsmith.pipeline.frontends.caffe.scope import INT64, Scope


def inner_product(scope: Scope) -> Tensor:
    """Gemm on the blob flattened before and from an axis."""
    bottom = scope.bottom()
    param = scope.param("inner_product_param")
    outputs = param.size("num_output", 0)
    if not outputs:
        raise scope.refuse("its num_output is 0", "mend the .prototxt")
    axis = scope.axis(param.integer("axis", 1), bottom.rank)
    (width,) = scope.known([count(bottom.dims[axis:])])
    flat = bottom if bottom.rank == 2 and axis == 1 else scope.flatten(bottom, axis)
    attributes = {}
    if param.flag("transpose", False):
        weight = scope.weight(0, (width, outputs), "weight")
    else:
        weight = scope.weight(0, (outputs, width), "weight")
        attributes["transB"] = 1
    inputs = [flat, weight]
    if param.flag("bias_term", True):
        inputs.append(scope.weight(1, (outputs,), "bias"))
    found = scope.op("Gemm", inputs, (flat.dims[0], outputs), attributes)
    return scope.reshape(found, (*bottom.dims[:axis], outputs))


def embed(scope: Scope) -> Tensor:
    """Gather of rows by the numbers of the bottom."""
    bottom = scope.bottom()
    param = scope.param("embed_param")
    rows, outputs = param.size("input_dim", 0), param.size("num_output", 0)
    if not rows or not outputs:
        raise scope.refuse("its input_dim or num_output is 0", "mend the .prototxt")
    dims = (*bottom.dims, outputs)
    index = scope.op("Cast", [bottom], bottom.dims, {"to": int(INT64)}, INT64)
    found = scope.op("Gather", [scope.weight(0, (rows, outputs), "weight"), index], dims)
    if param.flag("bias_term", True):
        found = scope.op("Add", [found, scope.weight(1, (outputs,), "bias")], dims)
    return found


def parameter(scope: Scope) -> Tensor:
    """Parameter: a learned constant."""
    shape = scope.param("parameter_param").message("shape").sizes("dim")
    return scope.weight(0, tuple(shape), "parameter")


def dummy_data(scope: Scope) -> list[Tensor]:
    """DummyData beside a real input: a constant for each top."""
    param = scope.param("dummy_data_param")
    values = [filler.number("value", 0) for filler in param.messages("data_filler")] or [0.0]
    shapes = [tuple(shape.sizes("dim")) for shape in param.messages("shape")]
    if not shapes:
        legacy = [param.sizes(name) for name in ("num", "channels", "height", "width")]
        shapes = list(zip(*legacy, strict=False))
    tops = len(scope.layer.tops)
    if len(values) not in (1, tops) or len(shapes) not in (1, tops):
        raise scope.refuse(
            f"it has {tops} tops, {len(values)} fillers and {len(shapes)} shapes",
            "give one for all or one each",
        )
    return [
        _filled(scope, shapes[at if len(shapes) > 1 else 0], values[at if len(values) > 1 else 0])
        for at in range(tops)
    ]


def _filled(scope: Scope, shape: Dims, value: float) -> Tensor:
    sizes = scope.known(shape)
    scope.check(sizes)
    scope.check_constant(math.prod(sizes))
    return scope.constant(np.full(sizes, value, np.float32), "values")
