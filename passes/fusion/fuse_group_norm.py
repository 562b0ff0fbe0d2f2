"""Recognize group normalization in its primitives."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.fusion.contrib import float_attribute, is_float, loads
from onnxsmith.passes.match import (
    add_constant,
    all_nodes,
    array_of,
    is_op,
    made_by,
    only_user,
    replace,
    same_shape,
    tensor_of,
)
from onnxsmith.passes.views import trace

Array = np.ndarray[Any, Any]
_OPSET = 21


@dataclass(frozen=True)
class FuseGroupNorm(Pass):
    """Recognize group normalization in its primitives.

    ``Reshape(InstanceNormalization(Reshape(x, [N, G, -1]), 1, 0), shape(x)) g + b`` is
    ``GroupNormalization(x, g, b)`` of G groups of channels from opset 21 on, which has a scale for
    each channel; scales that are missing are one, biases zero.

    In no preset: the runtime has no kernel for the operator, and runs its definition, which
    ``benchmarks/fusions.py`` measures slower on CPU. TensorRT's parser and other compilers know it.

    What is left alone: models below opset 21 and for targets that do not load it; groups or
    channels of unknown number; scales within the groups; inner values that anything else reads;
    element types other than float32 and float16.

    Source: Wu and He, "Group Normalization", 2018.
    """

    name: ClassVar[str] = "fuse-group-norm"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Fuse in the graph and its subgraphs; shapes should be inferred."""
        if not loads(model, context.target, _OPSET):
            return PassResult(model, False, {"refused": f"it needs opset {_OPSET}"})
        nodes = [node for node in all_nodes(model) if is_op(node, "InstanceNormalization")]
        count = sum(_fuse(node) for node in nodes)
        return PassResult(model, bool(count), {"fused": count})


def _fuse(norm: ir.Node) -> bool:
    outer = only_user(norm.outputs[0], "Reshape")
    x = _grouped(norm)
    epsilon = float_attribute(norm, "epsilon", 1e-5)
    if outer is None or x is None or epsilon is None or outer.graph is None or x.shape is None:
        return False
    if not (same_shape(x, outer.outputs[0]) or _has_shape_of(outer, x)):
        return False
    channels, groups = x.shape[1], _groups(norm)
    assert isinstance(channels, int)  # _grouped() asked for it
    last, found = outer, list[Array]()
    for kind, default in (("Mul", 1), ("Add", 0)):
        user = only_user(last.outputs[0], kind)
        array = None if user is None else _each_channel(user, last.outputs[0], x)
        if user is not None and array is not None:
            last = user
        found.append(np.full(channels, default) if array is None else array)
    dtype = x.dtype
    assert dtype is not None  # _grouped() asked for it
    name = last.outputs[0].name
    parameters = [
        add_constant(outer.graph, array.astype(dtype.numpy()), f"{name}/{kind}")
        for array, kind in zip(found, ("scale", "bias"), strict=True)
    ]
    attributes = {"num_groups": groups, "epsilon": epsilon}
    replace(last, ir.node("GroupNormalization", [x, *parameters], attributes))
    return True


def _groups(norm: ir.Node) -> int:
    tensor = tensor_of(norm.inputs[1])
    return 0 if tensor is None else int(tensor.size)


def _grouped(norm: ir.Node) -> ir.Value | None:
    """Return x where the normalized value is x with its channels in groups, and nothing else."""
    value, groups = norm.inputs[0], _groups(norm)
    reshape = made_by(value, "Reshape")
    x = None if reshape is None else reshape.inputs[0]
    scale, bias = (array_of(v, 1 << 16) for v in norm.inputs[1:3])
    if x is None or value is None or scale is None or bias is None or not is_float(x):
        return None
    if (scale != 1).any() or (bias != 0).any() or x.shape is None or len(x.shape) < 3:
        return None
    view = trace(value, 1)
    channels = x.shape[1]
    if view is None or view.root is not x or len(view.dims) != 3 or not isinstance(channels, int):
        return None
    sizes = [atom.size for atom in view.dims[1] if isinstance(atom.size, int) and atom.axis == 1]
    together = len(sizes) == len(view.dims[1]) and math.prod(sizes) == groups
    return x if view.is_whole(0, 0) and together and channels % groups == 0 else None


def _has_shape_of(outer: ir.Node, x: ir.Value) -> bool:
    """Tell whether a Reshape's target is the shape of x."""
    shape = made_by(outer.inputs[1], "Shape")
    return shape is not None and shape.inputs[0] is x and not set(shape.attributes) & {"end"}


def _each_channel(user: ir.Node, value: ir.Value, x: ir.Value) -> Array | None:
    """Return the constant with a number for each channel that a value is scaled or shifted by."""
    other = next((v for v in user.inputs if v is not value), None)
    array = array_of(other, 1 << 16)
    if array is None or x.shape is None:
        return None
    places = len(x.shape)
    shape = [1] * (places - array.ndim) + list(array.shape)
    return array.reshape(-1) if shape == [1, x.shape[1], *[1] * (places - 2)] else None
