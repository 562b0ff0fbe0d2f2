"""Round the operands of products to 8-bit floating point, with scales learned from data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from onnxsmith.errors import SmithError
from onnxsmith.passes.base import PassContext, PassResult
from onnxsmith.passes.cleanup.infer_shapes import InferShapes
from onnxsmith.passes.cleanup.remove_unused_nodes import sweep
from onnxsmith.passes.fusion.contrib import version_of
from onnxsmith.passes.match import Array, add_tensor, all_nodes, input_of, is_op, made_by
from onnxsmith.passes.quantization.base import QuantizingPass
from onnxsmith.passes.quantization.calibration.ranges import Method, Ranges, measure_ranges
from onnxsmith.passes.quantization.calibration.samples import describe_data, refuse_poor_data
from onnxsmith.passes.quantization.detect import refuse_quantized
from onnxsmith.passes.quantization.dynamic.writer import (
    LeaveFloat,
    Weight,
    activation_of,
    weight_of,
)
from onnxsmith.passes.quantization.select import LeftFloat

_KINDS = ("Conv", "Gemm", "MatMul")
_OPSET = 19
_FLOAT8 = ir.DataType.FLOAT8E4M3FN
_LARGEST = 448.0
_LEVELS = 256


@dataclass
class _Writer:
    """Places pairs of QuantizeLinear and DequantizeLinear; each value and weight has one."""

    graph: ir.Graph
    found: Ranges
    _values: dict[ir.Value, ir.Value] = field(default_factory=dict)
    _weights: dict[ir.Value, ir.Value] = field(default_factory=dict)
    _zero: ir.Value | None = None

    def value(self, x: ir.Value) -> ir.Value:
        """Return what is left of a value in 8 bits."""
        if x not in self._values:
            name = x.name or ""
            scale = self._scale(max(map(abs, self.found.ranges[name])), name)
            down = ir.node("QuantizeLinear", [x, scale, self._zero_point()])
            up = ir.node("DequantizeLinear", [down.outputs[0], scale, self._zero_point()])
            for node, word, kind in ((down, "float8", _FLOAT8), (up, "rounded", x.dtype)):
                node.outputs[0].name = f"{name}_{word}"
                node.outputs[0].type, node.outputs[0].shape = ir.TensorType(kind), x.shape  # type: ignore[arg-type]
            producer = x.producer()
            if producer is None:
                self.graph.insert_before(self.graph[0], [down, up])
            else:
                self.graph.insert_after(producer, [down, up])
            self._values[x] = up.outputs[0]
        return self._values[x]

    def weight(self, weight: Weight) -> ir.Value:
        """Return a constant that is stored in 8 bits."""
        if weight.source not in self._weights:
            array = weight.array
            scale = self._scale(float(np.abs(array).max()), weight.name)
            number = scale.const_value
            assert number is not None  # just made
            rounded = to_float8(array / number.numpy())
            tensor = ir.Tensor(rounded, _FLOAT8)
            stored = add_tensor(self.graph, tensor, f"{weight.name}_float8")
            up = ir.node("DequantizeLinear", [stored, scale, self._zero_point()])
            up.outputs[0].name = f"{weight.name}_rounded"
            up.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
            up.outputs[0].shape = weight.source.shape
            self.graph.insert_before(self.graph[0], up)
            self._weights[weight.source] = up.outputs[0]
        return self._weights[weight.source]

    def _scale(self, largest: float, name: str) -> ir.Value:
        scale = np.float32(largest / _LARGEST) or np.float32(1)
        return add_tensor(self.graph, ir.Tensor(np.array(scale)), f"{name}_scale")

    def _zero_point(self) -> ir.Value:
        if self._zero is None:
            zero = ir.Tensor(np.zeros((), _FLOAT8.numpy()), _FLOAT8)
            self._zero = add_tensor(self.graph, zero, "float8_zero")
        return self._zero


@dataclass(frozen=True)
class QuantizeFp8(QuantizingPass):
    """Round the operands of products to 8-bit floating point, with scales learned from data.

    ``x = s f`` with ``f`` in E4M3 (4 bits of exponent, 3 of mantissa, up to 448), one scale for
    each tensor, written as QuantizeLinear and DequantizeLinear pairs around Conv, Gemm and MatMul
    with constant weights, which are stored in 8 bits. GPUs of compute capability 8.9 and more have
    products of such numbers.

    Options:
        method: How ranges are taken from calibration data.
        samples: Most batches to read.
        allow_poor_data: Calibrate even on random data, or on fewer than 32 samples.

    What is left alone, and said: weights that are computed, not float32 or not finite, values
    that are NaN, infinite or always 0 on the data, and values of bodies and functions.

    Source: Micikevicius et al., "FP8 Formats for Deep Learning", 2022; ONNX's QuantizeLinear since
    opset 19.
    """

    name: ClassVar[str] = "quantize-fp8"
    needs: ClassVar[tuple[str, ...]] = ("samples",)

    method: Method = "minmax"
    samples: int = 256
    allow_poor_data: bool = False

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Calibrate and write.

        Raises:
            SmithError: The data are poor; the model is quantized already, too old, or nothing in
                it can be quantized.
        """
        assert context.samples is not None  # check_context() came first
        refuse_quantized(model)
        self.selection.check(model)
        if version_of(model) < _OPSET:
            raise SmithError(
                f"opset {version_of(model)} has no 8-bit floating point",
                f"convert the model first: --passes convert-opset:version={_OPSET}",
            )
        refuse_poor_data(context, self.allow_poor_data)
        InferShapes().apply(model, context)
        left = LeftFloat()
        chosen = self._choose(model, left)
        names = list(dict.fromkeys(x.name or "" for _, x, _ in chosen))
        found = Ranges()
        if names:
            found = measure_ranges(
                model, names, context.samples, self.method, self.samples, _LEVELS
            )
        count = _write(model.graph, chosen, found, left)
        if not count:
            reason = next((e["reason"] for e in left.to_json()), "it has no product")
            raise SmithError("nothing in the model can be quantized", reason)
        sweep(model.graph)
        details = {"quantized": count, "left_float": left.to_json()}
        return PassResult(model, True, {**details, **describe_data(context, found.samples)})

    def _choose(self, model: ir.Model, left: LeftFloat) -> list[tuple[ir.Node, ir.Value, Weight]]:
        chosen = []
        for node in all_nodes(model, functions=True):
            if not is_op(node, *_KINDS):
                continue
            try:
                if reason := self.selection.refusal(node):
                    raise LeaveFloat(reason)
                x, weight = activation_of(node), weight_of(input_of(node, 1))
                producer = x.producer()
                if (x.graph if producer is None else producer.graph) is not model.graph:
                    raise LeaveFloat("calibration does not see values of bodies and functions")
                chosen.append((node, x, weight))
            except LeaveFloat as refusal:
                left.add(node, str(refusal))
        return chosen


def _write(
    graph: ir.Graph,
    chosen: list[tuple[ir.Node, ir.Value, Weight]],
    found: Ranges,
    left: LeftFloat,
) -> int:
    writer, count = _Writer(graph, found), 0
    for node, x, weight in chosen:
        name = x.name or ""
        if name in found.broken or name not in found.ranges:
            left.add(node, f"{name!r} is NaN, infinite or empty on the calibration data")
        elif found.ranges[name] == (0.0, 0.0):
            left.add(node, f"{name!r} is always 0 on the calibration data")
        else:
            turn = made_by(node.inputs[1], "Transpose") if weight.transposed else None
            reader, place = (node, 1) if turn is None else (turn, 0)
            reader.replace_input_with(place, writer.weight(weight))
            node.replace_input_with(0, writer.value(x))
            count += 1
    return count


def to_float8(array: Array) -> Array:
    """Return numbers rounded to E4M3, the largest magnitude where they are beyond."""
    return np.clip(array, -_LARGEST, _LARGEST).astype(_FLOAT8.numpy())
