"""Remove casts that change nothing, and merge chains of casts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.match import all_nodes, bypass, int_attribute, is_op, made_by, replace

_D = ir.DataType
_INTEGERS = {
    _D.BOOL: (0, 1),
    _D.UINT8: (0, 8),
    _D.UINT16: (0, 16),
    _D.UINT32: (0, 32),
    _D.UINT64: (0, 64),
    _D.INT8: (1, 7),
    _D.INT16: (1, 15),
    _D.INT32: (1, 31),
    _D.INT64: (1, 63),
}
"""Whether a type has a sign, and the bits of its numbers."""

# Bits of numbers that are exact, largest exponent, and smallest (of subnormal numbers).
_FLOATS = {
    _D.FLOAT16: (11, 15, -24),
    _D.BFLOAT16: (8, 127, -133),
    _D.FLOAT: (24, 127, -149),
    _D.DOUBLE: (53, 1023, -1074),
}


@dataclass(frozen=True)
class RemoveNoOpCasts(Pass):
    """Remove casts that change nothing, and merge chains of casts.

    ``Cast(x, to=type(x)) = x``, and ``Cast(Cast(x, a), b) = Cast(x, b)`` where every number of the
    type of ``x`` has a place in ``a``. ``CastLike(x, y) = Cast(x, to=type(y))``, which a constant
    ``x`` needs to be folded. Types should be inferred.

    What is left alone: chains through a type that rounds or cuts (float32 to float16 and back), and
    text.
    """

    name: ClassVar[str] = "remove-no-op-casts"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Remove and merge in the graph, its subgraphs and the functions."""
        count = sum(
            [
                _simplify(node)
                for node in all_nodes(model, functions=True)
                if is_op(node, "Cast", "CastLike")
            ]
        )
        return PassResult(model, bool(count), {"removed": count})


def _simplify(node: ir.Node) -> bool:
    source, to = node.inputs[0], _target(node)
    if source is None or source.dtype is None or to is None:
        return False
    if source.dtype == to:
        return bypass(node, source)
    before = made_by(source, "Cast", "CastLike")
    first = None if before is None else before.inputs[0]
    middle = None if before is None else _target(before)
    if to not in _INTEGERS and to not in _FLOATS:
        return False
    if first is None or first.dtype is None or middle is None or not holds(middle, first.dtype):
        if node.op_type == "CastLike":
            replace(node, ir.node("Cast", [source], {"to": int(to)}))
        return node.op_type == "CastLike"
    if first.dtype == to:
        return bypass(node, first)
    replace(node, ir.node("Cast", [first], {"to": int(to)}))
    return True


def _target(node: ir.Node) -> ir.DataType | None:
    if node.op_type == "CastLike":
        like = node.inputs[1]
        return None if like is None else like.dtype
    to = int_attribute(node, "to")
    return None if to is None else ir.DataType(to)


def holds(wide: ir.DataType, narrow: ir.DataType) -> bool:
    """Tell whether every number of a type has a place in another type."""
    if narrow in _INTEGERS:
        sign, bits = _INTEGERS[narrow]
        if wide in _INTEGERS:
            # Through a bool everything but 0 and 1 is lost, and a bool fits everywhere.
            return sign <= _INTEGERS[wide][0] and bits <= _INTEGERS[wide][1]
        return wide in _FLOATS and bits <= _FLOATS[wide][0] and bits <= _FLOATS[wide][1]
    if narrow in _FLOATS and wide in _FLOATS:
        (a, high, low), (b, highest, lowest) = _FLOATS[narrow], _FLOATS[wide]
        return a <= b and high <= highest and low >= lowest
    return False
