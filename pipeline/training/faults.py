"""Find where a step went wrong, and labels that would make it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.numerics import numpy_dtype
from onnxsmith.passes.autodiff.path import FLOATS
from onnxsmith.runtime.memory import Array
from onnxsmith.runtime.session import Session
from onnxsmith.spec import ValueSpec

_AT_ONCE = 64


def first_bad(artifact: Artifact, feeds: Mapping[str, Array]) -> str | None:
    """Return the first tensor, in the order they are computed, that holds NaN or infinity.

    Args:
        artifact: A graph of gradients; it stays as it was.
        feeds: All its inputs.
    """
    for name, array in feeds.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            return name
    names = [
        value.name or ""
        for node in artifact.model.graph
        for value in node.outputs
        if value.dtype in FLOATS and value.name
    ]
    for start in range(0, len(names), _AT_ONCE):
        wanted = names[start : start + _AT_ONCE]
        model = artifact.model.clone()
        produced = {v.name: v for node in model.graph for v in node.outputs}
        model.graph.outputs[:] = [produced[name] for name in wanted]
        with Session(Artifact(model), optimize=False) as session:
            results = session.run(feeds)
        for name in wanted:
            if not np.isfinite(results[name]).all():
                return name
    return None


def fit_labels(
    labels: Array, spec: ValueSpec, classes: int | None, ignored: int | None = None
) -> Array:
    """Return labels as the loss takes them.

    Args:
        labels: As the data has them.
        spec: What the loss takes.
        classes: How many classes there are, where labels are classes and it is known.
        ignored: A label that is none of them and may be there.

    Raises:
        SmithError: They are of another kind, rank or size, or a class is out of range.
    """
    if labels.dtype.kind not in "biuf":
        raise SmithError("the labels are text, not numbers", "number the classes from 0")
    wanted = numpy_dtype(spec.dtype)
    if wanted.kind == "i":
        if labels.dtype.kind == "f" and not (labels == np.rint(labels)).all():
            raise SmithError("the labels are values, not classes", "choose --loss mse, for one")
        result = labels.astype(np.int64)
        named = result if ignored is None else result[result != ignored]
        low, high = int(named.min(initial=0)), int(named.max(initial=0))
        if low < 0 or (classes is not None and high >= classes):
            raise SmithError(
                f"the label {low if low < 0 else high} is none of the {classes or '?'} classes",
                "count classes from 0, or give the model an output for each",
            )
    else:
        result = labels.astype(wanted)
    rank = None if spec.shape is None else len(spec.shape)
    if rank is not None and result.ndim == rank - 1 and spec.shape and spec.shape[-1] == 1:
        result = result[..., None]
    if rank is not None and result.ndim == rank + 1 and result.shape[-1] == 1:
        result = result[..., 0]
    fits = rank is None or (
        result.ndim == rank
        and all(
            not isinstance(size, int) or size == have
            for size, have in zip(
                spec.shape[1:] if spec.shape else (), result.shape[1:], strict=True
            )
        )
    )
    if not fits:
        raise SmithError(
            f"the labels have shape {list(labels.shape)}, which the loss does not take",
            f"it takes {spec}; choose another --loss or --output-name",
        )
    return np.ascontiguousarray(result)
