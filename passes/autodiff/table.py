"""Which rule differentiates which operator; rules are imported when they are first used."""

from __future__ import annotations

import importlib
from typing import cast

import onnx_ir as ir

from onnxsmith.passes.autodiff.backward import Rule
from onnxsmith.passes.match import STANDARD

RULES = {
    "Abs": "arithmetic:absolute",
    "Acos": "exponential:arc_cos",
    "Acosh": "exponential:area_cosh",
    "Add": "arithmetic:add",
    "AffineGrid": "affine_grid:affine_grid",
    "Asin": "exponential:arc_sin",
    "Asinh": "exponential:area_sinh",
    "Atan": "exponential:arc_tan",
    "Atanh": "exponential:area_tanh",
    "AveragePool": "pooling:average",
    "BatchNormalization": "batch_norm:batch",
    "Cast": "shapes:cast",
    "CastLike": "shapes:cast",
    "Celu": "smooth:celu",
    "Clip": "activations:clip",
    "Col2Im": "patches:col2im",
    "Compress": "scatter:compress",
    "Concat": "shapes:concat",
    "Conv": "conv:conv",
    "ConvTranspose": "conv_transpose:conv_transpose",
    "Cos": "exponential:cos",
    "Cosh": "exponential:cosh",
    "CumSum": "reductions:cumulative",
    "DFT": "spectrum:dft",
    "DepthToSpace": "shapes:depth_to_space",
    "DequantizeLinear": "quantization:dequantize",
    "Div": "arithmetic:divide",
    "Dropout": "activations:dropout",
    "Einsum": "einsum:einsum",
    "Elu": "smooth:elu",
    "Erf": "exponential:erf",
    "Exp": "exponential:exp",
    "Expand": "shapes:expand",
    "Flatten": "shapes:reshape",
    "GRU": "gru:gru",
    "Gather": "indexing:gather",
    "GatherElements": "indexing:gather_elements",
    "GatherND": "scatter:gather_nd",
    "Gelu": "smooth:gelu",
    "Gemm": "linear:gemm",
    "GlobalAveragePool": "pooling:global_average",
    "GlobalLpPool": "pooling:global_norm",
    "GlobalMaxPool": "pooling:global_maximum",
    "GridSample": "sampling:grid_sample",
    "GroupNormalization": "group_norms:group",
    "HardSigmoid": "activations:hard_sigmoid",
    "HardSwish": "activations:hard_swish",
    "Identity": "shapes:identity",
    "If": "conditional:conditional",
    "InstanceNormalization": "normalization:instance",
    "LRN": "local_response:local_response",
    "LSTM": "lstm:lstm",
    "LayerNormalization": "normalization:layer",
    "LeakyRelu": "activations:leaky_relu",
    "Log": "exponential:log",
    "LogSoftmax": "softmax:log_softmax",
    "Loop": "loops:loop",
    "LpNormalization": "group_norms:unit",
    "LpPool": "pooling:norm",
    "MatMul": "linear:matmul",
    "Max": "arithmetic:extreme",
    "MaxPool": "max_pool:maximum",
    "MaxUnpool": "pooling:unpool",
    "Mean": "arithmetic:average",
    "MeanVarianceNormalization": "group_norms:mean_variance",
    "Min": "arithmetic:extreme",
    "Mish": "smooth:mish",
    "Mod": "arithmetic:remainder",
    "Mul": "arithmetic:multiply",
    "Neg": "arithmetic:negative",
    "NegativeLogLikelihoodLoss": "losses:likelihood",
    "OneHot": "indexing:one_hot",
    "PRelu": "activations:prelu",
    "Pad": "shapes:pad",
    "Pow": "arithmetic:power",
    "QuantizeLinear": "quantization:quantize",
    "RMSNormalization": "group_norms:root_mean_square",
    "RNN": "rnn:rnn",
    "Range": "arithmetic:span",
    "Reciprocal": "arithmetic:reciprocal",
    "ReduceL1": "reductions:first_norm",
    "ReduceL2": "reductions:second_norm",
    "ReduceLogSum": "reductions:log_sum",
    "ReduceLogSumExp": "reductions:log_sum_exp",
    "ReduceMax": "reductions:extreme",
    "ReduceMean": "reductions:mean",
    "ReduceMin": "reductions:extreme",
    "ReduceProd": "reductions:product",
    "ReduceSum": "reductions:total",
    "ReduceSumSquare": "reductions:square_sum",
    "Relu": "activations:relu",
    "Reshape": "shapes:reshape",
    "Resize": "resize:resize",
    "ReverseSequence": "indexing:reverse_sequence",
    "Scan": "loops:scan",
    "ScatterElements": "scatter:scatter_elements",
    "ScatterND": "scatter:scatter_nd",
    "Selu": "smooth:selu",
    "Shrink": "activations:shrink",
    "Sigmoid": "activations:sigmoid",
    "Sin": "exponential:sin",
    "Sinh": "exponential:sinh",
    "Slice": "shapes:slices",
    "Softmax": "softmax:softmax",
    "SoftmaxCrossEntropyLoss": "losses:cross_entropy",
    "Softplus": "smooth:softplus",
    "Softsign": "smooth:softsign",
    "SpaceToDepth": "shapes:space_to_depth",
    "Split": "shapes:split",
    "Sqrt": "arithmetic:root",
    "Squeeze": "shapes:reshape",
    "Sub": "arithmetic:subtract",
    "Sum": "arithmetic:sum_all",
    "Swish": "smooth:swish",
    "Tan": "exponential:tan",
    "Tanh": "activations:tanh",
    "ThresholdedRelu": "activations:thresholded_relu",
    "Tile": "shapes:tile",
    "TopK": "scatter:top_values",
    "Transpose": "shapes:transpose",
    "Trilu": "indexing:triangle",
    "Unsqueeze": "shapes:reshape",
    "Where": "arithmetic:where",
}
"""Standard operator to ``module:function`` under :mod:`onnxsmith.passes.autodiff.rules`."""

CONSTANT = frozenset({
    "ArgMax", "ArgMin", "Bernoulli", "Ceil", "ConstantOfShape", "EyeLike", "Floor", "Hardmax",
    "MelWeightMatrix", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
    "RandomUniformLike", "Round", "Shape", "Sign", "Size",
})  # fmt: skip
"""Operators whose derivative is zero wherever there is one: nothing flows through them."""


_INTEGERS = "it computes in integers; train before quantizing, or quantize to QDQ form"
_REGIONS = "it pools regions that do not lie on the grid"
_SEQUENCES = "gradients of sequences are not known; write it with tensors"

REFUSED = {
    "BitCast": "it reads the bits of a number",
    "ConcatFromSequence": _SEQUENCES,
    "ConvInteger": _INTEGERS,
    "CumProd": "the product of all others in it may be of zeros; write it as exp of CumSum of log",
    "DeformConv": "its kernel moves elements by what it computes",
    "Det": "the inverse of a matrix is no ONNX operator",
    "DynamicQuantizeLinear": _INTEGERS,
    "MatMulInteger": _INTEGERS,
    "MaxRoiPool": _REGIONS,
    "Optional": _SEQUENCES,
    "OptionalGetElement": _SEQUENCES,
    "QLinearConv": _INTEGERS,
    "QLinearMatMul": _INTEGERS,
    "RoiAlign": _REGIONS,
    "STFT": "it reads overlapping frames; write it as a Gather of frames and a DFT",
    "SequenceAt": _SEQUENCES,
    "SequenceConstruct": _SEQUENCES,
    "SequenceErase": _SEQUENCES,
    "SequenceInsert": _SEQUENCES,
    "SequenceMap": _SEQUENCES,
    "SplitToSequence": _SEQUENCES,
    "TensorScatter": "it writes into a cache; write it as a ScatterND",
    "Unique": "which elements it drops changes with their values",
}
"""Operators that pass on what depends on parameters, and why no gradient can follow."""


def find_rule(node: ir.Node) -> Rule | None:
    """Return the rule of a node's operator, None where there is none."""
    if node.domain not in STANDARD or node.op_type not in RULES:
        return None
    module, _, function = RULES[node.op_type].partition(":")
    home = importlib.import_module(f"onnxsmith.passes.autodiff.rules.{module}")
    return cast(Rule, getattr(home, function))
