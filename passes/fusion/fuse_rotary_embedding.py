"""Recognize rotary position embedding in its primitives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.fusion.attention_operand import find_operand
from onnxsmith.passes.fusion.contrib import (
    contrib,
    declare,
    is_float,
    loads,
    rank,
    take_over,
    version_of,
)
from onnxsmith.passes.fusion.rotary_tables import RotaryTables, Table, find_table
from onnxsmith.passes.match import (
    add_constant,
    all_nodes,
    int_attribute,
    is_op,
    made_by,
    remove_if_dead,
)
from onnxsmith.passes.views import trace

_FIRST_OPSET = 13
_STANDARD_OPSET = 23


@dataclass(frozen=True)
class FuseRotaryEmbedding(Pass):
    """Recognize rotary position embedding in its primitives.

    ``x cos + Concat(-x2, x1) sin``, where x1 and x2 are the halves of the last dimension of x, of
    shape (batch, heads, length, size), and cos and sin are alike in both halves, becomes
    ``RotaryEmbedding(x, cos1, sin1)`` of the standard operators from opset 23 on, before that
    ``com.microsoft.RotaryEmbedding``. Where x is a value of rank 3 with its heads told apart, that
    value is what is rotated.

    Cosines and sines are constants, rows of a constant table that are gathered by position, or
    computed: then they are known to be alike in both halves if they are made, by pointwise
    operators, of a Concat of one value with itself.

    What is left alone: values of another rank or element type than float32 and float16, sizes or
    heads of unknown number, cosines that differ from item to item of the batch before opset 23,
    inner values that anything else reads, models below opset 13.

    Attributes:
        standard: Whether only the standard operator will do: below opset 23, or where the target
            does not load it, nothing is fused.

    Source: Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021.
    """

    name: ClassVar[str] = "fuse-rotary-embedding"

    standard: bool = False

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Fuse in the graph and its subgraphs; shapes should be inferred."""
        standard = loads(model, context.target, _STANDARD_OPSET)
        first = _STANDARD_OPSET if self.standard else _FIRST_OPSET
        if version_of(model) < _FIRST_OPSET or (self.standard and not standard):
            return PassResult(model, False, {"refused": f"it needs opset {first}"})
        tables = RotaryTables(model, standard=standard)
        count = sum(_fuse(node, tables) for node in all_nodes(model) if is_op(node, "Add"))
        if count and not tables.standard:
            declare(model)
        return PassResult(model, bool(count), {"fused": count})


@dataclass(frozen=True)
class _Rotation:
    """``x cos + rotated(x) sin``."""

    x: ir.Value
    cos: Table
    sin: Table


def _fuse(add: ir.Node, tables: RotaryTables) -> bool:
    found = _find(add)
    graph = add.graph
    if found is None or graph is None:
        return False
    if not all(tables.can_write(table, found.x) for table in (found.cos, found.sin)):
        return False
    if found.cos.positions is not found.sin.positions:
        return False
    if found.cos.is_single != found.sin.is_single:
        return False
    x, old = found.x, add.outputs[0]
    operand = find_operand(x, turned=False)
    source = None if operand is None else operand.source()
    flat = source is not None and source.is_flat and not source.lengths_first
    given = source.value if source is not None and flat else x
    tables_and_positions = tables.write(add, x, found.cos, found.sin)
    heads = 0 if operand is None else operand.heads
    if tables.standard:
        attributes = {"num_heads": heads} if flat else {}
        node = ir.node("RotaryEmbedding", [given, *tables_and_positions], attributes)
    else:
        node = contrib("RotaryEmbedding", [given, *tables_and_positions], {})
    graph.insert_before(add, node)
    result = node.outputs[0]
    result.type, result.shape = given.type, given.shape
    if flat:
        result.name = f"{old.name}_flat"
        result = _apart(add, result, x, heads)
    take_over(old, result)
    remove_if_dead(add)
    return True


def _apart(add: ir.Node, value: ir.Value, like: ir.Value, heads: int) -> ir.Value:
    """Return a value of rank 3 with its heads told apart, in front of its lengths."""
    graph = add.graph
    assert graph is not None
    assert like.shape is not None
    batch, _, length, size = like.shape
    target = add_constant(graph, np.array([0, 0, heads, size]), "rotary_heads")
    split = ir.node("Reshape", [value, target])
    turned = ir.node("Transpose", [split.outputs[0]], {"perm": [0, 2, 1, 3]})
    for node in (split, turned):
        graph.insert_before(add, node)
        node.outputs[0].type = value.type
    split.outputs[0].shape = ir.Shape([batch, length, heads, size])
    turned.outputs[0].shape = like.shape
    return turned.outputs[0]


def _find(add: ir.Node) -> _Rotation | None:
    if rank(add.outputs[0]) != 4 or not is_float(add.inputs[0]):
        return None
    for plain, crossed in (add.inputs, reversed(add.inputs)):
        first, second = made_by(plain, "Mul"), made_by(crossed, "Mul")
        if first is None or second is None or not _is_private(first) or not _is_private(second):
            continue
        for rotated, sin in (second.inputs, reversed(second.inputs)):
            x = _rotated(rotated)
            if x is None or sin is None or x not in first.inputs:
                continue
            cos = next((v for v in first.inputs if v is not x), None)
            tables = [find_table(v, x) for v in (cos, sin)]
            if tables[0] is not None and tables[1] is not None:
                return _Rotation(x, tables[0], tables[1])
    return None


def _is_private(node: ir.Node) -> bool:
    value = node.outputs[0]
    return len(value.uses()) == 1 and not value.is_graph_output()


def _rotated(value: ir.Value | None) -> ir.Value | None:
    """Return x where a value is Concat(-x2, x1) of the halves of its last dimension."""
    concat = made_by(value, "Concat")
    if concat is None or len(concat.inputs) != 2 or not _is_private(concat):
        return None
    if int_attribute(concat, "axis") not in (-1, 3):
        return None
    negative = made_by(concat.inputs[0], "Neg")
    halves = (concat.inputs[1], None if negative is None else negative.inputs[0])
    views = [None if half is None else trace(half, 1) for half in halves]
    first, second = views
    if first is None or second is None or first.root is not second.root:
        return None
    x = first.root
    size = x.shape[-1] if x.shape is not None and len(x.shape) == 4 else None
    if not isinstance(size, int) or size % 2 or first.starts[:3] != (0, 0, 0):
        return None
    if not isinstance(x.shape[1] if x.shape is not None else None, int):
        return None
    starts = [view.starts[3] for view in (first, second)]
    inner = all(
        all(view.is_whole(axis, axis) for axis in range(3)) and _width(view.dims[3]) == size // 2
        for view in (first, second)
    )
    return x if inner and starts == [0, size // 2] else None


def _width(atoms: tuple[object, ...]) -> int:
    sizes = [getattr(atom, "size", 0) for atom in atoms]
    return int(np.prod(sizes)) if sizes else 1
