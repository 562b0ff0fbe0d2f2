"""The text of a data source, ``KIND:LOCATION?KEY=VALUE&KEY=VALUE``, read into options."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from fractions import Fraction
from urllib.parse import unquote

from onnxsmith.errors import UsageError
from onnxsmith.plugins import suggestion

LAYOUTS = ("NCHW", "NHWC")

_WORD = re.compile(r"^\w+$")
_FRACTION = re.compile(r"^[^/]+/[^/]+$")


@dataclass(frozen=True)
class Options:
    """The query of a data source.

    Attributes:
        split: The part to read (``train``, ``test``).
        scale: Factor on the values, before ``mean`` and ``std``.
        mean: Subtracted after scaling: one number, or one a channel.
        std: Divided by, after the mean: one number, or one a channel.
        layout: ``NCHW`` or ``NHWC``.
        onehot: Number of classes to spread integer labels over.
        dtype: Element type to cast the inputs to, with rounding where it is an integer type.
        input: The model input that the values go to.
        limit: At most this many samples.
        label: The column or array that holds the labels.
        own: The keys that only this kind of source has, as texts.
    """

    split: str | None = None
    scale: float | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    layout: str | None = None
    onehot: int | None = None
    dtype: str | None = None
    input: str | None = None
    limit: int | None = None
    label: str | None = None
    own: Mapping[str, str] = field(default_factory=dict)

    def flag(self, key: str) -> bool | None:
        """Return an own key as a truth value, None where it is not given."""
        text = self.own.get(key)
        if text is None:
            return None
        if text.lower() in {"1", "true", "yes"}:
            return True
        if text.lower() in {"0", "false", "no"}:
            return False
        raise UsageError(f"cannot read {key}={text!r} of the data", f"write {key}=1 or {key}=0")


COMMON = frozenset(item.name for item in fields(Options) if item.name != "own")


def split_text(text: str) -> tuple[str, str]:
    """Split ``SOURCE?QUERY`` into its two halves."""
    source, _, query = text.partition("?")
    return source, query


def parse_query(query: str, known: frozenset[str], kind: str) -> Options:
    """Read ``KEY=VALUE&KEY=VALUE``.

    Args:
        query: The text after the question mark.
        known: The keys that apply to this kind of source.
        kind: The kind, for messages.

    Raises:
        UsageError: A key does not apply or is given twice, or a value cannot be read.
    """
    given: dict[str, str] = {}
    for part in filter(None, query.split("&")):
        key, equals, value = part.partition("=")
        key = unquote(key)
        if key not in known:
            raise UsageError(f"{kind} data has no option {key!r}", suggestion(key, sorted(known)))
        if not equals or not value:
            raise UsageError(f"the data option {key!r} has no value", f"write {key}=VALUE")
        if key in given:
            raise UsageError(f"the data option {key!r} is given twice", "give it once")
        given[key] = unquote(value)
    own = {key: value for key, value in given.items() if key not in COMMON}
    return _typed({key: value for key, value in given.items() if key in COMMON}, own)


def _typed(given: Mapping[str, str], own: Mapping[str, str]) -> Options:
    scale = given.get("scale")
    std = _numbers("std", given.get("std"))
    if any(value == 0 for value in std):
        raise UsageError("std=0 of the data cannot be divided by", "give a positive std")
    layout = given.get("layout")
    if layout is not None and layout.upper() not in LAYOUTS:
        raise UsageError(f"unknown layout {layout!r}", f"known: {', '.join(LAYOUTS)}")
    split = given.get("split")
    if split is not None and not _WORD.match(split):
        # A split may become part of a file name.
        raise UsageError(f"cannot read split={split!r} of the data", "write split=test")
    return Options(
        split=split,
        scale=None if scale is None else _number("scale", scale),
        mean=_numbers("mean", given.get("mean")),
        std=std,
        layout=None if layout is None else layout.upper(),
        onehot=positive("onehot", given.get("onehot")),
        dtype=given.get("dtype"),
        input=given.get("input"),
        limit=positive("limit", given.get("limit")),
        label=given.get("label"),
        own=own,
    )


def positive(key: str, text: str | None) -> int | None:
    """Read a positive whole number, None where there is none.

    Raises:
        UsageError: It is not one.
    """
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > 18 or int(text) < 1:
        raise UsageError(
            f"cannot read {key}={text!r} of the data", f"write a whole number: {key}=10"
        )
    return int(text)


def _number(key: str, text: str) -> float:
    """Read a decimal number or a fraction of two, such as ``1/255``."""
    try:
        if _FRACTION.match(text):
            above, below = text.split("/")
            value = float(Fraction(above) / Fraction(below))
        else:
            value = float(text)
    except (ValueError, ZeroDivisionError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(
            f"cannot read {key}={text!r} of the data", f"write a number or a fraction: {key}=1/255"
        )
    return value


def _numbers(key: str, text: str | None) -> tuple[float, ...]:
    return () if text is None else tuple(_number(key, part) for part in text.split(","))
