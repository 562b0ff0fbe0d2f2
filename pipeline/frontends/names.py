"""Readable names for dimensions, and renaming of inputs, outputs and dimensions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import onnx_ir as ir

from onnxsmith.artifact import value_spec
from onnxsmith.errors import SmithError, UsageError
from onnxsmith.spec import ValueSpec

# What exporters make up: torch s77 and u0, tf2onnx unk__655, paddle DynamicDimension.0, jax _v12.
_MADE_UP = re.compile(r"^(s|u|_v|_d|d|unk_+|dim_|unknown_|DynamicDimension[._]?)\d+$")

_NAME = re.compile(r"[^\W\d]\w*")


def check_signature(model: ir.Model, wanted: Iterable[ValueSpec]) -> None:
    """Check that the inputs are those asked for, and that what was to stay open did.

    torch's exporter gives up on a named dimension without a word and fixes it at the example's.

    Raises:
        SmithError: Naming the input and what it is.
    """
    inputs = {value.name: value for value in model.graph.inputs}
    for spec in wanted:
        if spec.name not in inputs:
            raise SmithError(
                f"the exported model has no input {spec.name!r}",
                "the model does not use it: leave it out of --input; "
                f"there are: {', '.join(repr(name) for name in inputs) or 'none'}",
            )
        value = inputs[spec.name]
        for axis, asked in enumerate(spec.shape or ()):
            if isinstance(asked, str) and isinstance(_dim(value, axis), int):
                raise SmithError(
                    f"the dimension {asked!r} of the input {spec.name!r} came out fixed at "
                    f"{_dim(value, axis)}",
                    "the model's code binds it: write that size in --input, or change the code",
                )
        found = value_spec(value)
        if not _agrees(spec, found):
            raise SmithError(
                f"the model's input is {found}, not {spec}",
                "write it so in --input, or leave it out",
            )


def _dim(value: ir.Value, axis: int) -> int | ir.SymbolicDim | None:
    """Return the size on an axis; None where the shape is unknown or has no such axis."""
    return value.shape[axis] if value.shape is not None and axis < len(value.shape) else None


def _agrees(spec: ValueSpec, found: ValueSpec) -> bool:
    """Return whether type, rank and fixed sizes are those asked for, as far as both are known."""
    if found.dtype not in (spec.dtype, "unknown"):
        return False
    if found.shape is None or spec.shape is None:
        return True
    return len(found.shape) == len(spec.shape) and all(
        not (isinstance(asked, int) and isinstance(dim, int)) or asked == dim
        for asked, dim in zip(spec.shape, found.shape, strict=True)
    )


def name_dimensions(model: ir.Model, wanted: Iterable[ValueSpec] = ()) -> None:
    """Give the inputs' dimensions the names asked for, and readable ones where they are made up.

    A made-up name on the first axis of an input becomes ``batch``, on another ``INPUT_dimAXIS``.
    Expressions of dimensions (``s77 + 1``) follow.
    """
    names: dict[str, str] = {}
    specs = {spec.name: spec for spec in wanted}
    inputs = [v for v in model.graph.inputs if v.name not in model.graph.initializers]
    for value in inputs:
        shape = specs[value.name].shape if value.name in specs else None
        for axis, dim in enumerate(value.shape or ()):
            asked = shape[axis] if shape is not None and axis < len(shape) else None
            if isinstance(dim, ir.SymbolicDim) and isinstance(asked, str) and dim.value:
                names.setdefault(dim.value, asked)
    taken = {*names.values(), *_symbols(inputs)}
    for value in inputs:
        for axis, dim in enumerate(value.shape or ()):
            text = dim.value if isinstance(dim, ir.SymbolicDim) else None
            if text is None or text in names or not _MADE_UP.match(text):
                continue
            name = _free("batch" if axis == 0 else f"{_word(value.name)}_dim{axis}", taken)
            names[text] = name
            taken.add(name)
    rename_dimensions(model, names)


def rename_dimensions(model: ir.Model, names: Mapping[str, str]) -> None:
    """Rename symbolic dimensions everywhere, also within expressions."""
    if not names or all(old == new for old, new in names.items()):
        return
    parts = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    pattern = re.compile(rf"(?<![\w.])({parts})(?![\w.])")
    for value in _values(model):
        if value.shape is None:
            continue
        dims = [
            pattern.sub(lambda m: names[m[0]], d.value)
            if isinstance(d, ir.SymbolicDim) and d.value
            else d
            for d in value.shape
        ]
        value.shape = ir.Shape(dims)


def rename(model: ir.Model, renames: Iterable[tuple[str, str]]) -> None:
    """Rename inputs, outputs and dimensions.

    Raises:
        UsageError: The old name is none of them, or the new one is taken.
    """
    for old, new in renames:
        values = {v.name: v for v in (*model.graph.inputs, *model.graph.outputs)}
        symbols = _symbols(model.graph.inputs)
        if old in values:
            if any(value.name == new for value in _values(model)):
                raise UsageError(f"the name {new!r} is taken in the model", "choose another name")
            values[old].name = new
        elif old in symbols:
            if new in symbols:
                raise UsageError(f"the dimension {new!r} is there already", "choose another name")
            if not _NAME.fullmatch(new):  # "4" would be read as a size, "a + b" as a sum
                raise UsageError(
                    f"a dimension cannot be called {new!r}",
                    "take letters, digits and underscores, not a digit first",
                )
            rename_dimensions(model, {old: new})
        else:
            known = ", ".join(repr(name) for name in (*values, *sorted(symbols)))
            raise UsageError(
                f"no input, output or dimension is called {old!r}", f"there are: {known}"
            )


def parse_renames(texts: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Read ``A=B`` options.

    Raises:
        UsageError: A text has another form.
    """
    pairs = []
    for text in texts:
        old, _, new = text.partition("=")
        if not old or not new:
            raise UsageError(f"cannot read the renaming {text!r}", "write OLD=NEW")
        pairs.append((old, new))
    return tuple(pairs)


def _symbols(values: Iterable[ir.Value]) -> set[str]:
    return {
        d.value
        for value in values
        for d in value.shape or ()
        if isinstance(d, ir.SymbolicDim) and d.value
    }


def _values(model: ir.Model) -> Iterable[ir.Value]:
    for graph in model.graphs():
        yield from graph.inputs
        yield from graph.initializers.values()
        for node in graph:
            yield from node.outputs


def _word(name: str | None) -> str:
    return re.sub(r"\W+", "_", name or "").strip("_") or "input"


def _free(name: str, taken: set[str]) -> str:
    number = 2
    free = name
    while free in taken:
        free = f"{name}{number}"
        number += 1
    return free
