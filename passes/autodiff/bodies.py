"""Write operators without a rule as what ONNX defines them to be."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from onnxsmith.passes.match import STANDARD

_DOMAIN = "onnxsmith.bodies"


def expand(model: ir.Model, nodes: Iterable[ir.Node]) -> list[ir.Node]:
    """Put the function body of each operator in its place.

    Args:
        model: It is edited.
        nodes: Nodes of it.

    Returns:
        The nodes that ONNX gives no body for.
    """
    version = next(model.opset_imports[d] for d in STANDARD if d in model.opset_imports)
    left = []
    for count, node in enumerate(nodes):
        function = _function(node, version) if node.domain in STANDARD else None
        if function is None:
            left.append(node)
            continue
        for place, value in enumerate(node.outputs):
            value.name = value.name or f"{_DOMAIN}/left_out/{count}/{place}"
        function.domain, function.name = _DOMAIN, f"{node.op_type}_{count}"
        node.domain, node.op_type, node.overload = _DOMAIN, function.name, ""
        model.functions[function.identifier()] = function
    made = [key for key in model.functions if key[0] == _DOMAIN]
    if not made:
        return left
    model.opset_imports.setdefault(_DOMAIN, 1)
    InlinePass(lambda function: function.domain == _DOMAIN)(model)
    for key in made:
        model.functions.pop(key, None)
    model.opset_imports.pop(_DOMAIN, None)
    return left


def _function(node: ir.Node, version: int) -> ir.Function | None:
    try:
        schema: Any = onnx.defs.get_schema(node.op_type, version)  # its stubs lack functions
    except onnx.defs.SchemaError:
        return None
    for name, attribute in schema.attributes.items():
        if name not in node.attributes and attribute.default_value.type:
            node.attributes.add(ir.from_proto(attribute.default_value))
    proto = onnx.FunctionProto()
    if schema.has_function:
        known = [v for v in schema.function_opset_versions if v <= version]
        if not known:
            return None
        proto.ParseFromString(_bytes(schema.get_function_with_opset_version(max(known))))
    elif schema.has_context_dependent_function:
        known = [v for v in schema.context_dependent_function_opset_versions if v <= version]
        if not known:
            return None
        types = [
            _type(value).SerializeToString() if value is not None else b"" for value in node.inputs
        ]
        payload = ir.to_proto(node).SerializeToString()
        text = schema.get_context_dependent_function_with_opset_version(max(known), payload, types)
        proto.ParseFromString(text)
    else:
        return None
    del proto.output[len(node.outputs) :]
    made = {name for inner in proto.node for name in inner.output} | set(proto.input)
    for name in proto.output:
        if name not in made:  # an output that is left out has no nodes in the body
            proto.node.add(op_type="Identity", input=[proto.input[0]], output=[name])
    del proto.opset_import[:]
    proto.opset_import.append(onnx.helper.make_opsetid("", version))
    return ir.serde.deserialize_function(proto)


def _bytes(function: onnx.FunctionProto | bytes) -> bytes:
    return function if isinstance(function, bytes) else function.SerializeToString()


def _type(value: ir.Value) -> onnx.TypeProto:
    proto = onnx.TypeProto()
    if value.type is not None:
        ir.serde.serialize_type_into(proto, value.type)
    if value.shape is not None:
        ir.serde.serialize_shape_into(proto, value.shape)
    return proto
