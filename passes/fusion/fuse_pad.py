"""Fold padding with zeros into the convolution or pooling behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.match import (
    array_of,
    input_of,
    int_attribute,
    ints_attribute,
    ints_of,
    is_op,
    only_user,
    replace,
)

_KINDS = ("Conv", "ConvInteger", "AveragePool")


@dataclass(frozen=True)
class FusePad(Pass):
    """Fold padding with zeros into the convolution or pooling behind it.

    ``Conv(Pad(x, p), pads=q) = Conv(x, pads=p + q)`` for zeros around the spatial axes, and
    likewise for ConvInteger without a zero point and for AveragePool, which then counts them.

    What is left alone: other values and modes, pads of batch or channels, pads that cut, automatic
    padding, and pools that are padded already and do not count that, or by a whole window.
    """

    name: ClassVar[str] = "fuse-pad"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Fold in the graph, its subgraphs and bodies."""
        count = 0
        for graph in model.graphs():
            for node in list(graph):
                count += is_op(node, "Pad") and _fold(node)
        return PassResult(model, bool(count), {"folded": count})


def _fold(pad: ir.Node) -> bool:
    user, source = only_user(pad.outputs[0], *_KINDS), pad.inputs[0]
    if user is None or source is None or user.graph is not pad.graph:
        return False
    if user.inputs[0] is not pad.outputs[0]:
        return False
    rank = _rank(user, source)
    widths = None if rank is None else _widths(pad, rank)
    if rank is None or widths is None or not _is_zero(pad):
        return False
    spatial = rank - 2
    if any(width < 0 for width in widths) or any((*widths[:2], *widths[rank : rank + 2])):
        return False
    added = widths[2:rank] + widths[rank + 2 :]
    auto = user.attributes.get("auto_pad")
    if auto is not None and (auto.is_ref() or auto.as_string() not in ("", "NOTSET", "VALID")):
        return False
    present = ints_attribute(user, "pads") or [0] * (2 * spatial)
    if not _can_take(user, added, present):
        return False
    attributes = {a.name: a for a in user.attributes.values() if a.name != "auto_pad"}
    total = [a + b for a, b in zip(present, added, strict=True)]
    attributes["pads"] = ir.AttrInt64s("pads", total)
    if user.op_type == "AveragePool":
        attributes["count_include_pad"] = ir.AttrInt64("count_include_pad", 1)
    replace(user, ir.Node("", user.op_type, [source, *user.inputs[1:]], list(attributes.values())))
    return True


def _rank(user: ir.Node, source: ir.Value) -> int | None:
    weight = input_of(user, 1)
    for value in (source, weight):
        if value is not None and value.shape is not None:
            return len(value.shape)
    return None


def _widths(pad: ir.Node, rank: int) -> list[int] | None:
    """Return what is added in front of all axes, then what is added behind them."""
    given = ints_of(input_of(pad, 1)) if len(pad.inputs) > 1 else ints_attribute(pad, "pads")
    if given is None:
        return None
    axes = list(range(rank))
    if input_of(pad, 3) is not None:
        named = ints_of(input_of(pad, 3))
        if named is None:
            return None
        axes = [axis % rank for axis in named]
    if len(given) != 2 * len(axes):
        return None
    widths = [0] * (2 * rank)
    for place, axis in enumerate(axes):
        widths[axis], widths[rank + axis] = given[place], given[len(axes) + place]
    return widths


def _is_zero(pad: ir.Node) -> bool:
    mode, value = pad.attributes.get("mode"), pad.attributes.get("value")
    if mode is not None and (mode.is_ref() or mode.as_string() != "constant"):
        return False
    if value is not None and (value.is_ref() or value.as_float() != 0):
        return False
    if input_of(pad, 2) is None:
        return True
    array = array_of(pad.inputs[2])
    return array is not None and not array.any()


def _can_take(user: ir.Node, added: list[int], present: list[int]) -> bool:
    if len(present) != len(added):
        return False
    if user.op_type == "ConvInteger":
        zero = input_of(user, 2)
        array = array_of(zero)
        return zero is None or (array is not None and not array.any())
    if user.op_type == "AveragePool":
        if any(present) and int_attribute(user, "count_include_pad", 0) != 1:
            return False
        kernel = ints_attribute(user, "kernel_shape") or []
        fits = all(a + b < size for a, b, size in zip(present, added, kernel * 2, strict=True))
        # A window that begins beyond the padding is counted in another way.
        return fits and int_attribute(user, "ceil_mode", 0) == 0
    return True
