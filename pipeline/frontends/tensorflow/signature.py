"""Names for a function's inputs and outputs, and for their open dimensions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python.util import nest

from onnxsmith.errors import UsageError
from onnxsmith.spec import Dim, ValueSpec

# Axes that are open together, by rank, and what they are called.
_SPATIAL: Mapping[int, Mapping[tuple[int, ...], tuple[str, ...]]] = {
    2: {(1,): ("time",)},
    3: {(1,): ("time",), (2,): ("time",)},
    4: {(1, 2): ("height", "width"), (2, 3): ("height", "width"), (1,): ("time",)},
    5: {(1, 2, 3): ("depth", "height", "width"), (2, 3, 4): ("depth", "height", "width")},
}


def input_tensors(function: Any) -> list[Any]:
    """Return the tensors that a ``ConcreteFunction`` takes, less those it captured."""
    captured = {tensor.name for tensor in function.graph.internal_captures}
    return [tensor for tensor in function.inputs if tensor.name not in captured]


def input_names(function: Any) -> tuple[str, ...]:
    """Return the names of a function's inputs: its parameters', else its placeholders'."""
    tensors = input_tensors(function)
    named = _structured(function)
    if len(named) == len(tensors) and len(set(named)) == len(named):
        return tuple(named)
    return tuple(plain_name(tensor.name) for tensor in tensors)


def output_names(function: Any, taken: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the names of a function's outputs: their keys, else ``output`` or ``output_0``.

    A name that is taken by an input gets ``_out`` behind it: ONNX knows but one value by a name.
    """
    structure = function.structured_outputs
    count = len(function.outputs)
    names = ["output"] if count == 1 else [f"output_{i}" for i in range(count)]
    if isinstance(structure, dict) and len(tf.nest.flatten(structure)) == count:
        paths = ["_".join(map(str, path)) for path, _ in nest.flatten_with_tuple_paths(structure)]
        names = paths if len(set(paths)) == count else names
    return distinct(names, taken)


def distinct(names: Sequence[str], taken: Sequence[str]) -> tuple[str, ...]:
    """Return the names with ``_out`` behind those that are taken or were there before."""
    found: list[str] = []
    for name in names:
        free = name
        while free in taken or free in found:
            free = f"{free}_out"
        found.append(free)
    return tuple(found)


def input_specs(
    function: Any,
    names: Sequence[str],
    wanted: Sequence[ValueSpec] = (),
) -> tuple[ValueSpec, ...]:
    """Return the signature of a function's inputs, with a name for each open dimension.

    Args:
        function: A ``ConcreteFunction``.
        names: The inputs' names.
        wanted: What was asked for; its dimension names are taken.

    Raises:
        UsageError: What was asked for does not fit the function.
    """
    asked = {spec.name: spec for spec in wanted}
    unknown = [name for name in asked if name not in names]
    if unknown:
        raise UsageError(
            f"the model has no input {unknown[0]!r}",
            f"its inputs: {', '.join(names) or 'none'}",
        )
    return tuple(
        asked.get(name) or tensor_spec(tensor, name)
        for name, tensor in zip(names, input_tensors(function), strict=True)
    )


def tensor_spec(tensor: Any, name: str) -> ValueSpec:
    """Return the signature of one tensor."""
    dtype = "string" if tensor.dtype == tf.string else tensor.dtype.name
    shape = None if tensor.shape.rank is None else tuple(tensor.shape.as_list())
    return ValueSpec(name, dtype, None if shape is None else named_dims(shape, name))


def named_dims(shape: tuple[int | None, ...], name: str) -> tuple[Dim, ...]:
    """Name the open dimensions: ``batch`` first, then ``time``, ``height``, ``width``."""
    spatial = tuple(axis for axis, dim in enumerate(shape) if dim is None and axis > 0)
    usual = _SPATIAL.get(len(shape), {}).get(spatial)
    known = dict(zip(spatial, usual, strict=True)) if usual else {}
    found: list[Dim] = []
    for axis, dim in enumerate(shape):
        if dim is None:
            made_up = "batch" if axis == 0 else f"{_word(name)}_dim{axis}"
            found.append(known.get(axis, made_up))
        else:
            found.append(dim)
    return tuple(found)


def plain_name(tensor: str) -> str:
    """Return a tensor's name without its output's number where that is the first."""
    return tensor.removesuffix(":0")


def _structured(function: Any) -> list[str]:
    signature = function.structured_input_signature
    if signature is None:
        return []
    leaves = tf.nest.flatten(signature, expand_composites=True)
    specs = [leaf for leaf in leaves if isinstance(leaf, tf.TensorSpec)]
    return [spec.name for spec in specs if spec.name is not None]


def _word(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name).strip("_") or "input"
