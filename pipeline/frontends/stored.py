"""Inputs and outputs that were recorded where the source could run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.data.archive import load_archive
from onnxsmith.pipeline.data.conform import fit_array
from onnxsmith.spec import ModelSpec, ValueSpec

Arrays = dict[str, np.ndarray[Any, Any]]

_HINT = "name the arrays in_NAME and out_NAME after the model's inputs and outputs"
_NUMBERED = re.compile(r"^(input|output)_(\d+)\.pb$")
_MAX_BYTES = 1 << 31  # protobuf's own limit


@dataclass(frozen=True)
class Stored:
    """One recorded run.

    Attributes:
        inputs: One array for each input of the model.
        outputs: Arrays of some of its outputs.
    """

    inputs: Mapping[str, np.ndarray[Any, Any]]
    outputs: Mapping[str, np.ndarray[Any, Any]]

    def reference(self, feeds: Mapping[str, np.ndarray[Any, Any]]) -> Arrays:
        """Return the recorded outputs; ``feeds`` are the recorded inputs."""
        return dict(self.outputs)


def load_stored(location: str, spec: ModelSpec) -> Stored:
    """Read a recorded run.

    Args:
        location: An ``.npz`` file with arrays ``in_NAME`` and ``out_NAME`` (or just ``NAME``), or
            a folder with ``input_0.pb``, ``output_0.pb``, ... as ONNX's own test data.
        spec: The model's signature.

    Raises:
        SmithError: It cannot be read, or does not fit the model.
    """
    path = Path(location)
    arrays = _read_folder(path, spec) if path.is_dir() else load_archive(location)
    inputs, outputs = {}, {}
    for value in spec.inputs:
        found = _named(arrays, "in", value)
        if found is None:
            raise SmithError(f"{path.name!r} has no array for the input {value.name!r}", _HINT)
        inputs[value.name] = fit_array(found, value)
    for value in spec.outputs:
        found = _named(arrays, "out", value)
        if found is not None:
            outputs[value.name] = found
    if not outputs:
        names = ", ".join(repr(value.name) for value in spec.outputs)
        raise SmithError(f"{path.name!r} has no array for any of the outputs {names}", _HINT)
    return Stored(inputs, outputs)


def _named(
    arrays: Mapping[str, np.ndarray[Any, Any]], prefix: str, value: ValueSpec
) -> np.ndarray[Any, Any] | None:
    return arrays.get(f"{prefix}_{value.name}", arrays.get(value.name))


def _read_folder(folder: Path, spec: ModelSpec) -> Arrays:
    arrays: Arrays = {}
    for path in sorted(folder.iterdir()):
        match = _NUMBERED.match(path.name)
        if match is None:
            continue
        values = spec.inputs if match[1] == "input" else spec.outputs
        number = int(match[2])
        if number >= len(values):
            raise SmithError(
                f"the model has {len(values)} {match[1]}s, and {path.name!r} is one more",
                "give the test data of this very model",
            )
        prefix = "in" if match[1] == "input" else "out"
        arrays[f"{prefix}_{values[number].name}"] = _read_tensor(path)
    if not arrays:
        raise SmithError(
            f"the folder {folder.name!r} holds no input_0.pb", "give an .npz file, or such a folder"
        )
    return arrays


def _read_tensor(path: Path) -> np.ndarray[Any, Any]:
    tensor = onnx.TensorProto()
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError("it is larger than 2 GiB")
        tensor.ParseFromString(path.read_bytes())
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise ValueError("its values are in another file")
        return onnx.numpy_helper.to_array(tensor)
    except Exception as error:  # DecodeError, ValueError or TypeError, by what the file holds
        raise SmithError(
            f"{path.name!r} is no tensor of ONNX: {' '.join(str(error).split())[:200]}",
            "write it with onnx.numpy_helper.from_array",
        ) from error
