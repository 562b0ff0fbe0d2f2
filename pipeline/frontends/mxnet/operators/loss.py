"""Outputs that carry a loss in training: at inference each is a function of its first input.

Source: MXNet ``src/operator/softmax_output-inl.h``, ``regression_output-inl.h``,
``svm_output-inl.h``.
"""

from __future__ import annotations

import onnx_ir as ir

from onnxsmith.pipeline.frontends.mxnet.call import Call, Family, Operator
from onnxsmith.pipeline.frontends.mxnet.operators.activation import softmax_of_samples


def softmax_output(call: Call) -> ir.Value:
    """Softmax over axis 1 (``multi_output``), the last axis, or all values of a sample."""
    if call.attrs.flag("multi_output", False):
        return call.graph.add("Softmax", [call[0]], {"axis": 1})
    if call.attrs.flag("preserve_shape", False):
        return call.graph.add("Softmax", [call[0]], {"axis": -1})
    return softmax_of_samples(call)


def logistic_output(call: Call) -> ir.Value:
    """Sigmoid."""
    return call.graph.add("Sigmoid", [call[0]])


def regression_output(call: Call) -> ir.Value:
    """The prediction itself."""
    return call[0]


_LABEL = frozenset({1})
_SOFTMAX = Operator(softmax_output, unused=_LABEL, outputs=("output",))
_LOGISTIC = Operator(logistic_output, unused=_LABEL, outputs=("output",))
_REGRESSION = Operator(regression_output, unused=_LABEL, outputs=("output",))

OPERATORS: Family = {
    "SoftmaxOutput": _SOFTMAX,
    "Softmax": _SOFTMAX,  # its name until 0.5
    "LogisticRegressionOutput": _LOGISTIC,
    "LinearRegressionOutput": _REGRESSION,
    "MAERegressionOutput": _REGRESSION,
    "SVMOutput": _REGRESSION,
}
