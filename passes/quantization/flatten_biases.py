"""Give Gemm biases the one dimension that quantizers expect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult


@dataclass(frozen=True)
class FlattenBiases(Pass):
    """Give Gemm biases the one dimension that quantizers expect.

    ``Gemm(a, b, c[1, N]) = Gemm(a, b, c[N])``, by broadcasting. onnxruntime's quantizer scales a
    bias along its first axis, and fails on a bias that has its channels in the second.
    A bias that is used elsewhere as well keeps its shape there.
    """

    name: ClassVar[str] = "flatten-biases"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Flatten the biases of all Gemm nodes of the main graph."""
        count = sum(_flatten(model.graph, node) for node in model.graph)
        return PassResult(model, bool(count), {"flattened": count})


def _flatten(graph: ir.Graph, node: ir.Node) -> bool:
    if node.op_type != "Gemm" or node.domain != "" or len(node.inputs) < 3:
        return False
    bias = node.inputs[2]
    if bias is None or bias.name is None or not bias.is_initializer() or bias.is_graph_input():
        return False
    tensor = bias.const_value
    if tensor is None or len(tensor.shape) != 2 or tensor.shape[0] != 1:
        return False
    name = f"{bias.name}_flat"
    if name not in graph.initializers:
        flat = ir.Tensor(tensor.numpy().reshape(-1).copy(), dtype=tensor.dtype, name=name)
        graph.initializers[name] = ir.Value(
            name=name, shape=ir.Shape(flat.shape), type=bias.type, const_value=flat
        )
    node.replace_input_with(2, graph.initializers[name])
    if not bias.uses() and not bias.is_graph_output():
        del graph.initializers[bias.name]
    return True
