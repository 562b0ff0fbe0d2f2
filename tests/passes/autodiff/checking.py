"""Compare gradients with central differences of ONNX's reference evaluator in float64."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.parser
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from tests.passes.autodiff.layers import GRU, LSTM, RNN

from onnxsmith.artifact import Artifact
from onnxsmith.passes.autodiff.gradients import gradients
from onnxsmith.runtime.session import Session

Array = np.ndarray[Any, Any]
Run = Callable[[Mapping[str, Array]], Mapping[str, Array]]


class Erf(OpRun):  # type: ignore[misc]  # onnx publishes no types for it
    """The evaluator's own computes in float32."""

    def _run(self, x: Array) -> tuple[Array]:
        return (np.vectorize(math.erf, otypes=[x.dtype])(x),)


class Gelu(OpRun):  # type: ignore[misc]  # onnx publishes no types for it
    """The evaluator's own is a function whose Erf is its own."""

    def _run(self, x: Array, approximate: str = "none") -> tuple[Array]:
        if approximate == "tanh":
            inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
            return (0.5 * x * (1 + np.tanh(inner)),)
        return (0.5 * x * (1 + Erf._run(self, x / math.sqrt(2))[0]),)


class LRN(OpRun):  # type: ignore[misc]  # onnx publishes no types for it
    """The evaluator's own counts samples instead of channels."""

    def _run(self, x: Array, alpha: float, beta: float, bias: float, size: int) -> tuple[Array]:
        channels = x.shape[1]
        near = np.zeros_like(x)
        for c in range(channels):
            low, high = max(0, c - (size - 1) // 2), min(channels, c + size // 2 + 1)
            near[:, c] = (x[:, low:high] ** 2).sum(axis=1)
        return (x / (bias + alpha / size * near) ** beta,)


class LpNormalization(OpRun):  # type: ignore[misc]  # onnx publishes no types for it
    """The evaluator's own forgets that a norm is of absolute values."""

    def _run(self, x: Array, axis: int = -1, p: int = 2) -> tuple[Array]:
        return (x / (np.abs(x) ** p).sum(axis=axis, keepdims=True) ** (1 / p),)


class GlobalLpPool(OpRun):  # type: ignore[misc]  # onnx publishes no types for it
    """The evaluator has none."""

    def _run(self, x: Array, p: int = 2) -> tuple[Array]:
        places = tuple(range(2, x.ndim))
        return ((np.abs(x) ** p).sum(axis=places, keepdims=True) ** (1 / p),)


class MeanVarianceNormalization(OpRun):  # type: ignore[misc]  # onnx publishes no types for it
    """The evaluator's own is a function with constants in float32."""

    def _run(self, x: Array, axes: Sequence[int]) -> tuple[Array]:
        away = x - x.mean(axis=tuple(axes), keepdims=True)
        return (away / (away.std(axis=tuple(axes), keepdims=True) + 1e-9),)


class GroupNormalization(OpRun):  # type: ignore[misc]  # onnx publishes no types for it
    """The evaluator's own computes in float32."""

    def _run(
        self,
        x: Array,
        scale: Array,
        bias: Array,
        epsilon: float = 1e-5,
        num_groups: int = 1,
        stash_type: int = 1,
    ) -> tuple[Array]:
        apart = x.reshape(x.shape[0], num_groups, -1)
        away = apart - apart.mean(axis=2, keepdims=True)
        normal = away / np.sqrt((away**2).mean(axis=2, keepdims=True) + epsilon)
        spread = (1, -1, *[1] * (x.ndim - 2))
        return (normal.reshape(x.shape) * scale.reshape(spread) + bias.reshape(spread),)


_OPERATORS = [
    Erf, Gelu, GlobalLpPool, GroupNormalization, LRN, LpNormalization, MeanVarianceNormalization,
    GRU, LSTM, RNN,
]  # fmt: skip
_STEP = 1e-5
_RTOL = 1e-5


def model_of(text: str, opset: int = 21) -> onnx.ModelProto:
    """Return a model from the text of its graph."""
    head = f'<ir_version: 10, opset_import: ["" : {opset}]>\n'
    return onnx.parser.parse_model(head + text)


def differences(
    proto: onnx.ModelProto, feeds: Mapping[str, Array], of: str, name: str, runtime: bool = False
) -> Array:
    """Return the gradient of the sum of an output by central differences in float64.

    Args:
        proto: The model.
        feeds: Its inputs.
        of: The output.
        name: The input.
        runtime: Whether the runtime computes the values, for what the evaluator cannot.
    """
    wide = in_double(proto)
    if not runtime:
        return _differences(evaluator(wide), feeds, of, name)
    with Session(Artifact.from_proto(wide)) as session:
        return _differences(session.run, feeds, of, name)


def evaluator(proto: onnx.ModelProto) -> Run:
    evaluator = ReferenceEvaluator(proto, new_ops=_OPERATORS)
    names = [output.name for output in proto.graph.output]

    def run(feeds: Mapping[str, Array]) -> dict[str, Array]:
        return dict(zip(names, evaluator.run(None, dict(feeds)), strict=True))

    return run


def _differences(run: Run, feeds: Mapping[str, Array], of: str, name: str) -> Array:
    exact = {key: _wide(array) for key, array in feeds.items()}
    result = np.zeros(feeds[name].shape)
    for index in np.ndindex(result.shape):
        ends = []
        for sign in (1, -1):
            moved = exact[name].copy()
            moved[index] += sign * _STEP
            ends.append(np.asarray(run({**exact, name: moved})[of], np.float64).sum())
        result[index] = (ends[0] - ends[1]) / (2 * _STEP)
    return result


def check_gradients(
    proto: onnx.ModelProto,
    feeds: Mapping[str, Array],
    wrt: Sequence[str],
    of: str | None = None,
    rtol: float = _RTOL,
    double: bool = False,
    runtime: bool = False,
) -> Artifact:
    """Assert that the gradients are right with one thread and with four, and return the model.

    Args:
        proto: The model.
        feeds: Its inputs.
        wrt: What to differentiate by.
        of: Which output to differentiate; the first one by default.
        rtol: How much of a gradient's largest element any element may be off.
        double: Whether to check the gradients of the model in float64 too.
        runtime: Whether the runtime computes what is compared with, see :func:`differences`.
    """
    of = of or proto.graph.output[0].name
    made = gradients(Artifact.from_proto(proto), of, list(wrt))
    onnx.checker.check_model(made.to_proto(), full_check=True)
    expected = {name: differences(proto, feeds, of, name, runtime) for name in wrt}
    for threads in (1, 4):
        with Session(made, threads=threads) as session:
            results = session.run(feeds)
        for name in wrt:
            close(results[f"{name}_gradient"], expected[name], rtol, name)
    if double:
        wide = gradients(Artifact.from_proto(in_double(proto)), of, list(wrt))
        with Session(wide) as session:
            results = session.run({key: _wide(array) for key, array in feeds.items()})
        for name in wrt:
            close(results[f"{name}_gradient"], expected[name], 1e-7, name)
    return made


def check_repeats(made: Artifact, feeds: Mapping[str, Array], rtol: float = 1e-6) -> None:
    """Assert that 50 runs with one thread and with four give one gradient, rounding aside."""
    first: dict[str, Array] = {}
    for threads in (1, 4):
        with Session(made, threads=threads) as session:
            for _ in range(50):
                results = session.run(feeds)
                first = first or results
                for name, array in results.items():
                    close(array, first[name], rtol, name)


def close(found: Array, expected: Array, rtol: float, name: str) -> None:
    """Assert that a gradient is right to a share of its largest element."""
    assert found.shape == expected.shape, name
    scale = max(float(np.abs(expected).max(initial=0.0)), 1e-3)
    worst = float(np.abs(found - expected).max(initial=0.0)) / scale
    assert worst <= rtol, f"{name}: {worst:.2e}\n{found}\n{expected}"


def _wide(array: Array) -> Array:
    return array.astype(np.float64) if array.dtype == np.float32 else array


def in_double(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with float64 in the place of float32."""
    wide = onnx.ModelProto()
    wide.CopyFrom(proto)
    _widen(wide.graph)
    return wide


def _widen(graph: onnx.GraphProto) -> None:
    single, double = onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type == single:
            value.type.tensor_type.elem_type = double
    for tensor in graph.initializer:
        if tensor.data_type == single:
            array = onnx.numpy_helper.to_array(tensor).astype(np.float64)
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type in ("Cast",) and attribute.name == "to" and attribute.i == single:
                attribute.i = double
            if node.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
                array = np.array(onnx.helper.get_attribute_value(attribute), np.float32)
                attribute.CopyFrom(
                    onnx.helper.make_attribute("value", onnx.numpy_helper.from_array(array))
                )
            if attribute.t.data_type == single:
                array = onnx.numpy_helper.to_array(attribute.t).astype(np.float64)
                attribute.t.CopyFrom(onnx.numpy_helper.from_array(array))
            if attribute.HasField("g"):
                _widen(attribute.g)
