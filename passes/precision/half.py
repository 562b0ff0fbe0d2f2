"""Compute a chosen set of nodes in half precision, and the rest as before."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx_ir as ir

from onnxsmith.passes.match import STANDARD, Array, is_op, tensor_of
from onnxsmith.passes.quantization.select import Selection
from onnxsmith.storage.tensors import read_array

FLOAT = ir.DataType.FLOAT
_LAZY_LIMIT = 1 << 16
# Their numbers are positions, sums or scales that half precision is too coarse for.
_ALWAYS_FLOAT = ("Resize", "Upsample", "RoiAlign", "NonMaxSuppression", "CumSum", "Range", "TopK")


@dataclass(frozen=True)
class Precision:
    """A half precision type.

    Attributes:
        dtype: Its name among ONNX's types.
        largest: The largest finite number.
        spelling: Its name in schemas.
    """

    dtype: ir.DataType
    largest: float
    spelling: str


FLOAT16 = Precision(ir.DataType.FLOAT16, 65504.0, "tensor(float16)")
BFLOAT16 = Precision(ir.DataType.BFLOAT16, 3.3895e38, "tensor(bfloat16)")


def eligible_nodes(
    model: ir.Model, half: Precision, selection: Selection | None = None
) -> list[ir.Node]:
    """Return the nodes of the main graph that can compute in half precision, by their schemas.

    Args:
        model: The model; its types are inferred.
        half: The type.
        selection: Which nodes may leave float32; None for all.
    """
    selection = selection or Selection()
    opset = model.opset_imports.get("", 1)
    return [
        node
        for node in model.graph
        if node.op_type not in _ALWAYS_FLOAT
        and not selection.refusal(node)
        and node.domain in STANDARD
        and not any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) or a.is_ref()
                    for a in node.attributes.values())
        and _has_half(node, half, opset)
    ]  # fmt: skip


def _has_half(node: ir.Node, half: Precision, opset: int) -> bool:
    values = [v for v in (*node.inputs, *node.outputs) if v is not None]
    if not any(v.dtype == FLOAT for v in values) or any(v.dtype is None for v in values):
        return False
    if is_op(node, "Cast"):
        return node.inputs[0] is not None  # its result is of the type it names
    takes = half_inputs(node, half, opset)
    gives = _half_outputs(node, half, opset)
    return all(g for g, v in zip(gives, node.outputs, strict=True) if v.dtype == FLOAT) and (
        any(takes) and any(v.dtype == FLOAT for v in node.outputs)
    )


def half_inputs(node: ir.Node, half: Precision, opset: int) -> list[bool]:
    """Return which float32 inputs of a node can be of half precision."""
    if is_op(node, "Cast"):
        return [False]
    return _allowed(node, "inputs", len(node.inputs), half, opset)


def _half_outputs(node: ir.Node, half: Precision, opset: int) -> list[bool]:
    return _allowed(node, "outputs", len(node.outputs), half, opset)


def _allowed(node: ir.Node, side: str, count: int, half: Precision, opset: int) -> list[bool]:
    try:
        schema = onnx.defs.get_schema(node.op_type, opset, "")
    except onnx.defs.SchemaError:
        return [False] * count
    types = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}
    formal = [types.get(p.type_str, [p.type_str]) for p in getattr(schema, side)]
    if not formal:
        return [False] * count
    formal += [formal[-1]] * (count - len(formal))  # the last one may be variadic
    return [half.spelling in allowed for allowed in formal[:count]]


@dataclass
class HalfRewriter:
    """Puts nodes into half precision and casts at the borders; the signature stays.

    Attributes:
        model: The model, edited in place.
        half: The type.
    """

    model: ir.Model
    half: Precision
    _down: dict[ir.Value, ir.Value] = field(default_factory=dict)
    _up: dict[ir.Value, ir.Value] = field(default_factory=dict)

    def rewrite(self, nodes: Iterable[ir.Node]) -> int:
        """Compute ``nodes`` in half precision; return how many there were."""
        chosen = set(nodes)
        graph, opset = self.model.graph, self.model.opset_imports.get("", 1)
        produced = {v for node in chosen for v in node.outputs if v.dtype == FLOAT}
        for node in list(graph):
            if node not in chosen:
                continue
            takes = half_inputs(node, self.half, opset)
            for index, value in enumerate(node.inputs):
                if value is None or value.dtype != FLOAT or value in produced:
                    continue
                if takes[index]:
                    node.replace_input_with(index, self._lowered(value))
        for value in produced:
            self._settle(value, chosen, opset)
        for node in chosen:
            if is_op(node, "Cast") and node.outputs[0] in produced:
                node.attributes["to"] = ir.AttrInt64("to", int(self.half.dtype))
        return len(chosen)

    def _settle(self, value: ir.Value, chosen: set[ir.Node], opset: int) -> None:
        """Make a value half precision; who cannot read that reads a cast of it."""
        uses = list(value.uses())
        value.type = ir.TensorType(self.half.dtype)
        for node, index in uses:
            if node in chosen and (
                is_op(node, "Cast") or half_inputs(node, self.half, opset)[index]
            ):
                continue
            node.replace_input_with(index, self._raised(value))
        if value.is_graph_output():
            raised = self._raised(value)
            name = value.name
            outputs = self.model.graph.outputs
            for place, output in enumerate(outputs):
                if output is value:
                    outputs[place] = raised
            value.name, raised.name = f"{name}_half", name

    def _lowered(self, value: ir.Value) -> ir.Value:
        if value not in self._down:
            tensor = tensor_of(value)
            if tensor is not None and value.is_initializer():
                self._down[value] = self._constant(value, tensor)
            else:
                self._down[value] = self._cast(value, self.half.dtype, after=value.producer())
        return self._down[value]

    def _raised(self, value: ir.Value) -> ir.Value:
        if value not in self._up:
            self._up[value] = self._cast(value, FLOAT, after=value.producer())
        return self._up[value]

    def _cast(self, value: ir.Value, to: ir.DataType, after: ir.Node | None) -> ir.Value:
        cast = ir.node("Cast", [value], {"to": int(to)})
        result = cast.outputs[0]
        result.shape, result.type = value.shape, ir.TensorType(to)
        graph = self.model.graph
        if after is not None and after.graph is graph:
            graph.insert_after(after, cast)
        else:
            graph.insert_before(graph[0], cast)
        return result

    def _constant(self, value: ir.Value, tensor: ir.TensorProtocol) -> ir.Value:
        graph, name = self.model.graph, f"{value.name}_half"
        while name in graph.initializers:
            name += "_"
        new = ir.Value(
            name=name,
            shape=ir.Shape(tensor.shape.numpy()),
            type=ir.TensorType(self.half.dtype),
            const_value=converted(tensor, self.half, name),
        )
        graph.register_initializer(new)
        return new


def converted(tensor: ir.TensorProtocol, half: Precision, name: str) -> ir.TensorProtocol:
    """Return a tensor in half precision; large ones are computed when they are read.

    Finite numbers beyond the range become the largest there are, infinities stay.
    """

    def compute() -> ir.Tensor[Array]:
        array = read_array(tensor)
        clipped = np.where(np.isfinite(array), np.clip(array, -half.largest, half.largest), array)
        return ir.Tensor(clipped.astype(half.dtype.numpy()), half.dtype, name=name)

    if tensor.nbytes < _LAZY_LIMIT:
        return compute()
    shape = ir.Shape(tensor.shape.numpy())
    return ir.LazyTensor(compute, half.dtype, shape=shape, name=name)
