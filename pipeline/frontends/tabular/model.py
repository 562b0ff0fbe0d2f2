"""Write a forest as an ONNX model."""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from onnxsmith.numerics import numpy_dtype
from onnxsmith.pipeline.frontends.tabular.forest import Forest, Node, build
from onnxsmith.spec import ValueSpec

# ai.onnx.ml 3 is read by every runtime of recent years; 5 replaces the tree operators.
ML_OPSET = 3
# Of opset 21; the finish after an import takes the one that the opset needs.
_IR_VERSION = 10
LABEL, PROBABILITIES, VARIABLE = "label", "probabilities", "variable"


def forest_model(forest: Forest, spec: ValueSpec, opset: int) -> onnx.ModelProto:
    """Return the model of a forest.

    A classifier gives ``label[batch]`` and ``probabilities[batch, n_classes]``, others
    ``variable[batch, n_targets]``: the names that skl2onnx and onnxmltools give.

    Args:
        forest: The forest.
        spec: Its input, ``[batch, n_features]``.
        opset: The ai.onnx opset.
    """
    batch = (spec.shape or ("batch",))[0]
    if forest.labels is None:
        outputs = [(VARIABLE, TensorProto.FLOAT, [batch, len(forest.base)])]
    else:
        text = forest.labels.dtype.kind in "OU"
        outputs = [
            (LABEL, TensorProto.STRING if text else TensorProto.INT64, [batch]),
            (PROBABILITIES, TensorProto.FLOAT, [batch, len(forest.labels)]),
        ]
    nodes = build(forest, spec.name, [name for name, _, _ in outputs], "trees")
    protos = [make_node(node) for node in nodes]
    dtype = helper.np_dtype_to_tensor_dtype(numpy_dtype(spec.dtype))
    graph = helper.make_graph(
        protos,
        "model",
        [helper.make_tensor_value_info(spec.name, dtype, list(spec.shape or ()))],
        [helper.make_tensor_value_info(*output) for output in outputs],
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    return helper.make_model(
        graph, opset_imports=imports, producer_name="onnxsmith", ir_version=_IR_VERSION
    )


def make_node(node: Node) -> onnx.NodeProto:
    """Return a node as ONNX stores it."""
    proto = helper.make_node(node.op_type, node.inputs, node.outputs, domain=node.domain)
    for name, value in node.attributes.items():
        proto.attribute.append(helper.make_attribute(name, value))
    return proto
