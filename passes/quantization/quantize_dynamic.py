"""Store weights in int8 and quantize activations as they come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir
import onnx_ir.passes.common as common

from onnxsmith.errors import SmithError
from onnxsmith.passes.base import PassContext, PassResult
from onnxsmith.passes.cleanup.infer_shapes import InferShapes
from onnxsmith.passes.cleanup.remove_unused_nodes import sweep
from onnxsmith.passes.fusion.contrib import DOMAIN, declare, version_of
from onnxsmith.passes.match import STANDARD, all_nodes, input_of
from onnxsmith.passes.quantization.base import QuantizingPass
from onnxsmith.passes.quantization.detect import refuse_quantized
from onnxsmith.passes.quantization.dynamic import (
    attention,
    convolutions,
    embeddings,
    products,
    recurrent,
    scans,
)
from onnxsmith.passes.quantization.dynamic.writer import LeaveFloat, Writer
from onnxsmith.passes.quantization.select import LeftFloat

Rule = Callable[[Writer, ir.Node], None]

_RULES: dict[tuple[str, str], Rule] = {
    ("", "Conv"): convolutions.conv,
    ("", "Gather"): embeddings.gather,
    ("", "GRU"): scans.gru,
    ("", "Gemm"): products.gemm,
    ("", "LSTM"): recurrent.lstm,
    ("", "MatMul"): products.matmul,
    ("", "RNN"): scans.rnn,
    (DOMAIN, "Attention"): attention.attention,
}
_UNKNOWN = {
    ("", "ConvTranspose"): "the runtime has no integer kernel for it",
    (DOMAIN, "EmbedLayerNormalization"): "its tables are part of the operator",
    (DOMAIN, "FusedMatMul"): "only plain products are quantized as they come",
}
_OPSET = 13  # DequantizeLinear takes a scale for each channel


@dataclass(frozen=True)
class QuantizeDynamic(QuantizingPass):
    """Store weights in int8 and quantize activations as they come; needs no data.

    ``MatMul(x, w) = s_x s_w MatMulInteger(Q(x), Q(w))`` with ``s_x`` and the zero point taken from
    each ``x``, once for all products that read it. Gemm likewise; tables of embeddings are stored
    in int8, once with a product's weight that is tied to them, and scaled after the rows are
    taken; LSTM becomes the runtime's DynamicQuantizeLSTM, and its Attention QAttention, or a
    product and MultiHeadAttention; GRU and RNN of many units become products and a Scan. Bodies
    of If, Loop, Scan and functions are quantized as well; functions that get weights as arguments
    are inlined.

    Options:
        per_channel: Each output channel has a scale of its own.
        reduce_range: Weights keep to 7 bits, for CPUs whose int8 products saturate (x86 without
            VNNI).
        conv: Also convolutions, whose integer kernel is slow: smaller, not faster.

    What is left alone, and said: products of two computed values, weights that are not float32 or
    not finite, transposed first operands, small tables, and layers without an integer kernel.

    Source: the ONNX operators DynamicQuantizeLinear, MatMulInteger and ConvInteger; the fused
    forms are ONNX Runtime's DynamicQuantizeMatMul and MatMulIntegerToFloat.
    """

    name: ClassVar[str] = "quantize-dynamic"

    per_channel: bool = True
    reduce_range: bool = False
    conv: bool = False

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Quantize in the graph, its subgraphs and functions.

        Raises:
            SmithError: The model is quantized already, too old, or nothing in it can be quantized.
        """
        refuse_quantized(model)
        self.selection.check(model)
        if version_of(model) < _OPSET:
            raise SmithError(
                f"opset {version_of(model)} has no scales for channels",
                f"convert the model first: --passes convert-opset:version={_OPSET}",
            )
        _inline(model)
        InferShapes().apply(model, context)
        done, left = Counter[str](), LeftFloat()
        roots: list[ir.Graph | ir.Function] = [model.graph, *model.functions.values()]
        for root in roots:
            writer = Writer(root, self.per_channel, self.reduce_range)
            nodes = list(ir.traversal.RecursiveGraphIterator(root))
            # Products come first: a table may be tied to the weight of one.
            for node in sorted(nodes, key=lambda node: node.op_type == "Gather"):
                self._visit(writer, node, done, left)
        if not done:
            raise SmithError("nothing in the model can be quantized", _why(left))
        if any(node.domain == DOMAIN for node in all_nodes(model, functions=True)):
            declare(model)
        for root in roots:
            sweep(root)
        details = {
            "quantized": done.total(),
            "operators": dict(sorted(done.items())),
            "left_float": left.to_json(),
        }
        return PassResult(model, modified=True, details=details)

    def _visit(self, writer: Writer, node: ir.Node, done: Counter[str], left: LeftFloat) -> None:
        domain = "" if node.domain in STANDARD else node.domain
        rule = _RULES.get((domain, node.op_type))
        if rule is None:
            if reason := _UNKNOWN.get((domain, node.op_type)):
                left.add(node, reason)
            return
        reason = self.selection.refusal(node)
        if not reason and node.op_type == "Conv" and not self.conv:
            reason = "slow when quantized as it comes; the option 'conv' does so, static is fast"
        if reason:
            left.add(node, reason)
            return
        try:
            rule(writer, node)
        except LeaveFloat as refusal:
            if node.op_type != "Gather":  # most take no embeddings
                left.add(node, str(refusal))
            return
        done[node.op_type] += 1


def _inline(model: ir.Model) -> None:
    """Inline functions that have a quantizable node whose weights are arguments."""

    def takes_weights(function: ir.Function) -> bool:
        inputs = set(function.inputs)
        return any(
            input_of(node, place) in inputs
            for node in ir.traversal.RecursiveGraphIterator(function)
            if ("" if node.domain in STANDARD else node.domain, node.op_type) in _RULES
            for place in ((0,) if node.op_type == "Gather" else (1, 2))
        )

    if any(takes_weights(function) for function in model.functions.values()):
        common.InlinePass(criteria=takes_weights)(model)


def _why(left: LeftFloat) -> str:
    reasons = Counter(entry["reason"] for entry in left.to_json())
    if not reasons:
        return "it has no matrix product, embedding or LSTM; see 'onnxsmith inspect'"
    (reason, count), *_ = reasons.most_common(1)
    return f"{count} node{'s are' if count > 1 else ' is'} left in float: {reason}"
