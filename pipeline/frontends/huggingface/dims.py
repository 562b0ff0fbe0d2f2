"""Give the dimensions of an exported program their names: torch calls them s77."""

from __future__ import annotations

import re
from collections.abc import Mapping

import onnx_ir as ir

from onnxsmith.spec import Dim


class FixedDimensionError(Exception):
    """The exporter fixed dimensions that were to stay open.

    Attributes:
        names: The dimensions.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__(f"fixed: {', '.join(names)}")
        self.names = names


def name_dimensions(
    model: ir.Model,
    inputs: Mapping[str, tuple[Dim, ...]],
    outputs: Mapping[str, tuple[Dim, ...]],
) -> None:
    """Name the dimensions as ``inputs`` says, also where expressions hold them.

    One name may stand for several of torch's symbols: it does not see that all the keys and
    values of a cache are equally long. Shapes in ``outputs`` replace what follows from them.

    Raises:
        FixedDimensionError: A dimension with a name came out as a number.
    """
    names: dict[str, str] = {}
    fixed: list[str] = []
    for value in model.graph.inputs:
        for wanted, dim in zip(inputs[value.name or ""], value.shape or (), strict=True):
            if isinstance(wanted, str) and isinstance(dim, int):
                fixed.append(wanted)
            elif isinstance(wanted, str) and isinstance(dim, ir.SymbolicDim) and dim.value:
                names.setdefault(dim.value, wanted)
    if fixed:
        raise FixedDimensionError(tuple(dict.fromkeys(fixed)))
    _substitute(model, names)
    for value in model.graph.inputs:
        value.shape = ir.Shape(inputs[value.name or ""])
    for value in model.graph.outputs:
        if (value.name or "") in outputs:
            value.shape = ir.Shape(outputs[value.name or ""])


def _substitute(model: ir.Model, names: Mapping[str, str]) -> None:
    if not names:
        return
    symbols = "|".join(sorted(map(re.escape, names), key=len, reverse=True))
    pattern = re.compile(rf"(?<!\w)({symbols})(?!\w)")

    def rename(dim: int | ir.SymbolicDim) -> int | str | None:
        if isinstance(dim, int) or dim.value is None:
            return dim if isinstance(dim, int) else None
        if dim.value in names:
            return names[dim.value]
        return pattern.sub(lambda found: _as_part(names[found[0]]), dim.value)

    for graph in model.graphs():
        for value in [*graph.inputs, *(output for node in graph for output in node.outputs)]:
            if value.shape is not None:
                value.shape = ir.Shape([rename(dim) for dim in value.shape])


def _as_part(name: str) -> str:
    return name if name.isidentifier() else f"({name})"
