"""Which rule differentiates which operator; rules are imported when they are first used."""

from __future__ import annotations

import importlib
from typing import cast

import onnx_ir as ir

from onnxsmith.passes.autodiff.backward import Rule
from onnxsmith.passes.match import STANDARD

RULES = {
    "Abs": "arithmetic:absolute",
    "Add": "arithmetic:add",
    "AveragePool": "pooling:average",
    "BatchNormalization": "normalization:batch",
    "Cast": "shapes:cast",
    "CastLike": "shapes:cast",
    "Clip": "activations:clip",
    "Concat": "shapes:concat",
    "Conv": "conv:conv",
    "Cos": "exponential:cos",
    "CumSum": "reductions:cumulative",
    "DepthToSpace": "shapes:depth_to_space",
    "Div": "arithmetic:divide",
    "Dropout": "activations:dropout",
    "Erf": "exponential:erf",
    "Exp": "exponential:exp",
    "Expand": "shapes:expand",
    "Flatten": "shapes:reshape",
    "Gather": "indexing:gather",
    "GatherElements": "indexing:gather_elements",
    "Gelu": "activations:gelu",
    "Gemm": "linear:gemm",
    "GlobalAveragePool": "pooling:global_average",
    "GlobalMaxPool": "pooling:global_maximum",
    "Identity": "shapes:identity",
    "InstanceNormalization": "normalization:instance",
    "LayerNormalization": "normalization:layer",
    "LeakyRelu": "activations:leaky_relu",
    "Log": "exponential:log",
    "LogSoftmax": "softmax:log_softmax",
    "MatMul": "linear:matmul",
    "Max": "arithmetic:extreme",
    "MaxPool": "pooling:maximum",
    "Mean": "arithmetic:average",
    "Min": "arithmetic:extreme",
    "Mul": "arithmetic:multiply",
    "Neg": "arithmetic:negative",
    "NegativeLogLikelihoodLoss": "losses:likelihood",
    "Pad": "shapes:pad",
    "Pow": "arithmetic:power",
    "Reciprocal": "arithmetic:reciprocal",
    "ReduceMax": "reductions:extreme",
    "ReduceMean": "reductions:mean",
    "ReduceMin": "reductions:extreme",
    "ReduceSum": "reductions:total",
    "Relu": "activations:relu",
    "Reshape": "shapes:reshape",
    "Sigmoid": "activations:sigmoid",
    "Sin": "exponential:sin",
    "Slice": "shapes:slices",
    "Softmax": "softmax:softmax",
    "SoftmaxCrossEntropyLoss": "losses:cross_entropy",
    "SpaceToDepth": "shapes:space_to_depth",
    "Split": "shapes:split",
    "Sqrt": "arithmetic:root",
    "Squeeze": "shapes:reshape",
    "Sub": "arithmetic:subtract",
    "Sum": "arithmetic:sum_all",
    "Tanh": "activations:tanh",
    "Tile": "shapes:tile",
    "Transpose": "shapes:transpose",
    "Trilu": "indexing:triangle",
    "Unsqueeze": "shapes:reshape",
    "Where": "arithmetic:where",
}
"""Standard operator to ``module:function`` under :mod:`onnxsmith.passes.autodiff.rules`."""

CONSTANT = frozenset({
    "ArgMax", "ArgMin", "Ceil", "ConstantOfShape", "EyeLike", "Floor", "OneHot", "RandomNormal",
    "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Range", "Round", "Shape", "Sign",
    "Size",
})  # fmt: skip
"""Operators whose derivative is zero wherever there is one: nothing flows through them."""


def find_rule(node: ir.Node) -> Rule | None:
    """Return the rule of a node's operator, None where there is none."""
    if node.domain not in STANDARD or node.op_type not in RULES:
        return None
    module, _, function = RULES[node.op_type].partition(":")
    home = importlib.import_module(f"onnxsmith.passes.autodiff.rules.{module}")
    return cast(Rule, getattr(home, function))
