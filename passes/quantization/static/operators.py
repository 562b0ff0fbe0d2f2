"""Which operators have integer kernels, and what these need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir

from onnxsmith.passes.match import STANDARD, input_of, int_attribute, ints_attribute, tensor_of

Kind = Literal["product", "arithmetic", "move"]


@dataclass(frozen=True)
class Operator:
    """How one operator is quantized.

    Attributes:
        kind: ``product`` is what int8 is for: a convolution or matrix product; ``arithmetic`` is
            worth it between products; ``move`` only moves values, so that what goes in and what
            comes out has one scale.
        refuse: Says why a node cannot be quantized, or returns an empty text.
        weight: The input that holds the weight, where there is one.
        axis: The axis of the weight's output channels, given the node; None for one scale.
        bias: The input that holds the bias.
        inputs: The inputs that are activations; None for all.
        must_round: Whether the integer kernel gives integers only.
        needs_reader: Whether it is left in float unless its result is read as integers.
    """

    kind: Kind
    refuse: Callable[[ir.Node], str] = lambda node: ""
    weight: int | None = None
    axis: Callable[[ir.Node], int | None] = lambda node: None
    bias: int | None = None
    inputs: tuple[int, ...] | None = None
    must_round: bool = True
    needs_reader: bool = False

    def activations(self, node: ir.Node) -> list[int]:
        """Return the inputs that are activations."""
        indices = range(len(node.inputs)) if self.inputs is None else self.inputs
        return [i for i in indices if i < len(node.inputs) and node.inputs[i] is not None]


def find(node: ir.Node) -> Operator | None:
    """Return how a node's operator is quantized; None where it is not."""
    return OPERATORS.get(node.op_type) if node.domain in STANDARD else None


def constant_weight(node: ir.Node, index: int) -> ir.TensorProtocol | None:
    """Return a weight that is the same in every run."""
    return tensor_of(input_of(node, index))


def _conv(node: ir.Node) -> str:
    bias = input_of(node, 2)
    if constant_weight(node, 1) is None:
        return "its weight is not a constant"
    if bias is not None and tensor_of(bias) is None:
        return "its bias is not a constant"
    return ""


def _conv_transpose_axis(node: ir.Node) -> int | None:
    """Channels lie in the second axis; groups repeat them, and then there is one scale for all."""
    return 1 if int_attribute(node, "group", 1) == 1 else None


def _matmul(node: ir.Node) -> str:
    weight = constant_weight(node, 1)
    if weight is None:
        made = constant_weight(node, 0) is not None
        return "its first factor is a constant" if made else BOTH_ACTIVATIONS
    return "" if len(weight.shape) > 1 else "its weight is a vector"


BOTH_ACTIVATIONS = "both of its factors are activations"
"""The reason for products without a weight, which are quantized where that was asked for."""


def _matmul_axis(node: ir.Node) -> int | None:
    weight = constant_weight(node, 1)
    return 1 if weight is not None and len(weight.shape) == 2 else None


def _gemm(node: ir.Node) -> str:
    weight, bias = constant_weight(node, 1), input_of(node, 2)
    if weight is None:
        return "its weight is not a constant"
    if int_attribute(node, "transA", 0) != 0:
        return "its first factor is transposed"
    if bias is None:
        return ""
    beta = node.attributes.get("beta")
    if beta is not None and (beta.is_ref() or beta.as_float() != 1.0):
        return "its bias is scaled"
    tensor = tensor_of(bias)
    columns = weight.shape[0 if int_attribute(node, "transB", 0) else 1]
    if tensor is None or list(tensor.shape) != [columns]:
        return "its bias is not one constant for each column"
    return ""


def _gemm_axis(node: ir.Node) -> int | None:
    return 0 if int_attribute(node, "transB", 0) else 1


def _average_pool(node: ir.Node) -> str:
    if int_attribute(node, "ceil_mode", 0) != 0:
        return "the integer kernel does not round sizes up"
    if any(d != 1 for d in ints_attribute(node, "dilations") or ()):
        return "the integer kernel does not dilate"
    return ""


def _max_pool(node: ir.Node) -> str:
    return "its indices are asked for" if len(node.outputs) > 1 else ""


def _resize(node: ir.Node) -> str:
    mode = node.attributes.get("mode")
    if mode is not None and mode.as_string() not in ("nearest", "linear"):
        return "the integer kernel knows nearest and linear only"
    return "the integer kernel has no filter" if int_attribute(node, "antialias", 0) else ""


def _gather(node: ir.Node) -> str:
    return "its data is a constant" if constant_weight(node, 0) is not None else ""


_FIRST = (0,)

OPERATORS: dict[str, Operator] = {
    "Conv": Operator("product", _conv, 1, lambda node: 0, bias=2, inputs=_FIRST),
    "ConvTranspose": Operator("product", _conv, 1, _conv_transpose_axis, bias=2, inputs=_FIRST),
    "Gemm": Operator("product", _gemm, 1, _gemm_axis, bias=2, inputs=_FIRST, must_round=False),
    "MatMul": Operator("product", _matmul, 1, _matmul_axis, inputs=_FIRST, must_round=False),
    "Add": Operator("arithmetic"),
    "Mul": Operator("arithmetic"),
    "Concat": Operator("arithmetic"),
    "AveragePool": Operator("arithmetic", _average_pool),
    "GlobalAveragePool": Operator("arithmetic"),
    "LeakyRelu": Operator("arithmetic", needs_reader=True),
    "Sigmoid": Operator("arithmetic", needs_reader=True),
    "MaxPool": Operator("move", _max_pool),
    "DepthToSpace": Operator("move"),
    "Resize": Operator("move", _resize, inputs=_FIRST),
    "Expand": Operator("move", inputs=_FIRST),
    "Flatten": Operator("move"),
    "Gather": Operator("move", _gather, inputs=_FIRST),
    "Reshape": Operator("move", inputs=_FIRST),
    "Slice": Operator("move", inputs=_FIRST),
    "Split": Operator("move", inputs=_FIRST),
    "Squeeze": Operator("move", inputs=_FIRST),
    "Tile": Operator("move", inputs=_FIRST),
    "Transpose": Operator("move"),
    "Unsqueeze": Operator("move", inputs=_FIRST),
}
"""Operator to how it is quantized: those whose pairs of QuantizeLinear and DequantizeLinear the
runtime takes into an integer kernel, or can drop.

Source: onnxruntime, ``core/optimizer/qdq_transformer/selectors_actions``.
"""

ABSORBED = ("Relu", "Clip")
"""Operators that rounding to unsigned integers makes superfluous: it clips as well."""
