"""What tf2onnx 1.17 and TensorFlow 2.21 get wrong, mended for the time of one conversion.

Each mend names its fault; a test shows that the fault is there without it. tf2onnx's
``large_model`` is not used at all (it needs ``np.product``, which numpy 2 does not have): large
weights never enter tf2onnx, see ``freeze.py``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
import tensorflow as tf
from tensorflow.python.saved_model import load as saved_model_load
from tf2onnx import graph as tf2onnx_graph
from tf2onnx import utils as tf2onnx_utils

from onnxsmith.pipeline.frontends.tensorflow.audio import audio_spectrogram, mfcc

Handler = Callable[[Any, Any, str, list[Any]], None]


def handlers() -> dict[str, tuple[Handler, list[Any]]]:
    """Return handlers of TensorFlow operators that tf2onnx lacks, as it takes them.

    Without a handler it logs an error, returns normally and writes an invalid model.
    """
    return {
        "Erfc": (erfc, []),
        "AudioSpectrogram": (audio_spectrogram, []),
        "Mfcc": (mfcc, []),
    }


def erfc(context: Any, node: Any, name: str, arguments: list[Any]) -> None:
    """Write ``Erfc(x) = 1 - Erf(x)``, which exact GELU needs."""
    (source,) = node.input
    shapes, dtypes = node.output_shapes, node.output_dtypes
    element = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(dtypes[0]))
    context.remove_node(node.name)
    one = context.make_const(f"{name}__one", np.array(1, element)).output[0]
    erf = context.make_node("Erf", [source]).output[0]
    context.make_node(
        "Sub", [one, erf], outputs=node.output, name=name, shapes=shapes, dtypes=dtypes
    )


@contextlib.contextmanager
def fresh_protos() -> Iterator[None]:
    """Let tf2onnx build each node's message anew instead of emptying and refilling it.

    Protobuf frees a deleted attribute only with its whole message, and every optimizer pass
    deletes and adds all attributes: constants pile up, 40 times their size.
    """
    node_type = tf2onnx_graph.Node
    original = node_type.update_proto

    def update_proto(self: Any, external_tensor_storage: Any = None) -> None:
        old = self._op
        self._op = onnx.NodeProto(name=old.name, op_type=old.op_type, domain=old.domain)
        self._op.doc_string = old.doc_string
        original(self, external_tensor_storage)

    node_type.update_proto = update_proto
    try:
        yield
    finally:
        node_type.update_proto = original


@contextlib.contextmanager
def counted_names() -> Iterator[None]:
    """Let tf2onnx count the names that it makes up from one, for each model anew.

    It counts on from model to model, so that a second export of the same model has other bytes.
    """
    before = tf2onnx_utils.INTERNAL_NAME
    tf2onnx_utils.INTERNAL_NAME = 1
    try:
        yield
    finally:
        tf2onnx_utils.INTERNAL_NAME = before


@contextlib.contextmanager
def optimizer_slots() -> Iterator[None]:
    """Let TensorFlow load SavedModels that hold an optimizer with its moments.

    The class that made them belonged to Keras 2. Without it the loader asks an object of a class
    without the method ``add_slot`` for each moment, and fails.
    """
    loader = saved_model_load.Loader
    original = loader._recreate_base_user_object

    def recreate(self: Any, proto: Any = None, node_id: Any = None) -> Any:
        made, setter = original(self, proto, node_id)

        def add_slot(var: Any, slot_name: str) -> Any:
            return tf.Variable(tf.zeros(var.shape, var.dtype), trainable=False, name=slot_name)

        type(made).add_slot = staticmethod(add_slot)  # each object has a class of its own
        return made, setter

    loader._recreate_base_user_object = recreate
    try:
        yield
    finally:
        loader._recreate_base_user_object = original
