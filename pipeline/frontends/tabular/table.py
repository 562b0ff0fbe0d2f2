"""Inputs of models of tables: the signature, and rows that reach every part of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.frontends.base import ConvertRequest
from onnxsmith.pipeline.frontends.sizes import example_shape
from onnxsmith.pipeline.frontends.tabular.forest import Forest, Leaf
from onnxsmith.spec import ValueSpec

# Two rows would visit two leaves of a tree: rows cost little.
ROWS = 128
_MISSING_SHARE = 0.1
# LightGBM takes values of at most 1e-35 for 0, and its thresholds beside 0 stand there.
_TINY = 1e-30
_HUGE = 1e37


@dataclass(frozen=True)
class Column:
    """What is known of the values of one feature.

    Attributes:
        marks: Values that matter to the model: thresholds, categories, centers.
        only: Whether no other values are meant.
    """

    marks: np.ndarray
    only: bool = False


def features_input(
    request: ConvertRequest, width: int | None, what: str, dtypes: Sequence[str] = ("float32",)
) -> ValueSpec:
    """Return the one input of a model that takes a matrix of features.

    Args:
        request: Says its name, element type and dimensions, or nothing.
        width: The number of features; None where the model does not say.
        what: The model, for messages.
        dtypes: Element types that it takes.

    Raises:
        UsageError: Another signature is asked for than the model has.
        SmithError: The number of features is unknown.
    """
    if len(request.inputs) > 1:
        raise UsageError(
            f"the {what} takes one input: the matrix of its features",
            "give one --input, e.g. --input x:float32[batch,64]",
        )
    if not request.inputs:
        if width is None:
            raise SmithError(
                f"the {what} does not say how many features it takes",
                "give --input NAME:float32[batch,N]",
            )
        return ValueSpec("input", "float32", ("batch", width))
    spec = request.inputs[0]
    if spec.dtype not in dtypes:
        raise UsageError(
            f"the {what} takes no input of type {spec.dtype}", f"choose: {', '.join(dtypes)}"
        )
    if spec.shape is None or len(spec.shape) != 2 or not isinstance(spec.shape[1], int):
        raise UsageError(
            f"the {what} takes a matrix, not {spec}",
            f"write {spec.name}:{spec.dtype}[batch,{width or 'N'}]",
        )
    if width is not None and spec.shape[1] != width:
        raise UsageError(
            f"the {what} takes {width} features, not {spec.shape[1]}",
            f"write {spec.name}:{spec.dtype}[batch,{width}]",
        )
    return spec


def table_shape(
    spec: ValueSpec, dims: Mapping[str, int], specs: tuple[ValueSpec, ...]
) -> tuple[int, ...]:
    """Return the shape of an example: of many rows where the batch is open and not asked for."""
    first = (spec.shape or (None,))[0]
    sizes = {first: ROWS, **dims} if isinstance(first, str) else dims
    return example_shape(spec, sizes, specs)


def forest_columns(forest: Forest) -> dict[int, Column]:
    """Return the thresholds and the categories of each feature that a forest asks for."""
    marks: dict[int, set[float]] = {}
    categories: set[int] = set()
    for tree in forest.trees:
        for node in tree:
            if isinstance(node, Leaf):
                continue
            found = marks.setdefault(node.feature, set())
            if node.mode == "in":
                categories.add(node.feature)
                found.update(node.values)
            else:
                found.add(node.value)
            if node.void is not None:
                found.add(node.void)
    return {
        feature: Column(
            np.array(sorted(v if abs(v) > _TINY else 0.0 for v in values)), feature in categories
        )
        for feature, values in marks.items()
    }


def make_rows(
    shape: tuple[int, ...],
    columns: Mapping[int, Column],
    seed: int,
    *,
    missing: bool,
) -> np.ndarray:
    """Return rows of features in float64.

    A third of the values of a column are marks themselves, where a wrong comparison shows; the
    rest lie between and around them.

    Args:
        shape: ``[rows, n_features]``.
        columns: What is known of each feature.
        seed: Of the generator.
        missing: Whether NaN is among the values.
    """
    generator = np.random.default_rng(seed)
    # Features that nothing is known of have scales from shares to pixel values.
    values = generator.standard_normal(shape) * 10.0 ** generator.uniform(-1.0, 1.5, (shape[0], 1))
    for index, column in columns.items():
        # CatBoost parts missing values from others at the ends of float32.
        marks = column.marks[np.abs(column.marks) < _HUGE]
        if not marks.size:
            continue
        drawn = generator.choice(marks, shape[0])
        if not column.only:
            spread = float(np.ptp(marks)) or max(abs(float(marks[0])), 1.0)
            around = drawn + generator.standard_normal(shape[0]) * spread * 0.2
            drawn = np.where(generator.random(shape[0]) < 1 / 3, drawn, around)
        values[:, index] = drawn
    if missing:
        values[generator.random(shape) < _MISSING_SHARE] = np.nan
    return values
