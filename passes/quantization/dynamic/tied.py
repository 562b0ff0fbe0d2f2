"""Tables of embeddings whose transpose a product multiplies with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.match import Array, tensor_of
from onnxsmith.storage.tensors import TransposedTensor, read_array


@dataclass(frozen=True)
class ProductWeight:
    """A matrix that a product has stored in int8.

    Attributes:
        source: The float32 matrix it was made of.
        turned: Whether it is the transpose of ``source``.
        value: The int8 constant.
        axis: Its axis that has a scale for each index: 1 for the columns of a MatMul's weight.
        scale: float32, one number, or one for each index along ``axis``.
    """

    source: ir.Value
    turned: bool
    value: ir.Value
    axis: int
    scale: Array


def find_tied(table: ir.Value, weights: Iterable[ProductWeight]) -> ProductWeight | None:
    """Return the weight that has the same numbers as a table, with a scale for each row of it.

    Numbers are compared, not names: exporters write a tied weight as one constant that a product
    transposes, or as two.

    Args:
        table: float32, of shape (rows, columns), constant.
        weights: What products have stored.
    """
    tensor = tensor_of(table)
    for weight in weights:
        source = tensor_of(weight.source)
        transposed = weight.turned != (weight.axis == 1)  # the source, against the table
        if tensor is not None and source is not None and _equal(tensor, source, transposed):
            return weight
    return None


def _equal(table: ir.TensorProtocol, source: ir.TensorProtocol, transposed: bool) -> bool:
    shape, other = table.shape.numpy(), source.shape.numpy()
    if shape != (other[::-1] if transposed else other) or table.dtype != source.dtype:
        return False
    if transposed and isinstance(source, TransposedTensor) and source.source is table:
        return True
    if not transposed and source is table:
        return True
    numbers = read_array(source)
    return bool(np.array_equal(read_array(table), numbers.T if transposed else numbers))
