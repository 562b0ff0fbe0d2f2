"""Scale, normalize and lay out the values of a batch, and spread its labels."""

from __future__ import annotations

import numpy as np

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.data.base import Array, Batch
from onnxsmith.pipeline.data.dtypes import cast_rounding
from onnxsmith.pipeline.data.query import Options

_CHANNELS = (1, 3, 4)


def transform(batch: Batch, options: Options, channel_axis: int | None) -> Batch:
    """Apply ``(x * scale - mean) / std``, the layout, the dtype and one-hot labels.

    Args:
        batch: Raw samples.
        options: The query.
        channel_axis: The axis of the channels where the source knows it; such a source has
            already obeyed the layout.

    Raises:
        SmithError: The values do not fit what is asked.
        UsageError: There are several arrays, and the query does not say which is meant.
    """
    inputs = dict(batch.inputs)
    if _touches_inputs(options):
        name = _target(inputs, options)
        inputs[name] = _transform_array(inputs[name], options, channel_axis)
    labels = tidy_labels(batch.labels)
    if options.onehot is not None:
        labels = spread(labels, options.onehot)
    return Batch(inputs, labels)


def tidy_labels(labels: Array | None) -> Array | None:
    """Return integer and boolean labels as int64, others as they are."""
    if labels is None or labels.dtype.kind not in "iub":
        return labels
    return labels.astype(np.int64)


def spread(labels: Array | None, classes: int) -> Array:
    """Return integer labels ``[N]`` as float32 ``[N, classes]``, one at the label.

    Raises:
        SmithError: There are none, they are no integers, or one is out of range.
    """
    if labels is None or labels.dtype.kind != "i":
        what = "no labels" if labels is None else f"{labels.dtype} labels"
        raise SmithError(
            f"onehot needs integer labels, but the data has {what}", "leave out onehot"
        )
    flat = labels.reshape(len(labels), -1)
    if flat.shape[1] != 1:
        raise SmithError("onehot needs one label a sample", "leave out onehot")
    flat = flat[:, 0]
    outside = flat[(flat < 0) | (flat >= classes)]
    if len(outside):
        raise SmithError(
            f"label {outside[0]} is outside of onehot={classes}", "give the number of classes"
        )
    result = np.zeros((len(flat), classes), np.float32)
    result[np.arange(len(flat)), flat] = 1
    return result


def _touches_inputs(options: Options) -> bool:
    return bool(
        options.scale is not None
        or options.mean
        or options.std
        or options.layout is not None
        or options.dtype is not None
    )


def _target(inputs: dict[str, Array], options: Options) -> str:
    """Return the name of the array that the query means."""
    if options.input in inputs:
        return str(options.input)
    if len(inputs) == 1:
        return next(iter(inputs))
    raise UsageError(
        f"the data has several arrays ({', '.join(sorted(inputs))}), which one is to be changed?",
        "add input=NAME to the data",
    )


def _transform_array(array: Array, options: Options, channel_axis: int | None) -> Array:
    axis = channel_axis
    if options.layout is not None and axis is None:
        array, axis = to_layout(array, options.layout)
    if options.scale is not None or options.mean or options.std:
        array = _normalize(array, options, axis)
    return array if options.dtype is None else cast_rounding(array, options.dtype)


def _normalize(array: Array, options: Options, axis: int | None) -> Array:
    if array.dtype.kind not in "fiub":
        raise SmithError(
            f"values of type {array.dtype} cannot be scaled", "leave out scale, mean and std"
        )
    result = array.astype(np.float32)
    if options.scale is not None:
        result *= np.float32(options.scale)
    if options.mean:
        result -= _along("mean", options.mean, result, axis)
    if options.std:
        result /= _along("std", options.std, result, axis)
    return result


def _along(key: str, values: tuple[float, ...], array: Array, axis: int | None) -> Array:
    """Return the numbers shaped to broadcast along the channels of ``array``."""
    if len(values) == 1:
        return np.asarray(values[0], np.float32)
    found = axis if axis is not None else _axis_of(len(values), array)
    if found is None or array.shape[found] != len(values):
        raise SmithError(
            f"{len(values)} numbers in {key} do not fit data of shape {_sample(array)}",
            f"give one number, or one a channel, in {key}",
        )
    shape = [1] * array.ndim
    shape[found] = len(values)
    return np.asarray(values, np.float32).reshape(shape)


def _axis_of(size: int, array: Array) -> int | None:
    """Return the only axis that can be meant: the last or the one behind the samples."""
    axes = {axis for axis in (1, array.ndim - 1) if 0 < axis < array.ndim}
    fitting = [axis for axis in axes if array.shape[axis] == size]
    return fitting[0] if len(fitting) == 1 else None


def to_layout(array: Array, layout: str) -> tuple[Array, int]:
    """Return images ``[N, C, H, W]`` or ``[N, H, W, C]`` in the layout, and the channel axis.

    Raises:
        SmithError: The array is no image batch, or both layouts could be meant.
    """
    first = array.ndim == 4 and array.shape[1] in _CHANNELS
    last = array.ndim == 4 and array.shape[3] in _CHANNELS
    if first == last:
        raise SmithError(
            f"layout={layout} does not fit data of shape {_sample(array)}",
            "the channels (1, 3 or 4) must be first or last in a sample of three dimensions",
        )
    if layout == "NCHW":
        return (array if first else array.transpose(0, 3, 1, 2)), 1
    return (array.transpose(0, 2, 3, 1) if first else array), 3


def _sample(array: Array) -> str:
    return "[" + ",".join(["N", *map(str, array.shape[1:])]) + "]"
