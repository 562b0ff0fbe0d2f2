"""Move what is hard to quantize from activations to weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.match import (
    STANDARD,
    Array,
    add_constant,
    int_attribute,
    ints_attribute,
    ints_of,
    is_op,
    tensor_of,
)
from onnxsmith.passes.quantization.calibration.observe import (
    Reduction,
    append,
    constant,
    observe,
    rows_of,
)

# Operator to the inputs that scale its result's last axis.
_NORMS = {
    "LayerNormalization": (1, 2),
    "RMSNormalization": (1,),
    "SimplifiedLayerNormalization": (1,),
    "SkipLayerNormalization": (2, 3),
    "SkipSimplifiedLayerNormalization": (2,),
}
_WIDTHS = ("Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
_TYPES = (ir.DataType.FLOAT, ir.DataType.DOUBLE)
_LEAST = 1e-5
_FIRST = np.array([0])
_OPSET = 18  # reductions take their axes as an input


@dataclass(frozen=True)
class SmoothQuant(Pass):
    """Move what is hard to quantize from activations to weights.

    For matrix products that share an input, ``X W_i = (X diag(1/s)) (diag(s) W_i)`` with::

        s_j = max |X_j|^alpha / max |W_j|^(1 - alpha)

    over all calibration samples and all of these products. ``1/s`` goes into the weights of the
    normalization, or into the constant of the Mul, that makes ``X``. Where anything else reads
    that as well (the residual branch of BERT does), a Mul is put before the products with
    ``insert``, which costs time; without, they are left alone.

    Products are MatMul with a constant matrix and Gemm, directly behind or behind Reshape,
    Transpose and the like that keep the channels in the last axis. Options: ``alpha`` says how
    much is moved; ``samples`` is the most calibration batches to read.

    Source: Xiao et al., SmoothQuant, 2023 (arXiv:2211.10438), equation 4.
    """

    name: ClassVar[str] = "smooth-quant"
    needs: ClassVar[tuple[str, ...]] = ("samples",)

    alpha: float = 0.5
    insert: bool = False
    samples: int = 32

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Smooth in the main graph.

        Raises:
            UsageError: ``alpha`` is not between 0 and 1.
            SmithError: The samples are empty, or activations are not finite on them.
        """
        if not 0 <= self.alpha <= 1:
            raise UsageError(f"alpha is {self.alpha}", "give a number from 0 to 1")
        groups, left = _groups(model.graph, self.insert)
        peaks = _peaks(model, groups, context, self.samples) if groups else {}
        for group in groups:
            group.smooth(model.graph, peaks[group.value.name or ""], self.alpha)
        inserted = sum(group.producer is None for group in groups)
        details = {"folded": len(groups) - inserted, "inserted": inserted, "left": left}
        return PassResult(model, bool(groups), details)


@dataclass(frozen=True)
class _Group:
    """Products that read one value.

    Attributes:
        value: What they read, perhaps through operators that keep its last axis.
        products: The nodes.
        producer: The node whose constants take the factors; None to insert a Mul.
    """

    value: ir.Value
    products: tuple[ir.Node, ...]
    producer: ir.Node | None

    @property
    def channels(self) -> int:
        return _inputs(self.products[0])

    def smooth(self, graph: ir.Graph, activations: Array, alpha: float) -> None:
        weights = np.zeros(self.channels)
        for product in self.products:
            array = np.abs(_weight(product).numpy())
            weights = np.maximum(weights, array.max(axis=1 - _channel_axis(product)))
        live = (activations > 0) & (weights > 0)
        factors = np.ones(self.channels)
        np.divide(
            activations.astype(np.float64) ** alpha,
            weights ** (1 - alpha),
            out=factors,
            where=live,
        )
        factors = np.clip(factors, _LEAST, 1 / _LEAST)
        for product in self.products:
            shape = [-1, 1] if _channel_axis(product) == 0 else [1, -1]
            _scale(graph, product, 1, factors.reshape(shape))
        if self.producer is None:
            self._insert(graph, 1 / factors)
            return
        for index in _scaling_inputs(self.producer):
            if index < len(self.producer.inputs) and self.producer.inputs[index] is not None:
                _scale(graph, self.producer, index, 1 / factors)

    def _insert(self, graph: ir.Graph, factors: Array) -> None:
        dtype = _weight(self.products[0]).dtype.numpy()
        constant = add_constant(graph, factors.astype(dtype), f"{self.value.name}/smoothing")
        node = ir.node("Mul", [self.value, constant])
        node.outputs[0].name = f"{self.value.name}/smoothed"
        node.outputs[0].shape, node.outputs[0].type = self.value.shape, self.value.type
        graph.insert_before(next(n for n in graph if n in self.products), node)
        for product in self.products:
            product.replace_input_with(0, node.outputs[0])


def _groups(graph: ir.Graph, insert: bool) -> tuple[list[_Group], list[str]]:
    """Return what can be smoothed, and the reasons why other products are not."""
    groups: list[_Group] = []
    reasons: set[str] = set()
    done: set[ir.Node] = set()
    for node in graph:
        width = _width(node)
        if width is None:
            continue
        products, others = _readers(node.outputs[0], width)
        if products and not others:
            groups.append(_Group(node.outputs[0], tuple(products), node))
            done.update(products)
    by_value: dict[ir.Value, list[ir.Node]] = {}
    for node in graph:
        if node not in done and _is_product(node) and node.inputs[0] is not None:
            by_value.setdefault(node.inputs[0], []).append(node)
    for value, products in by_value.items():
        maker = value.producer()
        if insert and maker is not None:
            groups.append(_Group(value, tuple(products), None))
        elif maker is not None and _scaling_inputs(maker):
            reasons.add(f"others read the result of {maker.op_type} too")
        else:
            reasons.add(f"{maker.op_type} before" if maker is not None else "input of the graph")
    return groups, sorted(reasons)


def _readers(value: ir.Value, width: int) -> tuple[list[ir.Node], bool]:
    """Return the products that read a value of this last axis, and whether anything else does."""
    products: list[ir.Node] = []
    if value.is_graph_output():
        return products, True
    for node, index in value.uses():
        if _is_product(node) and index == 0 and _inputs(node) == width:
            products.append(node)
        elif index == 0 and is_op(node, *_WIDTHS) and _keeps_last(node, width):
            behind, others = _readers(node.outputs[0], width)
            products += behind
            if others:
                return products, True
        else:
            return products, True
    return products, False


def _keeps_last(node: ir.Node, width: int) -> bool:
    """Whether the last axis, of this width, stays as it is."""
    if node.op_type == "Identity":
        return True
    if node.op_type == "Transpose":
        order = ints_attribute(node, "perm")
        return order is not None and order[-1] == len(order) - 1
    shape = node.outputs[0].shape
    target = ints_of(node.inputs[1]) if node.op_type == "Reshape" else None
    last = target[-1] if target else shape[-1] if shape is not None and len(shape) else None
    return width > 1 and last == width


def _is_product(node: ir.Node) -> bool:
    if not is_op(node, "MatMul", "Gemm") or int_attribute(node, "transA", 0) != 0:
        return False
    tensor = tensor_of(node.inputs[1])
    return tensor is not None and tensor.dtype in _TYPES and len(tensor.shape) == 2


def _weight(product: ir.Node) -> ir.TensorProtocol:
    tensor = tensor_of(product.inputs[1])
    assert tensor is not None  # _is_product() looked at it
    return tensor


def _channel_axis(product: ir.Node) -> int:
    """Return the axis of the weights that meets the channels of the input."""
    return 1 if product.op_type == "Gemm" and int_attribute(product, "transB", 0) else 0


def _inputs(product: ir.Node) -> int:
    return int(_weight(product).shape.numpy()[_channel_axis(product)])


def _scaling_inputs(node: ir.Node) -> tuple[int, ...]:
    """Return which inputs of a node are constants that scale its result; none for most."""
    if node.domain in (*STANDARD, "com.microsoft") and node.op_type in _NORMS:
        return _NORMS[node.op_type]
    if is_op(node, "Mul"):
        constants = [i for i, value in enumerate(node.inputs) if tensor_of(value) is not None]
        return tuple(constants) if len(constants) == 1 else ()
    return ()


def _width(node: ir.Node) -> int | None:
    """Return how many numbers a node's constants hold, one for each channel of the last axis."""
    indices = [i for i in _scaling_inputs(node) if i < len(node.inputs) and node.inputs[i]]
    tensors = [tensor_of(node.inputs[i]) for i in indices]
    sizes = {
        int(tensor.size) if tensor is not None and len(tensor.shape) == 1 else None
        for tensor in tensors
    }
    known = all(tensor is not None and tensor.dtype in _TYPES for tensor in tensors)
    return sizes.pop() if known and len(sizes) == 1 else None


def _scale(graph: ir.Graph, node: ir.Node, index: int, factors: Array) -> None:
    old = node.inputs[index]
    tensor = tensor_of(old)
    assert old is not None and tensor is not None  # noqa: PT018 - the group was made of constants
    scaled = (tensor.numpy() * factors).astype(tensor.dtype.numpy())
    node.replace_input_with(index, add_constant(graph, scaled, f"{old.name}_smoothed"))
    if old.is_initializer() and not old.uses() and not old.is_graph_output():
        graph.initializers.pop(old.name or "", None)


def _peaks(
    model: ir.Model, groups: Sequence[_Group], context: PassContext, limit: int
) -> dict[str, Array]:
    """Return the largest magnitude of each channel over all samples."""
    assert context.samples is not None  # check_context() came first
    reductions = {group.value.name or "": _largest(group.channels) for group in groups}
    peaks: dict[str, Array] = {}
    for _, found in observe(model, reductions, context.samples, limit, opset=_OPSET):
        for name, (array,) in found.items():
            if not np.isfinite(array).all():
                raise SmithError(
                    f"the activation {name!r} holds NaN or infinity on the calibration data",
                    "find the operator with 'onnxsmith compare --layers'",
                )
            peaks[name] = np.maximum(peaks.get(name, array), array)
    return peaks


def _largest(channels: int) -> Reduction:
    def reduce(graph: ir.Graph, value: ir.Value) -> list[ir.Value]:
        magnitudes = rows_of(graph, append(graph, "Abs", value), channels)
        return [append(graph, "ReduceMax", magnitudes, constant(graph, _FIRST), keepdims=0)]

    return reduce
