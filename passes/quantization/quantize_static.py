"""Compute in small integers with ranges learned from data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import onnx_ir as ir

from onnxsmith.errors import SmithError
from onnxsmith.passes.base import PassContext, PassResult
from onnxsmith.passes.match import STANDARD
from onnxsmith.passes.quantization.affine import LIMITS
from onnxsmith.passes.quantization.base import QuantizingPass
from onnxsmith.passes.quantization.calibration.ranges import Method, Ranges, measure_ranges
from onnxsmith.passes.quantization.calibration.samples import describe_data, refuse_poor_data
from onnxsmith.passes.quantization.detect import refuse_quantized
from onnxsmith.passes.quantization.select import Selection
from onnxsmith.passes.quantization.static.place import place
from onnxsmith.passes.quantization.static.plan import Plan, Scope, give_up, make_plan
from onnxsmith.passes.quantization.static.scales import Style, fit_values
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
    nothing: rounding clips as well.

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
    method: Method = "minmax"
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
        plan = make_plan(model.graph, replace(scope, selection=Selection()))
        _refuse_nothing(plan)
        least, most = LIMITS[style.activations]
        names = [value.name or "" for value in plan.values()]
        levels = most - least + 1
        return measure_ranges(model, names, context.samples, self.method, self.samples, levels)

    def write(self, model: ir.Model, found: Ranges, context: PassContext) -> PassResult:
        """Quantize a model with ranges that :meth:`calibrate` found; there may be many of one.

        Raises:
            SmithError: Nothing in it can be quantized, or a pattern fits no node.
        """
        self._check(model)
        style = self._style(context.target)
        plan = self._plan(model, found, context)
        _refuse_nothing(plan)
        kept = {value: found.ranges[value.name or ""] for value in plan.values()}
        words = _unchanging({value.name or "": limits for value, limits in kept.items()})
        fitted = fit_values(plan, kept, style, self._wide(plan))
        matrices = place(model.graph, plan, fitted, style)
        store_tables(model.graph, plan, self.selection, style, matrices)
        return PassResult(model, True, self._details(context, plan, found, style, words))

    def layers(self, model: ir.Model, found: Ranges, context: PassContext) -> list[ir.Node]:
        """Return the convolutions and matrix products that :meth:`write` would quantize."""
        plan = self._plan(model, found, context)
        return [node for node, operator in plan.nodes.items() if operator.kind == "product"]

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

    def _plan(self, model: ir.Model, found: Ranges, context: PassContext) -> Plan:
        plan = make_plan(model.graph, self._scope(context.target))
        give_up(plan, _useless({value.name or "": value for value in plan.values()}, found))
        return plan

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
        self, context: PassContext, plan: Plan, found: Ranges, style: Style, words: list[str]
    ) -> dict[str, Any]:
        described = describe_data(context, found.samples)
        slow = _slow(context.target, style, bool(self.wide))
        warnings = [*described.pop("warnings", ()), *slow, *words]
        return {
            "quantized": len(plan.nodes),
            "activations": style.activations.name.lower(),
            **({"wide": list(self.wide)} if self.wide else {}),
            "weights": style.weights.name.lower(),
            "reduce_range": style.reduce_range,
            "left_float": plan.left.to_json(),
            **described,
            **({"warnings": warnings} if warnings else {}),
        }


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


def _refuse_nothing(plan: Plan) -> None:
    if any(operator.kind == "product" for operator in plan.nodes.values()):
        return
    reasons = sorted(set(plan.left.reasons.values()))
    raise SmithError(
        "nothing in the model can be quantized"
        + (f": {'; '.join(reasons[:3])}" if reasons else ""),
        "only convolutions and matrix products can; see 'onnxsmith inspect'",
    )


def _useless(values: Mapping[str, ir.Value], found: Ranges) -> dict[ir.Value, str]:
    """Return why values cannot be rounded, by what they were on the samples."""
    reasons = {}
    for name, value in values.items():
        if name in found.broken:
            reasons[value] = f"{name!r} is NaN or infinite on the calibration data"
        elif name not in found.ranges:
            reasons[value] = f"{name!r} has no elements on the calibration data"
        elif found.ranges[name] == (0.0, 0.0):
            reasons[value] = f"{name!r} is always 0 on the calibration data"
    return reasons
