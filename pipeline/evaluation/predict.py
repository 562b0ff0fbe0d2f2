"""Turn one batch of outputs and labels into predictions, as a reading says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from onnxsmith.errors import SmithError
from onnxsmith.numerics import is_floating
from onnxsmith.pipeline.evaluation.base import Array, Predictions
from onnxsmith.pipeline.evaluation.reading import Reading, as_array, score_axis, squeeze


def predictions(
    reading: Reading,
    outputs: Mapping[str, Any],
    labels: Array,
    *,
    first: int,
    classes: Sequence[str] | None = None,
) -> Predictions:
    """Return what the model said of one batch.

    Args:
        reading: How to read the outputs.
        outputs: The model's outputs, ``[n, ...]`` each.
        labels: The truth, ``[n, ...]``.
        first: The number of the first sample, counted from 0, for messages.
        classes: The names of the classes, where known.

    Raises:
        SmithError: An output is not a number, or a label is none of the model's classes.
    """
    array = as_array(outputs[reading.output])
    if is_floating(array):
        array = array.astype(np.float64)
        _refuse_bad(array, reading, first)
    if reading.form == "values":
        rows = len(labels)
        true = labels.reshape(rows, -1).astype(np.float64)
        return Predictions(true, values=array.reshape(rows, -1))
    flat = labels.reshape(-1)
    if reading.form == "classes":
        return Predictions(flat, classes=_class_numbers(array, classes).reshape(-1))
    if reading.form == "single":
        return _from_single(array.reshape(-1), flat, reading)
    return _from_scores(array, labels, reading, outputs, classes)


def _from_single(array: Array, labels: Array, reading: Reading) -> Predictions:
    outside = labels[(labels < 0) | (labels > 1)]
    if len(outside):
        raise SmithError(
            f"label {outside[0]} is neither 0 nor 1, but {reading.output!r} is one score a sample",
            "name metrics of values (--metric mse) if the model predicts values",
        )
    second = array if reading.probable else _sigmoid(array)
    both = np.stack([1 - second, second], axis=1)
    return Predictions(labels, classes=(second > 0.5).astype(np.int64), probabilities=both)


def _from_scores(
    array: Array,
    labels: Array,
    reading: Reading,
    outputs: Mapping[str, Any],
    classes: Sequence[str] | None,
) -> Predictions:
    shaped = squeeze(array, labels.ndim + 1)
    axis = score_axis(shaped, labels)
    if axis is None:
        raise SmithError(
            f"the output {reading.output!r} changed its shape to {list(array.shape)}",
            "use a model whose output has one row a sample",
        )
    flat = labels.reshape(-1)
    scores = np.moveaxis(shaped, axis, -1).reshape(len(flat), -1).astype(np.float64)
    columns = _columns(outputs[reading.output], classes)
    probabilities = scores if reading.probable else _softmax(scores)
    if reading.label_output is not None:
        said = _class_numbers(np.asarray(outputs[reading.label_output]), classes).reshape(-1)
    else:
        said = scores.argmax(axis=1)
        said = said if columns is None else columns[said]
        _refuse_outside(flat, scores.shape[1], columns)
    return Predictions(flat, said.astype(np.int64), probabilities, columns)


def _refuse_outside(labels: Array, width: int, columns: Array | None) -> None:
    """Refuse labels that the scores cannot mean: counted from 1, or of another data set."""
    known = np.arange(width) if columns is None else columns
    wrong = ~np.isin(labels, known)
    if wrong.any():
        raise SmithError(
            f"label {labels[wrong][0]} is none of the model's {width} classes, counted from 0",
            "count the labels from 0 (csv: categorical=1), or use the data the model is for",
        )


def _columns(output: Any, classes: Sequence[str] | None) -> Array | None:
    """Return the classes that a list of maps names."""
    if isinstance(output, list) and output and isinstance(output[0], dict):
        return _class_numbers(np.asarray(list(output[0])), classes)
    return None


def _class_numbers(array: Array, classes: Sequence[str] | None) -> Array:
    """Return predicted classes as int64; names are looked up."""
    if array.dtype.kind in "iub":
        return array.astype(np.int64)
    index = {name: at for at, name in enumerate(classes or ())}
    numbers = []
    for name in map(str, array.reshape(-1)):
        if name in index:
            numbers.append(index[name])
        elif classes is None and name.removeprefix("-").isdecimal():
            numbers.append(int(name))
        else:
            raise SmithError(
                f"the model predicts the class {name!r}, which the data does not know",
                "use the data the model is for",
            )
    return np.asarray(numbers, np.int64)


def _refuse_bad(array: Array, reading: Reading, first: int) -> None:
    # Infinite logits are used on purpose to mask classes; infinite values are no prediction.
    bad = np.isnan(array) if reading.form != "values" else ~np.isfinite(array)
    if bad.any():
        sample = first + int(np.argmax(bad.reshape(len(array), -1).any(axis=1)))
        word = "NaN" if np.isnan(array).any() else "infinite"
        raise SmithError(
            f"the output {reading.output!r} is {word}, first for sample {sample}",
            "check the model with 'onnxsmith inspect', and the scaling of the data",
        )


def _softmax(scores: Array) -> Array:
    peak = scores.max(axis=1, keepdims=True)
    # A row of negative infinities has no peak to subtract.
    exponents = np.exp(scores - np.where(np.isfinite(peak), peak, 0))
    total = exponents.sum(axis=1, keepdims=True)
    result: Array = exponents / np.where(total > 0, total, 1)
    return result


def _sigmoid(values: Array) -> Array:
    result: Array = 0.5 * (1 + np.tanh(0.5 * values))
    return result
