"""Do two bodies compute the same?"""

from __future__ import annotations

from collections.abc import Hashable

import onnx_ir as ir

from onnxsmith.passes.match import RANDOM, STANDARD

# The only domains whose operators are known to give the same result for the same inputs.
PURE = (*STANDARD, "ai.onnx.ml")
_MAX_TENSOR = 1024


def same_results(first: ir.Graph, second: ir.Graph) -> bool:
    """Tell whether bodies without inputs are known to give equal outputs."""
    if len(first.outputs) != len(second.outputs):
        return False
    known: dict[tuple[ir.Value, ir.Value], bool] = {}
    pairs = zip(first.outputs, second.outputs, strict=True)
    return all(_same(a, b, (first, second), known) for a, b in pairs)


def _same(
    a: ir.Value,
    b: ir.Value,
    bodies: tuple[ir.Graph, ir.Graph],
    known: dict[tuple[ir.Value, ir.Value], bool],
) -> bool:
    """Compare two values, each of its body or from outside, without recursion."""
    pending = [(a, b)]
    while pending:
        pair = pending[-1]
        if pair in known:
            pending.pop()
            continue
        needed = _needed(*pair, bodies)
        if needed is None:
            known[pair] = False
        elif missing := [each for each in needed if each not in known]:
            pending += missing
        else:
            known[pair] = all(known[each] for each in needed)
    return known[a, b]


def _needed(
    a: ir.Value, b: ir.Value, bodies: tuple[ir.Graph, ir.Graph]
) -> list[tuple[ir.Value, ir.Value]] | None:
    """Return the pairs that have to be equal for two values to be; None where they are not."""
    if a is b:
        return []
    left, right = a.producer(), b.producer()
    if left is None or right is None:
        return [] if _equal_tensors(a, b) else None
    if left.graph is not bodies[0] or right.graph is not bodies[1]:
        return None  # one is from outside
    if a.index() != b.index() or key_of(left, inputs=False) != key_of(right, inputs=False):
        return None
    if key_of(left, inputs=False) is None or len(left.inputs) != len(right.inputs):
        return None
    pairs = list(zip(left.inputs, right.inputs, strict=True))
    if any((x is None) != (y is None) for x, y in pairs):
        return None
    return [(x, y) for x, y in pairs if x is not None and y is not None]


def _equal_tensors(a: ir.Value, b: ir.Value) -> bool:
    first, second = a.const_value, b.const_value
    if not (a.is_initializer() and b.is_initializer()) or first is None or second is None:
        return False
    if a.is_graph_input() or b.is_graph_input():
        return False
    alike = first.dtype == second.dtype and first.shape == second.shape
    if not alike or first.dtype == ir.DataType.STRING or first.size > _MAX_TENSOR:
        return False
    return first.tobytes() == second.tobytes()


def key_of(node: ir.Node, *, inputs: bool = True) -> Hashable | None:
    """Return what equal nodes agree in; None for a node that must not be taken for another.

    Args:
        node: The node.
        inputs: Whether also its inputs, as they are.
    """
    if node.domain not in PURE or node.op_type in RANDOM:
        return None
    attributes = []
    for name, attribute in node.attributes.items():
        value = _attribute(attribute)
        if value is None:
            return None
        attributes.append((name, value))
    domain = "" if node.domain in STANDARD else node.domain
    read = list(node.inputs) if inputs else []
    while read and read[-1] is None:  # left out at the end, or not written at all
        read.pop()
    given = tuple(None if value is None else id(value) for value in read)
    # Some operators give other results where an optional output is asked for.
    asked = tuple(bool(value.name) for value in node.outputs)
    return domain, node.op_type, node.overload, given, asked, tuple(sorted(attributes))


def _attribute(attribute: ir.Attr) -> Hashable | None:
    """Return an attribute's value so that equal ones are equal; None where that costs too much."""
    kind = attribute.type
    if attribute.is_ref():
        return f"{kind.name} of {attribute.ref_attr_name}"
    if kind == ir.AttributeType.TENSOR:
        tensor = attribute.as_tensor()
        if tensor.size > _MAX_TENSOR or tensor.dtype == ir.DataType.STRING:
            return None
        return f"{tensor.dtype.name} {tuple(tensor.shape.numpy())} {tensor.tobytes().hex()}"
    if kind.name in ("INT", "INTS", "FLOAT", "FLOATS", "STRING", "STRINGS"):
        return f"{kind.name} {attribute.value!r}"
    return None
