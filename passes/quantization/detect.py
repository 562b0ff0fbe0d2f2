"""Is a model quantized already?"""

from __future__ import annotations

import onnx_ir as ir

from onnxsmith.errors import SmithError
from onnxsmith.passes.match import all_nodes

QUANTIZED_OPS = frozenset(
    {
        "ConvInteger",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "DynamicQuantizeLSTM",
        "DynamicQuantizeMatMul",
        "MatMulBnb4",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "MatMulNBits",
        "QAttention",
        "QGemm",
        "QLinearAdd",
        "QLinearConv",
        "QLinearMatMul",
        "QMoE",
        "QuantizeLinear",
    }
)
"""Operators that only quantized models have, of whatever domain."""


def count_quantized(model: ir.Model) -> int:
    """Return the number of quantized operators, those of subgraphs and functions included."""
    return sum(node.op_type in QUANTIZED_OPS for node in all_nodes(model, functions=True))


def refuse_quantized(model: ir.Model) -> None:
    """Refuse a model that is quantized already.

    Raises:
        SmithError: It is: what was lost by rounding once is not found again.
    """
    if count_quantized(model):
        raise SmithError(
            "the model is quantized already", "start from the float model it was made from"
        )
