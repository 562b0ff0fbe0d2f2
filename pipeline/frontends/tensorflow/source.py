"""A TensorFlow function as a source: exported, and run as the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.base import ConvertRequest, Export
from onnxsmith.pipeline.frontends.sizes import example_shape
from onnxsmith.pipeline.frontends.tensorflow import signature
from onnxsmith.pipeline.frontends.tensorflow.dims import open_dims
from onnxsmith.pipeline.frontends.tensorflow.export import export_frozen, frozen_function
from onnxsmith.pipeline.frontends.tensorflow.freeze import Frozen
from onnxsmith.pipeline.loading import user_code
from onnxsmith.spec import ValueSpec


@dataclass(frozen=True)
class Loaded:
    """A function and what belongs to it.

    Attributes:
        function: The ``ConcreteFunction``.
        owner: What its variables belong to; kept so that they live.
        route: How it came, for the history.
        inputs: Its inputs' names, where they are not those of its parameters.
        outputs: Its outputs' names, where they are not their keys.
        warnings: What the user should know.
    """

    function: Any
    owner: object
    route: str
    inputs: tuple[str, ...] | None = None
    outputs: tuple[str, ...] | None = None
    warnings: tuple[str, ...] = ()


class FunctionSource:
    """A ``ConcreteFunction`` with names for its inputs and outputs.

    Args:
        loaded: The function.
        request: Shapes asked for, sizes of the example, the opset.

    Raises:
        SmithError: An input's rank is unknown, or it is no tensor.
        UsageError: What was asked for does not fit.
    """

    def __init__(self, loaded: Loaded, request: ConvertRequest) -> None:
        names = loaded.inputs or signature.input_names(loaded.function)
        specs = signature.input_specs(loaded.function, names, request.inputs)
        for spec in specs:
            if spec.shape is None:
                raise SmithError(
                    f"the shape of the input {spec.name!r} is not known",
                    f"give it: --input {spec.name}:{spec.dtype}[batch,...]",
                )
        self.function = specialize(loaded.function, specs, request.inputs)
        self.frozen = frozen_function(self.function)  # refuses Python code before it could run
        self.loaded = loaded
        self.opset = request.opset
        self.outputs = loaded.outputs or signature.output_names(loaded.function, names)
        self.specs = specs
        self._examples(request)

    def export(self, folder: Path) -> Export:
        """Freeze the function and convert it with tf2onnx; see ``Source.export``."""
        path = export_frozen(
            self.frozen, folder, self.opset, self.specs, self.outputs, self.observed
        )
        details = {"route": self.loaded.route, "versions": versions()}
        return Export(path, self.examples, details, self.loaded.warnings)

    def reference(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run the function itself; see ``Source.reference``."""
        shapes = ", ".join(str(list(array.shape)) for array in feeds.values())
        with user_code(f"running the model on inputs of shape {shapes}"), tf.device("/cpu:0"):
            found = run(self.function, [feeds[spec.name] for spec in self.specs])
        return dict(zip(self.outputs, found, strict=True))

    def _examples(self, request: ConvertRequest) -> None:
        """Make examples, and see from runs how the outputs' sizes follow from the inputs'."""
        generator = np.random.default_rng(request.seed)
        texts = table_keys(self.frozen)

        def make(specs: Sequence[ValueSpec], sizes: Mapping[str, int]) -> list[np.ndarray]:
            shapes = [example_shape(spec, sizes, tuple(specs)) for spec in specs]
            return [
                random_array(s.dtype, shape, generator, texts)
                for s, shape in zip(specs, shapes, strict=True)
            ]

        fixed = {spec.name for spec in request.inputs}
        self.specs, self.observed = open_dims(
            lambda arrays: run(self.function, arrays), make, self.specs, request.dims, fixed
        )
        arrays = make(self.specs, request.dims)
        self.examples = {s.name: a for s, a in zip(self.specs, arrays, strict=True)}


def run(function: Any, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return a ``ConcreteFunction``'s outputs, in their order in the graph."""
    tensors = signature.input_tensors(function)
    fed = [
        tf.constant(np.asarray(array, object) if tensor.dtype == tf.string else array, tensor.dtype)
        for tensor, array in zip(tensors, arrays, strict=True)
    ]
    # _call_flat takes the tensors in the graph's order, whatever the parameters are.
    found = function._call_flat(fed, function.captured_inputs)
    return [_to_numpy(tensor) for tensor in tf.nest.flatten(found, expand_composites=True)]


def specialize(function: Any, specs: Sequence[ValueSpec], asked: Sequence[ValueSpec]) -> Any:
    """Return the function traced anew for the shapes asked for; itself where none were.

    Raises:
        SmithError: The function does not take such shapes.
    """
    if not asked:
        return function
    tensors = signature.input_tensors(function)
    wanted = []
    for spec, tensor in zip(specs, tensors, strict=True):
        shape = [dim if isinstance(dim, int) else None for dim in spec.shape or ()]
        if spec.dtype != tensor.dtype.name and not (
            spec.dtype == "string" and tensor.dtype == tf.string
        ):
            raise SmithError(
                f"the input {spec.name!r} is of type {tensor.dtype.name}, not {spec.dtype}",
                f"write --input {spec.name}:{tensor.dtype.name}[...]",
            )
        if not tensor.shape.is_compatible_with(shape):
            raise SmithError(
                f"the input {spec.name!r} has the shape {tensor.shape}, which --input contradicts",
                "write sizes only for its open dimensions",
            )
        wanted.append(tf.TensorSpec(tensor.shape.merge_with(shape), tensor.dtype))
    if all(spec.shape == tensor.shape for spec, tensor in zip(wanted, tensors, strict=True)):
        return function

    def call(*arguments: Any) -> Any:
        found = function._call_flat(list(arguments), function.captured_inputs)
        return tf.nest.flatten(found, expand_composites=True)

    with user_code("tracing the model for the shapes of --input"):
        return tf.function(call, input_signature=wanted).get_concrete_function()


def random_array(
    dtype: str, shape: tuple[int, ...], generator: np.random.Generator, texts: Sequence[str]
) -> np.ndarray:
    """Return random values: normal, pixels for ``uint8``, 0 and 1 for other integers."""
    if dtype == "string":
        return generator.choice(np.array(texts or ("a", "b"), object), shape)
    if dtype == "bfloat16" or np.issubdtype(np.dtype(dtype), np.inexact):
        real = generator.standard_normal(shape, np.float32)
        return np.asarray(tf.cast(real, dtype).numpy())
    high = 256 if dtype == "uint8" else 2
    return generator.integers(0, high, shape).astype(dtype)


def table_keys(frozen: Frozen) -> tuple[str, ...]:
    """Return some keys of the text tables that a function looks up, as examples."""
    found = [
        key.decode("utf-8", "replace")
        for keys, _ in frozen.tables.values()
        if keys.dtype == object
        for key in keys[:16]
    ]
    return (*found, "unseen") if found else ()


def versions() -> dict[str, str]:
    """Return the versions that decide what an export looks like."""
    found = {}
    for name in ("tensorflow", "tensorflow-cpu", "tf2onnx"):
        try:
            found[name.removesuffix("-cpu")] = version(name)
        except PackageNotFoundError:  # TensorFlow has one of two names
            continue
    return found


def _to_numpy(tensor: Any) -> np.ndarray:
    array = np.asarray(tensor.numpy())
    if array.dtype == object:
        return np.array([x.decode("utf-8", "replace") for x in array.flat], object).reshape(
            array.shape
        )
    return array
