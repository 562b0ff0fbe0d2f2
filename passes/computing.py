"""Which element types does a model compute in?"""

from __future__ import annotations

import onnx_ir as ir

from onnxsmith.passes.base import PassContext
from onnxsmith.passes.cleanup.infer_shapes import InferShapes
from onnxsmith.passes.match import all_nodes, is_op

# These hand values on, or only change how they are stored.
_CARRIERS = (
    "Cast", "CastLike", "Concat", "Constant", "DequantizeLinear", "Expand", "Flatten", "Gather",
    "Identity", "QuantizeLinear", "Reshape", "Slice", "Split", "Squeeze", "Tile", "Transpose",
    "Unsqueeze",
)  # fmt: skip


def computes_in(model: ir.Model, dtype: ir.DataType) -> bool:
    """Tell whether a node of the model computes a result of this type, as far as types are known.

    Args:
        model: The model; it is not changed.
        dtype: The element type.
    """
    typed = model.clone()
    InferShapes().apply(typed, PassContext())
    return any(
        value.dtype == dtype
        for node in all_nodes(typed, functions=True)
        if not is_op(node, *_CARRIERS)
        for value in node.outputs
    )
