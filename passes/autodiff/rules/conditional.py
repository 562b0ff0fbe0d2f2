"""The gradient of If.

Source: If of ONNX.
"""

from __future__ import annotations

import onnx_ir as ir

from onnxsmith.passes.autodiff.backward import Backward, Gradients
from onnxsmith.passes.autodiff.path import captured
from onnxsmith.passes.autodiff.subgraphs import body_graph, copy_of, differentiate_copy


def conditional(b: Backward) -> Gradients:
    """An If of the gradients of both branches, which are computed again in it.

    Its inputs are what the branches read from outside; what only the other branch reads gets zeros.
    """
    outside = captured(b.node)
    wanted = [value for value, need in zip(outside, b.needs[1:], strict=True) if need]
    branches: dict[str, object] = {
        name: _branch(b, b.node.attributes[name].as_graph(), wanted)
        for name in ("then_branch", "else_branch")
    }
    found = b.write.ops("If", b.x(0), outputs=len(wanted), attributes=branches)
    for value, gradient in zip(wanted, found, strict=True):
        gradient.type, gradient.shape = value.type, value.shape
    by_value = dict(zip(wanted, found, strict=True))
    return [None, *(by_value.get(value) for value in outside)]


def _branch(b: Backward, branch: ir.Graph, wanted: list[ir.Value]) -> ir.Graph:
    inner = b.write.inner()
    copy = copy_of(b, branch, b.write)
    found = differentiate_copy(b, copy, b.grads, wanted, inner)
    outputs = [
        inner.zeros_like(value) if gradient is None else gradient
        for value, gradient in zip(wanted, found, strict=True)
    ]
    return body_graph(inner, [], outputs, copy)
