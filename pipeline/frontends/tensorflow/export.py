"""Export a ConcreteFunction to an ONNX file; the Keras frontend uses this too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from onnxsmith.pipeline.frontends.tensorflow import signature
from onnxsmith.pipeline.frontends.tensorflow.convert import convert_frozen, explained
from onnxsmith.pipeline.frontends.tensorflow.finish import finish, write
from onnxsmith.pipeline.frontends.tensorflow.freeze import Frozen, freeze
from onnxsmith.spec import Dim, ValueSpec


def export_function(
    function: Any,
    folder: Path,
    *,
    opset: int,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    specs: Sequence[ValueSpec] | None = None,
) -> Path:
    """Export a ``ConcreteFunction`` and return the ONNX file.

    Variables and constants that it captured become initializers; they are read from TensorFlow
    when the file is written, and not held twice.

    Args:
        function: The ``tf.ConcreteFunction``.
        folder: Where the file goes.
        opset: The ai.onnx opset to aim at; tf2onnx reaches 18.
        input_names: Names of the inputs in order; by default those of its parameters.
        output_names: Names of the outputs in order; by default their keys.
        specs: The inputs with their dimensions' names; by default open ones are called ``batch``,
            ``time``, ``height``, ``width``.

    Raises:
        SmithError: An operator has no counterpart in ONNX, runs Python or changes a variable.
    """
    names = tuple(input_names or signature.input_names(function))
    results = tuple(output_names or signature.output_names(function, names))
    shown = tuple(specs or signature.input_specs(function, names))
    return export_frozen(frozen_function(function), folder, opset, shown, results)


def frozen_function(function: Any) -> Frozen:
    """Freeze a ``ConcreteFunction``; see :func:`freeze`.

    Raises:
        SmithError: It runs Python code or changes variables, or TensorFlow cannot freeze it.
    """
    with explained():
        return freeze(function)


def export_frozen(
    frozen: Frozen,
    folder: Path,
    opset: int,
    inputs: Sequence[ValueSpec],
    outputs: Sequence[str],
    observed: Sequence[Sequence[Dim]] | None = None,
) -> Path:
    """Export a frozen function and return the ONNX file.

    Args:
        frozen: The function.
        folder: Where the file goes.
        opset: The ai.onnx opset to aim at.
        inputs: The inputs with their dimensions' names.
        outputs: The outputs' names.
        observed: The outputs' shapes, whose names stand where none can be inferred.

    Raises:
        SmithError: An operator has no counterpart in ONNX.
    """
    model = finish(
        convert_frozen(frozen, opset),
        frozen.weights,
        dict(zip(frozen.inputs, inputs, strict=True)),
        list(zip(frozen.outputs, outputs, strict=True)),
        observed,
    )
    return write(model, folder)
