"""The frontend ``sklearn``: fitted scikit-learn estimators and pipelines, through skl2onnx."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.frontends.base import ConvertRequest, Export, Match, Source
from onnxsmith.pipeline.frontends.sizes import example_shape
from onnxsmith.pipeline.frontends.sources import imported_packages, top_classes
from onnxsmith.pipeline.frontends.table import require_installed
from onnxsmith.pipeline.loading import describe, is_callable_name, load_callable, user_code
from onnxsmith.spec import ValueSpec

_PICKLES = (".joblib", ".pkl", ".pickle")
# ai.onnx.ml 3 is read by every runtime of recent years; 5 replaces the tree operators.
_ML_OPSET = 3


class SklearnFrontend:
    """scikit-learn: ``module:callable`` that returns a fitted estimator, or a pickle (--trust)."""

    name: ClassVar[str] = "sklearn"
    extra: ClassVar[str] = "sklearn"
    packages: ClassVar[tuple[str, ...]] = ("sklearn", "skl2onnx")
    accepts: ClassVar[str] = (
        "module:callable that returns a fitted estimator; .joblib and .pkl files with --trust"
    )
    isolated: ClassVar[bool] = True
    environment: ClassVar[str] = "sklearn"

    def match(self, source: str) -> Match | None:
        """Take pickles by suffix, and callables of modules that import sklearn."""
        if source.lower().endswith(_PICKLES):
            return Match(0.6, "the suffix is one of Python's pickles")
        if not is_callable_name(source):
            return None
        if "sklearn" in imported_packages(source):
            return Match(0.8, "its module imports sklearn")
        return Match(0.3, "a callable may return an estimator")

    def match_object(self, value: object) -> Match | None:
        """Take live estimators."""
        if "sklearn.BaseEstimator" in top_classes(value):
            return Match(0.9, "it is a scikit-learn estimator")
        return None

    def open(self, request: ConvertRequest) -> Source:
        """Call the callable, or unpickle the file.

        Raises:
            SmithError: It fails, returns no fitted estimator, or is a pickle without trust.
        """
        require_installed(self)
        if is_callable_name(request.source):
            build = load_callable(request.source)
            with user_code(f"calling {request.source!r}"):
                value = build()
        else:
            value = _unpickle(Path(request.source), request.trust)
        return self.adopt(value, request)

    def adopt(self, value: object, request: ConvertRequest) -> Source:
        """Take a live estimator.

        Raises:
            SmithError: It is none, or it is not fitted.
        """
        require_installed(self)
        if request.weights is not None:
            raise SmithError("an estimator has no separate weights", "leave --weights away")
        return EstimatorSource(value, request)


class EstimatorSource:
    """A fitted estimator.

    Args:
        estimator: The estimator.
        request: Its one input; the default is ``input:float32[batch,n_features]``.

    Raises:
        SmithError: The object is no estimator, or it is not fitted.
    """

    def __init__(self, estimator: Any, request: ConvertRequest) -> None:
        from sklearn.base import BaseEstimator
        from sklearn.exceptions import NotFittedError
        from sklearn.utils.validation import check_is_fitted

        if not isinstance(estimator, BaseEstimator):
            raise SmithError(
                f"{request.source!r} is a {type(estimator).__name__}, not an estimator",
                "return a fitted scikit-learn estimator",
            )
        try:
            check_is_fitted(estimator)
        except NotFittedError:
            raise SmithError(
                f"the {type(estimator).__name__} of {request.source!r} is not fitted",
                "call fit() before it is returned",
            ) from None
        self.estimator = estimator
        self.opset = request.opset
        self.input = _input(estimator, request.inputs)
        self._shape = example_shape(self.input, request.dims, (self.input,))
        self._seed = request.seed

    def export(self, folder: Path) -> Export:
        """Convert with skl2onnx; see ``Source.export``."""
        import skl2onnx
        from skl2onnx import __max_supported_opset__ as newest

        opset = {"": min(self.opset, newest), "ai.onnx.ml": _ML_OPSET}
        try:
            with _quiet():
                proto = skl2onnx.to_onnx(
                    self.estimator,
                    initial_types=[(self.input.name, _onnx_type(self.input))],
                    target_opset=opset,
                    options=_options(self.estimator),
                )
        except Exception as error:  # skl2onnx has no common base
            raise SmithError(
                f"skl2onnx cannot convert the {type(self.estimator).__name__}: {describe(error)}",
                "see its documentation for the estimators that it covers",
            ) from error
        _name_batch(proto, self.input)
        path = folder / "model.onnx"
        path.write_bytes(proto.SerializeToString())
        self._outputs = tuple(value.name for value in proto.graph.output)
        return Export(path, {self.input.name: self._example()}, {"versions": _versions()})

    def reference(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run the estimator itself; see ``Source.reference``.

        Which method an output stands for follows from skl2onnx's names.
        """
        array = feeds[self.input.name]
        with user_code(f"running the estimator on shape {list(array.shape)}"), _quiet():
            try:
                return self._run(array)
            except ValueError:
                if array.dtype != np.float32:
                    raise
                # Some estimators (KMeans) run only in the precision that they were fitted in.
                return self._run(array.astype(np.float64))

    def _run(self, array: np.ndarray) -> dict[str, np.ndarray]:
        found = {name: _output(self.estimator, name, array) for name in self._outputs}
        return {name: value for name, value in found.items() if value is not None}

    def _example(self) -> np.ndarray:
        generator = np.random.default_rng(self._seed)
        if self.input.dtype == "string":
            return np.full(self._shape, "a")
        # Features have scales from shares to pixel values: trees split at any of them.
        scale = 10.0 ** generator.uniform(
            -1.0, 1.5, (self._shape[0], *[1] * (len(self._shape) - 1))
        )
        values = generator.standard_normal(self._shape) * scale
        return values.astype(self.input.dtype)


def _input(estimator: Any, inputs: tuple[ValueSpec, ...]) -> ValueSpec:
    if len(inputs) > 1:
        raise UsageError(
            "an estimator takes one input: the matrix of its features",
            "give one --input, e.g. --input x:float32[batch,64]",
        )
    if inputs:
        return inputs[0]
    features = getattr(estimator, "n_features_in_", None)
    if features is None:
        raise SmithError(
            f"the {type(estimator).__name__} does not say how many features it takes",
            "give --input NAME:float32[batch,N]",
        )
    return ValueSpec("input", "float32", ("batch", int(features)))


def _onnx_type(spec: ValueSpec) -> Any:
    from skl2onnx.common import data_types

    kinds = {
        "float32": data_types.FloatTensorType,
        "float64": data_types.DoubleTensorType,
        "int64": data_types.Int64TensorType,
        "int32": data_types.Int32TensorType,
        "bool": data_types.BooleanTensorType,
        "string": data_types.StringTensorType,
    }
    if spec.dtype not in kinds:
        raise UsageError(
            f"skl2onnx takes no input of type {spec.dtype}", f"choose: {', '.join(kinds)}"
        )
    return kinds[spec.dtype]([d if isinstance(d, int) else None for d in spec.shape or ()])


def _options(estimator: Any) -> dict[int, dict[str, bool]] | None:
    """Ask for plain probability tensors: the default, a list of maps, runs on no accelerator."""
    final = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
    return {id(estimator): {"zipmap": False}} if hasattr(final, "classes_") else None


def _output(estimator: Any, name: str, array: np.ndarray) -> np.ndarray | None:
    if "label" in name:
        return np.asarray(estimator.predict(array))
    if "probab" in name:
        method = "predict_proba" if hasattr(estimator, "predict_proba") else "decision_function"
        return np.asarray(getattr(estimator, method)(array))
    if "score" in name and hasattr(estimator, "transform"):
        return np.asarray(estimator.transform(array))
    if "score" in name and hasattr(estimator, "decision_function"):
        return np.asarray(estimator.decision_function(array))
    if name.startswith(("variable", "transformed")):
        method = "predict" if hasattr(estimator, "predict") else "transform"
        result = getattr(estimator, method)(array)
        return np.asarray(result.toarray() if hasattr(result, "toarray") else result)
    return None


def _name_batch(proto: Any, spec: ValueSpec) -> None:
    """Name the dimensions of the input, and the outputs' first after the input's."""
    for value in (*proto.graph.input, *proto.graph.output):
        shape = spec.shape if value.name == spec.name else (spec.shape or ())[:1]
        for dim, asked in zip(value.type.tensor_type.shape.dim, shape or (), strict=False):
            if isinstance(asked, str) and not dim.dim_value:
                dim.dim_param = asked


def _unpickle(path: Path, trust: bool) -> Any:
    if not path.is_file():
        raise SmithError(f"there is no file {path}", "check the path")
    if not trust:
        raise SmithError(
            f"{path} is a pickle, which runs code when it is loaded",
            "pass --trust if you know who made the file",
        )
    import joblib

    with user_code(f"loading {path}"):
        return joblib.load(path)


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("scikit-learn", "skl2onnx")}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence scikit-learn on missing feature names and skl2onnx on numpy's deprecations."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
