"""Give every value of a model a concrete shape, without reading its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from onnxsmith.inspection.contrib import contrib_schemas
from onnxsmith.storage.save import large_initializers, skeleton

DEFAULT_DIM = 1
"""Size of a free dimension that was not named."""

# Shapes, axes and pads are shorter than this.
_MOST_COPIED = 64


@dataclass(frozen=True)
class ShapedModel:
    """A model made ready to be counted.

    Attributes:
        model: A copy with functions inlined and shapes inferred; its large weights are not there.
        assumed: Sizes taken for the free input dimensions, by name (``?`` for a nameless one).
        warning: Why shape inference stopped, or an empty text.
    """

    model: ir.Model
    assumed: Mapping[str, int]
    warning: str = ""


def infer_shapes(model: ir.Model, dims: Mapping[str, int]) -> ShapedModel:
    """Return a copy of ``model`` with functions inlined and concrete shapes where they are known.

    ONNX's own inference does the work; contrib operators of ONNX Runtime get schemas for the
    time (`onnxsmith.inspection.contrib`). Shapes that depend on data stay unknown.

    Args:
        model: The model; it is not changed.
        dims: Sizes of named dimensions; others become 1.
    """
    copy = model.clone()
    if copy.functions:
        copy = InlinePass()(copy).model
    assumed = _fix_inputs(copy, dims)
    _loosen_others(copy, assumed)
    _copy_constants_inward(copy)
    proto = skeleton(copy, {value.name or "": _absent(value) for value in large_initializers(copy)})
    try:
        with contrib_schemas():
            inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        reason = " ".join(str(error).split())[:300]
        return ShapedModel(copy, assumed, f"shape inference stopped: {reason}")
    return ShapedModel(ir.from_proto(inferred), assumed)


def sizes(value: ir.Value | None) -> tuple[int, ...] | None:
    """Return the value's shape where every dimension is known."""
    if value is None or value.shape is None:
        return None
    dims = [d for d in value.shape if isinstance(d, int)]
    return tuple(dims) if len(dims) == len(value.shape) else None


def _fix_inputs(model: ir.Model, dims: Mapping[str, int]) -> dict[str, int]:
    assumed: dict[str, int] = {}
    for value in model.graph.inputs:
        if value.shape is None:
            continue
        fixed: list[int] = []
        for dim in value.shape:
            if isinstance(dim, int):
                fixed.append(dim)
                continue
            name = dim.value or ""
            fixed.append(dims.get(name, DEFAULT_DIM))
            assumed[name or "?"] = fixed[-1]
        value.shape = ir.Shape(fixed)
    return assumed


def _loosen_others(model: ir.Model, assumed: Mapping[str, int]) -> None:
    """Put the assumed sizes into all other shapes; names that no input has become unknown.

    Shapes stay for the sake of operators that have no inference; inference fills the unknowns.
    """
    for node in model.graph.all_nodes():
        for value in node.outputs:
            if value.shape is not None:
                value.shape = ir.Shape([_loosened(dim, assumed) for dim in value.shape])


def _loosened(dim: int | ir.SymbolicDim, assumed: Mapping[str, int]) -> int | None:
    return dim if isinstance(dim, int) else assumed.get(dim.value or "")


def _copy_constants_inward(model: ir.Model) -> None:
    """Give each subgraph its own copy of the small constants that it reads from outside.

    ONNX's inference knows the values of a graph's own constants only, and a Pad or a Reshape in a
    branch has an unknown shape without them.
    """
    for number, graph in enumerate(model.graphs()):
        if graph is model.graph:
            continue
        copies: dict[ir.Value, ir.Value] = {}
        for node in graph:
            for index, value in enumerate(node.inputs):
                tensor = None if value is None else ir.convenience.get_const_tensor(value)
                if value is None or tensor is None or value.graph is graph:
                    continue
                if tensor.size > _MOST_COPIED or value.name is None:
                    continue
                if value not in copies:
                    name = f"{value.name}/copy{len(copies)}/{number}"
                    copies[value] = ir.Value(
                        name=name,
                        const_value=tensor,
                        shape=ir.Shape(tensor.shape.numpy()),
                        type=ir.TensorType(tensor.dtype),
                    )
                    graph.register_initializer(copies[value])
                node.replace_input_with(index, copies[value])


def _absent(value: ir.Value) -> ir.ExternalTensor:
    """Stand in for a weight: inference needs its type and shape, never its values."""
    tensor = value.const_value
    assert tensor is not None  # large_initializers returns values that have one
    shape = ir.Shape(tensor.shape.numpy())
    return ir.ExternalTensor(
        "absent", 0, tensor.nbytes, tensor.dtype, shape=shape, name=value.name or ""
    )
