"""Run a ``.tflite`` file with TensorFlow Lite's own interpreter."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.loading import user_code


def interpreter_module() -> Any:
    """Return the module of the interpreter: LiteRT, or TensorFlow where it is not installed."""
    try:
        from ai_edge_litert import interpreter
    except ImportError:
        from tensorflow.lite.python import interpreter
    return interpreter


class Runner:
    """An interpreter of one file.

    Args:
        path: The file.
        plain: Whether to leave out the delegates that run floats and integers faster; they round
            in other places.

    Raises:
        SmithError: The interpreter refuses the file.
    """

    def __init__(self, path: Path, *, plain: bool = False) -> None:
        module = interpreter_module()
        kinds = module.OpResolverType
        kind = kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES if plain else kinds.AUTO
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # TensorFlow's copy announces its end
                self._interpreter = module.Interpreter(
                    str(path), experimental_op_resolver_type=kind, num_threads=1
                )
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise SmithError(
                f"TensorFlow Lite refuses the file: {' '.join(str(error).split())[:200]}",
                "check that it runs in the interpreter",
            ) from error

    def run(self, feeds: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
        """Return the outputs by tensor name.

        Raises:
            SmithError: The file does not run at these sizes.
        """
        shapes = ", ".join(str(list(array.shape)) for array in feeds.values())
        with user_code(f"running the model on inputs of shape {shapes}"):
            details = self._interpreter.get_input_details()
            for detail in details:
                array = feeds[detail["name"]]
                if list(detail["shape"]) != list(array.shape):
                    self._interpreter.resize_tensor_input(detail["index"], array.shape, strict=True)
            self._interpreter.allocate_tensors()
            for detail in details:
                self._interpreter.set_tensor(detail["index"], feeds[detail["name"]])
            self._interpreter.invoke()
            return {
                detail["name"]: np.array(self._interpreter.get_tensor(detail["index"]))
                for detail in self._interpreter.get_output_details()
            }
