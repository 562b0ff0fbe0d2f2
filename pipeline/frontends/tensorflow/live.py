"""Take live objects: functions, modules and graphs."""

from __future__ import annotations

import inspect
from typing import Any

import tensorflow as tf

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.base import ConvertRequest
from onnxsmith.pipeline.frontends.tensorflow.graphdef import from_graph_def
from onnxsmith.pipeline.frontends.tensorflow.saved import choose_function
from onnxsmith.pipeline.frontends.tensorflow.source import Loaded
from onnxsmith.pipeline.loading import user_code
from onnxsmith.spec import ValueSpec


def load_live(value: Any, request: ConvertRequest) -> Loaded:
    """Make a ``ConcreteFunction`` of a function, a module, a graph or a plain callable.

    Raises:
        SmithError: It is something else, or its inputs are not known.
        UsageError: Part or inputs do not fit it.
    """
    what = f"the {type(value).__name__} of {request.source!r}"
    if isinstance(value, tf.types.experimental.ConcreteFunction):
        return Loaded(value, value, "ConcreteFunction")
    if isinstance(value, tf.Graph):
        value = value.as_graph_def()
    if isinstance(value, tf.compat.v1.GraphDef):
        copy = tf.compat.v1.GraphDef()
        copy.CopyFrom(value)
        return from_graph_def(copy, request, what)
    if isinstance(value, tf.types.experimental.PolymorphicFunction):
        return Loaded(_traced(value, request, what), value, "tf.function")
    if not isinstance(value, tf.__internal__.tracking.AutoTrackable) and not callable(value):
        raise SmithError(
            f"{request.source!r} is a {type(value).__name__}, not a function or a module",
            "return a tf.function, a tf.Module, a ConcreteFunction or a graph",
        )
    if request.part is not None or not callable(value):
        attribute = getattr(value, request.part or "", None)
        if isinstance(attribute, tf.types.experimental.PolymorphicFunction) and request.inputs:
            return Loaded(_traced(attribute, request, what), value, f"tf.Module, {request.part}")
        name, function = choose_function(value, request.part, what)
        return Loaded(function, value, f"tf.Module, {name}")
    call = value if request.inputs else getattr(value, "__call__", value)  # noqa: B004 - a tf.function with its traces
    if not isinstance(call, tf.types.experimental.PolymorphicFunction):
        call = tf.function(value)
    return Loaded(_traced(call, request, what), value, type(value).__name__)


def _traced(function: Any, request: ConvertRequest, what: str) -> Any:
    """Trace a ``tf.function`` for the inputs asked for, or with its own signature."""
    if request.inputs and function.input_signature is None:
        specs = {spec.name: _tensor_spec(spec) for spec in request.inputs}
        known = inspect.signature(function.python_function).parameters
        with user_code(f"tracing {what}"):
            if all(name in known for name in specs):
                return function.get_concrete_function(**specs)
            return function.get_concrete_function(*specs.values())
    if function.input_signature is not None:
        with user_code(f"tracing {what}"):
            return function.get_concrete_function()
    traced = function._list_all_concrete_functions()
    if len(traced) == 1:
        return traced[0]
    raise SmithError(
        f"the inputs of {what} are not known",
        "give --input NAME:DTYPE[D,...], or an input_signature to tf.function",
    )


def _tensor_spec(spec: ValueSpec) -> Any:
    shape = None if spec.shape is None else [d if isinstance(d, int) else None for d in spec.shape]
    try:
        dtype = tf.as_dtype(spec.dtype)
    except TypeError:
        raise SmithError(
            f"TensorFlow has no element type {spec.dtype!r} (input {spec.name!r})",
            "write float32, int64, bool, string and so on",
        ) from None
    return tf.TensorSpec(shape, dtype, name=spec.name)
