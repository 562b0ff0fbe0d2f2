"""What is known of the elements of computed shapes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import onnx_ir as ir

from onnxsmith.passes.cleanup.shape_rules import (
    MAX_ELEMENTS,
    RULES,
    Element,
    Elements,
    product,
)
from onnxsmith.passes.match import (
    STANDARD,
    array_of,
    input_of,
    int_attribute,
    ints_attribute,
    tensor_of,
)

_STATES = ("LSTM", "GRU", "RNN")


@dataclass
class ShapeValues:
    """Evaluates shape arithmetic element by element, with dimensions that are only named.

    Values are evaluated once and remembered, so the graph may lose nodes but not change its
    meaning meanwhile.

    Attributes:
        symbols: Whether dimensions of one name are of one size, as ONNX defines. Exporters that
            name dimensions by guess have to say no.
    """

    symbols: bool = True
    _known: dict[ir.Value, Elements] = field(default_factory=dict)

    def elements(self, value: ir.Value | None) -> Elements:
        """Return what is known of each element of a value of rank 0 or 1."""
        if value is None:
            return None
        pending = [value]
        while pending:
            current = pending[-1]
            if current in self._known:
                pending.pop()
                continue
            missing = [v for v in self._sources(current) if v not in self._known]
            if missing:
                pending += missing
                continue
            self._known[current] = self._evaluate(current)
            pending.pop()
        return self._known[value]

    def dimensions(self, value: ir.Value) -> Elements:
        """Return the dimensions of a value; None where its rank is not known."""
        rank = _rank(value)
        return None if rank is None else [self.dimension(value, axis) for axis in range(rank)]

    def dimension(self, value: ir.Value, axis: int) -> Element:
        """Return a dimension: its size, its name, or the first value that has it."""
        while True:
            if value.shape is not None:
                size = value.shape[axis]
                if isinstance(size, int):
                    return size
                if self.symbols and size.value is not None:
                    return size.value
            node = value.producer()
            if node is None or node.domain not in STANDARD or not node.inputs:
                break
            source = node.inputs[0]
            if node.op_type in _STATES and value.index() == 0:
                width = _recurrent_dim(node, axis)
                if width is not None:
                    return width
            perm = ints_attribute(node, "perm") if node.op_type == "Transpose" else None
            if perm is None or source is None:
                break
            value, axis = source, perm[axis]
        return (value, axis)

    def _sources(self, value: ir.Value) -> Iterable[ir.Value]:
        """Return the values whose elements are needed for this one's."""
        node = value.producer()
        if tensor_of(value) is not None or node is None or node.op_type not in RULES:
            return ()
        return [v for v in node.inputs if v is not None]

    def _evaluate(self, value: ir.Value) -> Elements:
        if tensor_of(value) is not None:
            array = array_of(value, MAX_ELEMENTS)
            if array is None or array.ndim > 1 or array.dtype.kind not in "iub":
                return None
            return [int(number) for number in array.reshape(-1)]
        if value.shape is not None and len(value.shape) > 1:
            return None
        node = value.producer()
        if node is None or node.domain not in STANDARD:
            return _unknown(value)
        found = None
        if node.op_type in ("Shape", "Size"):
            found = self._shape(node)
        elif node.op_type in RULES and value.index() == 0:
            found = RULES[node.op_type](node, [self._get(v) for v in node.inputs])
        return _unknown(value) if found is None or len(found) > MAX_ELEMENTS else found

    def _get(self, value: ir.Value | None) -> Elements:
        return None if value is None else self._known.get(value)

    def _shape(self, node: ir.Node) -> Elements:
        source = input_of(node, 0)
        whole = None if source is None else self.dimensions(source)
        if whole is None:
            return None
        if node.op_type == "Size":
            return [product(whole)]
        start, end = int_attribute(node, "start", 0), int_attribute(node, "end", len(whole))
        return whole[start:end]


def _unknown(value: ir.Value) -> Elements:
    """Return as many unknown elements as the value has."""
    if value.shape is None or len(value.shape) > 1:
        return None
    size = value.shape[0] if len(value.shape) else 1
    return [None] * size if isinstance(size, int) and size <= MAX_ELEMENTS else None


def _rank(value: ir.Value) -> int | None:
    if value.shape is not None:
        return len(value.shape)
    node = value.producer()
    if node is None or node.domain not in STANDARD:
        return None
    if node.op_type == "Transpose":
        perm = ints_attribute(node, "perm")
        return None if perm is None else len(perm)
    return 4 if node.op_type in _STATES and value.index() == 0 else None


def _recurrent_dim(node: ir.Node, axis: int) -> int | None:
    """Directions and width of the sequence [time, directions, batch, width] are its weights'."""
    recurrence = input_of(node, 2)  # [directions, gates * width, width]
    shape = None if recurrence is None else recurrence.shape
    place = {1: 0, 3: 2}.get(axis)
    size = None if shape is None or place is None else shape[place]
    return size if isinstance(size, int) else None
