"""A case for every gradient rule, large enough that the runtime shares it between threads."""

from __future__ import annotations

import re

import numpy as np
import onnx
from tests.passes.autodiff.checking import model_of

Array = np.ndarray
RNG = np.random.default_rng(113)


def _floats(*shape: int, low: float = 0.1, high: float = 0.9) -> Array:
    return RNG.uniform(low, high, shape).astype(np.float32)


# Adding thousands of rows to few is where the runtime's ScatterND goes wrong (1.31).
INPUTS: dict[str, Array] = {
    "x": _floats(16, 16, 12, 12),
    "z": _floats(16, 16, 12, 12),
    "k": _floats(16, 1, 1),
    "m": _floats(2304, 16),
    "n": _floats(16, 24),
    "q": _floats(16, 16, 12, 16),
    "kernel": _floats(16, 16, 3, 3, low=-0.3, high=0.3),
    "away": _floats(16, 16, 2, 2, low=-0.3, high=0.3),
    "gain": _floats(16),
    "shift": _floats(16),
    "mean": _floats(16),
    "spread": _floats(16),
    "inner": _floats(12, 12),
    "inner_shift": _floats(12, 12),
    "step": np.array(0.02, np.float32),
    "start": np.array(0.1, np.float32),
    "stop": np.array(400.05, np.float32),
    "pair": _floats(2),
    "table": _floats(8, 256),
    "new": _floats(4096, 256),
    "scores": _floats(512, 20),
    "input_weight": _floats(1, 64, 16, low=-0.3),
    "state_weight": _floats(1, 64, 16, low=-0.3),
    "gru_weight": _floats(1, 48, 16, low=-0.3),
    "gru_state": _floats(1, 48, 16, low=-0.3),
    "rnn_weight": _floats(1, 16, 16, low=-0.3),
    "rnn_state": _floats(1, 16, 16, low=-0.3),
    "sequence": _floats(6, 32, 16),
    "rows": _floats(16, 12),
    "first": _floats(16, 12, 12),
    "grid": _floats(16, 12, 12, 2, low=-1.2),
    "theta": _floats(16, 2, 3, low=-1.2),
    "places": RNG.integers(0, 8, 4096),
    "spots": RNG.integers(0, 8, (4096, 1)),
    "cells": RNG.integers(0, 8, (4096, 256)),
    "labels": RNG.integers(0, 20, 512),
    "mask": RNG.random((16, 16, 12, 12)) < 0.5,
    "kept": RNG.random(16) < 0.5,
    "lengths": RNG.integers(1, 16, 16),
    "yes": np.array(True),
    "times": np.array(3),
}
"""What cases may read; gradients are asked for by all of floats that they do."""

_ONES = {
    name: f"t = {name}(x)"
    for name in (
        "Abs", "Acos", "Asin", "Asinh", "Atan", "Atanh", "Cos", "Cosh", "Elu", "Erf", "Exp",
        "Celu", "Gelu", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "HardSigmoid",
        "HardSwish", "Identity", "LeakyRelu", "Log", "LogSoftmax", "Mish", "Neg", "Reciprocal",
        "Relu", "Selu", "Sigmoid", "Sin", "Sinh", "Softmax", "Softplus", "Softsign", "Sqrt",
        "Swish", "Tan", "Tanh", "Flatten", "ReduceL1", "ReduceL2", "ReduceLogSum", "Transpose",
        "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "ReduceSumSquare",
    )
}  # fmt: skip
_TWOS = {
    name: f"t = {name}(x, k)" for name in ("Add", "Div", "Max", "Min", "Mul", "Pow", "PRelu", "Sub")
}
_MORE = {
    "AffineGrid": "s = Constant <value_ints = [16, 1, 64, 64]> () t = AffineGrid(theta, s)",
    "Acosh": "e = Exp(x) t = Acosh(e)",
    "AveragePool": "t = AveragePool <kernel_shape = [3, 3], strides = [2, 1]> (x)",
    "BatchNormalization": "t = BatchNormalization(x, gain, shift, mean, spread)",
    "Cast": "d = Cast <to = 11> (x) e = Mul(d, d) t = Cast <to = 1> (e)",
    "CastLike": "t = CastLike(x, gain)",
    "Clip": "l = Constant <value_float = 0.3> () h = Constant <value_float = 0.7> ()"
    "t = Clip(x, l, h)",
    "Col2Im": "s = Constant <value_ints = [-1, 144, 16]> () c = Reshape(x, s)"
    "i = Constant <value_ints = [6, 6]> () b = Constant <value_ints = [3, 3]> ()"
    "t = Col2Im(c, i, b)",
    "Compress": "t = Compress <axis = 1> (x, kept)",
    "Concat": "t = Concat <axis = 1> (x, z, x)",
    "Conv": "t = Conv <pads = [1, 1, 1, 1]> (x, kernel, shift)",
    "ConvTranspose": "t = ConvTranspose <strides = [2, 2]> (x, away, shift)",
    "CumSum": "a = Constant <value_int = 2> () t = CumSum(x, a)",
    "DFT": "s = Constant <value_ints = [64, 288, 2]> () c = Reshape(x, s) t = DFT(c)",
    "DepthToSpace": "t = DepthToSpace <blocksize = 2> (x)",
    "DequantizeLinear": "v = QuantizeLinear <output_dtype = 3> (x, step)"
    "t = DequantizeLinear(v, step)",
    "Dropout": "r = Constant <value_float = 0.4> () t = Dropout <seed = 3> (x, r)",
    "Einsum": 'p = Einsum <equation = "abij,abik,bj->aki"> (x, q, rows) t = Mul(p, p)',
    "Expand": "s = Constant <value_ints = [16, 64, 64]> () t = Expand(k, s)",
    "GRU": "t, h = GRU <hidden_size = 16> (sequence, gru_weight, gru_state)",
    "Gather": "t = Gather(table, places)",
    "GatherElements": "t = GatherElements(table, cells)",
    "GatherND": "t = GatherND(table, spots)",
    "Gemm": "t = Gemm(m, n)",
    "GridSample": "t = GridSample(x, grid)",
    "GroupNormalization": "t = GroupNormalization <num_groups = 4> (x, gain, shift)",
    "If": "t = If <then_branch = a () => (float[16, 16, 12, 12] u) { u = Mul(x, k) },"
    "else_branch = b () => (float[16, 16, 12, 12] v) { v = Sin(x) }> (yes)",
    "InstanceNormalization": "t = InstanceNormalization(x, gain, shift)",
    "LRN": "t = LRN <size = 5> (x)",
    "LSTM": "t, h, c = LSTM <hidden_size = 16> (sequence, input_weight, state_weight)",
    "LayerNormalization": "t = LayerNormalization <axis = 2> (x, inner, inner_shift)",
    "Loop": "t = Loop(times, yes, x) <body = b (int64 i, bool c, float[16, 16, 12, 12] p) =>"
    "(bool o, float[16, 16, 12, 12] s) { o = Identity(c) u = Mul(p, k) s = Sin(u) }>",
    "LpNormalization": "t = LpNormalization <axis = 1> (x)",
    "LpPool": "t = LpPool <kernel_shape = [3, 3]> (x)",
    "MatMul": "t = MatMul(x, q)",
    "MaxPool": "t = MaxPool <kernel_shape = [3, 3], strides = [2, 2]> (x)",
    "MaxUnpool": "p, i = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)"
    "t = MaxUnpool <kernel_shape = [2, 2], strides = [2, 2]> (p, i)",
    "Mean": "t = Mean(x, k, z)",
    "MeanVarianceNormalization": "t = MeanVarianceNormalization(x)",
    "Mod": "t = Mod <fmod = 1> (x, k)",
    "NegativeLogLikelihoodLoss": "l = LogSoftmax(scores) t = NegativeLogLikelihoodLoss(l, labels)",
    "OneHot": "d = Constant <value_int = 32> () t = OneHot(places, d, pair)",
    "Pad": "p = Constant <value_ints = [0, 0, 3, 4, 0, 0, 5, 2]> ()"
    't = Pad <mode = "reflect"> (x, p)',
    "QuantizeLinear": "v = QuantizeLinear <output_dtype = 3> (x, step)"
    "t = DequantizeLinear(v, step)",
    "RMSNormalization": "t = RMSNormalization <axis = 2> (x, inner)",
    "RNN": "t, h = RNN <hidden_size = 16> (sequence, rnn_weight, rnn_state)",
    "Range": "t = Range(start, stop, step)",
    "ReduceProd": "a = Constant <value_ints = [3]> () t = ReduceProd(x, a)",
    "Reshape": "s = Constant <value_ints = [-1, 48]> () t = Reshape(x, s)",
    "Resize": "s = Constant <value_floats = [1.0, 1.0, 1.5, 2.0]> ()"
    'e = Constant <value_floats = [0.0]> () t = Resize <mode = "linear"> (x, , s)',
    "ReverseSequence": "t = ReverseSequence <time_axis = 1, batch_axis = 0> (x, lengths)",
    "Scan": "s, t = Scan <num_scan_inputs = 1, body = b (float[16, 12, 12] p, float[16, 12, 12] e)"
    "=> (float[16, 12, 12] s1, float[16, 12, 12] o)"
    "{ u = Mul(p, e) s1 = Sin(u) o = Mul(u, k) }> (first, x)",
    "ScatterElements": 't = ScatterElements <reduction = "add"> (table, cells, new)',
    "ScatterND": "c = Concat <axis = 0> (table, new) r = Constant <value_int = 4104> ()"
    "o = Constant <value_int = 0> () l = Constant <value_int = 1> () i = Range(o, r, l)"
    "a = Constant <value_ints = [1]> () u = Unsqueeze(i, a) e = Sin(c) t = ScatterND(c, u, e)",
    "Shrink": "t = Shrink <lambd = 0.3, bias = 0.1> (x)",
    "Slice": "s = Constant <value_ints = [1]> () e = Constant <value_ints = [9]> ()"
    "a = Constant <value_ints = [2]> () d = Constant <value_ints = [2]> ()"
    "t = Slice(x, s, e, a, d)",
    "SoftmaxCrossEntropyLoss": "t = SoftmaxCrossEntropyLoss(scores, labels)",
    "SpaceToDepth": "t = SpaceToDepth <blocksize = 2> (x)",
    "Split": "u, v = Split <axis = 1, num_outputs = 2> (x) t = Mul(u, v)",
    "Squeeze": "a = Constant <value_ints = [-1]> () u = Unsqueeze(x, a) t = Squeeze(u, a)",
    "Sum": "t = Sum(x, k, z)",
    "ThresholdedRelu": "t = ThresholdedRelu <alpha = 0.5> (x)",
    "Tile": "r = Constant <value_ints = [1, 2, 1, 2]> () t = Tile(x, r)",
    "TopK": "c = Constant <value_ints = [5]> () t, i = TopK(x, c)",
    "Trilu": "t = Trilu(x)",
    "Unsqueeze": "a = Constant <value_ints = [-1]> () t = Unsqueeze(x, a)",
    "Where": "t = Where(mask, x, k)",
}
CASES: dict[str, str] = {**_ONES, **_TWOS, **_MORE}
"""Operator to what makes ``t``; ``y`` is the sum of its squares."""
_OPSETS = {"GlobalLpPool": 21, "RMSNormalization": 23, "Swish": 24}


def case_of(name: str) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """Return the model of a case, and its inputs."""
    body = CASES[name]
    words = set(re.findall(r"\b\w+\b", body))
    written = set(re.findall(r"(\w+)\s*(?:,\s*\w+\s*)*=\s*[A-Z]\w*\s*[<(]", body))
    feeds = {word: INPUTS[word] for word in INPUTS if word in words - written}
    kinds = {"f": "float", "i": "int64", "b": "bool"}
    given = ", ".join(
        f"{kinds[a.dtype.kind]}{list(a.shape) if a.ndim else ''} {word}"
        for word, a in feeds.items()
    )
    tail = "squares = Mul(t, t) y = ReduceSum <keepdims = 0> (squares)"
    text = f"g ({given}) => (float y) {{ {body} {tail} }}"
    return model_of(text, _OPSETS.get(name, 22)), feeds
