"""Shapes of ONNX Runtime's contrib operators, which ONNX's shape inference does not know.

Source: ``docs/ContribOperators.md`` of ONNX Runtime. Only operators that optimizers put into
models are here; the shapes of others stay unknown, and inspection lists them.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import onnx
from onnx.defs import OpSchema

DOMAIN = "com.microsoft"

Context = Any  # onnx's InferenceContext is an untyped native class
Shape = list[int | str | None]
Rule = Callable[[Context], None]

_FLOAT = onnx.TensorProto.FLOAT
_ELEMENTS = (
    "bfloat16 bool complex128 complex64 double float float16 float8e4m3fn float8e4m3fnuz "
    "float8e5m2 float8e5m2fnuz int16 int32 int4 int64 int8 string uint16 uint32 uint4 uint64 uint8"
)
# The schemas are registered in a table of the process; two inspections must not interleave.
_LOCK = threading.Lock()


@contextlib.contextmanager
def contrib_schemas() -> Iterator[None]:
    """Register the schemas, and take them away again: conversion elsewhere must not see them."""
    with _LOCK:
        added = [name for name in RULES if not onnx.defs.has(name, DOMAIN)]
        try:
            for name in added:
                onnx.defs.register_schema(_schema(name, RULES[name]))
            yield
        finally:
            for name in added:
                if onnx.defs.has(name, DOMAIN):
                    onnx.defs.deregister_schema(name, 1, DOMAIN)


def _schema(name: str, rule: Rule) -> OpSchema:
    """Return a schema that takes anything; the checker has no part in inspection."""
    variadic = OpSchema.FormalParameterOption.Variadic
    kinds = [f"tensor({name})" for name in _ELEMENTS.split()]
    values = [
        OpSchema.FormalParameter(
            label, kind, param_option=variadic, is_homogeneous=False, min_arity=0
        )
        for label, kind in (("inputs", "I"), ("outputs", "O"))
    ]
    schema = OpSchema(
        name,
        DOMAIN,
        1,
        inputs=values[:1],
        outputs=values[1:],
        type_constraints=[("I", kinds, ""), ("O", kinds, "")],
    )
    schema.set_type_and_shape_inference_function(rule)
    return schema


def _type(context: Context, index: int) -> tuple[int, Shape] | None:
    """Return element type and shape of an input, or None where they are not known."""
    if not context.has_input(index):
        return None
    tensor = context.get_input_type(index).tensor_type
    if not tensor.HasField("shape"):
        return None
    dims: Shape = [
        d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in tensor.shape.dim
    ]
    return tensor.elem_type, dims


def _set(context: Context, index: int, elem_type: int, dims: Shape) -> None:
    if index < context.get_num_outputs():
        context.set_output_type(index, onnx.helper.make_tensor_type_proto(elem_type, dims))


def _int(context: Context, name: str, default: int = 0) -> int:
    attribute = context.get_attribute(name)
    return default if attribute is None else int(attribute.i)


def _like(*outputs: int) -> Rule:
    """Return the rule of operators whose ``outputs`` are of the type of their first input."""

    def rule(context: Context) -> None:
        first = _type(context, 0)
        if first is not None:
            for index in outputs:
                _set(context, index, *first)

    return rule


def _product(right: int, *, to_float: bool = False) -> Rule:
    """Return the rule of products of input 0 with input ``right``; NumPy's matmul broadcasting."""

    def rule(context: Context) -> None:
        a, b = _type(context, 0), _type(context, right)
        if a is None or b is None or len(a[1]) < 2 or len(b[1]) < 2:
            return
        left, other = list(a[1]), list(b[1])
        if _int(context, "transA"):
            left[-1], left[-2] = left[-2], left[-1]
        if _int(context, "transB"):
            other[-1], other[-2] = other[-2], other[-1]
        batch = _broadcast(left[:-2], other[:-2])
        _set(context, 0, _FLOAT if to_float else a[0], [*batch, left[-2], other[-1]])

    return rule


def _broadcast(a: Shape, b: Shape) -> Shape:
    rank = max(len(a), len(b))
    padded = zip([1] * (rank - len(a)) + a, [1] * (rank - len(b)) + b, strict=True)
    return [y if x == 1 else x for x, y in padded]


def _elementwise(right: int) -> Rule:
    def rule(context: Context) -> None:
        a, b = _type(context, 0), _type(context, right)
        if a is not None and b is not None:
            _set(context, 0, a[0], _broadcast(a[1], b[1]))

    return rule


def _last(width: Callable[[Context], int | str | None], to_float: bool = False) -> Rule:
    """Return the rule of operators that only change the size of the last axis."""

    def rule(context: Context) -> None:
        first = _type(context, 0)
        if first is not None:
            elem_type = _FLOAT if to_float else first[0]
            _set(context, 0, elem_type, [*first[1][:-1], width(context)])

    return rule


def _attention_width(context: Context) -> int | str | None:
    """Return the width of V in ``Attention``: a third of the packed weights, unless told."""
    sizes = context.get_attribute("qkv_hidden_sizes")
    if sizes is not None:
        return int(sizes.ints[2])
    weights = _type(context, 1)
    last = None if weights is None else weights[1][-1]
    return last // 3 if isinstance(last, int) else None


def _value_width(context: Context) -> int | str | None:
    """Return the width of ``MultiHeadAttention``'s output: that of V, in three dimensions."""
    value = _type(context, 2)
    if value is None or len(value[1]) != 3:
        query = _type(context, 0)
        return query[1][-1] if query is not None and value is None and len(query[1]) == 3 else None
    return value[1][-1]


def _embed(context: Context) -> None:
    ids, table = _type(context, 0), _type(context, 2)
    if ids is not None and table is not None:
        _set(context, 0, table[0], [*ids[1], table[1][-1]])
        _set(context, 1, onnx.TensorProto.INT32, ids[1][:1])
        _set(context, 2, table[0], [*ids[1], table[1][-1]])


def _skip_normalized(context: Context) -> None:
    first = _type(context, 0)
    if first is None:
        return
    for index in (0, 3):
        _set(context, index, *first)
    for index in (1, 2):  # mean and inverse deviation, where asked for
        _set(context, index, _FLOAT, [*first[1][:-1], 1])


def _gemm(right: int) -> Rule:
    def rule(context: Context) -> None:
        a, b = _type(context, 0), _type(context, right)
        if a is not None and b is not None and len(a[1]) == len(b[1]) == 2:
            rows = a[1][1] if _int(context, "transA") else a[1][0]
            columns = b[1][0] if _int(context, "transB") else b[1][1]
            _set(context, 0, a[0], [rows, columns])

    return rule


def _dequantize(context: Context) -> None:
    data, scale = _type(context, 0), _type(context, 1)
    if data is not None:
        _set(context, 0, _FLOAT if scale is None else scale[0], data[1])


def _quantize(context: Context) -> None:
    data, zero = _type(context, 0), _type(context, 2)
    if data is not None:
        _set(context, 0, onnx.TensorProto.UINT8 if zero is None else zero[0], data[1])


RULES: dict[str, Rule] = {
    **dict.fromkeys(
        (
            "BiasGelu",
            "BiasSoftmax",
            "FastGelu",
            "Gelu",
            "QLinearLeakyRelu",
            "QLinearSigmoid",
            "QLinearSoftmax",
            "QuickGelu",
            "RotaryEmbedding",
        ),
        _like(0),
    ),
    "Attention": _last(_attention_width),
    "DequantizeLinear": _dequantize,
    "DynamicQuantizeMatMul": _product(1, to_float=True),
    "EmbedLayerNormalization": _embed,
    "FusedGemm": _gemm(1),
    "FusedMatMul": _product(1),
    "GroupQueryAttention": _like(0),
    "MatMulIntegerToFloat": _product(1, to_float=True),
    "MatMulNBits": _last(lambda context: _int(context, "N")),
    "MultiHeadAttention": _last(_value_width),
    "QAttention": _last(_attention_width, to_float=True),
    "QGemm": _gemm(3),
    "QLinearAdd": _elementwise(3),
    "QLinearMul": _elementwise(3),
    "QuantizeLinear": _quantize,
    "SkipLayerNormalization": _skip_normalized,
    "SkipSimplifiedLayerNormalization": _skip_normalized,
}
