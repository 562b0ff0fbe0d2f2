"""What one node costs: multiply-accumulates and floating-point operations.

A multiply-accumulate is two operations. Elementwise operators cost one operation per output element
whatever the function (an ``Exp`` counts as much as an ``Add``); operators that stand for several
count as many as their definition has. Moving data costs nothing. Integer arithmetic of quantized
operators counts like that of floats.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import onnx_ir as ir

from onnxsmith.inspection.arithmetic import MACS, UnknownShapeError, has_input, result, shape

_ML = "ai.onnx.ml"
_MS = "com.microsoft"


@dataclass(frozen=True)
class Cost:
    """Operations of one execution.

    Attributes:
        macs: Multiply-accumulates of products.
        flops: All operations, two for each multiply-accumulate.
        reason: Why the node was not counted, or an empty text.
    """

    macs: int = 0
    flops: int = 0
    reason: str = ""


UNKNOWN_OPERATOR = "its operations are not known"
UNKNOWN_SHAPE = "its shapes are not known"


def node_cost(node: ir.Node) -> Cost:
    """Return the cost of one execution of ``node``; subgraphs are counted by the caller."""
    domain = "" if node.domain == "ai.onnx" else node.domain
    key = (domain, node.op_type)
    try:
        if key in MACS:
            macs = MACS[key](node)
            bias = prod(result(node)) if has_input(node, _BIAS.get(key, 1 << 30)) else 0
            return Cost(macs, 2 * macs + bias)
        if domain in _PER_OUTPUT and node.op_type in _PER_OUTPUT[domain]:
            return Cost(0, _PER_OUTPUT[domain][node.op_type] * prod(result(node)))
        if domain in ("", _MS) and node.op_type in _OTHER:
            return Cost(0, _OTHER[node.op_type](node))
    except UnknownShapeError:
        return Cost(reason=UNKNOWN_SHAPE)
    if domain in ("", _MS, _ML) and node.op_type in _FREE:
        return Cost()
    return Cost(reason=UNKNOWN_OPERATOR)


def _reduction(per_element: int) -> Callable[[ir.Node], int]:
    return lambda node: per_element * prod(shape(node, 0))


def _variadic(node: ir.Node) -> int:
    """Return the operations of Sum, Mean, Max, Min: one less than there are inputs."""
    mean = node.op_type == "Mean"
    return (len(node.inputs) - 1 + mean) * prod(result(node))


def _pool(node: ir.Node) -> int:
    kernel = node.attributes.get_ints("kernel_shape", ()) or ()
    return prod(result(node)) * prod(kernel)


def _lrn(node: ir.Node) -> int:
    size = node.attributes.get_int("size", 1) or 1
    return prod(shape(node, 0)) * (2 * size + 3)


def _resize(node: ir.Node) -> int:
    """Return the operations of Resize: a product and a sum for each of the 2^d or 4^d points."""
    points = {"linear": 2, "cubic": 4}.get(node.attributes.get_string("mode", "nearest") or "")
    if points is None:
        return 0
    before, after = shape(node, 0), result(node)
    changed = sum(a != b for a, b in zip(before, after, strict=True))
    return 2 * points**changed * prod(after) if changed else 0


def _grid_sample(node: ir.Node) -> int:
    mode = node.attributes.get_string("mode", "linear") or ""
    points = {"nearest": 0, "cubic": 4, "bicubic": 4}.get(mode, 2)
    out = result(node)
    return 2 * points ** (len(out) - 2) * prod(out) if points else 0


def _names(text: str) -> list[str]:
    return text.split()


def _table(groups: dict[int, str]) -> dict[str, int]:
    """Read ``{1: "Abs Add"}`` as one operation each for Abs and Add."""
    return {name: count for count, names in groups.items() for name in _names(names)}


_PER_OUTPUT: dict[str, dict[str, int]] = {
    "": _table(
        {
            1: (
                "Abs Acos Acosh Add And Asin Asinh Atan Atanh BitShift BitwiseAnd "
                "BitwiseNot BitwiseOr BitwiseXor Ceil Clip Cos Cosh Div Equal Erf Exp "
                "Floor Greater GreaterOrEqual IsInf IsNaN LeakyRelu Less LessOrEqual Log "
                "Mod Mul Neg Not Or PRelu Pow Reciprocal Relu Round Sigmoid Sign Sin Sinh "
                "Sqrt Sub Tan Tanh ThresholdedRelu Where Xor Dropout"
            ),
            2: (
                "BatchNormalization DequantizeLinear QuantizeLinear DynamicQuantizeLinear Elu "
                "Shrink"
            ),
            3: "Celu HardSigmoid HardSwish Selu Softplus Softsign RotaryEmbedding",
            4: "Gelu Mish Swish RMSNormalization",
            5: "Softmax LogSoftmax",
            7: (
                "LayerNormalization InstanceNormalization GroupNormalization "
                "MeanVarianceNormalization"
            ),
        }
    ),
    _ML: _table({1: "Binarizer Normalizer", 2: "Scaler"}),
    _MS: _table(
        {
            2: "DequantizeLinear QuantizeLinear QLinearLeakyRelu QLinearSigmoid",
            3: "QuickGelu RotaryEmbedding QLinearAdd QLinearMul",
            4: "Gelu FastGelu",
            5: "BiasGelu QLinearSoftmax",
            6: "BiasSoftmax SkipSimplifiedLayerNormalization",
            8: "SkipLayerNormalization EmbedLayerNormalization",
        }
    ),
}

_OTHER: dict[str, Callable[[ir.Node], int]] = {
    **dict.fromkeys(
        _names(
            "ArgMax ArgMin CumProd CumSum GlobalAveragePool GlobalMaxPool ReduceMax ReduceMean "
            "ReduceMin ReduceProd ReduceSum QLinearGlobalAveragePool"
        ),
        _reduction(1),
    ),
    **dict.fromkeys(
        _names("GlobalLpPool LpNormalization ReduceL1 ReduceL2 ReduceLogSum ReduceSumSquare"),
        _reduction(2),
    ),
    "ReduceLogSumExp": _reduction(3),
    **dict.fromkeys(_names("AveragePool LpPool MaxPool QLinearAveragePool"), _pool),
    **dict.fromkeys(_names("Max Mean Min Sum"), _variadic),
    "GridSample": _grid_sample,
    "LRN": _lrn,
    "Resize": _resize,
    "Upsample": _resize,
}

# Operators that only move, choose, make or name data. Control flow is counted by its bodies.
_FREE = frozenset(
    _names(
        "ArrayFeatureExtractor Bernoulli BitCast Cast CastLike CastMap CategoryMapper "
        "CenterCropPad Col2Im Compress Concat ConcatFromSequence Constant ConstantOfShape "
        "DepthToSpace DictVectorizer ExpandDims Expand EyeLike FeatureVectorizer Flatten "
        "Gather GatherElements GatherND Hardmax Identity If ImageDecoder LabelEncoder "
        "Loop MaxUnpool Multinomial NonZero OneHot OneHotEncoder Optional "
        "OptionalGetElement OptionalHasElement Pad QLinearConcat RandomNormal "
        "RandomNormalLike RandomUniform RandomUniformLike Range Reshape ReverseSequence "
        "Scan ScatterElements ScatterND SequenceAt SequenceConstruct SequenceEmpty "
        "SequenceErase SequenceInsert SequenceLength Shape Size Slice SpaceToDepth Split "
        "SplitToSequence Squeeze StringConcat StringNormalizer StringSplit TensorScatter "
        "TfIdfVectorizer Tile TopK Transpose Trilu Unique Unsqueeze ZipMap"
    )
)

# Where products take a bias that is added to each output.
_BIAS = {
    ("", "Conv"): 2,
    ("", "ConvTranspose"): 2,
    ("", "DeformConv"): 3,
    ("", "Gemm"): 2,
    ("", "QLinearConv"): 8,
    (_MS, "DynamicQuantizeMatMul"): 4,
    (_MS, "FusedConv"): 2,
    (_MS, "FusedGemm"): 2,
    (_MS, "MatMulIntegerToFloat"): 6,
    (_MS, "QGemm"): 6,
}
