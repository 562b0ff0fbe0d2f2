"""Casts between element types that lose nothing unnoticed."""

from __future__ import annotations

import numpy as np

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.numerics import is_floating, numpy_dtype
from onnxsmith.pipeline.data.base import Array
from onnxsmith.plugins import suggestion

_NAMES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64"),
)
_EXTRA = ("bfloat16", "float8_e4m3fn", "float8_e5m2")
_ANY = "unknown"


def cast_exact(array: Array, name: str, what: str) -> Array:
    """Cast where nothing but floating-point precision can be lost.

    Args:
        array: The values.
        name: The element type to reach.
        what: What the values are for, in messages: ``input 'x'``.

    Raises:
        SmithError: The kinds differ, or a value cannot be represented.
    """
    wanted = array.dtype if name == _ANY else numpy_dtype(name)
    if array.dtype == wanted and name != "string":
        return array
    if name == "string":
        return _strings(array, what)
    if is_floating(array) and wanted.kind in "iub":
        raise SmithError(
            f"{what} takes {name}, but the data is {array.dtype}",
            f"add dtype={name} to the data to round it",
        )
    if array.dtype.kind not in "iub" and not is_floating(array):
        raise SmithError(
            f"{what} takes {name}, but the data is {_kind(array)}", f"give the data as {name}"
        )
    if wanted.kind == "b":
        raise SmithError(f"{what} takes bool, but the data is {array.dtype}", "add dtype=bool")
    with np.errstate(over="ignore"):  # told below, with the value
        result = array.astype(wanted)
    _refuse_changed(array, result, name, what)
    return result


def cast_rounding(array: Array, name: str) -> Array:
    """Cast as asked: to integers by rounding to the nearest.

    Raises:
        SmithError: A value is out of the type's range, or is no number.
        UsageError: The type is unknown.
    """
    if name not in (*_NAMES, *_EXTRA, "string"):
        raise UsageError(f"unknown element type {name!r}", suggestion(name, [*_NAMES, *_EXTRA]))
    wanted = numpy_dtype(name)
    if name == "string" or (array.dtype.kind not in "iub" and not is_floating(array)):
        return cast_exact(array, name, f"dtype={name}")
    if wanted.kind == "b":
        return np.not_equal(array, 0)
    if is_floating(array) and wanted.kind in "iu":
        if not np.isfinite(array).all():
            raise SmithError(f"the data is not finite, so dtype={name} fails", "mend the data")
        array = np.rint(array.astype(np.float64))
        limits = np.iinfo(wanted)
        # The upper limit of the 64-bit types is no float64: rounded up it would be let through.
        outside = array[(array < limits.min) | (array >= float(limits.max) + (wanted.itemsize < 8))]
        if outside.size:
            raise SmithError(
                f"the value {outside.flat[0]:g} of the data is out of the range of {name}",
                "choose a wider dtype, or scale the data",
            )
        return array.astype(wanted)
    return cast_exact(array, name, f"dtype={name}")


def _strings(array: Array, what: str) -> Array:
    if array.dtype.kind == "U":
        return array.astype(object)
    if array.dtype.kind == "S":
        return np.char.decode(array, "utf-8", "replace").astype(object)
    if array.dtype.kind == "O" and all(isinstance(item, str) for item in array.flat):
        return array
    raise SmithError(f"{what} takes strings, but the data is {_kind(array)}", "give it as text")


def _kind(array: Array) -> str:
    return "text" if array.dtype.kind in "USO" else str(array.dtype)


def _refuse_changed(before: Array, after: Array, name: str, what: str) -> None:
    if is_floating(before):
        changed = np.isinf(after.astype(np.float64)) & np.isfinite(before.astype(np.float64))
    else:
        # Compared in the source's own integers: float64 would hide a rounded int64.
        with np.errstate(invalid="ignore"):
            changed = after.astype(before.dtype) != before
        if before.dtype.kind == "i" and after.dtype.kind == "u":
            changed |= before < 0
        if before.dtype.kind == "u" and after.dtype.kind == "i":
            changed |= after < 0
    if changed.any():
        value = before[changed].flat[0]
        raise SmithError(
            f"{what} takes {name}, which cannot hold the value {value} of the data",
            "scale the data, or give it in a type that fits",
        )
