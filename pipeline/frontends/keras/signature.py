"""What goes into a Keras model and what comes out: names, shapes, and how to call it."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.frontends.base import ConvertRequest
from onnxsmith.pipeline.frontends.keras.files import check_weights
from onnxsmith.pipeline.loading import describe, user_code
from onnxsmith.spec import ValueSpec

# Arguments of ``call`` that are no inputs.
_NO_INPUTS = ("training", "mask", "self")


@dataclass(frozen=True)
class Described:
    """A model with its signature.

    Attributes:
        model: The model.
        inputs: Its inputs, in order; None stands for an open dimension.
        structure: How the model takes them: one tensor, or a list or dict of them; None where
            they are arguments of its ``call``.
        parameters: Whether those arguments go by name.
    """

    model: Any
    inputs: tuple[ValueSpec, ...]
    structure: Any = None
    parameters: bool = False

    def call(self, tensors: Sequence[Any]) -> Any:
        """Run the model for inference."""
        if self.structure is not None:
            return self.model(keras.tree.pack_sequence_as(self.structure, list(tensors)))
        if self.parameters:
            named = {spec.name: t for spec, t in zip(self.inputs, tensors, strict=True)}
            return self.model(**named)
        return self.model(*tensors)

    def output_names(self, found: Any) -> tuple[str, ...]:
        """Return a name for each tensor of what a call gave.

        Keys of a dict, else the layers that give them, else ``output`` or ``output_0``.
        """
        paths = [(p, v) for p, v in keras.tree.flatten_with_path(found) if v is not None]
        if not paths:
            raise SmithError("the model returns no tensor", "return the tensors that are wanted")
        plain = ["output"] if len(paths) == 1 else [f"output_{i}" for i in range(len(paths))]
        symbols = leaves(_outputs(self.model))
        if len(symbols) == len(paths):
            plain = [_maker(tensor) for tensor in symbols]
        names: list[str] = []
        taken = [spec.name for spec in self.inputs]
        for (path, _), word in zip(paths, plain, strict=True):
            keys = [part for part in path if isinstance(part, str)]
            name = "_".join(keys) if keys else word
            names.append(_free(name, [*taken, *names]))
        return tuple(names)


def leaves(found: Any) -> list[Any]:
    """Return the tensors of what a model gave, in order."""
    return [leaf for leaf in keras.tree.flatten(found) if leaf is not None]


def describe_model(model: Any, request: ConvertRequest) -> Described:
    """Return the model with its signature, and with the weights asked for.

    Raises:
        SmithError: Its inputs are not known, or the weights do not fit.
        UsageError: What was asked for does not fit.
    """
    symbols = getattr(model, "inputs", None)
    if symbols:
        described = _from_graph(model, symbols)
    elif request.inputs:
        described = _from_request(model, request.inputs)
    else:
        raise SmithError(
            f"the inputs of the {type(model).__name__} of {request.source!r} are not known",
            "give --input NAME:DTYPE[D,...], or begin the model with keras.Input",
        )
    _check_asked(described, request)
    if not model.built or not symbols:
        with user_code(f"building the {type(model).__name__} on zeros"):
            described.call([_zeros(spec) for spec in described.inputs])
    if request.weights is not None:
        _load_weights(model, Path(request.weights))
    return described


def _from_graph(model: Any, symbols: Sequence[Any]) -> Described:
    is_graph = isinstance(model, keras.Model) and not isinstance(model, keras.Sequential)
    structure = model.input if is_graph else symbols[0]
    specs = tuple(
        ValueSpec(_maker(tensor), _dtype(tensor), tuple(tensor.shape))
        for tensor in keras.tree.flatten(structure)
    )
    return Described(model, specs, structure)


def _from_request(model: Any, asked: tuple[ValueSpec, ...]) -> Described:
    known = [name for name in inspect.signature(model.call).parameters if name not in _NO_INPUTS]
    named = len(asked) > 1 and all(spec.name in known for spec in asked)
    return Described(model, asked, None, named)


def _check_asked(described: Described, request: ConvertRequest) -> None:
    known = {spec.name: spec for spec in described.inputs}
    for spec in request.inputs:
        if spec.name not in known:
            raise UsageError(
                f"the model has no input {spec.name!r}", f"its inputs: {', '.join(known)}"
            )
        own = known[spec.name].shape or ()
        fits = (
            spec.shape is not None
            and len(spec.shape) == len(own)
            and all(
                not isinstance(have, int) or have == want
                for have, want in zip(own, spec.shape, strict=True)
            )
        )
        if not fits:
            shape = ",".join("?" if d is None else str(d) for d in own)
            raise UsageError(
                f"the input {spec.name!r} of the model has the shape [{shape}]",
                "write sizes or names for its open dimensions only",
            )


def _outputs(model: Any) -> Any:
    """Return the symbolic outputs of a model that is a graph; empty for others."""
    symbols = getattr(model, "outputs", None)
    if not symbols:
        return []
    return symbols if isinstance(model, keras.Sequential) else model.output


def _dtype(tensor: Any) -> str:
    return str(keras.backend.standardize_dtype(tensor.dtype))


def _maker(tensor: Any) -> str:
    """Return the name of the layer that makes a symbolic tensor: Keras' name for it."""
    history = getattr(tensor, "_keras_history", None)
    return str(history.operation.name if history is not None else tensor.name)


def _zeros(spec: ValueSpec) -> Any:
    shape = [dim if isinstance(dim, int) else 2 for dim in spec.shape or ()]
    return keras.ops.zeros(shape, spec.dtype)


def _load_weights(model: Any, path: Path) -> None:
    check_weights(path)
    try:
        model.load_weights(path)
    except Exception as error:  # Keras fails with ValueError, KeyError, TypeError by the format
        raise SmithError(
            f"the weights {path} do not fit the model: {describe(error)}",
            "give the weights of this very model",
        ) from error


def _free(name: str, taken: list[str]) -> str:
    number, free = 1, name
    while free in taken:
        free = f"{name}_{number}"
        number += 1
    return free
