"""Tell whether outputs may be written over inputs."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from onnxsmith.passes.autodiff.path import inputs_of


def overwritten_too_early(model: ir.Model, places: Mapping[str, str]) -> list[str]:
    """Return the inputs that something may read after they were written over.

    The runtime writes an output straight into the memory bound to it. Over an input that is safe
    where every reader of the input is the writer itself, element by element, or leads to it.

    Args:
        model: What runs.
        places: Output to the input whose memory it is written to.
    """
    outputs = {value.name: value for value in model.graph.outputs}
    inputs = {value.name: value for value in model.graph.inputs}
    wrong = []
    for output, source in places.items():
        before = _leading_to(outputs[output])
        if any(use.node not in before for use in inputs[source].uses()):
            wrong.append(source)
    return wrong


def _leading_to(value: ir.Value) -> set[ir.Node]:
    """Return the nodes that have run when a value is there, its own maker included."""
    found: set[ir.Node] = set()
    pending = [value.producer()]
    while pending:
        node = pending.pop()
        if node is None or node in found:
            continue
        found.add(node)
        pending += [read.producer() for read in inputs_of(node)]
    return found
