"""Compute in small integers with ranges learned from data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import onnx_ir as ir

from onnxsmith.errors import SmithError
from onnxsmith.passes.base import PassContext, PassResult
from onnxsmith.passes.cleanup.infer_shapes import InferShapes
from onnxsmith.passes.cleanup.inline_functions import InlineFunctions
from onnxsmith.passes.cleanup.remove_unused_nodes import sweep
from onnxsmith.passes.fusion.contrib import DOMAIN, declare
from onnxsmith.passes.match import STANDARD, all_nodes, is_op
from onnxsmith.passes.quantization.affine import LIMITS
from onnxsmith.passes.quantization.base import QuantizingPass
from onnxsmith.passes.quantization.calibration.bodies import WITH_BODIES, value_keys
from onnxsmith.passes.quantization.calibration.ranges import Method, Ranges, measure_ranges
from onnxsmith.passes.quantization.calibration.samples import describe_data, refuse_poor_data
from onnxsmith.passes.quantization.detect import refuse_quantized
from onnxsmith.passes.quantization.select import Selection
from onnxsmith.passes.quantization.static.as_they_come import quantize_as_they_come
from onnxsmith.passes.quantization.static.operators import find
from onnxsmith.passes.quantization.static.place import Placer
from onnxsmith.passes.quantization.static.plan import Plan, Scope, give_up, make_plans
from onnxsmith.passes.quantization.static.scales import Style, fit_values, widened
from onnxsmith.passes.quantization.static.tables import store_tables
from onnxsmith.runtime.cpu import products_saturate
from onnxsmith.target import Target

Choice = Literal["auto", "on", "off"]

# DequantizeLinear takes one scale a channel since opset 13, and types of other sizes since 21.
_CHANNEL_OPSET, _SIZES_OPSET = 13, 21
_CPU = "CPUExecutionProvider"
_TENSORRT = "TensorrtExecutionProvider"


@dataclass(frozen=True)
class QuantizeStatic(QuantizingPass):
    """Compute in small integers, with ranges learned from calibration data.

    ``x = s (q - z)`` for each tensor, written as pairs of QuantizeLinear and DequantizeLinear
    where the runtime takes them into integer kernels: around convolutions and matrix products
    with constant weights, and around additions, pools and their like between these. Biases become
    int32 at the scale ``s_x s_w``, tables of embeddings int8. A Relu, or a Clip from 0, costs
    nothing: rounding clips as well. Bodies of If, Loop and Scan are quantized as the graph is, with
    ranges over all branches and turns that the data take; functions with products are inlined.
    On CPUs recurrent layers and fused attention are quantized as they come, for the runtime has no
    kernels of known ranges for them: see ``quantize-dynamic``.

    Options:
        per_channel: One scale an output channel of a weight, or one a weight.
        reduce_range: Weights in one bit less; ``auto`` does so on x86 processors without VNNI,
            whose sums of products overflow, where the model is for this machine.
        method: How ranges are chosen: ``minmax``, ``moving-average``, ``percentile``, ``entropy``
            or ``mse``. No method keeps activations: memory does not grow with the data.
        samples: Most batches to read.
        activations: ``uint8``, ``int8``, ``uint16`` or ``int16``; ``auto`` is uint8, and int8 for
            TensorRT.
        weights: ``int8`` or ``int4``.
        symmetric: Whether the zero point of activations is in the middle; ``auto`` for TensorRT.
        scope: ``all`` computes what lies between products in integers too, ``products`` rounds
            the inputs of products only; ``auto`` is the latter for TensorRT.
        both_activations: Whether products of two activations are quantized, as in attention.
        allow_poor_data: Calibrate even on random data, or on fewer than 32 samples.
        wide: Patterns of nodes that read and make activations of 16 bits where others have 8.

    Values that are NaN, infinite or always 0 on the samples stay in float.

    Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference", 2018; the placement follows onnxruntime's
    ``qdq_transformer``.
    """

    name: ClassVar[str] = "quantize-static"
    needs: ClassVar[tuple[str, ...]] = ("samples",)

    per_channel: bool = True
    reduce_range: Choice = "auto"
    method: Method = "mse"
    samples: int = 256
    activations: Literal["auto", "uint8", "int8", "uint16", "int16"] = "auto"
    weights: Literal["int8", "int4"] = "int8"
    symmetric: Choice = "auto"
    scope: Literal["auto", "all", "products"] = "auto"
    both_activations: bool = False
    allow_poor_data: bool = False
    wide: tuple[str, ...] = field(default=(), kw_only=True)

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Calibrate, plan and write.

        Raises:
            SmithError: The data are empty, random, few, or hold NaN or infinity; the model is
                quantized already, too old, or nothing in it can be quantized.
        """
        _open_functions(model, context)
        self._check(model)  # before the long work
        found = self.calibrate(model, context)
        return self.write(model, found, context)

    def calibrate(self, model: ir.Model, context: PassContext) -> Ranges:
        """Return the ranges of all values that could be rounded, whatever is excluded.

        Raises:
            SmithError: As :meth:`apply`.
        """
        assert context.samples is not None  # check_context() came first
        style, scope = self._style(context.target), self._scope(context.target)
        refuse_quantized(model)
        _refuse_old(model, style, bool(self.wide))
        refuse_poor_data(context, self.allow_poor_data)
        plans = make_plans(model.graph, replace(scope, selection=Selection()))
        _refuse_nothing(plans)
        keys = value_keys(model.graph)
        levels: dict[str, int] = {}
        few, many = _levels(style.activations), _levels(widened(style.activations))
        for plan in plans:
            wide = self._wide(plan)
            levels |= {keys[value]: many if value in wide else few for value in plan.values()}
        return measure_ranges(
            model, list(levels), context.samples, self.method, self.samples, levels
        )

    def write(self, model: ir.Model, found: Ranges, context: PassContext) -> PassResult:
        """Quantize a model with ranges that :meth:`calibrate` found; there may be many of one.

        Raises:
            SmithError: Nothing in it can be quantized, or a pattern fits no node.
        """
        self._check(model)
        style = self._style(context.target)
        plans = self._plans(model, found, context)
        _refuse_nothing(plans)
        keys, limits = value_keys(model.graph), dict[str, tuple[float, float]]()
        placer = Placer(model.graph, style)
        for plan in plans:
            kept = {value: found.ranges[keys[value]] for value in plan.values()}
            limits |= {keys[value]: limit for value, limit in kept.items()}
            placer.place(plan, fit_values(plan, kept, style, self._wide(plan)))
        left = plans[-1].left
        store_tables(model.graph, left, self.selection, style, placer.matrices)
        here = context.target.providers[0] == _CPU
        more = quantize_as_they_come(model.graph, left, self.selection, style) if here else 0
        if any(node.domain == DOMAIN for node in all_nodes(model)):
            declare(model)
        sweep(model.graph)
        words = _unchanging(limits)
        details = self._details(context, plans, found, style, words)
        details["quantized"] += more
        return PassResult(model, True, {**details, "as_they_come": more} if more else details)

    def layers(self, model: ir.Model, found: Ranges, context: PassContext) -> list[ir.Node]:
        """Return the convolutions and matrix products that :meth:`write` would quantize."""
        plans = self._plans(model, found, context)
        return [
            node
            for plan in reversed(plans)
            for node, operator in plan.nodes.items()
            if operator.kind == "product"
        ]

    def _check(self, model: ir.Model) -> None:
        self.selection.check(model)
        Selection(only=self.wide).check(model)

    def _wide(self, plan: Plan) -> set[ir.Value]:
        """Return the values that nodes of the user's choice read and make."""
        if not self.wide:
            return set()
        chosen = Selection(only=self.wide)
        nodes = [node for node in plan.nodes if not chosen.refusal(node)]
        read = {value for node in nodes for _, value in plan.inputs(node)}
        return read.union(*(plan.results(node) for node in nodes))

    def _plans(self, model: ir.Model, found: Ranges, context: PassContext) -> list[Plan]:
        """Return what becomes integers in the graph and its bodies, which come first."""
        plans = make_plans(model.graph, self._scope(context.target))
        keys = value_keys(model.graph)
        for plan in plans:
            give_up(plan, _useless({keys[value]: value for value in plan.values()}, found))
        return plans

    def _style(self, target: Target) -> Style:
        tensorrt = _TENSORRT in target.providers
        dtype = "int8" if tensorrt else "uint8"
        symmetric = tensorrt if self.symmetric == "auto" else self.symmetric == "on"
        here = target.name == "cpu"
        narrow = here and products_saturate()
        return Style(
            ir.DataType[(dtype if self.activations == "auto" else self.activations).upper()],
            symmetric,
            ir.DataType[self.weights.upper()],
            self.per_channel,
            narrow if self.reduce_range == "auto" else self.reduce_range == "on",
            round_bias=not tensorrt,
        )

    def _scope(self, target: Target) -> Scope:
        tensorrt = _TENSORRT in target.providers
        between = not tensorrt if self.scope == "auto" else self.scope == "all"
        clips = not self._style(target).symmetric
        return Scope(self.selection, between, self.both_activations, tensorrt, clips)

    def _details(
        self,
        context: PassContext,
        plans: Sequence[Plan],
        found: Ranges,
        style: Style,
        words: list[str],
    ) -> dict[str, Any]:
        described = describe_data(context, found.samples)
        slow = _slow(context.target, style, bool(self.wide))
        warnings = [*described.pop("warnings", ()), *slow, *words]
        return {
            "quantized": sum(len(plan.nodes) for plan in plans),
            "activations": style.activations.name.lower(),
            **({"wide": list(self.wide)} if self.wide else {}),
            "weights": style.weights.name.lower(),
            "reduce_range": style.reduce_range,
            "left_float": plans[-1].left.to_json(),
            **described,
            **({"warnings": warnings} if warnings else {}),
        }


def _levels(dtype: ir.DataType) -> int:
    """Return how many integers a type holds."""
    least, most = LIMITS[dtype]
    return most - least + 1


def _slow(target: Target, style: Style, wide: bool) -> list[str]:
    """Return a warning about types that the target computes slower than float32."""
    if target.providers[0] != _CPU or (style.activations == ir.DataType.UINT8 and not wide):
        return []
    name = "16-bit" if wide else style.activations.name.lower()
    return [f"{name} activations are slower than float32 on most CPUs; uint8 is fast"]


def _unchanging(ranges: Mapping[str, tuple[float, float]]) -> list[str]:
    """Return a warning about values that were the same throughout: real ones may differ."""
    same = sorted(repr(name) for name, (low, high) in ranges.items() if low == high)
    if not same:
        return []
    shown = ", ".join(same[:3]) + (f" and {len(same) - 3} more" if len(same) > 3 else "")
    return [f"constant on the calibration data, so their ranges fit nothing else: {shown}"]


def _refuse_old(model: ir.Model, style: Style, wide: bool) -> None:
    opset = max((model.opset_imports.get(domain, 0) for domain in STANDARD), default=0)
    eight = (ir.DataType.UINT8, ir.DataType.INT8)
    plain = style.activations in eight and style.weights in eight and not wide
    needed = _CHANNEL_OPSET if plain else _SIZES_OPSET
    if opset < needed:
        raise SmithError(
            f"the model is of opset {opset}; these types need {needed}",
            f"put convert-opset:opset={needed} before quantize-static",
        )


def _refuse_nothing(plans: Sequence[Plan]) -> None:
    if any(o.kind == "product" for plan in plans for o in plan.nodes.values()):
        return
    reasons = sorted(set(plans[-1].left.reasons.values()))
    raise SmithError(
        "nothing in the model can be quantized"
        + (f": {'; '.join(reasons[:3])}" if reasons else ""),
        "only convolutions and matrix products can; --mode dynamic also takes recurrent layers",
    )


def _open_functions(model: ir.Model, context: PassContext) -> None:
    """Inline functions if one of them holds a product: their calls differ in what they read.

    Bodies, whose values have no declared types, get them.
    """
    nodes = [
        node
        for function in model.functions.values()
        for node in ir.traversal.RecursiveGraphIterator(function)
    ]
    if any((operator := find(node)) and operator.kind == "product" for node in nodes):
        InlineFunctions().apply(model, context)
    if any(is_op(node, *WITH_BODIES) for node in model.graph):
        InferShapes().apply(model, context)


def _useless(values: Mapping[str, ir.Value], found: Ranges) -> dict[ir.Value, str]:
    """Return why values cannot be rounded, by what they were on the samples."""
    reasons = {}
    for key, value in values.items():
        if key in found.broken:
            reason = "is NaN or infinite"
        elif key not in found.ranges:
            reason = "has no elements" if key == value.name else "is never computed"
        elif found.ranges[key] == (0.0, 0.0):
            reason = "is always 0"
        else:
            continue
        reasons[value] = f"{value.name!r} {reason} on the calibration data"
    return reasons
