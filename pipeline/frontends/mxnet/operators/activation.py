"""Activation functions, and softmax in its many names.

Source: MXNet ``src/operator/nn/activation.cc``, ``leaky_relu-inl.h``, ``nn/softmax-inl.h``.
"""

from __future__ import annotations

import onnx_ir as ir

from onnxsmith.pipeline.frontends.mxnet.call import Call, Family, Operator
from onnxsmith.pipeline.frontends.mxnet.operators.common import keep_loose, mask_by_length
from onnxsmith.pipeline.frontends.mxnet.weights import reshaped

_ACTIVATIONS = {
    "relu": "Relu",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "softrelu": "Softplus",
    "softsign": "Softsign",
}
_LEAKY = ("leaky", "prelu", "rrelu", "elu", "selu", "gelu")
_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772848, 1.0507009873554804934


def activation(call: Call) -> ir.Value:
    """The function that ``act_type`` names."""
    kind = call.attrs.text("act_type", "")
    if kind == "log_sigmoid":
        return log_sigmoid(call)
    if kind not in _ACTIVATIONS:
        raise call.refuse(f"the activation {kind[:40]!r}")
    return keep_loose(call, call.graph.add(_ACTIVATIONS[kind], [call[0]]))


def log_sigmoid(call: Call) -> ir.Value:
    """``log(1 / (1 + exp(-x))) = -softplus(-x)``."""
    graph = call.graph
    return graph.add("Neg", [graph.add("Softplus", [graph.add("Neg", [call[0]])])])


def leaky_relu(call: Call) -> ir.Value:
    """The function that ``act_type`` names; random slopes take their mean at inference."""
    kind = call.attrs.text("act_type", "leaky", _LEAKY)
    slope = call.attrs.number("slope", 0.25)
    graph = call.graph
    if kind == "prelu":
        return _prelu(call)
    if kind == "elu":
        return graph.add("Elu", [call[0]], {"alpha": slope})
    if kind == "selu":
        return graph.add("Selu", [call[0]], {"alpha": _SELU_ALPHA, "gamma": _SELU_SCALE})
    if kind == "gelu":
        return gelu(call)
    if kind == "rrelu":
        lower = call.attrs.number("lower_bound", 0.125)
        slope = (lower + call.attrs.number("upper_bound", 0.334)) / 2
    return graph.add("LeakyRelu", [call[0]], {"alpha": slope})


def _prelu(call: Call) -> ir.Value:
    """``x if x > 0 else gamma x``, gamma one number or one for each channel (axis 1)."""
    gamma, rank = call.dims(1), call.rank()
    if len(gamma) == 1 and rank > 2 and isinstance(gamma[0], int):
        slope = reshaped(call, 1, (gamma[0], *(1,) * (rank - 2)), "by_channel")
    else:
        slope = call[1]
    return call.graph.add("PRelu", [call[0], slope])


def gelu(call: Call) -> ir.Value:
    """``x / 2 (1 + erf(x / sqrt 2))``."""
    graph, x = call.graph, call[0]
    if graph.opset >= 20:
        return graph.add("Gelu", [x])
    erf = graph.add("Erf", [graph.add("Mul", [x, graph.scalar(0.5**0.5, x, "root")])])
    half = graph.add("Mul", [x, graph.scalar(0.5, x, "half")])
    return graph.add("Mul", [half, graph.add("Add", [erf, graph.scalar(1.0, x, "one")])])


def hard_sigmoid(call: Call) -> ir.Value:
    """``clip(alpha x + beta, 0, 1)``."""
    alpha, beta = call.attrs.number("alpha", 0.2), call.attrs.number("beta", 0.5)
    return call.graph.add("HardSigmoid", [call[0]], {"alpha": alpha, "beta": beta})


def softmax(call: Call) -> ir.Value:
    """``exp(x / t) / sum exp(x / t)`` along ``axis``; with lengths, over the first so many."""
    return _softmax(call, "Softmax", negate=False)


def log_softmax(call: Call) -> ir.Value:
    """The logarithm of softmax."""
    return _softmax(call, "LogSoftmax", negate=False)


def softmin(call: Call) -> ir.Value:
    """Softmax of ``-x``."""
    return _softmax(call, "Softmax", negate=True)


def _softmax(call: Call, op_type: str, *, negate: bool) -> ir.Value:
    graph, x = call.graph, call[0]
    axis = call.axis("axis", -1)
    if call.attrs.has("dtype"):
        x = graph.cast(x, call.attrs.dtype("dtype", x.dtype or ir.DataType.FLOAT))
    factor = (-1.0 if negate else 1.0) / call.attrs.number("temperature", 1.0)
    if factor == -1.0:
        x = graph.add("Neg", [x])
    elif factor != 1.0:
        x = graph.add("Mul", [x, graph.scalar(factor, x)])
    if call.attrs.flag("use_length", False):
        inside = mask_by_length(call, x, call[1], axis)
        low = graph.scalar(-1e30 if x.dtype != ir.DataType.FLOAT16 else -6e4, x, "low")
        result = graph.add(op_type, [graph.add("Where", [inside, x, low])], {"axis": axis})
        return graph.add("Where", [inside, result, graph.scalar(0.0, x, "outside")])
    return graph.add(op_type, [x], {"axis": axis})


def softmax_activation(call: Call) -> ir.Value:
    """Over the channels, or over the last axis (``instance``)."""
    channel = call.attrs.text("mode", "instance", ("instance", "channel")) == "channel"
    return call.graph.add("Softmax", [call[0]], {"axis": 1 if channel else -1})


def softmax_of_samples(call: Call) -> ir.Value:
    """Softmax over all values of each sample."""
    graph, x, rank = call.graph, call[0], call.rank()
    if rank <= 2:
        return graph.add("Softmax", [x], {"axis": rank - 1})
    flat = graph.add("Flatten", [x], {"axis": 1})
    return graph.reshape_to(
        graph.add("Softmax", [flat], {"axis": 1}), [(x, axis) for axis in range(rank)]
    )


OPERATORS: Family = {
    "Activation": Operator(activation, outputs=("output",)),
    "_npx_activation": Operator(activation),
    "LeakyReLU": Operator(leaky_relu, ("data", "gamma"), frozenset({1}), outputs=("output",)),
    "_npx_leaky_relu": Operator(leaky_relu, ("data", "gamma"), frozenset({1})),
    "log_sigmoid": Operator(log_sigmoid),
    "hard_sigmoid": Operator(hard_sigmoid),
    "softmax": Operator(softmax),
    "_npx_softmax": Operator(softmax),
    "log_softmax": Operator(log_softmax),
    "_npx_log_softmax": Operator(log_softmax),
    "softmin": Operator(softmin),
    "SoftmaxActivation": Operator(softmax_activation, outputs=("output",)),
}
