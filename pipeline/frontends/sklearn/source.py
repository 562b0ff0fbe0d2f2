"""A fitted estimator, ready to export and to run."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import skl2onnx
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.base import ConvertRequest, Export
from onnxsmith.pipeline.frontends.sklearn.graph import Output, finish_graph, outputs_of
from onnxsmith.pipeline.frontends.sklearn.inputs import Inputs
from onnxsmith.pipeline.frontends.sklearn.mends import conversion_options, mended
from onnxsmith.pipeline.frontends.sklearn.outputs import run_estimator
from onnxsmith.pipeline.frontends.sklearn.stable import stable_rows
from onnxsmith.pipeline.frontends.sklearn.structure import final_step, simplify, threshold_of
from onnxsmith.pipeline.frontends.sklearn.unsupported import refuse_unsupported
from onnxsmith.pipeline.frontends.tabular.model import ML_OPSET
from onnxsmith.pipeline.loading import describe, user_code


class EstimatorSource:
    """A fitted estimator.

    Args:
        estimator: The estimator.
        request: Its inputs; the default is ``input:float32[batch,n_features]``.

    Raises:
        SmithError: It is not fitted, or holds an estimator that skl2onnx does not know.
        UsageError: The inputs do not fit.
    """

    def __init__(self, estimator: Any, request: ConvertRequest) -> None:
        try:
            check_is_fitted(estimator)
        except (NotFittedError, TypeError):  # TypeError: a transformer without fit
            raise SmithError(
                f"the {type(estimator).__name__} of {request.source!r} is not fitted",
                "call fit() before it is returned",
            ) from None
        self.estimator = estimator
        self.simple = simplify(estimator)
        refuse_unsupported(self.simple)
        self.request = request
        self.inputs = Inputs(estimator, self.simple, request)
        self.threshold = threshold_of(estimator)
        self._outputs: tuple[Output, ...] = ()

    def export(self, folder: Path) -> Export:
        """Convert with skl2onnx; see ``Source.export``."""
        opset = min(self.request.opset, skl2onnx.__max_supported_opset__)
        try:
            with _quiet(), mended(self.simple):
                proto = skl2onnx.to_onnx(
                    self.simple,
                    initial_types=self.inputs.onnx_types(),
                    target_opset={"": opset, "ai.onnx.ml": ML_OPSET},
                    options=conversion_options(self.simple),
                )
        except SmithError:
            raise
        except Exception as error:  # skl2onnx has no common base
            raise SmithError(
                f"skl2onnx cannot convert the {type(self.estimator).__name__}: {describe(error)}",
                "see its documentation for the estimators that it covers",
            ) from error
        finish_graph(proto, self.inputs.specs, final_step(self.simple), self.threshold)
        path = folder / "model.onnx"
        path.write_bytes(proto.SerializeToString())
        self._outputs = outputs_of(proto.graph)
        return Export(path, self._examples(), {"versions": _versions()}, rows=True)

    def reference(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run the estimator itself; see ``Source.reference``."""
        shapes = ", ".join(str(list(array.shape)) for array in feeds.values())
        with user_code(f"running the estimator on shape {shapes}"), _quiet():
            table = self.inputs.table(feeds)
            return run_estimator(self.estimator, table, self._outputs)

    def _examples(self) -> dict[str, np.ndarray]:
        """Return rows that the estimator takes, with missing values where it takes those."""
        if any(known.missing for known in self.inputs.known):
            holed = self.inputs.examples(missing=True)
            with contextlib.suppress(SmithError):
                return self._stable(holed)
        return self._stable(self.inputs.examples(missing=False))

    def _stable(self, examples: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return stable_rows(examples, self.inputs.nudged, self.reference, self.simple)


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("scikit-learn", "skl2onnx")}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence scikit-learn on missing feature names and skl2onnx on numpy's deprecations."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
