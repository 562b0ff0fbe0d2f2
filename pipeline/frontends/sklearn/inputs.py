"""Inputs of an estimator: the signature, rows to probe with, and the table made of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from skl2onnx.common import data_types
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.frontends.base import ConvertRequest
from onnxsmith.pipeline.frontends.sklearn.columns import Known, know_columns, sentence
from onnxsmith.pipeline.frontends.sklearn.structure import walk
from onnxsmith.pipeline.frontends.tabular.table import make_rows, table_shape
from onnxsmith.spec import ValueSpec

_TYPES = {
    "float32": data_types.FloatTensorType,
    "float64": data_types.DoubleTensorType,
    "int64": data_types.Int64TensorType,
    "int32": data_types.Int32TensorType,
    "bool": data_types.BooleanTensorType,
    "string": data_types.StringTensorType,
}
# A few units in the last place.
_NUDGE = {"float32": 2e-6, "float64": 1e-11}
# What skl2onnx hands several inputs to as they are.
_SEVERAL = (ColumnTransformer, OneHotEncoder, OrdinalEncoder)


class Inputs:
    """The inputs of an estimator.

    Args:
        estimator: The fitted estimator, as given.
        simple: The same, simplified.
        request: The inputs asked for. By default one matrix of float32; where columns of text
            are among them, one input a column.

    Raises:
        UsageError: The inputs asked for do not add up to the estimator's columns.
        SmithError: The estimator does not say how many columns it takes.
    """

    def __init__(self, estimator: Any, simple: Any, request: ConvertRequest) -> None:
        self.request = request
        count = _count(estimator, request)
        self.known = know_columns(simple, count)
        names = getattr(estimator, "feature_names_in_", None)
        self.names = None if names is None else [str(name) for name in names]
        self.flat = _takes_flat_text(simple)
        self.needs_frame = any(
            _by_name(part) for _, part in walk(estimator) if isinstance(part, ColumnTransformer)
        )
        self.specs = request.inputs or self._default(count)
        self._check(type(estimator).__name__, count)
        if len(self.specs) > 1 and not isinstance(_first(simple), _SEVERAL):
            raise UsageError(
                f"the {type(estimator).__name__} takes one input: the matrix of its features",
                f"give one --input, e.g. --input x:float32[batch,{count}]",
            )

    def _default(self, count: int) -> tuple[ValueSpec, ...]:
        if self.flat:
            return (ValueSpec("input", "string", ("batch",)),)
        texts = [known.is_text for known in self.known]
        if not any(texts):
            return (ValueSpec("input", "float32", ("batch", count)),)
        if all(texts) and self.names is None:
            return (ValueSpec("input", "string", ("batch", count)),)
        names = self.names or [f"x{number}" for number in range(count)]
        return tuple(
            ValueSpec(name, "string" if text else "float32", ("batch", 1))
            for name, text in zip(names, texts, strict=True)
        )

    def _check(self, what: str, count: int) -> None:
        for spec in self.specs:
            if spec.dtype not in _TYPES:
                raise UsageError(
                    f"skl2onnx takes no input of type {spec.dtype}", f"choose: {', '.join(_TYPES)}"
                )
            if not spec.shape or len(spec.shape) > 2:
                raise UsageError(
                    f"an estimator takes a matrix, not {spec}",
                    f"write {spec.name}:{spec.dtype}[batch,N]",
                )
        widths = [_width(spec) for spec in self.specs]
        if not self.flat and (None in widths or sum(w or 0 for w in widths) != count):
            asked = " + ".join("?" if width is None else str(width) for width in widths)
            raise UsageError(
                f"the {what} takes {count} columns, not {asked}",
                f"give --input NAME:float32[batch,{count}], or one --input for each block of "
                f"columns, {count} in all",
            )

    def onnx_types(self) -> list[tuple[str, Any]]:
        """Return the inputs as skl2onnx takes them."""
        return [
            (
                spec.name,
                _TYPES[spec.dtype]([d if isinstance(d, int) else None for d in spec.shape or ()]),
            )
            for spec in self.specs
        ]

    def examples(self, *, missing: bool) -> dict[str, np.ndarray]:
        """Return rows that reach the parts of the estimator, by input.

        Args:
            missing: Whether NaN stands where missing values have a meaning.
        """
        made: dict[str, np.ndarray] = {}
        start = 0
        for number, spec in enumerate(self.specs):
            shape = table_shape(spec, self.request.dims, self.specs)
            known = self.known[start : start + (shape[1] if len(shape) > 1 else 1)]
            start += len(known)
            seed = self.request.seed + number
            generator = np.random.default_rng(seed)
            if spec.dtype == "string":
                made[spec.name] = _texts(known, shape, generator)
                continue
            rows = (shape[0], len(known))
            columns = {i: k.column() for i, k in enumerate(known) if k.marks}
            values = make_rows(rows, columns, seed, missing=False)
            if missing and spec.dtype.startswith("float"):
                holes = generator.random(rows) < 0.1
                values[holes & np.array([k.missing for k in known])] = np.nan
            made[spec.name] = _typed(values.reshape(shape), spec.dtype)
        return made

    def nudged(self, examples: Mapping[str, np.ndarray], sign: float) -> dict[str, np.ndarray]:
        """Return the rows with every number changed in its last digits; categories stay.

        Args:
            examples: The rows.
            sign: 1.0 for larger magnitudes, -1.0 for smaller ones.
        """
        changed = dict(examples)
        start = 0
        for spec in self.specs:
            array = examples[spec.name]
            count = array.shape[1] if array.ndim > 1 else 1
            known = self.known[start : start + count]
            start += count
            if spec.dtype in _NUDGE:
                factors = [1.0 if k.only else 1.0 + sign * _NUDGE[spec.dtype] for k in known]
                changed[spec.name] = (array * np.array(factors)).astype(array.dtype)
        return changed

    def table(self, feeds: Mapping[str, np.ndarray]) -> Any:
        """Return what the estimator's own methods take: an array, a list of texts or a DataFrame.

        Numbers are float64, the precision that estimators are fitted in.
        """
        arrays = [_own_type(feeds[spec.name], spec) for spec in self.specs]
        if self.flat:
            return arrays[0].ravel()
        arrays = [array.reshape(len(array), -1) for array in arrays]
        if self.needs_frame:
            return self._frame(arrays)
        return arrays[0] if len(arrays) == 1 else _joined(arrays)

    def _frame(self, arrays: list[np.ndarray]) -> Any:
        try:
            import pandas as pd  # type: ignore[import-untyped]  # it publishes none
        except ImportError as error:
            raise SmithError(
                "the estimator chooses columns by name, which needs pandas", "pip install pandas"
            ) from error
        columns = [array[:, index] for array in arrays for index in range(array.shape[1])]
        names = self.names or []
        return pd.DataFrame(
            {name: pd.Series(column) for name, column in zip(names, columns, strict=True)}
        )


def _count(estimator: Any, request: ConvertRequest) -> int:
    count = getattr(estimator, "n_features_in_", None)
    if count is not None:
        return int(count)
    if any(hasattr(part, "vocabulary_") for _, part in walk(estimator)):
        return 1
    widths = [_width(spec) for spec in request.inputs]
    if not widths or None in widths:
        raise SmithError(
            f"the {type(estimator).__name__} does not say how many features it takes",
            "give --input NAME:float32[batch,N]",
        )
    return sum(width or 0 for width in widths)


def _width(spec: ValueSpec) -> int | None:
    shape = spec.shape or ()
    if len(shape) == 1:
        return 1
    return shape[1] if isinstance(shape[1], int) else None


def _by_name(transformer: ColumnTransformer) -> bool:
    for _, _, columns in transformer.transformers:
        if callable(columns):
            return True
        if any(isinstance(column, str) for column in np.ravel(np.asarray(columns, dtype=object))):
            return True
    return False


def _first(estimator: Any) -> Any:
    while isinstance(estimator, (Pipeline, FeatureUnion)):
        named = estimator.steps if isinstance(estimator, Pipeline) else estimator.transformer_list
        estimator = named[0][1]
    return estimator


def _takes_flat_text(estimator: Any) -> bool:
    """Return whether the estimator takes one text a sample, not rows of columns."""
    return hasattr(_first(estimator), "build_analyzer")


def _texts(
    known: list[Known], shape: tuple[int, ...], generator: np.random.Generator
) -> np.ndarray:
    columns = [
        [sentence(k, generator) if k.is_text else "text" for _ in range(shape[0])] for k in known
    ]
    return np.array(columns, dtype=np.str_).T.reshape(shape)


def _typed(values: np.ndarray, dtype: str) -> np.ndarray:
    if dtype == "bool":
        return np.asarray(values > 0)
    if dtype.startswith("int"):
        return np.asarray(np.rint(values).astype(dtype))
    return np.asarray(values.astype(dtype))


def _own_type(array: np.ndarray, spec: ValueSpec) -> np.ndarray:
    if spec.dtype == "string":
        return array.astype(object)
    return array.astype(np.float64) if array.dtype == np.float32 else array


def _joined(arrays: list[np.ndarray]) -> np.ndarray:
    if all(array.dtype.kind in "fiub" for array in arrays):
        return np.hstack(arrays)
    return np.hstack([array.astype(object) for array in arrays])
