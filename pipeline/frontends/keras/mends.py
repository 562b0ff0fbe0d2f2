"""What Keras 3.15 traces into graphs that cannot be exported, mended while a model is traced."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
from keras import ops


@contextmanager
def mended() -> Iterator[None]:
    """Trace ``TimeDistributed`` as one call of its layer on all steps of all items.

    Keras maps the layer over the steps with TensorFlow's vectorized loops, a hundred operators of
    which tf2onnx makes a model that gives other shapes. A layer that is applied to each step alone
    computes the same on all of them together. Where a mask may leave steps out, Keras' own is kept.
    """
    layer = keras.layers.TimeDistributed
    original = layer.call

    def call(self: Any, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        if mask is not None:
            return original(self, inputs, training=training, mask=mask)
        sizes = ops.shape(inputs)
        together = ops.reshape(inputs, (-1, *sizes[2:]))
        found = self.layer(together)
        return ops.reshape(found, (*_steps(inputs), *ops.shape(found)[1:]))

    layer.call = call
    try:
        yield
    finally:
        layer.call = original


def _steps(inputs: Any) -> tuple[Any, Any]:
    """Return sizes of batch and time, -1 for one that is open where the other is known."""
    batch, time = inputs.shape[:2]
    if batch is None and time is not None:
        return -1, time
    sizes = ops.shape(inputs)
    return sizes[0], sizes[1]
