"""Write operators in terms of plainer ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.fusion.contrib import version_of
from onnxsmith.passes.match import add_constant

Values = Sequence[ir.Value | None]
"""One value for each output that an operator may have; None where nothing can stand for it."""

_AXES_ARE_INPUTS = 18
_HALVES = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


@dataclass
class Plain:
    """Collects the plain nodes that take the place of others.

    Constants go to the outermost graph, each but once.

    Attributes:
        model: The model that is edited.
        nodes: What was written since the list was emptied.
    """

    model: ir.Model
    nodes: list[ir.Node] = field(default_factory=list)
    _known: dict[tuple[object, ...], ir.Value] = field(default_factory=dict)

    @property
    def version(self) -> int:
        """The version of the standard operators."""
        return version_of(self.model)

    def make(
        self,
        kind: str,
        inputs: Sequence[ir.Value | None],
        attributes: Mapping[str, object] | None = None,
    ) -> ir.Value:
        """Write a node and return its output, typed like its first input."""
        node = ir.node(kind, inputs, attributes or {})  # type: ignore[arg-type]
        self.nodes.append(node)
        result = node.outputs[0]
        result.type = inputs[0].type if inputs[0] is not None else None
        return result

    def number(self, number: float, like: ir.Value) -> ir.Value:
        """Return a constant number of another value's element type."""
        dtype = like.dtype
        assert dtype is not None  # only values of known types are written anew
        key = (dtype, number)
        if key not in self._known:
            array = np.array(number, dtype.numpy())
            self._known[key] = add_constant(self.model.graph, array, "number")
        return self._known[key]

    def ints(self, numbers: Sequence[int]) -> ir.Value:
        """Return a constant vector of integers."""
        key = tuple(numbers)
        if key not in self._known:
            array = np.array(numbers, np.int64)
            self._known[key] = add_constant(self.model.graph, array, "integers")
        return self._known[key]

    def whole(self, number: int) -> ir.Value:
        """Return a constant whole number, of rank 0."""
        key = (int, number)
        if key not in self._known:
            self._known[key] = add_constant(self.model.graph, np.array(number), "integer")
        return self._known[key]

    def mean(self, value: ir.Value, axes: Sequence[int]) -> ir.Value:
        """Return the mean over some dimensions, which are kept with size one."""
        if self.version < _AXES_ARE_INPUTS:
            return self.make("ReduceMean", [value], {"axes": list(axes), "keepdims": 1})
        return self.make("ReduceMean", [value, self.ints(axes)], {"keepdims": 1})

    def split(self, value: ir.Value, sizes: Sequence[int]) -> list[ir.Value]:
        """Return the parts of a value along its last dimension."""
        node = ir.node("Split", [value, self.ints(sizes)], {"axis": -1}, num_outputs=len(sizes))
        self.nodes.append(node)
        for output in node.outputs:
            output.type = value.type
        return list(node.outputs)

    def cast(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        """Return a value with another element type."""
        if value.dtype == dtype:
            return value
        result = self.make("Cast", [value], {"to": int(dtype)})
        result.type = ir.TensorType(dtype)
        return result

    def widen(self, value: ir.Value) -> ir.Value:
        """Return a value that sums can be made of: float32 instead of a half."""
        return self.cast(value, ir.DataType.FLOAT) if value.dtype in _HALVES else value


Writer = Callable[[Plain, ir.Node], Values | None]
"""Writes a node anew; None where it does not know how, and then nothing was written."""


def typed(node: ir.Node) -> ir.Value | None:
    """Return a node's first input if its element type is known."""
    value = node.inputs[0] if node.inputs else None
    return None if value is None or value.dtype is None else value


def is_left_out(node: ir.Node, first: int, last: int | None = None) -> bool:
    """Tell whether no input from one place to before another is given."""
    return all(value is None for value in node.inputs[first:last])


def is_read(node: ir.Node, first: int) -> bool:
    """Tell whether anything reads an output at or behind a place."""
    return any(v.uses() or v.is_graph_output() for v in node.outputs[first:])
