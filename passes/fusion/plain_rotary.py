"""Rotary position embedding in terms of plainer operators."""

from __future__ import annotations

import onnx_ir as ir

from onnxsmith.passes.fusion.contrib import DOMAIN, float_attribute, rank
from onnxsmith.passes.fusion.plain import Plain, Values, typed
from onnxsmith.passes.match import array_of, input_of, int_attribute

_NUMBERS = ("interleaved", "rotary_embedding_dim", "is_packed_batching")
_PARTS_OF_SHAPES = 15


def rotary(plain: Plain, node: ir.Node) -> Values | None:
    """Write ``Concat(x1 cos - x2 sin, x2 cos + x1 sin)`` of the halves x1 and x2."""
    x = typed(node)
    own = node.domain == DOMAIN
    cos, sin = (input_of(node, place) for place in ((2, 3) if own else (1, 2)))
    positions = input_of(node, 1 if own else 3)
    if x is None or cos is None or sin is None or rank(x) not in (3, 4) or cos.shape is None:
        return None
    if any(int_attribute(node, name, 0) != 0 for name in _NUMBERS):
        return None
    half = cos.shape[-1]
    if not isinstance(half, int) or float_attribute(node, "scale", 1.0) != 1:
        return None
    if positions is not None and rank(positions) not in (1, 2):
        return None
    if positions is not None and rank(positions) == 1 and plain.version < _PARTS_OF_SHAPES:
        return None
    flat = rank(x) == 3
    rows = [_rows(plain, x, table, positions) for table in (cos, sin)]
    # Tables (length, half) or (batch, length, half) meet (batch, length, heads, half) or have the
    # heads in front of the lengths.
    axis = -2 if flat else 1 if rank(cos) == 3 or rank(positions) == 2 else None
    if axis is not None:
        rows = [plain.make("Unsqueeze", [row, plain.ints([axis])]) for row in rows]
    wide = plain.make("Reshape", [x, plain.ints([0, 0, -1, 2 * half])]) if flat else x
    first, second = plain.split(wide, [half, half])
    one = plain.make("Sub", [_product(plain, first, rows[0]), _product(plain, second, rows[1])])
    two = plain.make("Add", [_product(plain, second, rows[0]), _product(plain, first, rows[1])])
    result = plain.make("Concat", [one, two], {"axis": -1})
    return [_flat(plain, result, x) if flat else result]


def _product(plain: Plain, left: ir.Value, right: ir.Value) -> ir.Value:
    return plain.make("Mul", [left, right])


def _flat(plain: Plain, value: ir.Value, like: ir.Value) -> ir.Value:
    width = None if like.shape is None else like.shape[2]
    return plain.make(
        "Reshape", [value, plain.ints([0, 0, width if isinstance(width, int) else -1])]
    )


def _rows(plain: Plain, x: ir.Value, table: ir.Value, positions: ir.Value | None) -> ir.Value:
    """Return the rows of a table at the positions, or from a first position on."""
    if positions is None:
        return table
    if rank(positions) == 2:
        return plain.make("Gather", [table, positions], {"axis": 0})
    place = 1 if rank(x) == 3 else 2
    length = None if x.shape is None else x.shape[place]
    first = array_of(positions, 1)
    count = None if table.shape is None else table.shape[0]
    if isinstance(length, int) and length == count and first is not None and not first.any():
        return table
    size = plain.make("Shape", [x], {"start": place, "end": place + 1})
    size.type = ir.TensorType(ir.DataType.INT64)
    end = plain.make("Add", [positions, size])
    return plain.make("Slice", [table, positions, end, plain.ints([0])])
