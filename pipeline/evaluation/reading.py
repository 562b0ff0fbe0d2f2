"""Tell which output of a model holds the prediction, and what kind it is.

Told from the first batch: integer labels and an output with one more axis (scores of classes),
an output like the labels (classes, or values), or scikit-learn's pair of label and scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.numerics import is_floating
from onnxsmith.pipeline.evaluation.base import Array, Task
from onnxsmith.plugins import suggestion

Form = Literal["scores", "single", "classes", "values"]

# Quantized softmax outputs do not add up to one exactly.
_SUM_TOLERANCE = 0.02


@dataclass(frozen=True)
class Reading:
    """How the outputs are read.

    Attributes:
        task: What the model does.
        form: ``scores`` of each class, one ``single`` score of the second class of two,
            predicted ``classes``, or ``values``.
        output: The output that is scored.
        label_output: An output that names the predicted class, where there is one beside scores.
        probable: Whether scores are probabilities already, instead of logits.
    """

    task: Task
    form: Form
    output: str
    label_output: str | None = None
    probable: bool = False


def choose_reading(
    outputs: Mapping[str, Any],
    labels: Array,
    *,
    output: str | None = None,
    task: Task | None = None,
    classes: Sequence[str] | None = None,
) -> Reading:
    """Choose how to read the outputs of the first batch.

    Args:
        outputs: Arrays by name; a list of maps counts as scores.
        labels: The truth, integers for classes.
        output: The output to use, where it was named.
        task: What is asked for; None tells it from labels and outputs.
        classes: The names of the classes, where known.

    Raises:
        UsageError: The output that was named is not there.
        SmithError: No output fits the labels, or several do.
    """
    if output is not None and output not in outputs:
        raise UsageError(f"the model has no output {output!r}", suggestion(output, list(outputs)))
    arrays = {name: as_array(outputs[name]) for name in ([output] if output else outputs)}
    if task != "regression" and labels.dtype.kind == "i":
        found = _classification(arrays, labels, classes)
        if found is not None:
            return found
    if task == "classification":
        what = "no integers" if labels.dtype.kind != "i" else "not the form of any output"
        raise SmithError(
            f"the labels are {what}, so classes cannot be scored: {_shapes(arrays, labels)}",
            "give integer labels, or metrics of values (mse, mae, r2)",
        )
    fitting = [name for name, array in arrays.items() if _is_values(array, labels)]
    return Reading("regression", "values", _only(fitting, arrays, labels))


def as_array(value: Any) -> Array:
    """Return an output as an array; maps of a class to its score become ``[N, C]``."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return np.asarray([list(row.values()) for row in value], np.float64)
    return np.asarray(value)


def score_axis(array: Array, labels: Array) -> int | None:
    """Return the axis that counts the classes: the one behind the samples, or the last."""
    if array.ndim != labels.ndim + 1:
        return None
    if (array.shape[0], *array.shape[2:]) == labels.shape:
        return 1
    return array.ndim - 1 if array.shape[:-1] == labels.shape else None


def squeeze(array: Array, rank: int) -> Array:
    """Drop axes of size one behind the first until the rank is reached."""
    while array.ndim > rank:
        ones = [axis for axis in range(1, array.ndim) if array.shape[axis] == 1]
        if not ones:
            break
        array = np.squeeze(array, axis=ones[-1])
    return array


def _classification(
    arrays: Mapping[str, Array], labels: Array, classes: Sequence[str] | None
) -> Reading | None:
    widths = {name: width for name, array in arrays.items() if (width := _width(array, labels)) > 1}
    if any(is_floating(arrays[name]) for name in widths):
        # Integer scores come from models whose output stays quantized; else they mean something.
        widths = {name: width for name, width in widths.items() if is_floating(arrays[name])}
    said = [name for name, array in arrays.items() if _is_classes(array, labels)]
    if len(widths) > 1 and classes is not None:
        widths = {name: width for name, width in widths.items() if width == len(classes)} or widths
    if widths:
        name = _only(list(widths), arrays, labels)
        label_output = said[0] if len(said) == 1 else None
        probable = _adds_up(_scores(arrays[name], labels))
        return Reading("classification", "scores", name, label_output, probable)
    if said:
        return Reading("classification", "classes", _only(said, arrays, labels))
    singles = [name for name, array in arrays.items() if _is_values(array, labels)]
    if singles and set(np.unique(labels).tolist()) <= {0, 1}:
        name = _only(singles, arrays, labels)
        values = arrays[name].astype(np.float64)
        probable = bool(((values >= 0) & (values <= 1)).all())
        return Reading("classification", "single", name, None, probable)
    return None


def _width(array: Array, labels: Array) -> int:
    """Return how many classes an output of scores counts, 0 where it is none."""
    if not is_floating(array) and array.dtype.kind not in "iu":
        return 0
    shaped = squeeze(array, labels.ndim + 1)
    axis = score_axis(shaped, labels)
    return 0 if axis is None else int(shaped.shape[axis])


def _scores(array: Array, labels: Array) -> Array:
    shaped = squeeze(array, labels.ndim + 1)
    return np.moveaxis(shaped, score_axis(shaped, labels) or 1, -1).astype(np.float64)


def _adds_up(scores: Array) -> bool:
    """Return whether the scores are probabilities."""
    inside = (scores >= -1e-6) & (scores <= 1 + 1e-6)
    return bool(inside.all() and (np.abs(scores.sum(axis=-1) - 1) < _SUM_TOLERANCE).all())


def _is_classes(array: Array, labels: Array) -> bool:
    return array.dtype.kind in "iubUO" and squeeze(array, labels.ndim).shape == labels.shape


def _is_values(array: Array, labels: Array) -> bool:
    return is_floating(array) and squeeze(array, 1).shape == squeeze(labels, 1).shape


def _only(names: list[str], arrays: Mapping[str, Array], labels: Array) -> str:
    if len(names) == 1:
        return names[0]
    if not names:
        raise SmithError(
            f"no output of the model fits the labels: {_shapes(arrays, labels)}",
            "check the data, or the model",
        )
    raise SmithError(
        f"several outputs could be scored: {', '.join(map(repr, names))}",
        f"choose one with --output {names[0]}",
    )


def _shapes(arrays: Mapping[str, Array], labels: Array) -> str:
    told = [f"{name!r} is {_shape(array)}" for name, array in list(arrays.items())[:4]]
    return f"{', '.join(told)}, the labels are {_shape(labels)}"


def _shape(array: Array) -> str:
    return f"{array.dtype}[{','.join(map(str, array.shape))}]"
