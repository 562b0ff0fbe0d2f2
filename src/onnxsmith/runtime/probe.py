"""Make inputs for a model from its signature and from how it uses them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxsmith.errors import SmithError
from onnxsmith.numerics import numpy_dtype
from onnxsmith.spec import ModelSpec, ValueSpec

# Small enough to be quick, and not 1: broadcasting hides mistakes at size 1.
DEFAULT_DIM = 2
_MAX_ELEMENTS = 1 << 28
_FORWARDING = {"Cast", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Flatten", "Transpose"}


def probe_inputs(
    model: ir.Model,
    spec: ModelSpec,
    dims: Mapping[str, int],
    seed: int = 0,
    default: int = DEFAULT_DIM,
) -> dict[str, np.ndarray[Any, Any]]:
    """Return seeded inputs that fit ``spec``.

    Floating-point values are standard normal. Integers that index a table stay within it; other
    integers and booleans are 0 or 1, as masks are.

    Args:
        model: Where the inputs are used.
        spec: The signature.
        dims: Sizes of symbolic dimensions.
        seed: Seed of the generator.
        default: Size of those that ``dims`` does not name, and of unknown ones.

    Raises:
        SmithError: An input has an unknown rank, is no tensor, or would be larger than 2**28
            elements.
    """
    generator = np.random.default_rng(seed)
    uses = {value.name: value for value in model.graph.inputs}
    return {
        value.name: _random(generator, value, value.concrete(dims, default), uses[value.name])
        for value in spec.inputs
    }


def _random(
    generator: np.random.Generator, spec: ValueSpec, shape: tuple[int, ...], value: ir.Value
) -> np.ndarray[Any, Any]:
    if spec.kind != "tensor" or spec.dtype == "unknown":
        raise SmithError(
            f"cannot make up the input {spec}", "give real inputs with --data or --inputs"
        )
    if np.prod(shape, dtype=np.float64) > _MAX_ELEMENTS:
        raise SmithError(
            f"the input {spec} would have {np.prod(shape, dtype=np.float64):.1e} elements",
            "fix its dimensions with --dim",
        )
    if spec.dtype == "string":
        return np.full(shape, "text", dtype=object)
    dtype = numpy_dtype(spec.dtype)
    if spec.dtype == "bool":
        return np.asarray(generator.integers(0, 2, shape)).astype(np.bool_)
    if spec.dtype.startswith(("int", "uint")):
        high = _index_bound(value)
        # A 4-bit type holds -8 to 7 or 0 to 15: 2 fits all.
        return np.asarray(generator.integers(0, high or 2, shape)).astype(dtype)
    if spec.dtype.startswith("complex"):
        real, imaginary = generator.standard_normal((2, *shape))
        return np.asarray(real + 1j * imaginary).astype(dtype)
    return np.asarray(generator.standard_normal(shape)).astype(dtype)


def _index_bound(value: ir.Value, depth: int = 4) -> int | None:
    """Return the size of the smallest table that ``value`` indexes, if any."""
    bounds: list[int] = []
    for node, index in value.uses():
        if node.op_type == "Gather" and index == 1 and node.domain == "":
            table, axis = node.inputs[0], node.attributes.get_int("axis", 0)
            shape = None if table is None else table.shape
            if shape is not None and -len(shape) <= axis < len(shape):
                size = shape[axis]
                bounds += [size] if isinstance(size, int) else []
        elif node.op_type in _FORWARDING and index == 0 and depth:
            bound = _index_bound(node.outputs[0], depth - 1)
            if bound is not None:
                bounds.append(bound)
    return min(bounds, default=None)
