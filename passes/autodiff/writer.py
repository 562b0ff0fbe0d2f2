"""Write nodes behind a graph, with the constants they need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.match import add_constant, same_dim

Array = np.ndarray[Any, Any]
Attributes = Mapping[str, Any]

BOOL, INT64 = ir.DataType.BOOL, ir.DataType.INT64

STOP = "onnxsmith.stop-gradient"
"""Metadata of nodes that no gradient flows through, whatever their operator is."""


@dataclass
class Writer:
    """Makes typed nodes; constants go to the outermost graph, each but once.

    Attributes:
        root: The outermost graph, which holds the constants.
        version: The version of the standard operators.
        nodes: What was written since the list was emptied, in order.
        prefix: What the names of new values begin with; nothing else in the model does.
    """

    root: ir.Graph
    version: int
    prefix: str
    nodes: list[ir.Node] = field(default_factory=list)
    _known: dict[tuple[object, ...], ir.Value] = field(default_factory=dict)
    _count: list[int] = field(default_factory=lambda: [0])

    def inner(self) -> Writer:
        """Return a writer for a subgraph: its own nodes, the same constants and names."""
        return Writer(self.root, self.version, self.prefix, [], self._known, self._count)

    def name(self, word: str = "") -> str:
        """Return a name that nothing has."""
        self._count[0] += 1
        return f"{self.prefix}_{word.lower()}_{self._count[0]}"

    def op(
        self,
        kind: str,
        *inputs: ir.Value | None,
        attributes: Attributes | None = None,
        dtype: ir.DataType | None = None,
        domain: str = "",
    ) -> ir.Value:
        """Write a node of one output, typed like its first input unless ``dtype`` is given."""
        return self.ops(
            kind, *inputs, outputs=1, attributes=attributes, dtype=dtype, domain=domain
        )[0]

    def ops(
        self,
        kind: str,
        *inputs: ir.Value | None,
        outputs: int,
        attributes: Attributes | None = None,
        dtype: ir.DataType | None = None,
        domain: str = "",
    ) -> Sequence[ir.Value]:
        """Write a node of several outputs, all of one element type."""
        node = ir.node(
            kind, list(inputs), dict(attributes or {}), domain=domain, num_outputs=outputs
        )
        if dtype is None and inputs and inputs[0] is not None:
            dtype = inputs[0].dtype
        for output in node.outputs:
            output.name = self.name(kind)
            output.type = None if dtype is None else ir.TensorType(dtype)
        self.nodes.append(node)
        return node.outputs

    def stop(self, value: ir.Value) -> ir.Value:
        """Return a value as it is, through which no gradient flows."""
        result = self.op("Identity", value)
        result.shape = value.shape
        node = result.producer()
        assert node is not None  # just written
        node.metadata_props[STOP] = "1"
        return result

    def constant(self, array: Array) -> ir.Value:
        """Return a constant."""
        key = (array.dtype.str, array.dtype.name, array.shape, array.tobytes())
        if key not in self._known:
            self._known[key] = add_constant(self.root, array, f"{self.prefix}_constant")
        return self._known[key]

    def number(self, number: float, like: ir.Value) -> ir.Value:
        """Return a constant scalar of another value's element type."""
        assert like.dtype is not None  # differentiated values have types
        return self.constant(np.array(number, like.dtype.numpy()))

    def ints(self, numbers: Sequence[int]) -> ir.Value:
        """Return a constant vector of integers."""
        return self.constant(np.array(numbers, np.int64))

    def integer(self, number: int) -> ir.Value:
        """Return a constant integer scalar."""
        return self.constant(np.array(number, np.int64))

    def cast(self, value: ir.Value, dtype: ir.DataType | None) -> ir.Value:
        """Return a value with another element type."""
        if dtype is None or value.dtype == dtype:
            return value
        return self.op("Cast", value, attributes={"to": int(dtype)}, dtype=dtype)

    def shape_of(self, value: ir.Value) -> ir.Value:
        """Return the sizes of a value: a constant where they are known."""
        sizes = static_shape(value)
        if sizes is not None:
            return self.ints(sizes)
        return self.op("Shape", value, dtype=INT64)

    def size_of(self, value: ir.Value, axis: int) -> ir.Value:
        """Return one size of a value, in a vector of one."""
        axis %= rank_of(value)
        sizes = value.shape
        if sizes is not None and isinstance(sizes[axis], int):
            return self.ints([int(sizes[axis])])  # type: ignore[arg-type]
        bounds = {"start": axis, "end": axis + 1}
        return self.op("Shape", value, attributes=bounds, dtype=INT64)

    def reshape_like(self, value: ir.Value, like: ir.Value) -> ir.Value:
        """Return a value in the shape of another."""
        empty = 0 in (static_shape(like) or ())  # otherwise 0 stands for a size of the value
        return self.op(
            "Reshape", value, self.shape_of(like), attributes={"allowzero": 1} if empty else {}
        )

    def reduce(
        self, kind: str, value: ir.Value, axes: Sequence[int], keep: bool = True
    ) -> ir.Value:
        """Return a reduction over some dimensions; over none it is the value itself."""
        if not axes:
            return value
        attributes = {"keepdims": int(keep)}
        return self.op(kind, value, self.ints(list(axes)), attributes=attributes)

    def zeros_like(self, value: ir.Value) -> ir.Value:
        """Return zeros of the shape and element type of a value."""
        return self.fill(self.shape_of(value), value, 0)

    def fill(self, shape: ir.Value, like: ir.Value, number: float) -> ir.Value:
        """Return a value of one number everywhere, of another value's element type."""
        return self.op("Expand", self.number(number, like), shape)

    def pad(
        self,
        value: ir.Value,
        rank: int,
        axes: Sequence[int] | ir.Value,
        before: Sequence[int] | ir.Value,
        behind: Sequence[int] | ir.Value,
    ) -> ir.Value:
        """Add zeros around a value, or cut from it by amounts below zero.

        The amounts are written for all dimensions: where Pad names dimensions, the runtime's
        transpose optimizer takes their numbers for those of others (1.31).

        Args:
            value: What is padded.
            rank: How many dimensions it has.
            axes: Dimensions, from the front or from the end.
            before: The amounts before each, numbers or a vector.
            behind: Those behind each.
        """
        if not isinstance(axes, ir.Value) and not isinstance(before, ir.Value):
            assert not isinstance(behind, ir.Value)  # both are numbers, or both are computed
            whole = [0] * (2 * rank)
            for axis, low, high in zip(axes, before, behind, strict=True):
                whole[axis % rank], whole[axis % rank + rank] = low, high
            return self.op("Pad", value, self.ints(whole)) if any(whole) else value
        places = axes if isinstance(axes, ir.Value) else self.ints(list(axes))
        zeros = self.ints([0] * rank)
        halves = [
            self.op(
                "ScatterElements",
                zeros,
                self.cast(places, INT64),
                self.cast(half if isinstance(half, ir.Value) else self.ints(list(half)), INT64),
            )
            for half in (before, behind)
        ]
        amounts = self.op("Concat", *halves, attributes={"axis": 0})
        return self.op("Pad", value, amounts)

    def sum_to(self, gradient: ir.Value, like: ir.Value, of: ir.Value) -> ir.Value:
        """Undo broadcasting: sum a gradient to the shape of what was broadcast.

        Args:
            gradient: Shaped like ``of``.
            like: The operand that was broadcast.
            of: The broadcast result.
        """
        small, big = like.shape, of.shape
        if small is None or big is None:
            return self.sum_to_at_run_time(gradient, like)
        lead = len(big) - len(small)
        axes = list(range(lead))
        for axis, size in enumerate(small):
            if same_dim(size, big[lead + axis]):
                continue
            if size != 1:
                return self.sum_to_at_run_time(gradient, like)
            axes.append(lead + axis)
        if not axes:
            return gradient
        if len(axes) == lead:
            return self.reduce("ReduceSum", gradient, axes, keep=False)
        summed = self.reduce("ReduceSum", gradient, axes)
        return self.reshape_like(summed, like) if lead else summed

    def sum_to_at_run_time(self, gradient: ir.Value, like: ir.Value) -> ir.Value:
        """Find the dimensions that were broadcast from the sizes at run time."""
        small, big = self.shape_of(like), self.op("Shape", gradient, dtype=INT64)
        missing = self.op(
            "Sub",
            self.op("Shape", big, dtype=INT64),
            self.op("Shape", small, dtype=INT64),
        )
        ones = self.op("Expand", self.ints([1]), missing, dtype=INT64)
        padded = self.op("Concat", ones, small, attributes={"axis": 0}, dtype=INT64)
        same = self.op("Equal", padded, big, dtype=BOOL)
        axes = self.op(
            "Squeeze",
            self.op("NonZero", self.op("Not", same), dtype=INT64),
            self.ints([0]),
        )
        attributes = {"keepdims": 1, "noop_with_empty_axes": 1}
        summed = self.op("ReduceSum", gradient, axes, attributes=attributes)
        return self.op("Reshape", summed, small)


def static_shape(value: ir.Value) -> tuple[int, ...] | None:
    """Return the sizes of a value where all are known."""
    if value.shape is None or not all(isinstance(size, int) for size in value.shape):
        return None
    return tuple(int(size) for size in value.shape)  # type: ignore[arg-type]


def rank_of(value: ir.Value) -> int:
    """Return how many dimensions a value has.

    Raises:
        UnknownRankError: Shape inference could not tell.
    """
    if value.shape is None:
        raise UnknownRankError(value.name or "?")
    return len(value.shape)


class UnknownRankError(Exception):
    """A rule needs the number of dimensions of a value, which is not known."""
