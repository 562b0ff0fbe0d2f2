"""Attention whose queries, keys and values are products of one value with constant weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.fusion.attention_core import Core
from onnxsmith.passes.fusion.attention_operand import Source, readers
from onnxsmith.passes.match import made_by, tensor_of

Columns = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Part:
    """``x W + b``, of which some columns are wanted."""

    source: ir.Value
    weight: ir.TensorProtocol
    bias: ir.TensorProtocol | None
    columns: Columns


@dataclass(frozen=True)
class Projection:
    """Queries, keys and values of one value.

    Attributes:
        parts: Queries, keys and values.
        lengths_first: Whether the source is of shape (length, batch, width).
    """

    parts: tuple[Part, ...]
    lengths_first: bool

    @property
    def source(self) -> ir.Value:
        """The value."""
        return self.parts[0].source

    @property
    def widths(self) -> list[int]:
        """How many columns queries, keys and values have."""
        return [part.columns.size for part in self.parts]


def projections(core: Core) -> Projection | None:
    """Return where the operands come from, if it is one value whose products are read here only."""
    sources = [operand.source() for operand in (core.query, core.key, core.value)]
    found = [None if source is None else _part(source, core) for source in sources]
    parts = tuple(part for part in found if part is not None)
    if len(parts) != 3 or core.key.repeats != 1:
        return None
    if any(part.source is not parts[0].source for part in parts):
        return None
    if any(part.weight.dtype != parts[0].weight.dtype for part in parts):
        return None
    first = {source.lengths_first for source in sources if source is not None}
    return Projection(parts, first.pop()) if len(first) == 1 else None


def _part(source: Source, core: Core) -> Part | None:
    value: ir.Value | None = source.value
    if any(node not in core.nodes for node in readers(source.value)):
        return None
    bias = None
    add = made_by(value, "Add")
    for first, second in (add.inputs, reversed(add.inputs)) if add is not None else ():
        tensor = tensor_of(second)
        if tensor is not None and len(tensor.shape) == 1:
            value, bias = first, tensor
            break
    product = made_by(value, "MatMul")
    if product is None or value is None:
        return None
    if bias is not None and (len(value.uses()) != 1 or value.is_graph_output()):
        return None
    x, weight = product.inputs[0], tensor_of(product.inputs[1])
    if x is None or x.shape is None or len(x.shape) != 3 or weight is None:
        return None
    if len(weight.shape) != 2 or (bias is not None and bias.shape[0] != weight.shape[1]):
        return None
    if bias is not None and bias.dtype != weight.dtype:
        return None
    return Part(x, weight, bias, source.columns.reshape(-1))


def pack(projection: Projection) -> tuple[ir.TensorProtocol, ir.TensorProtocol]:
    """Return weights and biases of queries, keys and values side by side.

    The tensors are computed when they are asked for. The runtime's CPU kernel crashes without a
    bias, though the operator lets it be left out.
    """
    parts, width = projection.parts, sum(projection.widths)
    dtype = parts[0].weight.dtype
    rows = int(parts[0].weight.shape.numpy()[0])
    weight = ir.LazyTensor(
        lambda: ir.Tensor(np.concatenate([_columns(p.weight, p.columns) for p in parts], axis=1)),
        dtype=dtype,
        shape=ir.Shape([rows, width]),
    )
    bias = ir.Tensor(np.concatenate([_bias(part) for part in parts]))
    return weight, bias


def _columns(tensor: ir.TensorProtocol, columns: Columns) -> np.ndarray[Any, Any]:
    array = tensor.numpy()
    if columns.size == array.shape[-1] and np.array_equal(columns, np.arange(columns.size)):
        return array
    return array[..., columns]


def _bias(part: Part) -> np.ndarray[Any, Any]:
    if part.bias is None:
        return np.zeros(part.columns.size, part.weight.dtype.numpy())
    return _columns(part.bias, part.columns)
