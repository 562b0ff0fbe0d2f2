"""Store equal initializers once."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.storage.save import tensor_chunks
from onnxsmith.storage.tensors import TransposedTensor

_SAMPLE = 1024


@dataclass(frozen=True)
class MergeInitializers(Pass):
    """Store equal initializers once; tied weights stay tied.

    Equal means the same type, shape and bytes. Only tensors that agree in type, shape and some of
    their bytes are read whole, and from the file: mapping them would count as memory in use.
    Initializers that are graph inputs or outputs keep their own value. Weights that are transposed
    when they are read are compared by what is transposed, and only with each other.

    onnx_ir's pass of that name reads every tensor below a limit and skips those above.
    """

    name: ClassVar[str] = "merge-initializers"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Merge within each graph; an initializer is not visible in its siblings."""
        merged = sum(_merge(graph) for graph in (model.graph, *model.graph.subgraphs()))
        return PassResult(model, bool(merged), {"merged": merged})


def _merge(graph: ir.Graph) -> int:
    alike: dict[Hashable, list[ir.Value]] = defaultdict(list)
    for value in graph.initializers.values():
        tensor = value.const_value
        if tensor is None or value.is_graph_input() or value.is_graph_output():
            continue
        alike[_key(tensor)].append(value)
    merged = 0
    for group in alike.values():
        if len(group) > 1:
            merged += _merge_equal(graph, group)
    return merged


def _merge_equal(graph: ir.Graph, group: list[ir.Value]) -> int:
    kept: dict[Hashable, ir.Value] = {}
    merged = 0
    for value in group:
        assert value.const_value is not None  # _merge() chose it by its tensor
        assert value.name is not None  # an initializer is keyed by its name
        first = kept.setdefault(_content(value.const_value), value)
        if first is not value:
            value.replace_all_uses_with(first)
            del graph.initializers[value.name]
            merged += 1
    return merged


def _key(tensor: ir.TensorProtocol) -> Hashable:
    shape = tuple(tensor.shape.numpy())
    if tensor.dtype == ir.DataType.STRING:
        return tensor.dtype, shape, tuple(tensor.numpy().flat)
    if isinstance(tensor, TransposedTensor):
        return tensor.dtype, shape, tensor.order, _samples(tensor.source)
    return tensor.dtype, shape, _samples(tensor)


def _samples(tensor: ir.TensorProtocol) -> bytes:
    """Return bytes from the beginning, the middle and the end; all of a small tensor."""
    size = tensor.nbytes
    if not isinstance(tensor, ir.ExternalTensor):
        raw = tensor.tobytes() if size <= 3 * _SAMPLE else _raw(tensor)
        return b"".join(bytes(raw[place : place + _SAMPLE]) for place in _places(size))
    with open(tensor.path, "rb") as file:
        parts = []
        for place in _places(size):
            file.seek((tensor.offset or 0) + place)
            parts.append(file.read(min(_SAMPLE, size - place)))
    return b"".join(parts)


def _places(size: int) -> tuple[int, ...]:
    if size <= 3 * _SAMPLE:
        return tuple(range(0, size, _SAMPLE))
    return 0, size // 2, size - _SAMPLE


def _raw(tensor: ir.TensorProtocol) -> memoryview:
    """Return the bytes of a tensor in memory, without a copy where it is an array already."""
    array = tensor.numpy()
    if array.flags.c_contiguous and tensor.dtype.bitwidth >= 8:
        return memoryview(array.view(np.uint8).reshape(-1).data)
    return memoryview(tensor.tobytes())


def _content(tensor: ir.TensorProtocol) -> Hashable:
    """Return what is the same for equal tensors only, given that their keys are equal."""
    if tensor.dtype == ir.DataType.STRING or tensor.nbytes <= 3 * _SAMPLE:
        return None  # the key holds it all
    if isinstance(tensor, TransposedTensor):
        return _content(tensor.source)
    digest = hashlib.blake2b()
    for chunk in tensor_chunks(tensor):
        digest.update(chunk)
    return digest.digest()
