"""Inputs and outputs that are maps: onnx_ir has no such type, so it is kept beside the graph.

Classifiers of ``ai.onnx.ml`` return maps through ZipMap. The runtime infers the types of values
inside the graph, so only those of inputs and outputs are kept.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx
import onnx_ir as ir

_KEY = "onnxsmith.map_types"


def take_map_types(proto: onnx.ModelProto) -> dict[str, onnx.TypeProto]:
    """Remove map types from the main graph's signature and values; return the signature's."""
    found: dict[str, onnx.TypeProto] = {}
    for value in (*proto.graph.input, *proto.graph.output):
        if holds_map(value.type):
            kind = onnx.TypeProto()
            kind.CopyFrom(value.type)
            found[value.name] = kind
            value.ClearField("type")
    for index in reversed(range(len(proto.graph.value_info))):
        if holds_map(proto.graph.value_info[index].type):
            del proto.graph.value_info[index]
    return found


def keep_map_types(model: ir.Model, types: Mapping[str, onnx.TypeProto]) -> None:
    """Remember ``types`` in the graph; clones remember them, too."""
    if types:
        model.graph.meta[_KEY] = dict(types)


def map_types(model: ir.Model) -> Mapping[str, onnx.TypeProto]:
    """Return the types of the inputs and outputs that are maps, by name."""
    types: Mapping[str, onnx.TypeProto] = model.graph.meta.get(_KEY, {})
    return types


def restore_map_types(proto: onnx.ModelProto, types: Mapping[str, onnx.TypeProto]) -> None:
    """Put the types back into the signature."""
    for value in (*proto.graph.input, *proto.graph.output):
        if value.name in types:
            value.type.CopyFrom(types[value.name])


def value_type(kind: onnx.TypeProto) -> int:
    """Return the element type of the map's values, as TensorProto numbers them."""
    while not kind.HasField("map_type"):
        kind = _inner(kind)
    inner = kind.map_type.value_type
    return inner.tensor_type.elem_type if inner.HasField("tensor_type") else 0


def holds_map(kind: onnx.TypeProto) -> bool:
    """Tell whether the type is a map, or a sequence or optional of maps."""
    while kind.HasField("sequence_type") or kind.HasField("optional_type"):
        kind = _inner(kind)
    return kind.HasField("map_type")


def _inner(kind: onnx.TypeProto) -> onnx.TypeProto:
    if kind.HasField("sequence_type"):
        return kind.sequence_type.elem_type
    return kind.optional_type.elem_type
