"""Write transposed convolutions as convolutions whose results are shuffled into place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.base import Effect, Pass, PassContext, PassResult
from onnxsmith.passes.cleanup.remove_unused_nodes import sweep
from onnxsmith.passes.match import (
    Array,
    add_constant,
    input_of,
    int_attribute,
    ints_attribute,
    is_op,
    only_user,
    replace,
    tensor_of,
)
from onnxsmith.passes.quantization.select import Selection, label

_SINGLE = ("Relu", "LeakyRelu", "Clip")
_OPSET = 13  # Slice takes its limits as inputs, DepthToSpace has modes


@dataclass(frozen=True)
class _Form:
    """How a transposed convolution is written.

    Attributes:
        stride: The side of the squares that results are shuffled into.
        kernel: The sides of the convolution's kernel, ``ceil(k / stride)``.
        begin: How many rows and columns are cut off at the begin.
        end: And at the end.
    """

    stride: int
    kernel: tuple[int, int]
    begin: tuple[int, int]
    end: tuple[int, int]


@dataclass(frozen=True)
class ShuffleConvTransposes(Pass):
    """Write transposed convolutions as convolutions, for which there is an integer kernel.

    ``ConvTranspose(x, w) = Slice(DepthToSpace(Conv(x, v)))``: result ``s q + r`` along an axis of
    stride ``s`` is a sum over ``m`` of ``x[q - m] w[r + s m]``, so each of the ``s s`` phases is a
    channel of a convolution with a kernel of ``ceil(k / s)``. A Relu, LeakyRelu or Clip that alone
    reads the result goes before the shuffle, where an integer convolution takes it in.

    Worth it only where the convolution is quantized: in float32 it takes up to 1.4 times as long.

    Options:
        exclude: Patterns of nodes, by name or operator, that stay as they are.
        only: Patterns of the only nodes that are rewritten; empty for all.
        smallest: The least ratio of the kernel to the stride. Where it is less than 2 most of the
            result's numbers are single products, and shuffling takes longer than int8 saves.

    What is left alone: weights that are computed or shared with a graph input, other ranks than 4,
    groups, dilations, unequal strides, automatic padding, a given output shape, and more output
    padding than the kernel covers.

    Source: Shi et al., "Is the deconvolution layer the same as a convolutional layer?", 2016.
    """

    name: ClassVar[str] = "shuffle-conv-transposes"
    effect: ClassVar[Effect] = "exact"

    exclude: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    smallest: float = 1.5

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Rewrite those of the main graph."""
        opset = model.opset_imports.get("", 0)
        nodes = [n for n in model.graph if is_op(n, "ConvTranspose")] if opset >= _OPSET else []
        count = sum(self._rewrite(model.graph, node) for node in nodes)
        if count:
            sweep(model.graph)
        return PassResult(model, bool(count), {"rewritten": count})

    def _rewrite(self, graph: ir.Graph, node: ir.Node) -> bool:
        weight, bias = tensor_of(node.inputs[1]), input_of(node, 2)
        form = None if weight is None else _form(node, list(weight.shape.numpy()))
        if weight is None or form is None or (bias is not None and tensor_of(bias) is None):
            return False
        if min(weight.shape.numpy()[2:]) < self.smallest * form.stride:
            return False
        conv = ir.Node("", "Conv", [], name=label(node))
        selection = Selection(self.exclude, self.only)
        if selection.refusal(node) or selection.refusal(conv):
            return False
        _write(graph, node, form)
        return True


def _form(node: ir.Node, shape: list[int]) -> _Form | None:
    """Return how a node is written, or None where it cannot be."""
    if len(shape) != 4 or int_attribute(node, "group", 1) != 1 or "output_shape" in node.attributes:
        return None
    padding = node.attributes.get("auto_pad")
    if padding is not None and (padding.is_ref() or padding.as_string() != "NOTSET"):
        return None
    strides, pads, more, dilations = (
        [default] * count if name not in node.attributes else ints_attribute(node, name)
        for name, count, default in (
            ("strides", 2, 1),
            ("pads", 4, 0),
            ("output_padding", 2, 0),
            ("dilations", 2, 1),
        )
    )
    if strides is None or pads is None or more is None or dilations != [1, 1]:
        return None
    stride = strides[0]
    if stride < 2 or strides != [stride, stride]:
        return None
    kernel = -(-shape[2] // stride), -(-shape[3] // stride)
    # All phases together are stride * (size + kernel - 1) numbers long.
    end = [stride * kernel[i] - shape[2 + i] + pads[2 + i] - more[i] for i in (0, 1)]
    if min(end) < 0 or min(pads) < 0:
        return None
    return _Form(stride, kernel, (pads[0], pads[1]), (end[0], end[1]))


def _write(graph: ir.Graph, node: ir.Node, form: _Form) -> None:
    """Put the convolution, what only it is read by, the shuffle and the cut in a node's place."""
    result = node.outputs[0]
    single = only_user(result, *_SINGLE)
    last = node if single is None or single.inputs[0] is not result else single
    name, kind = result.name or "result", result.type
    new = [_convolution(graph, node, form)]
    if last is not node:
        inputs = [new[0].outputs[0], *last.inputs[1:]]
        new.append(ir.node(last.op_type, inputs, dict(last.attributes), name=last.name))
    shuffle: dict[str, int | str] = {"blocksize": form.stride, "mode": "DCR"}
    new.append(ir.node("DepthToSpace", [new[-1].outputs[0]], shuffle))
    if any((*form.begin, *form.end)):
        ends = [-n if n else np.iinfo(np.int64).max for n in form.end]
        limits = [
            add_constant(graph, np.array(numbers, np.int64), f"{name}_{word}")
            for numbers, word in ((form.begin, "begin"), (ends, "end"), ((2, 3), "axes"))
        ]
        new.append(ir.node("Slice", [new[-1].outputs[0], *limits]))
    for index, made in enumerate(new[:-1]):
        made.outputs[0].name, made.outputs[0].type = f"{name}_phases_{index}", kind
    graph.insert_before(last, new[:-1])
    replace(last, new[-1])


def _convolution(graph: ir.Graph, node: ir.Node, form: _Form) -> ir.Node:
    """Return the convolution whose channels are the phases of a node's result."""
    name = node.outputs[0].name or "result"
    weight, bias = tensor_of(node.inputs[1]), tensor_of(input_of(node, 2))
    assert weight is not None  # _rewrite() looked
    inputs = [node.inputs[0], add_constant(graph, _phases(weight.numpy(), form), f"{name}_weight")]
    if bias is not None:
        repeated = np.tile(bias.numpy(), form.stride**2)
        inputs.append(add_constant(graph, repeated, f"{name}_bias"))
    pads = [size - 1 for size in form.kernel * 2]
    return ir.node("Conv", inputs, {"pads": pads}, name=label(node))


def _phases(weight: Array, form: _Form) -> Array:
    """Return the kernel of the convolution.

    Args:
        weight: (input channels, output channels, rows, columns).
        form: Of the node.

    Returns:
        (stride * stride * output channels, input channels, *form.kernel): number ``K - 1 - m`` of
        phase ``r`` is number ``r + stride m`` of the weight, or 0 beyond its end.
    """
    stride, (rows, columns) = form.stride, form.kernel
    missing = [(0, stride * k - n) for k, n in zip(form.kernel, weight.shape[2:], strict=True)]
    whole = np.pad(weight, [(0, 0), (0, 0), *missing])
    given, made = weight.shape[:2]
    parts = whole.reshape(given, made, rows, stride, columns, stride)
    turned = parts.transpose(3, 5, 1, 0, 2, 4)[..., ::-1, ::-1]
    result: Array = np.ascontiguousarray(turned.reshape(-1, given, rows, columns))
    return result
