"""Remove opset imports of domains that no node uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult

# Two names of one domain, and the runtime asks for an import of it even where nothing uses it.
_STANDARD = ("", "ai.onnx")


@dataclass(frozen=True)
class RemoveUnusedOpsets(Pass):
    """Remove opset imports of domains that no node uses.

    An import is used where a node or a function of the model has its domain. The import of the
    standard operators stays under the name that the model gives it, ``""`` or ``ai.onnx``.

    onnx_ir's pass of that name knows the first name only and leaves no import at all to a model
    that writes ``ai.onnx``, which the runtime refuses.
    """

    name: ClassVar[str] = "remove-unused-opsets"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Remove them from the model and from each function."""
        functions = list(model.functions.values())
        # A function's own domain needs its import even where nothing calls the function.
        count = _remove(model.graph, {function.domain for function in functions})
        count += sum(_remove(function, set()) for function in functions)
        return PassResult(model, bool(count), {"removed": count})


def _remove(graph: ir.Graph | ir.Function, known: set[str]) -> int:
    used = known | {node.domain for node in ir.traversal.RecursiveGraphIterator(graph)}
    unused = [d for d in graph.opset_imports if d not in used and d not in _STANDARD]
    for domain in unused:
        del graph.opset_imports[domain]
    return len(unused)
