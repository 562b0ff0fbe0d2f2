"""Which value of one model is which value of another?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir

from onnxsmith.passes.match import STANDARD, tensor_of

How = Literal["name", "structure"]

# What a quantizer appends to a tensor's name, in the order of trust: what later nodes read comes
# first, since the rounding of a layer's output belongs to that layer.
_DEQUANTIZED = "_DequantizeLinear_Output"
_QUANTIZED = ("_QuantizeLinear_Output", "_quantized")
_RENAMED = "_QuantizeLinear_Input"

# Nodes that say the same tensor in other words.
_WRAPPERS = frozenset({"QuantizeLinear", "DequantizeLinear", "Cast", "Identity"})
# The same product under several names.
_KINDS = {
    "QLinearConv": "Conv",
    "FusedConv": "Conv",
    "QLinearMatMul": "MatMul",
    "MatMulNBits": "MatMul",
    "FusedMatMul": "MatMul",
    "QGemm": "Gemm",
    "FusedGemm": "Gemm",
    "QLinearAdd": "Add",
    "QLinearMul": "Mul",
    "QLinearSigmoid": "Sigmoid",
    "QLinearSoftmax": "Softmax",
    "QLinearConcat": "Concat",
    "QLinearGlobalAveragePool": "GlobalAveragePool",
    "QLinearAveragePool": "AveragePool",
    "QLinearLeakyRelu": "LeakyRelu",
}


@dataclass(frozen=True)
class Pair:
    """One tensor of the first model and what stands for it in the second.

    Attributes:
        name: Its name in the first model.
        op_type: The operator that makes it there.
        node: The name of that node.
        other: The value of the second model.
        scale: Where the second holds it in integers: the name of its scale, else empty.
        zero_point: The name of its zero point, else empty.
        how: By its name, or by what it is computed from.
    """

    name: str
    op_type: str
    node: str
    other: str
    scale: str = ""
    zero_point: str = ""
    how: How = "name"


@dataclass(frozen=True)
class Correspondence:
    """What two models have in common.

    Attributes:
        pairs: In the first model's order of computation.
        before: For each tensor of ``pairs``, the nearest tensors of ``pairs`` that it is computed
            from.
        unmatched: How many floating-point tensors of the first model have no partner.
    """

    pairs: tuple[Pair, ...]
    before: Mapping[str, frozenset[str]]
    unmatched: int


def correspondence(first: ir.Model, second: ir.Model) -> Correspondence:
    """Match the tensors of the main graphs.

    A tensor is looked for by its name, with the endings that quantizers append; then by what it is
    computed from: the same operator on matched inputs, quantization and casts looked through.
    Tensors of subgraphs and functions are left alone.
    """
    others = _values(second.graph)
    keys: dict[object, int] = {}
    own_keys = _structure(first.graph, {}, keys)
    named = {name: found for name in _values(first.graph) if (found := _by_name(name, others))}
    seeds = {found.other: own_keys[name] for name, found in named.items() if name in own_keys}
    other_keys = _structure(second.graph, seeds, keys)
    by_key: dict[int, str] = {}
    for name, key in other_keys.items():  # of wrapped values the last one is what is read
        by_key[key] = name
    pairs, unmatched = [], 0
    for node in first.graph:
        for value in node.outputs:
            if not value.name or not _may_compare(value):
                continue
            pair = named.get(value.name)
            if pair is None:
                partner = by_key.get(own_keys.get(value.name, -1))
                if partner is None or not _may_compare(others[partner]):
                    unmatched += 1
                    continue
                pair = Pair("", "", "", partner, how="structure")
            pairs.append(
                Pair(
                    value.name,
                    node.op_type,
                    node.name or value.name,
                    pair.other,
                    pair.scale,
                    pair.zero_point,
                    pair.how,
                )
            )
    return Correspondence(tuple(pairs), _ancestors(first.graph, {p.name for p in pairs}), unmatched)


def _values(graph: ir.Graph) -> dict[str, ir.Value]:
    return {value.name: value for node in graph for value in node.outputs if value.name}


def _may_compare(value: ir.Value) -> bool:
    """Whether the value is made of floating-point numbers, as far as is known."""
    return value.dtype is None or value.dtype.is_floating_point()


def _by_name(name: str, others: Mapping[str, ir.Value]) -> Pair | None:
    if (dequantized := name + _DEQUANTIZED) in others:
        return Pair("", "", "", dequantized)
    if name in others:
        return Pair("", "", "", name)
    if (renamed := name + _RENAMED) in others:
        return Pair("", "", "", renamed)
    scale, zero_point = f"{name}_scale", f"{name}_zero_point"
    for quantized in (name + ending for ending in _QUANTIZED):
        graph = others[quantized].graph if quantized in others else None
        if isinstance(graph, ir.Graph) and {scale, zero_point} <= graph.initializers.keys():
            return Pair("", "", "", quantized, scale, zero_point)
    return None


def _structure(
    graph: ir.Graph, known: Mapping[str, int], keys: dict[object, int]
) -> dict[str, int]:
    """Return a number for each value: equal ones are computed the same way from the same inputs.

    Args:
        graph: The graph.
        known: Numbers of values that are matched already.
        keys: What the numbers stand for; shared by both graphs.
    """
    found: dict[str, int] = {}
    for value in graph.inputs:
        found[value.name or ""] = keys.setdefault(("input", value.name), len(keys))
    seen: dict[object, int] = {}
    for node in graph:
        inputs = tuple(_described(value, found) for value in node.inputs)
        for index, value in enumerate(node.outputs):
            if not value.name:
                continue
            if value.name in known:
                found[value.name] = known[value.name]
                continue
            source = node.inputs[0] if node.inputs else None
            wrapped = source is not None and (source.name or "") in found
            if node.op_type in _WRAPPERS and wrapped and source is not None:
                found[value.name] = found[source.name or ""]
                continue
            kind = _KINDS.get(node.op_type, node.op_type)
            domain = "" if node.domain in STANDARD or kind != node.op_type else node.domain
            key = (domain, kind, index, tuple(i for i in inputs if i is not None))
            # Twins, such as the three projections of an attention, are told apart by their order.
            seen[key] = seen.get(key, -1) + 1
            found[value.name] = keys.setdefault((key, seen[key]), len(keys))
    return found


def _described(value: ir.Value | None, found: Mapping[str, int]) -> object:
    """Return the number of a computed input; constants are left out, quantizers replace them."""
    if value is None or tensor_of(value) is not None:
        return None
    return found.get(value.name or "")


def _ancestors(graph: ir.Graph, matched: set[str]) -> dict[str, frozenset[str]]:
    nearest: dict[str, frozenset[str]] = {}
    before: dict[str, frozenset[str]] = {}
    for node in graph:
        sources: set[str] = set()
        for value in node.inputs:
            if value is not None and value.name:
                sources |= {value.name} if value.name in matched else nearest.get(value.name, set())
        for value in node.outputs:
            if value.name in matched:
                before[value.name] = frozenset(sources)
            elif value.name:
                nearest[value.name] = frozenset(sources)
    return before
