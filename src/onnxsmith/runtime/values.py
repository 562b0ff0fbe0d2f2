"""Arrays that the runtime's Python side cannot convert: bfloat16 and float8, and sparse tensors.

The former pass as raw bytes with the ONNX element type beside them; the latter come out dense.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import onnxruntime as ort

from onnxsmith.errors import SmithError

Array = np.ndarray[Any, Any]

# Name in numpy's spelling -> (TensorProto data type, unsigned type of the same size).
_RAW: dict[str, tuple[int, type[np.unsignedinteger[Any]]]] = {
    "bfloat16": (16, np.uint16),
    "float8_e4m3fn": (17, np.uint8),
    "float8_e4m3fnuz": (18, np.uint8),
    "float8_e5m2": (19, np.uint8),
    "float8_e5m2fnuz": (20, np.uint8),
}
_NAMES = {code: name for name, (code, _) in _RAW.items()}


def needs_raw(dtype: str) -> bool:
    """Tell whether arrays of this element type must pass through :func:`run_raw`."""
    return dtype in _RAW


def run_raw(
    session: ort.InferenceSession, names: Sequence[str], feeds: Mapping[str, Array]
) -> list[Array]:
    """Run the session and return the named outputs, which must be tensors.

    Raises:
        SmithError: An output is a sequence, an optional or a map.
    """
    values = {name: _to_value(array) for name, array in feeds.items()}
    return [_to_array(value) for value in session.run_with_ort_values(names, values)]


def _to_value(array: Array) -> ort.OrtValue:
    if str(array.dtype) not in _RAW:
        return ort.OrtValue.ortvalue_from_numpy(array)
    code, unsigned = _RAW[str(array.dtype)]
    plain = np.ascontiguousarray(array).view(unsigned)
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(plain, code)


def _to_array(value: ort.OrtValue) -> Array:
    if not value.is_tensor():
        raise SmithError(
            "the runtime hands out no sequences beside bfloat16 or float8 tensors",
            "make the model return tensors only",
        )
    name = _NAMES.get(value.element_type())
    if name is None:
        plain: Array = np.asarray(value.numpy())
        return plain
    _, unsigned = _RAW[name]
    shape = tuple(value.shape())
    count = int(np.prod(shape, dtype=np.int64))
    raw = ctypes.string_at(value.data_ptr(), count * unsigned().itemsize) if count else b""
    dtype: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
    array: Array = np.frombuffer(raw, unsigned).view(dtype).reshape(shape)
    return array


def dense(value: Any) -> Any:
    """Return a sparse tensor in its dense form; anything else as it is."""
    if not isinstance(value, ort.capi.onnxruntime_pybind11_state.SparseTensor):
        return value
    array = np.zeros(value.dense_shape(), value.values().dtype)
    indices = value.get_coo_data().indices()
    if indices.ndim == 2:  # one row for each value, instead of places in the flat tensor
        indices = np.ravel_multi_index(tuple(indices.T), array.shape)
    array.reshape(-1)[indices] = value.values()
    return array
