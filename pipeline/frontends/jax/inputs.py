"""Bind named inputs to a function's arguments, and name what comes out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.frontends.jax.functions import Function
from onnxsmith.pipeline.frontends.sizes import example_shape
from onnxsmith.spec import Dim, ValueSpec

_WIDE = {"float64": "float32", "int64": "int32", "uint64": "uint32", "complex128": "complex64"}


@dataclass(frozen=True)
class Inputs:
    """The inputs of a function, in the order of the ONNX model.

    Attributes:
        names: The ONNX names.
        arrays: The examples, in the precision that JAX gives them.
        shapes: The shapes to export with, open dimensions by name.
        tree: Positional and named arguments, flattened.
        leaves: The values of the flattened arguments; those at ``places`` are replaced.
        places: Where each input stands among ``leaves``.
    """

    names: tuple[str, ...]
    arrays: tuple[np.ndarray[Any, Any], ...]
    shapes: tuple[tuple[Dim, ...], ...]
    tree: Any
    leaves: tuple[Any, ...]
    places: tuple[int, ...]

    def call(self, function: Function, arrays: tuple[Any, ...]) -> Any:
        """Call the function with these arrays in place of the examples."""
        leaves = list(self.leaves)
        for place, array in zip(self.places, arrays, strict=True):
            leaves[place] = array
        arguments, named = jax.tree_util.tree_unflatten(self.tree, leaves)
        return function.call(*arguments, **named)


def from_specs(
    function: Function, specs: tuple[ValueSpec, ...], dims: Mapping[str, int], seed: int
) -> Inputs:
    """Make random example arrays for the inputs asked for.

    Names of the function's parameters bind by name; other names bind by position.

    Raises:
        UsageError: JAX has no such element type, or a dimension has no name and no size.
    """
    generator = np.random.default_rng(seed)
    arrays = tuple(_random(spec, dims, specs, generator) for spec in specs)
    names = tuple(spec.name for spec in specs)
    known = function.parameters
    if all(name in known for name in names) and names != known[: len(names)]:
        arguments: tuple[Any, ...] = ()
        named = dict(zip(names, arrays, strict=True))
    else:
        arguments, named = arrays, {}
    leaves, tree = jax.tree_util.tree_flatten((arguments, named))
    # A dict is flattened by sorted keys.
    places = tuple(range(len(names))) if arguments else tuple(map(sorted(names).index, names))
    shapes = tuple(tuple(_dim(d, spec) for d in spec.shape or ()) for spec in specs)
    return Inputs(names, arrays, shapes, tree, tuple(leaves), places)


def from_examples(function: Function, examples: Any) -> Inputs:
    """Take example arguments: an array, a tuple of arguments or a dict by parameter.

    An argument may be a tree of arrays; each of them becomes an input, named by its place.
    Python numbers, texts and None stay as they are: they are no inputs.

    Raises:
        SmithError: There is no array among them, or a key for random numbers.
    """
    if isinstance(examples, dict):
        arguments: tuple[Any, ...] = ()
        named = examples
    else:
        arguments = tuple(examples) if isinstance(examples, (tuple, list)) else (examples,)
        named = {}
    paths, tree = jax.tree_util.tree_flatten_with_path((arguments, named))
    names: list[str] = []
    arrays: list[np.ndarray[Any, Any]] = []
    places: list[int] = []
    for place, (path, leaf) in enumerate(paths):
        if not isinstance(leaf, (jax.Array, np.ndarray, np.generic)):
            continue
        _refuse_key(leaf, "the example inputs hold")
        names.append(_free(_input_name(path, function.parameters), names))
        arrays.append(np.asarray(jnp.asarray(leaf)))
        places.append(place)
    if not names:
        raise SmithError(
            "the example inputs hold no array", "give an array, a tuple of arrays or a dict of them"
        )
    shapes = tuple(array.shape for array in arrays)
    leaves = tuple(leaf for _, leaf in paths)
    return Inputs(tuple(names), tuple(arrays), shapes, tree, leaves, tuple(places))


def name_outputs(value: Any, taken: tuple[str, ...]) -> tuple[str, ...]:
    """Return a name for each array of a function's output: its key, or ``output_0`` and so on.

    Args:
        value: The output's tree of shapes, as ``jax.eval_shape`` gives it.
        taken: The inputs' names.

    Raises:
        SmithError: There is no array, or a key for random numbers.
    """
    paths, _ = jax.tree_util.tree_flatten_with_path(value)
    if not paths:
        raise SmithError("the function returns no array", "return the arrays that are wanted")
    names: list[str] = []
    for index, (path, leaf) in enumerate(paths):
        _refuse_key(leaf, "the function returns")
        keys = [word for word in map(_key_word, path) if word]
        plain = f"output_{index}" if len(paths) > 1 else "output"
        names.append(_free(keys[-1] if keys else plain, [*taken, *names], "_out"))
    return tuple(names)


def _random(
    spec: ValueSpec,
    dims: Mapping[str, int],
    specs: tuple[ValueSpec, ...],
    generator: np.random.Generator,
) -> np.ndarray[Any, Any]:
    try:
        dtype = np.dtype(jnp.dtype(spec.dtype))
    except TypeError:
        dtype = np.dtype(object)
    if dtype.kind in "OSUMm":
        raise UsageError(
            f"JAX has no element type {spec.dtype!r} (input {spec.name!r})",
            "write float32, int32, bool and so on",
        )
    if spec.dtype in _WIDE and not jax.config.jax_enable_x64:
        raise UsageError(
            f"JAX computes in 32 bits: the input {spec.name!r} cannot be {spec.dtype}",
            f"write {spec.name}:{_WIDE[spec.dtype]}[...], or set jax_enable_x64 in the module",
        )
    shape = example_shape(spec, dims, specs)
    if jnp.issubdtype(dtype, jnp.inexact):
        return generator.standard_normal(shape, np.float32).astype(dtype)
    return generator.integers(0, 2, shape).astype(dtype)


def _dim(dim: Dim, spec: ValueSpec) -> Dim:
    if isinstance(dim, str) and not dim.isidentifier():
        raise UsageError(
            f"{dim!r} is no name for a dimension (input {spec.name!r})",
            "use letters, digits and underscores",
        )
    return dim


def _refuse_key(leaf: Any, what: str) -> None:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        raise SmithError(
            f"{what} a key for random numbers, which ONNX does not have",
            "export the model as it is used for inference, without random numbers",
        )


def _input_name(path: tuple[Any, ...], parameters: tuple[str, ...]) -> str:
    """Return ``state_h`` for the entry ``h`` of the argument ``state``."""
    side, first, *inner = path
    if side.idx == 0:
        position = first.idx
        head = parameters[position] if position < len(parameters) else f"input_{position}"
    else:
        head = str(first.key)
    words = [_key_word(key) or str(getattr(key, "idx", getattr(key, "key", ""))) for key in inner]
    return "_".join(word for word in (head, *words) if word)


def _key_word(key: Any) -> str:
    """Return the text of a key or an attribute; empty for a place in a sequence."""
    text = getattr(key, "name", getattr(key, "key", ""))
    return re.sub(r"\W+", "_", text).strip("_") if isinstance(text, str) else ""


def _free(name: str, taken: list[str], suffix: str = "_") -> str:
    while name in taken:
        name = f"{name}{suffix}"
    return name
