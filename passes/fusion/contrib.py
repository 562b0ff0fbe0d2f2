"""What fusions into the runtime's own operators (domain com.microsoft) share."""

from __future__ import annotations

import onnx_ir as ir

from onnxsmith.passes.match import STANDARD
from onnxsmith.target import Target

DOMAIN = "com.microsoft"
"""The domain of ONNX Runtime's own operators."""

FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16)
"""Element types for which every kernel that the fusions use exists."""


def declare(model: ir.Model) -> None:
    """Import the runtime's operators into a model, and into those functions that use them."""
    model.opset_imports.setdefault(DOMAIN, 1)
    for function in model.functions.values():
        if any(node.domain == DOMAIN for node in ir.traversal.RecursiveGraphIterator(function)):
            function.opset_imports.setdefault(DOMAIN, 1)


def version_of(model: ir.Model) -> int:
    """Return the version of the standard operators that a model imports; 0 without any."""
    return max((model.opset_imports.get(domain) or 0 for domain in STANDARD), default=0)


def loads(model: ir.Model, target: Target, opset: int) -> bool:
    """Tell whether operators of an opset may stand in a model, and its target loads them."""
    return version_of(model) >= opset and target.max_opset >= opset


def contrib(kind: str, inputs: list[ir.Value | None], attributes: dict[str, object]) -> ir.Node:
    """Return a node of the runtime's own operator; inputs left out at the end are dropped."""
    while inputs and inputs[-1] is None:
        inputs.pop()
    return ir.node(kind, inputs, attributes, domain=DOMAIN)  # type: ignore[arg-type]


def take_over(old: ir.Value, new: ir.Value) -> None:
    """Let a value of a new node take the name, type, shape and readers of an old one."""
    new.name, new.type, new.shape = old.name, old.type, old.shape
    old.name = None
    old.replace_all_uses_with(new, replace_graph_outputs=True)


def rank(value: ir.Value | None) -> int | None:
    """Return how many dimensions a value has, if known."""
    return None if value is None or value.shape is None else len(value.shape)


def is_float(value: ir.Value | None) -> bool:
    """Tell whether a value is float32 or float16, the types of the runtime's fused kernels."""
    return value is not None and value.dtype in FLOATS


def float_attribute(node: ir.Node, name: str, default: float) -> float | None:
    """Return a number attribute; None where it is a function's parameter."""
    found = node.attributes.get(name)
    if found is None:
        return default
    return None if found.is_ref() else found.as_float()
