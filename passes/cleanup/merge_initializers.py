"""Store equal initializers once."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.storage.save import tensor_chunks

_PREFIX = 4096


@dataclass(frozen=True)
class MergeInitializers(Pass):
    """Store equal initializers once; tied weights stay tied.

    Equal means the same type, shape and bytes. Only tensors that agree in those and in their
    first bytes are read whole, and from the file: mapping them would count as memory in use.
    Initializers that are graph inputs or outputs keep their own value.

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
    kept: dict[bytes, ir.Value] = {}
    merged = 0
    for value in group:
        assert value.const_value is not None  # _merge() chose it by its tensor
        assert value.name is not None  # an initializer is keyed by its name
        first = kept.setdefault(_digest(value.const_value), value)
        if first is not value:
            value.replace_all_uses_with(first)
            del graph.initializers[value.name]
            merged += 1
    return merged


def _key(tensor: ir.TensorProtocol) -> Hashable:
    shape = tuple(tensor.shape.numpy())
    if tensor.dtype == ir.DataType.STRING:
        return tensor.dtype, shape, tuple(tensor.numpy().flat)
    return tensor.dtype, shape, _prefix(tensor)


def _prefix(tensor: ir.TensorProtocol) -> bytes:
    if isinstance(tensor, ir.ExternalTensor):
        with open(tensor.path, "rb") as file:
            file.seek(tensor.offset or 0)
            return file.read(min(_PREFIX, tensor.nbytes))
    return b"".join(bytes(chunk[:_PREFIX]) for chunk in islice(tensor_chunks(tensor), 1))


def _digest(tensor: ir.TensorProtocol) -> bytes:
    if tensor.dtype == ir.DataType.STRING:
        return b""  # the key holds the text already
    digest = hashlib.sha256()
    for chunk in tensor_chunks(tensor):
        digest.update(chunk)
    return digest.digest()
