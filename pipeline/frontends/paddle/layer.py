"""Export a live layer."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import paddle

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.frontends.base import ConvertRequest, Export
from onnxsmith.pipeline.frontends.paddle.clean import (
    clean,
    input_specs,
    make_examples,
    name_outputs,
)
from onnxsmith.pipeline.frontends.paddle.exporter import export_program, versions
from onnxsmith.pipeline.frontends.paddle.files import find_program
from onnxsmith.pipeline.frontends.paddle.weights import load_weights
from onnxsmith.pipeline.loading import user_code
from onnxsmith.spec import ValueSpec


class LayerSource:
    """A layer in evaluation mode.

    Args:
        layer: The layer; it is put into evaluation mode.
        request: Names and shapes of its inputs.

    Raises:
        SmithError: The object is no layer, its inputs are not known, or the weights do not fit.
    """

    def __init__(self, layer: Any, request: ConvertRequest) -> None:
        if not isinstance(layer, paddle.nn.Layer):
            raise SmithError(
                f"{request.source!r} is a {type(layer).__name__}, not a layer",
                "return the paddle.nn.Layer that is to be exported",
            )
        if request.weights is not None:
            load_weights(layer, request.weights, trust=request.trust)
        layer.eval()
        self.layer = layer
        self.request = request
        self.specs = _ordered(layer, request.inputs)
        if not self.specs and not _declares_inputs(layer):
            raise SmithError(
                f"the inputs of {request.source!r} are not known",
                "give --input NAME:DTYPE[D,...], one for each argument of forward",
            )

    def export(self, folder: Path) -> Export:
        """Save the layer as a program and export that; see ``Source.export``."""
        with user_code("making a program of the layer"), quiet():
            paddle.jit.save(self.layer, str(folder / "source"), input_spec=_input_specs(self.specs))
        program = find_program(str(folder / "source"), None)
        model = onnx.load(export_program(program, folder, self.request.opset))
        self.inputs = tuple(value.name for value in model.graph.input)
        self.outputs = name_outputs(tuple(value.name for value in model.graph.output), self.inputs)
        model = clean(model, self.outputs, self.specs)
        path = folder / "model.onnx"
        onnx.save(model, path)
        examples = make_examples(input_specs(model), self.request)
        return Export(path, examples, {"route": "layer", "versions": versions()})

    def reference(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run the layer itself, not the program made of it; see ``Source.reference``."""
        shapes = ", ".join(str(list(array.shape)) for array in feeds.values())
        tensors = [paddle.to_tensor(feeds[name]) for name in self.inputs]
        with user_code(f"running the layer on inputs of shape {shapes}"), quiet():
            found = self.layer(*tensors)
        arrays = [np.asarray(leaf.numpy()) for leaf in _tensors(found)]
        return dict(zip(self.outputs, arrays, strict=True))


@contextmanager
def quiet() -> Iterator[None]:
    """Run Paddle without gradients, and without its warnings of what it is about to change."""
    with paddle.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _input_specs(specs: tuple[ValueSpec, ...]) -> list[Any] | None:
    if not specs:
        return None  # the layer declares them itself
    return [
        paddle.static.InputSpec(
            [d if isinstance(d, int) else None for d in spec.shape or ()], spec.dtype, spec.name
        )
        for spec in specs
    ]


def _ordered(layer: Any, specs: tuple[ValueSpec, ...]) -> tuple[ValueSpec, ...]:
    """Return the signatures in the order of forward's arguments, where they name all of them.

    Raises:
        UsageError: They name an argument and leave out one before it.
    """
    if not specs:
        return ()
    arguments = list(inspect.signature(layer.forward).parameters)
    names = [spec.name for spec in specs]
    if not set(names) <= set(arguments):
        return specs  # names of the user's own, in order
    first = arguments[: len(names)]
    if set(names) != set(first):
        missing = next(name for name in first if name not in names)
        raise UsageError(
            f"forward's argument {missing!r} stands before another that is given",
            f"give --input {missing}:DTYPE[D,...] too",
        )
    return tuple(sorted(specs, key=lambda spec: arguments.index(spec.name)))


def _declares_inputs(layer: Any) -> bool:
    """Return whether ``paddle.jit.to_static(input_spec=...)`` was applied to the layer."""
    spec = getattr(layer.forward, "_function_spec", None)
    return getattr(spec, "_input_spec", None) is not None


def _tensors(value: Any) -> list[Any]:
    """Return an output's tensors in the order in which Paddle saves them: dicts by sorted key."""
    leaves = paddle.utils.flatten(value)
    return [leaf for leaf in leaves if isinstance(leaf, paddle.Tensor)]
