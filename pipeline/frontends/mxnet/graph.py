"""A graph of ONNX in the making: each new node gets its types and shapes at once.

Operators of MXNet ask for ranks and sizes; ONNX's own inference, node by node, tells them, with
symbolic dimensions kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnx_ir as ir
from onnx import shape_inference

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.mxnet.params import StoredArray

Dim = int | str | None
AttributeValue = (
    int | float | str | ir.TensorProtocol | Sequence[int] | Sequence[float] | Sequence[str]
)
Part = int | tuple[ir.Value, int]
"""One entry of a shape that is put together: a size, or the size of a value's axis."""

_SLIDING = ("Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool")
# Constants up to this many elements are shown to the inference: shapes, axes, sizes.
_INFERENCE_DATA = 64
# Larger results are mistakes, or traps.
_MAX_ELEMENTS = 2**31


class Graph:
    """Nodes, weights and constants, in order.

    Args:
        opset: The ai.onnx opset, 13 or newer.
        guessed: Whether height and width of an input stay open only because nobody gave them.

    Attributes:
        arrays: The stored arrays of the values that are weights.
        loose: Values whose dimensions of size 1 stand for sizes that the file leaves open, such
            as the batch of an initial state. Broadcasting treats them right.
    """

    def __init__(self, opset: int, *, guessed: bool = False) -> None:
        self.opset = opset
        self.guessed = guessed
        self.nodes: list[ir.Node] = []
        self.initializers: dict[str, ir.Value] = {}
        self.scope = ""
        self.arrays: dict[ir.Value, StoredArray] = {}
        self.loose: set[ir.Value] = set()
        self.zeros: set[ir.Value] = set()
        self._values: set[str] = set()
        self._nodes: set[str] = set()
        self._schemas: dict[str, onnx.defs.OpSchema] = {}

    def add(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        attributes: Mapping[str, AttributeValue] | None = None,
    ) -> ir.Value:
        """Append a node with one output, and return that."""
        return self.add_many(op_type, inputs, attributes, 1)[0]

    def add_many(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        attributes: Mapping[str, AttributeValue] | None,
        outputs: int,
    ) -> tuple[ir.Value, ...]:
        """Append a node with several outputs, and return those.

        Raises:
            SmithError: The inputs' types or shapes do not fit the operator.
        """
        while inputs and inputs[-1] is None:
            inputs = inputs[:-1]
        node = ir.Node(
            "",
            op_type,
            inputs,
            ir.convenience.convert_attributes(dict(attributes or {})),
            num_outputs=outputs,
            name=_free(f"{self.scope}/{op_type}", self._nodes),
        )
        for number, value in enumerate(node.outputs):
            suffix = f"_{number}" if outputs > 1 else ""
            value.name = self.unique(f"{node.name}_output{suffix}")
        self._infer(node)
        self.nodes.append(node)
        return tuple(node.outputs)

    def unique(self, name: str) -> str:
        """Return the name for a value, numbered where it is taken, and take it."""
        return _free(name, self._values)

    def rename(self, value: ir.Value, name: str) -> None:
        """Give a value the name, numbered where it is taken."""
        value.name = self.unique(name)

    def rename_node(self, node: ir.Node, name: str) -> None:
        """Give a node the name, numbered where it is taken."""
        node.name = _free(name, self._nodes)

    def input(self, name: str, dtype: ir.DataType, shape: Sequence[Dim]) -> ir.Value:
        """Return a new input of the graph; its name is claimed already."""
        return ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(list(shape)))

    def stored(self, array: StoredArray, name: str) -> ir.Value:
        """Return a weight of the file as an initializer; its name is claimed already."""
        value = self._initializer(array.tensor(name), name)
        self.arrays[value] = array
        return value

    def weight(self, tensor: ir.TensorProtocol, name: str) -> ir.Value:
        """Return an initializer with a name of its own."""
        return self._initializer(tensor, self.unique(name))

    def _initializer(self, tensor: ir.TensorProtocol, name: str) -> ir.Value:
        tensor.name = name
        value = ir.Value(
            name=name,
            type=ir.TensorType(tensor.dtype),
            shape=ir.Shape(list(tensor.shape.numpy())),
            const_value=tensor,
        )
        self.initializers[name] = value
        return value

    def constant(self, array: np.ndarray, role: str) -> ir.Value:
        """Return a small initializer named after the node that is being imported."""
        return self.weight(ir.tensor(np.asarray(array)), f"{self.scope}/{role}")

    def integers(self, numbers: Sequence[int], role: str) -> ir.Value:
        """Return a constant of int64 numbers."""
        return self.constant(np.array(numbers, np.int64).reshape(len(numbers)), role)

    def scalar(self, number: float, like: ir.Value, role: str = "scalar") -> ir.Value:
        """Return a scalar constant of the element type of ``like``."""
        dtype = (like.dtype or ir.DataType.FLOAT).numpy()
        with np.errstate(over="ignore", invalid="ignore"):  # clips at 1e38 become inf in float16
            return self.constant(np.array(number).astype(dtype), role)

    def cast(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        """Return the value in another element type."""
        return value if value.dtype == dtype else self.add("Cast", [value], {"to": dtype.value})

    def reshape(self, value: ir.Value, shape: Sequence[int]) -> ir.Value:
        """Return the value reshaped; 0 copies a dimension, -1 is worked out."""
        return self.add("Reshape", [value, self.integers(shape, "shape")])

    def reshape_to(self, value: ir.Value, parts: Sequence[Part]) -> ir.Value:
        """Return the value in the shape that the parts make; one unknown part becomes -1."""
        sizes = [self._size(part) for part in parts]
        dims = dims_of(value)
        for at, part in enumerate(parts):
            if sizes[at] is None and not isinstance(part, int):
                same = at < len(dims) and (part[0] is value) and part[1] == at
                sizes[at] = 0 if same else None
        if sizes.count(None) <= 1:
            return self.reshape(value, [-1 if size is None else size for size in sizes])
        return self.add("Reshape", [value, self.shape(parts)])

    def shape(self, parts: Sequence[Part]) -> ir.Value:
        """Return a shape as an int64 vector: a constant where all parts are known."""
        sizes = [self._size(part) for part in parts]
        if None not in sizes:
            return self.integers([size or 0 for size in sizes], "shape")
        pieces: list[ir.Value] = []
        at = 0
        while at < len(parts):
            part, end = parts[at], at + 1
            if (size := sizes[at]) is not None:
                known = [size]
                while end < len(parts) and (following := sizes[end]) is not None:
                    known.append(following)
                    end += 1
                pieces.append(self.integers(known, "sizes"))
            else:
                assert not isinstance(part, int)  # a number's size is known
                value, axis = part
                while end < len(parts) and parts[end] == (value, axis + end - at):
                    end += 1
                pieces.append(self.sizes(value, axis, axis + end - at))
            at = end
        return pieces[0] if len(pieces) == 1 else self.add("Concat", pieces, {"axis": 0})

    def sizes(self, value: ir.Value, start: int, end: int) -> ir.Value:
        """Return the sizes of the axes ``start`` to ``end`` as an int64 vector."""
        whole = start == 0 and end == len(dims_of(value))
        if whole:
            return self.add("Shape", [value])
        if self.opset >= 15:
            return self.add("Shape", [value], {"start": start, "end": end})
        axes = self.integers(range(start, end), "axes")
        return self.add("Gather", [self.add("Shape", [value]), axes])

    def _size(self, part: Part) -> int | None:
        if isinstance(part, int):
            return part
        value, axis = part
        dims = dims_of(value)
        if axis >= len(dims):
            raise SmithError(
                f"the node {self.scope[:80]!r} needs axis {axis} of an input that has "
                f"{len(dims)} in all",
                "check the sizes in --input",
            )
        dim = dims[axis]
        return dim if isinstance(dim, int) else None

    def transpose(self, value: ir.Value, order: Sequence[int]) -> ir.Value:
        """Return the value with its axes in another order."""
        if list(order) == list(range(len(order))):
            return value
        return self.add("Transpose", [value], {"perm": list(order)})

    def unsqueeze(self, value: ir.Value, axes: Sequence[int]) -> ir.Value:
        """Return the value with new axes of size 1."""
        return self.add("Unsqueeze", [value, self.integers(axes, "axes")])

    def squeeze(self, value: ir.Value, axes: Sequence[int]) -> ir.Value:
        """Return the value without the axes, whose size is 1."""
        return self.add("Squeeze", [value, self.integers(axes, "axes")])

    def slice(
        self,
        value: ir.Value,
        axes: Sequence[int],
        starts: Sequence[int],
        ends: Sequence[int],
        steps: Sequence[int] | None = None,
    ) -> ir.Value:
        """Return a part of the value."""
        inputs = [
            value,
            self.integers(starts, "starts"),
            self.integers(ends, "ends"),
            self.integers(axes, "axes"),
        ]
        if steps is not None and set(steps) != {1}:
            inputs.append(self.integers(steps, "steps"))
        return self.add("Slice", inputs)

    def split(self, value: ir.Value, axis: int, sizes: Sequence[int]) -> tuple[ir.Value, ...]:
        """Return parts of the given sizes."""
        if len(sizes) == 1:
            return (value,)
        lengths = self.integers(sizes, "split")
        return self.add_many("Split", [value, lengths], {"axis": axis}, len(sizes))

    def reduce(
        self, op_type: str, value: ir.Value, axes: Sequence[int] | None, keep: bool
    ) -> ir.Value:
        """Return the value reduced over the axes; None stands for all."""
        attributes: dict[str, AttributeValue] = {"keepdims": int(keep)}
        if axes is None:
            return self.add(op_type, [value], attributes)
        if self.opset >= 18 or op_type == "ReduceSum":
            return self.add(op_type, [value, self.integers(axes, "axes")], attributes)
        return self.add(op_type, [value], {**attributes, "axes": list(axes)})

    def _infer(self, node: ir.Node) -> None:
        schema = self._schemas.get(node.op_type)
        if schema is None:
            schema = onnx.defs.get_schema(node.op_type, self.opset, "")
            self._schemas[node.op_type] = schema
        types: dict[str, onnx.TypeProto] = {}
        data: dict[str, onnx.TensorProto] = {}
        for value in node.inputs:
            if value is None or value.name is None or value.name in types:
                continue
            types[value.name] = _type_proto(value)
            tensor = value.const_value
            if tensor is not None and tensor.size <= _INFERENCE_DATA:
                data[value.name] = ir.to_proto(tensor)
        imports = [onnx.helper.make_opsetid("", self.opset)]
        try:
            found = shape_inference.infer_node_outputs(
                schema, ir.to_proto(node), types, data, opset_imports=imports, ir_version=10
            )
        except Exception as error:  # InferenceError, ValidationError, RuntimeError
            text = " ".join(str(error).split())[:200]
            raise SmithError(
                f"the node {self.scope[:80]!r} does not fit its inputs: {text}",
                "check the sizes in --input, and that the weights belong to this graph",
            ) from error
        for value in node.outputs:
            if value.name in found:
                _take_type(value, found[value.name])
                self._check_size(node, value)

    def _check_size(self, node: ir.Node, value: ir.Value) -> None:
        """Check that something is left, and not too much: the inference itself goes below zero."""
        least = 1 if node.op_type in _SLIDING else 0
        sizes = [dim for dim in value.shape or () if isinstance(dim, int)]
        if min(sizes, default=1) < least:
            raise SmithError(
                f"the node {self.scope[:80]!r} has no output at the given sizes",
                "give larger sizes with --input",
            )
        if math.prod(sizes) > _MAX_ELEMENTS:
            raise SmithError(
                f"the node {self.scope[:80]!r} makes an array of {math.prod(sizes)} elements",
                "check its attributes, and the sizes in --input",
            )


def _free(name: str, taken: set[str]) -> str:
    free, number = name, 1
    while free in taken:
        free = f"{name}_{number}"
        number += 1
    taken.add(free)
    return free


def dims_of(value: ir.Value) -> list[Dim]:
    """Return the dimensions: sizes, names, or None where unknown.

    Raises:
        SmithError: Not even their number is known.
    """
    if value.shape is None:
        raise SmithError(
            f"the number of dimensions of {value.name!r} is unknown",
            "this operator cannot be imported where it stands",
        )
    return [dim if isinstance(dim, int) else dim.value for dim in value.shape]


def _type_proto(value: ir.Value) -> onnx.TypeProto:
    dtype = value.dtype or ir.DataType.FLOAT
    if value.shape is None:
        return onnx.helper.make_tensor_type_proto(dtype.value, None)
    return onnx.helper.make_tensor_type_proto(dtype.value, dims_of(value))


def _take_type(value: ir.Value, proto: onnx.TypeProto) -> None:
    tensor = proto.tensor_type
    value.type = ir.TensorType(ir.DataType(tensor.elem_type))
    if tensor.HasField("shape"):
        value.shape = ir.Shape(
            [
                dim.dim_value if dim.HasField("dim_value") else (dim.dim_param or None)
                for dim in tensor.shape.dim
            ]
        )
