"""Signatures: what goes into a model and what comes out of it.

Source of the type system: the ONNX IR specification ("Standard data types", "Optional Type").
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from onnxsmith.errors import SmithError, UsageError

Dim = int | str | None
"""One dimension: a size, a symbolic name, or unknown."""

Kind = Literal["tensor", "sparse_tensor", "sequence", "optional", "map"]

_VALUE = re.compile(r"^(?P<name>.+?):(?P<dtype>[a-z0-9_]+)\[(?P<dims>[^\]]*)\]$")
_SUM = re.compile(r"^\w+( \+ \w+)+$")


@dataclass(frozen=True)
class ValueSpec:
    """One input or output.

    Attributes:
        name: The value's name in the graph.
        dtype: The element type in numpy's spelling (``float32``, ``bfloat16``, ``string``); of a
            map, the type of its values.
        shape: The dimensions, or None where the rank itself is unknown.
        kind: ``tensor`` for nearly all; the shape of the others is that of their elements.
    """

    name: str
    dtype: str
    shape: tuple[Dim, ...] | None
    kind: Kind = "tensor"

    @classmethod
    def parse(cls, text: str) -> ValueSpec:
        """Read ``NAME:DTYPE[D,D,...]``, for example ``x:float32[N,3,224,224]``; ``?`` is unknown.

        Raises:
            UsageError: The text has another form.
        """
        match = _VALUE.match(text)
        if match is None:
            raise UsageError(
                f"cannot read the input {text!r}", "write NAME:DTYPE[D,D,...], e.g. x:float32[N,3]"
            )
        dims = [part.strip() for part in match["dims"].split(",") if part.strip()]
        return cls(match["name"], match["dtype"], tuple(_parse_dim(dim) for dim in dims))

    def __str__(self) -> str:
        dims = (
            "?"
            if self.shape is None
            else ",".join("?" if d is None else str(d) for d in self.shape)
        )
        text = f"{self.name}: {self.dtype}[{dims}]"
        return text if self.kind == "tensor" else f"{text} ({self.kind})"

    def concrete(self, dims: Mapping[str, int], default: int) -> tuple[int, ...]:
        """Return the shape with symbols replaced from ``dims``, else by ``default``.

        A sum (``past + sequence``) is that of its parts.

        Raises:
            SmithError: The rank is unknown.
        """
        if self.shape is None:
            raise SmithError(
                f"the shape of {self.name!r} is unknown", "give real inputs with --data or --inputs"
            )
        return tuple(_size(dim, dims, default) for dim in self.shape)


@dataclass(frozen=True)
class ModelSpec:
    """The signature of a model: its required inputs (those without an initializer) and outputs."""

    inputs: tuple[ValueSpec, ...]
    outputs: tuple[ValueSpec, ...]

    def input(self, name: str) -> ValueSpec:
        """Return the input called ``name``.

        Raises:
            SmithError: There is none.
        """
        return _named(self.inputs, name, "input")

    def output(self, name: str) -> ValueSpec:
        """Return the output called ``name``.

        Raises:
            SmithError: There is none.
        """
        return _named(self.outputs, name, "output")

    def with_dims(self, dims: Mapping[str, int]) -> ModelSpec:
        """Return the signature with the named symbolic dimensions fixed.

        Raises:
            SmithError: A name is not a dimension of any input.
        """
        known = {d for v in self.inputs for d in v.shape or () if isinstance(d, str)}
        for name in dims:
            if name not in known:
                raise SmithError(
                    f"the model has no dimension {name!r}",
                    f"its dimensions: {', '.join(sorted(known)) or 'none, all are fixed'}",
                )
        return ModelSpec(
            tuple(_fix(v, dims) for v in self.inputs), tuple(_fix(v, dims) for v in self.outputs)
        )


def fixed_dims(before: ModelSpec, after: ModelSpec) -> dict[str, int]:
    """Return the named dimensions of the inputs that have a size in another signature."""
    found: dict[str, int] = {}
    for old, new in zip(before.inputs, after.inputs, strict=True):
        for first, second in zip(old.shape or (), new.shape or (), strict=False):
            if isinstance(first, str) and isinstance(second, int):
                found[first] = second
    return found


def parse_dims(texts: tuple[str, ...] | list[str]) -> dict[str, int]:
    """Read ``--dim NAME=SIZE`` options.

    Raises:
        UsageError: A text has another form or its size is not positive.
    """
    dims: dict[str, int] = {}
    for text in texts:
        name, _, size = text.rpartition("=")
        if not name or not size.isascii() or not size.isdigit() or int(size) < 1:
            raise UsageError(f"cannot read the dimension {text!r}", "write NAME=SIZE, e.g. batch=8")
        dims[name] = int(size)
    return dims


def summands(dim: str) -> tuple[str, ...]:
    """Return the parts of a dimension that is a sum (``past + sequence``), else the dimension."""
    return tuple(dim.split(" + ")) if _SUM.match(dim) else (dim,)


def _size(dim: Dim, dims: Mapping[str, int], default: int) -> int:
    if dim is None or isinstance(dim, int):
        return default if dim is None else dim
    if dim in dims or len(summands(dim)) == 1:
        return dims.get(dim, default)
    return sum(int(part) if part.isdigit() else dims.get(part, default) for part in summands(dim))


def _parse_dim(text: str) -> Dim:
    if text == "?":
        return None
    return int(text) if text.isascii() and text.isdigit() else text


def _named(values: tuple[ValueSpec, ...], name: str, role: str) -> ValueSpec:
    for value in values:
        if value.name == name:
            return value
    known = ", ".join(repr(v.name) for v in values)
    raise SmithError(f"the model has no {role} {name!r}", f"its {role}s: {known}")


def _fix(value: ValueSpec, dims: Mapping[str, int]) -> ValueSpec:
    if value.shape is None:
        return value
    return replace(value, shape=tuple(_fixed(dim, dims) for dim in value.shape))


def _fixed(dim: Dim, dims: Mapping[str, int]) -> Dim:
    if not isinstance(dim, str) or dim in dims:
        return dims[dim] if isinstance(dim, str) else dim
    parts = [str(dims.get(part, part)) for part in summands(dim)]
    if all(part.isdigit() for part in parts):
        return sum(map(int, parts))
    return " + ".join(parts)
