"""Dataclasses to strict JSON values and back, led by their type hints.

JSON has no NaN and no infinity, and both mean something in a report (a broken output, two equal
ones), so they travel as the strings ``NaN``, ``Infinity`` and ``-Infinity``.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import TypeVar

from onnxsmith.errors import SmithError

T = TypeVar("T")

_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def encode(value: object) -> object:
    """Return ``value`` as dicts, lists, strings, numbers, booleans and None.

    Raises:
        TypeError: It holds something else.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [encode(item) for item in value]
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return _encode_float(float(value))
    raise TypeError(f"a report cannot hold a {type(value).__name__}")


def decode(kind: type[T], value: object) -> T:
    """Return the dataclass ``kind`` read from what :func:`encode` returned.

    Keys the class does not know are ignored, and missing ones take the class's default.

    Raises:
        SmithError: A key without default is missing, or a value is of another type.
    """
    result = _decode(kind, value, kind.__name__)
    if not isinstance(result, kind):
        raise TypeError(f"{kind} is not a dataclass")
    return result


def _encode_float(number: float) -> float | str:
    if math.isfinite(number):
        return number
    if math.isnan(number):
        return "NaN"
    return "Infinity" if number > 0 else "-Infinity"


def _decode(kind: object, value: object, where: str) -> object:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _decode_fields(kind, value, where)
    if origin in (types.UnionType, typing.Union):  # ``Literal[...] | None`` is the latter
        return None if value is None else _decode(arguments[0], value, where)
    if origin is typing.Literal:
        if value not in arguments:
            raise _unfit(where, "one of " + ", ".join(map(str, arguments)))
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise _unfit(where, "a list")
        return tuple(_decode(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is Mapping:
        if not isinstance(value, Mapping):
            raise _unfit(where, "an object")
        return {str(k): _decode(arguments[1], item, f"{where}.{k}") for k, item in value.items()}
    return _decode_scalar(kind, value, where)


def _decode_fields(kind: type, value: object, where: str) -> object:
    if not isinstance(value, Mapping):
        raise _unfit(where, "an object")
    hints = typing.get_type_hints(kind)
    known = [f.name for f in dataclasses.fields(kind) if f.name in value]
    missing = [
        f.name
        for f in dataclasses.fields(kind)
        if f.name not in value
        and f.default is dataclasses.MISSING
        and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise _unfit(where, f"an object with {', '.join(missing)}")
    read = {name: _decode(hints[name], value[name], f"{where}.{name}") for name in known}
    result: object = kind(**read)
    return result


def _decode_scalar(kind: object, value: object, where: str) -> object:
    if kind is float:
        if isinstance(value, str) and value in _NON_FINITE:
            return _NON_FINITE[value]
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        raise _unfit(where, "a number")
    if kind is int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        raise _unfit(where, "a whole number")
    if (kind is str and isinstance(value, str)) or (kind is bool and isinstance(value, bool)):
        return value
    raise _unfit(where, "a string" if kind is str else f"a {kind}")


def _unfit(where: str, wanted: str) -> SmithError:
    return SmithError(
        f"not a report: {where[:200]} is not {wanted}", "give an unchanged report.json"
    )
