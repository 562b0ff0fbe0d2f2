"""Replace calls of model-local functions by their bodies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx
import onnx_ir as ir
import onnx_ir.passes.common as common

from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.match import STANDARD


@dataclass(frozen=True)
class InlineFunctions(Pass):
    """Replace calls of model-local functions by their bodies.

    What is left alone: functions written for another version of an operator set than the model's,
    where the two versions define one of their operators differently.

    Source: ``onnx_ir.passes.common.InlinePass``, which gives up on the model where one function has
    another version.
    """

    name: ClassVar[str] = "inline-functions"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Inline in the graph, its subgraphs and the other functions."""
        kept = {f.identifier() for f in model.functions.values() if not _adopt(model, f)}
        result = common.InlinePass(criteria=lambda f: f.identifier() not in kept)(model)
        details = {"kept": sorted(name for _, name, _ in kept)} if kept else {}
        return PassResult(result.model, result.modified, details)


def _adopt(model: ir.Model, function: ir.Function) -> bool:
    """Let a function import the model's versions; return whether it means the same by them."""
    imports = model.opset_imports
    other = {
        domain
        for domain, version in function.opset_imports.items()
        if imports.get(domain, version) != version
    }
    for node in ir.traversal.RecursiveGraphIterator(function):
        domain = "" if node.domain in STANDARD else node.domain
        if domain in other and not _same(
            node.op_type, domain, imports[domain], function.opset_imports[domain]
        ):
            return False
    for domain in other:
        function.opset_imports[domain] = imports[domain]
    return True


def _same(kind: str, domain: str, *versions: int) -> bool:
    """Tell whether versions of an operator set define an operator by the same text."""
    try:
        since = {onnx.defs.get_schema(kind, version, domain).since_version for version in versions}
    except onnx.defs.SchemaError:  # not an operator of ONNX
        return False
    return len(since) == 1
