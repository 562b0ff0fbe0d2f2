"""Make a quantized model trainable: rounding that gradients pass, and steps that are learned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from onnxsmith.errors import SmithError
from onnxsmith.passes.autodiff.writer import Writer, static_shape
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.cleanup.infer_shapes import InferShapes
from onnxsmith.passes.match import STANDARD, add_constant, is_op, made_by
from onnxsmith.passes.quantization.affine import LIMITS, Affine, Array

_LEAST = float(np.finfo(np.float32).tiny)
# What only moves or picks elements: behind it a tensor is on the grid already.
_SAME_GRID = (
    "Flatten", "GatherElements", "Identity", "MaxPool", "Reshape", "Slice", "Squeeze", "Transpose",
    "Unsqueeze",
)  # fmt: skip


@dataclass(frozen=True)
class QuantizedWeight:
    """A weight or a bias in integers, and what is trained in its place.

    Attributes:
        integers: The initializer of the quantized model.
        trained: The initializer of floats.
        scale: The initializer of its scales.
        zero: The integers that stand for 0.
        axis: The axis of the channels; None for one scale.
        factors: For a bias, the scales of the input and of the weight, whose product its own is.
    """

    integers: str
    trained: str
    scale: str
    zero: Array
    axis: int | None
    factors: tuple[str, str] | None = None


@dataclass(frozen=True)
class Trainable:
    """A quantized model in the form that is trained.

    Attributes:
        weights: Weights and biases.
        scales: The scales that are learned.
        tied: Scales to those that they have to equal.
    """

    weights: list[QuantizedWeight] = field(default_factory=list)
    scales: list[str] = field(default_factory=list)
    tied: dict[str, str] = field(default_factory=dict)

    def write_back(self, model: ir.Model, trained: Mapping[str, Array]) -> None:
        """Put scales and weights that were trained into the quantized model, which is edited.

        Args:
            model: The quantized model that this was made of.
            trained: Content by the name of the initializer of floats or of scales.
        """
        held = model.graph.initializers

        def put(name: str, array: Array) -> None:
            held[name].const_value = ir.Tensor(array, name=name)

        for name in self.scales:
            if name in trained:
                put(name, np.maximum(trained[name], _LEAST).astype(np.float32))
        for name, other in self.tied.items():
            put(name, _array(held[other]))
        for weight in self.weights:
            if weight.factors is not None:
                first, second = (_array(held[name]) for name in weight.factors)
                product = np.broadcast_to(first * second, _array(held[weight.scale]).shape)
                put(weight.scale, product.astype(np.float32))
            if weight.trained in trained:
                dtype = held[weight.integers].dtype
                assert dtype is not None  # initializers have types
                scale = _array(held[weight.scale])
                affine = Affine(dtype, scale, weight.zero, weight.axis)
                put(weight.integers, affine.quantize(trained[weight.trained]))


def make_trainable(model: ir.Model, originals: Mapping[str, Array] | None = None) -> Trainable:
    """Replace QuantizeLinear and DequantizeLinear by operators that gradients pass through.

    ``s r(clip(x / s, l, h))`` with ``dr = 1``: the gradient by ``x`` is one inside the range, that
    by ``s`` is ``r(x / s) - x / s`` there and ``l`` or ``h`` outside, times ``1 / sqrt(n h)`` for
    the ``n`` elements that share the scale.

    Args:
        model: A quantized model of such pairs; it is edited.
        originals: The float model's initializers; without, weights begin where they were rounded.

    Returns:
        What is trained, and how to write it back.

    Raises:
        SmithError: The model has no such pairs, or some that cannot be trained.

    Source: Esser et al., "Learned Step Size Quantization" (2020), equations 1 to 3, section 2.2.
    """
    InferShapes().apply(model, PassContext())
    found = Trainable()
    version = next(model.opset_imports[d] for d in STANDARD if d in model.opset_imports)
    w = Writer(model.graph, version, "fake")
    nodes = [node for node in model.graph if is_op(node, "DequantizeLinear")]
    factors = {node: _factors(node) for node in nodes}  # before anything is replaced
    for node in nodes:
        source = node.inputs[0]
        if source is not None and source.is_initializer():
            _weight(model.graph, w, node, found, originals or {}, factors[node])
        elif made_by(source, "QuantizeLinear") is not None:
            _activation(w, node, found)
        model.graph.insert_before(node, w.nodes)
        w.nodes.clear()
    if not found.scales:
        raise SmithError(
            "the model has no QuantizeLinear and DequantizeLinear pairs to train",
            "quantize it with --mode static, or give the float model",
        )
    model.graph.remove(nodes, safe=True)
    pairs = [n for n in model.graph if is_op(n, "QuantizeLinear") and not n.outputs[0].uses()]
    model.graph.remove([n for n in pairs if not n.outputs[0].is_graph_output()], safe=True)
    return found


def _activation(w: Writer, node: ir.Node, found: Trainable) -> None:
    pair = made_by(node.inputs[0], "QuantizeLinear")
    assert pair is not None  # the caller looked
    scale, x = node.inputs[1], pair.inputs[0]
    if x is None or scale is None or not scale.is_initializer() or pair.inputs[1] is not scale:
        raise _refusal(node, "its scale is not a constant that both of a pair share")
    zero, axis = _zero(pair), _axis(node, scale)
    if axis is not None:
        raise _refusal(node, "activations with a scale a channel are not trained")
    dtype = _integers(pair)
    result = node.outputs[0]
    before = x.producer()
    if before is not None and before.op_type in _SAME_GRID and _same_grid(before, scale, found):
        ir.convenience.replace_all_uses_with(result, x, replace_graph_outputs=True)
        return
    count = _elements(x)
    step = _step(w, scale, count, LIMITS[dtype][1] - int(zero.max(initial=0)))
    _replace(w, result, _rounded(w, x, step, _limits(node, dtype, zero)))
    if scale.name not in found.scales:
        found.scales.append(scale.name or "")


def _same_grid(before: ir.Node, scale: ir.Value, found: Trainable) -> bool:
    """Tell whether what comes in was rounded with an equal scale; if so, the two are tied."""
    x = before.inputs[0]
    name = None if x is None else x.meta.get("fake.scale")
    if name is None or x is None:
        return False
    other = scale.graph.initializers[name] if scale.graph is not None else None
    if other is None or not np.array_equal(_array(other), _array(scale)):
        return False
    if scale is not other:
        found.tied[scale.name or ""] = name
    before.outputs[0].meta["fake.scale"] = name
    return True


def _weight(
    graph: ir.Graph,
    w: Writer,
    node: ir.Node,
    found: Trainable,
    originals: Mapping[str, Array],
    factors: tuple[str, str] | None,
) -> None:
    integers, scale = node.inputs[0], node.inputs[1]
    assert integers is not None
    assert integers.dtype is not None  # initializers have types
    if scale is None or not scale.is_initializer() or integers.dtype not in LIMITS:
        raise _refusal(node, "its scale is not constant, or its integers are of another type")
    if node.attributes.get_int("block_size", 0):
        raise _refusal(node, "weights with a scale a block are not trained")
    zero, axis = _zero(node), _axis(node, scale)
    affine = Affine(integers.dtype, _array(scale), zero, axis)
    rounded = affine.dequantize(_array(integers))
    name = (integers.name or "").removesuffix("_quantized")
    start = originals.get(name)
    if start is None or start.shape != rounded.shape or not _near(start, affine, rounded):
        start = rounded
    trained = add_constant(graph, start.astype(np.float32), name)
    is_bias = integers.dtype == ir.DataType.INT32
    names = (integers.name or "", trained.name or "", scale.name or "")
    found.weights.append(QuantizedWeight(*names, zero, axis, factors if is_bias else None))
    if is_bias:  # 32 bits are as good as a float
        ir.convenience.replace_all_uses_with(node.outputs[0], trained, replace_graph_outputs=True)
        return
    channels = affine.scale.size
    step = _step(w, scale, max(rounded.size // max(channels, 1), 1), LIMITS[integers.dtype][1])
    if axis is not None:
        step = w.op("Reshape", step, w.ints([-1 if i == axis else 1 for i in range(rounded.ndim)]))
    limits = _limits(node, integers.dtype, zero)
    _replace(w, node.outputs[0], _rounded(w, trained, step, limits))
    if scale.name not in found.scales:
        found.scales.append(scale.name or "")


def _near(start: Array, affine: Affine, rounded: Array) -> bool:
    """Tell whether floats round to what the quantized model holds: it was made of them."""
    return np.array_equal(affine.dequantize(affine.quantize(start)), rounded)


def _factors(node: ir.Node) -> tuple[str, str] | None:
    """Return the scales of the input and the weight of the product that a bias is added to."""
    for use in node.outputs[0].uses():
        pairs = [made_by(value, "DequantizeLinear") for value in use.node.inputs[:2]]
        scales = [pair.inputs[1] for pair in pairs if pair is not None]
        if len(scales) == 2 and all(s is not None and s.is_initializer() for s in scales):
            first, second = scales
            assert first is not None
            assert second is not None
            return first.name or "", second.name or ""
    return None


def _step(w: Writer, scale: ir.Value, count: int, highest: int) -> ir.Value:
    """Return a scale as it is, whose gradient is ``1 / sqrt(n h)`` of what comes."""
    safe = w.op("Max", scale, w.number(_LEAST, scale))
    share = w.op("Mul", safe, w.number((count * max(highest, 1)) ** -0.5, scale))
    return w.op("Add", share, w.stop(w.op("Sub", safe, share)))


def _rounded(w: Writer, x: ir.Value, step: ir.Value, limits: tuple[int, int]) -> ir.Value:
    low, high = (w.number(limit, step) for limit in limits)
    held = w.op("Clip", w.op("Div", x, step, dtype=step.dtype), low, high)
    away = w.stop(w.op("Sub", w.op("Round", held), held))
    return w.op("Mul", w.op("Add", held, away), step)


def _replace(w: Writer, old: ir.Value, new: ir.Value) -> None:
    name = old.name
    new.shape = old.shape
    scale = old.producer()
    assert scale is not None  # a DequantizeLinear makes it
    assert scale.inputs[1] is not None
    new.meta["fake.scale"] = scale.inputs[1].name
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    if new.is_graph_output():
        old.name, new.name = f"{name}_was", name


def _limits(node: ir.Node, dtype: ir.DataType, zero: Array) -> tuple[int, int]:
    """Return the lowest and the highest integer, counted from the one that stands for 0."""
    low, high = LIMITS[dtype]
    if zero.size > 1 and zero.min() != zero.max():
        raise _refusal(node, "zero points that differ along channels are not trained")
    offset = int(zero.flat[0]) if zero.size else 0
    return low - offset, high - offset


def _zero(node: ir.Node) -> Array:
    value = node.inputs[2] if len(node.inputs) > 2 else None
    if value is None:
        return np.zeros((), np.int64)
    if not value.is_initializer():
        raise _refusal(node, "its zero point is not constant")
    return _array(value).astype(np.int64)


def _axis(node: ir.Node, scale: ir.Value) -> int | None:
    return None if _array(scale).ndim == 0 else node.attributes.get_int("axis", 1)


def _integers(node: ir.Node) -> ir.DataType:
    dtype = node.outputs[0].dtype or ir.DataType.UINT8
    if dtype not in LIMITS:
        raise _refusal(node, f"{dtype} is not trained")
    return dtype


def _elements(value: ir.Value) -> int:
    """Return the elements of one sample, as far as their number is known."""
    sizes = static_shape(value) or tuple(
        size for size in (value.shape or ()) if isinstance(size, int)
    )
    rest = sizes[1:] if static_shape(value) is not None else sizes
    return max(int(np.prod(rest, dtype=np.int64)), 1)


def _array(value: ir.Value) -> Array:
    assert value.const_value is not None  # initializers have contents
    return value.const_value.numpy()


def _refusal(node: ir.Node, reason: str) -> SmithError:
    name = node.name or node.outputs[0].name or ""
    return SmithError(
        f"the node {name!r} ({node.op_type}) cannot be trained: {reason}",
        "train the float model with --qat, which quantizes it with scales that can be",
    )
