"""The layers that Keras 2 made of TensorFlow's functions: ``x * 2``, ``tf.concat``, ``x[:, 0]``."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

# Functions of tensors, without files, state or code. Of a module all, of the rest these.
_MODULES = ("math", "nn", "linalg", "__operators__", "signal")
_NAMES = frozenset((
    "abs", "acos", "add", "add_n", "argmax", "argmin", "argsort", "asin", "atan", "boolean_mask",
    "broadcast_to", "cast", "clip_by_value", "concat", "convert_to_tensor", "cos", "cosh",
    "cumsum", "divide", "einsum", "equal", "exp", "expand_dims", "eye", "fill", "floor", "gather",
    "gather_nd", "greater", "greater_equal", "identity", "image.resize", "image.resize_with_pad",
    "less", "less_equal", "logical_and", "logical_not", "logical_or", "matmul", "maximum",
    "meshgrid", "minimum", "multiply", "negative", "norm", "not_equal", "one_hot", "ones",
    "ones_like", "pad", "pow", "range", "rank", "realdiv", "reduce_all", "reduce_any",
    "reduce_logsumexp", "reduce_max", "reduce_mean", "reduce_min", "reduce_prod", "reduce_sum",
    "repeat", "reshape", "reverse", "reverse_sequence", "roll", "round", "scatter_nd",
    "sequence_mask", "shape", "sigmoid", "sign", "sin", "sinh", "size", "slice", "sort", "split",
    "sqrt", "square", "squeeze", "stack", "stop_gradient", "strided_slice", "subtract", "tan",
    "tanh", "tensordot", "tensor_scatter_nd_update", "tile", "transpose", "truediv", "unstack",
    "where", "zeros", "zeros_like",
))  # fmt: skip


class TFOpLambda(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """A call of one of TensorFlow's functions of tensors.

    Args:
        function: Its name behind ``tf.``.
        name: The layer's name.
        trainable: Whether its weights are trained; it has none.
        dtype: The policy of element types.

    Raises:
        ValueError: The function is none of those that are let in.
    """

    def __init__(
        self, function: str, name: str | None = None, trainable: bool = True, dtype: Any = None
    ) -> None:
        # Its inputs keep their element types: indices are not to be cast.
        super().__init__(name=name, trainable=trainable, dtype=dtype, autocast=False)
        self.function = function
        self._call = find_function(function)

    def call(self, *arguments: Any, **named: Any) -> Any:
        """Call the function."""
        return self._call(*arguments, **named)

    def get_config(self) -> dict[str, Any]:
        """Return what :meth:`from_config` takes."""
        return {**super().get_config(), "function": self.function}


class SlicingOpLambda(TFOpLambda):
    """A slice of a tensor; Keras 2 writes a slice as a dict of start, stop and step."""

    def call(self, *arguments: Any, **named: Any) -> Any:
        """Take the slice."""
        return self._call(*arguments, **{key: _slices(value) for key, value in named.items()})


def find_function(name: str) -> Any:
    """Return the function ``tf.NAME``.

    Raises:
        ValueError: It is none of those that are let in.
    """
    plain = name.removeprefix("compat.v1.")
    module, _, rest = plain.partition(".")
    known = plain in _NAMES or (module in _MODULES and "." not in rest and bool(rest))
    found: Any = tf.compat.v1 if plain != name else tf
    for part in plain.split(".") if known else ():
        found = getattr(found, part, None)
    if not known or not callable(found) or isinstance(found, type):
        raise ValueError(f"the function tf.{name} is not one that a model may call")
    return found


def _slices(value: Any) -> Any:
    if isinstance(value, dict) and set(value) == {"start", "stop", "step"}:
        return slice(value["start"], value["stop"], value["step"])
    if isinstance(value, (list, tuple)):
        return tuple(_slices(item) for item in value)
    return value
