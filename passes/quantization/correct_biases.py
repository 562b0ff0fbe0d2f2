"""Take the mean error that rounded weights will make out of the biases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.base import PassContext, PassResult
from onnxsmith.passes.match import Array, add_constant, input_of, int_attribute, is_op, tensor_of
from onnxsmith.passes.quantization.affine import fit_weight
from onnxsmith.passes.quantization.base import QuantizingPass
from onnxsmith.passes.quantization.calibration.observe import (
    Reduction,
    append,
    constant,
    observe,
    rows_of,
)
from onnxsmith.passes.quantization.layer_pairs import addition_of
from onnxsmith.passes.quantization.select import LeftFloat

_KINDS = ("Conv", "Gemm", "MatMul")
_OPSET = 18  # reductions take their axes as an input


@dataclass(frozen=True)
class CorrectBiases(QuantizingPass):
    """Take the mean error that rounded weights will make out of the biases.

    Weights ``W + E`` in few bits shift the outputs of a layer by ``mean(E x)`` for each channel,
    since what a layer reads is seldom 0 in the mean. This is measured on the calibration samples,
    with padding and all, and taken off: ``b' = b - mean(E x)``. ``E`` is what a symmetric
    quantizer that follows will make, such as ``quantize-static``; the weights stay as they are.
    Rounding the activations adds no shift of its own where their ranges hold.

    Layers are Conv, Gemm and MatMul with constant float32 weights; a MatMul needs an Add behind it
    that holds its bias. Options: ``bits`` and ``per-channel`` as in the quantizer that follows;
    ``samples`` is the most calibration batches to read.

    Source: Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction,
    2019 (arXiv:1906.04721), section 4.2, with measured means.
    """

    name: ClassVar[str] = "correct-biases"
    needs: ClassVar[tuple[str, ...]] = ("samples",)

    bits: Literal["8", "4"] = "8"
    per_channel: bool = True
    samples: int = 16

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Correct the layers of the main graph.

        Raises:
            SmithError: The samples are empty.
        """
        self.selection.check(model)
        left = LeftFloat()
        errors: dict[ir.Node, Array] = {}
        for node in model.graph:
            if not is_op(node, *_KINDS):
                continue
            reason = self.selection.refusal(node) or refusal(node)
            if reason:
                left.add(node, reason)
            else:
                errors[node] = self._error(node)
        shifts = mean_shifts(model, errors, context, self.samples) if errors else {}
        for node, shift in shifts.items():
            add_to_bias(model.graph, node, -shift)
        details = {"layers": len(shifts), "left_float": left.to_json()}
        return PassResult(model, bool(shifts), details)

    def _error(self, node: ir.Node) -> Array:
        """Return what rounding adds to the weights."""
        tensor = tensor_of(node.inputs[1])
        assert tensor is not None  # refusal() looked at it
        weight = tensor.numpy()
        dtype = ir.DataType.INT8 if self.bits == "8" else ir.DataType.INT4
        axis = _channel_axis(node) if self.per_channel else None
        affine = fit_weight(weight, dtype, axis)
        error: Array = affine.dequantize(affine.quantize(weight)) - weight
        return error


def refusal(node: ir.Node) -> str:
    """Say why a layer's bias cannot be corrected, or return an empty text."""
    tensor = tensor_of(node.inputs[1])
    if tensor is None or tensor.dtype != ir.DataType.FLOAT:
        return "its weights are not constant float32"
    if node.op_type == "MatMul":
        return "" if addition_of(node) is not None else "it has no bias"
    bias = input_of(node, 2)
    if bias is None:
        return ""
    constant = tensor_of(bias)
    if constant is None:
        return "its bias is computed"
    axis = _channel_axis(node)
    return "" if constant.size == tensor.shape[axis] else "its bias is not one number a channel"


def mean_shifts(
    model: ir.Model, errors: Mapping[ir.Node, Array], context: PassContext, limit: int
) -> dict[ir.Node, Array]:
    """Return by how much errors of the weights shift each output channel in the mean.

    Args:
        model: The model with the nodes; not edited.
        errors: What is added to each layer's weights, in their shape.
        context: With the samples.
        limit: Most batches to read.

    Raises:
        SmithError: There are no samples, or the model does not run on them.
    """
    assert context.samples is not None  # passes that calibrate say so in their needs
    readers: dict[str, list[ir.Node]] = {}
    for node in errors:
        source = node.inputs[0]
        assert source is not None and source.name is not None  # noqa: PT018 - values have names
        readers.setdefault(source.name, []).append(node)

    def reduction(nodes: Sequence[ir.Node]) -> Reduction:
        return lambda graph, value: [_shift(graph, value, node, errors[node]) for node in nodes]

    reductions = {name: reduction(nodes) for name, nodes in readers.items()}
    sums: dict[ir.Node, Array] = {}
    count = 0
    for _, found in observe(model, reductions, context.samples, limit, opset=_OPSET):
        count += 1
        for name, arrays in found.items():
            for node, array in zip(readers[name], arrays, strict=True):
                sums[node] = sums.get(node, np.zeros(array.shape)) + array
    return {node: array / count for node, array in sums.items()}


def _shift(graph: ir.Graph, value: ir.Value, node: ir.Node, error: Array) -> ir.Value:
    """Append what a layer makes with errors for weights, averaged for each output channel.

    A layer is linear: what it makes of the mean sample is the mean of what it makes.
    """
    attributes = {key: attribute.value for key, attribute in node.attributes.items()}
    if not int_attribute(node, "transA", 0):  # there, samples are not the first axis
        if node.op_type != "Conv":
            value = rows_of(graph, value, error.shape[1 - _channel_axis(node)])
        value = append(graph, "ReduceMean", value, constant(graph, np.array([0])), keepdims=1)
    made = append(graph, node.op_type, value, constant(graph, error), **attributes)
    axes = np.array([0, *range(2, error.ndim)])
    return append(graph, "ReduceMean", made, constant(graph, axes), keepdims=0)


def add_to_bias(graph: ir.Graph, node: ir.Node, shift: Array) -> None:
    """Add a number to each output channel of a layer whose :func:`refusal` is empty."""
    holder, index = node, 2
    if node.op_type == "MatMul":
        addition = addition_of(node)
        assert addition is not None  # refusal() looked for it
        holder, index = addition, 0 if tensor_of(addition.inputs[0]) is not None else 1
    old = input_of(holder, index)
    tensor = tensor_of(old)
    beta = node.attributes.get("beta") if node.op_type == "Gemm" else None
    if tensor is None:
        node.attributes.pop("beta", None)
        bias = shift
    else:
        bias = tensor.numpy() + (shift / (1.0 if beta is None else beta.as_float())).reshape(
            tensor.shape.numpy()
        )
    new = add_constant(graph, bias.astype(np.float32), f"{node.outputs[0].name}/bias_corrected")
    if index >= len(holder.inputs):
        holder.resize_inputs(index + 1)
    holder.replace_input_with(index, new)
    if old is not None and old.is_initializer() and not old.uses() and not old.is_graph_output():
        graph.initializers.pop(old.name or "", None)


def _channel_axis(node: ir.Node) -> int:
    """Return the axis of the weights that the output channels are on."""
    if node.op_type == "Conv":
        return 0
    return 0 if node.op_type == "Gemm" and int_attribute(node, "transB", 0) else 1
