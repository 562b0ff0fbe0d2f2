"""Move the guard of a softmax to where it costs less."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.match import (
    Array,
    array_of,
    constant_node,
    int_attribute,
    made_by,
    only_user,
    remove_if_dead,
)

# Half of the lowest number: a score that is added to it does not make it infinite.
_LOW = {ir.DataType.FLOAT: np.float32(-1.7e38), ir.DataType.FLOAT16: np.float16(-3.2e4)}


@dataclass(frozen=True)
class _Hiding:
    """A mask that is chosen: 0 for what is seen, minus infinity for what is hidden.

    Attributes:
        add: The node that adds it to the scores.
        place: Which input of that node it is.
        choice: The Where.
        low: Which input of the Where is minus infinity: 1 or 2.
    """

    add: ir.Node
    place: int
    choice: ir.Node
    low: int

    @property
    def dtype(self) -> ir.DataType:
        """The element type, which its constants have where nobody has inferred it."""
        found = self.choice.inputs[self.low]
        assert found is not None  # _find() looked
        assert found.dtype is not None  # it is a constant
        return found.dtype


@dataclass
class HiddenRows:
    """Moves guards behind the second product of an attention.

    ``Where(IsNaN(p), 0, p) v`` with ``p = softmax(s + Where(c, -inf, 0))`` is
    ``softmax(s + Where(c, low, 0)) v r``, where ``r`` is 0 in rows of the mask that are hidden
    throughout and 1 in others. The mask and ``r`` are computed once for all that read the mask, and
    a row of the product is shorter than one of the scores in all but short sequences.
    """

    _made: dict[ir.Node, tuple[ir.Value, ir.Value]] = field(default_factory=dict)

    def move(self, softmax: ir.Node, guarded: ir.Value) -> bool:
        """Move the guard of a softmax, if it can be; the guard itself is the caller's to remove.

        Args:
            softmax: Over the last axis of its scores.
            guarded: What the guard gives.
        """
        found = _find(softmax)
        product = only_user(guarded, "MatMul")
        if found is None or product is None or product.inputs[0] is not guarded:
            return False
        graph = product.graph
        if graph is None or graph is not softmax.graph or found.choice.graph is not graph:
            return False
        mask, seen = self._masks(found)
        found.add.replace_input_with(found.place, mask)
        remove_if_dead(found.choice)
        result = product.outputs[0]
        shown = ir.node("Mul", [result, seen])
        new = shown.outputs[0]
        new.name, new.type, new.shape = result.name, result.type, result.shape
        result.name = f"{result.name}_of_all_rows"
        result.replace_all_uses_with(new, replace_graph_outputs=True)
        shown.replace_input_with(0, result)
        graph.insert_after(product, shown)
        return True

    def _masks(self, found: _Hiding) -> tuple[ir.Value, ir.Value]:
        """Return the finite mask, and 1 for each row of it in which anything is seen."""
        choice = found.choice
        if choice not in self._made:
            old = choice.outputs[0]
            dtype = found.dtype
            old.type = ir.TensorType(dtype)
            name = old.name or "mask"
            numbers = {"low": _LOW[dtype], "zero": 0, "one": 1}
            constants = {
                word: _constant(choice, np.array(number, dtype.numpy()), f"{name}_{word}")
                for word, number in numbers.items()
            }
            axes = _constant(choice, np.array([-1], np.int64), f"{name}_keys")
            condition = choice.inputs[0]
            pairs = [("low", "zero"), ("zero", "one")]
            masks = []
            for (hidden, seen), word in zip(pairs, ("finite", "seen"), strict=True):
                inputs = [constants[hidden], constants[seen]]
                node = ir.node("Where", [condition, *(inputs if found.low == 1 else inputs[::-1])])
                _insert(choice, node, f"{name}_{word}", old)
                masks.append(node.outputs[0])
            count = ir.node("ReduceSum", [masks[1], axes])
            _insert(choice, count, f"{name}_count", old, known=False)
            any_seen = ir.node("Min", [count.outputs[0], constants["one"]])
            _insert(choice, any_seen, f"{name}_rows", old, known=False)
            self._made[choice] = masks[0], any_seen.outputs[0]
        return self._made[choice]


def _find(softmax: ir.Node) -> _Hiding | None:
    scores = softmax.inputs[0]
    add = made_by(scores, "Add")
    if add is None or scores is None or len(scores.uses()) != 1 or scores.is_graph_output():
        return None
    axis, shape = int_attribute(softmax, "axis", -1), scores.shape
    if axis != -1 and (shape is None or axis != len(shape) - 1):
        return None
    for place in (0, 1):
        choice = made_by(add.inputs[place], "Where")
        if choice is None:
            continue
        for low, zero in ((1, 2), (2, 1)):
            kind = choice.inputs[low]
            if kind is None or kind.dtype not in _LOW:
                continue
            if _is_all(choice.inputs[low], -np.inf) and _is_all(choice.inputs[zero], 0):
                return _Hiding(add, place, choice, low)
    return None


def _is_all(value: ir.Value | None, number: float) -> bool:
    array = array_of(value, 1)
    return array is not None and array.size == 1 and array.item() == number


def _constant(before: ir.Node, array: Array, name: str) -> ir.Value:
    node = constant_node(array, name)
    graph = before.graph
    assert graph is not None  # made_by() looked
    graph.insert_before(before, node)
    return node.outputs[0]


def _insert(
    before: ir.Node, node: ir.Node, name: str, like: ir.Value, *, known: bool = True
) -> None:
    value = node.outputs[0]
    value.name, value.type = name, like.type
    value.shape = like.shape if known else None
    graph = before.graph
    assert graph is not None  # made_by() looked
    graph.insert_before(before, node)
