"""The frontend ``keras``: models of Keras 3, and files of Keras 2."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.base import ConvertRequest, Match, Source
from onnxsmith.pipeline.frontends.sources import imported_packages, top_classes
from onnxsmith.pipeline.frontends.table import require_installed
from onnxsmith.pipeline.loading import is_callable_name, load_callable, user_code

_HDF5 = (".h5", ".hdf5")


class KerasFrontend:
    """Keras: ``.keras`` and ``.h5`` files, and ``module:callable`` that returns a keras.Model."""

    name: ClassVar[str] = "keras"
    extra: ClassVar[str] = "keras"
    packages: ClassVar[tuple[str, ...]] = ("keras", "tensorflow", "tf2onnx")
    accepts: ClassVar[str] = (
        ".keras and .h5 files, those of Keras 2 too; module:callable that returns a keras.Model "
        "(--weights: .weights.h5, .h5 or .keras)"
    )
    isolated: ClassVar[bool] = True
    environment: ClassVar[str] = "tensorflow"

    def match(self, source: str) -> Match | None:
        """Take files by suffix, and callables of modules that import keras."""
        lower = source.lower()
        if lower.endswith(".keras"):
            return Match(1.0, "the suffix is .keras")
        if lower.endswith(_HDF5):
            return Match(0.9, "the suffix is one of HDF5, which Keras writes")
        if is_callable_name(source) and imported_packages(source) & {"keras", "tf_keras"}:
            return Match(0.9, "its module imports keras")
        return None

    def match_object(self, value: object) -> Match | None:
        """Take live models."""
        if "keras.Model" in top_classes(value):
            return Match(1.0, "it is a keras.Model")
        return None

    def open(self, request: ConvertRequest) -> Source:
        """Load the file, or call the callable and load its weights.

        Raises:
            SmithError: The file is damaged, holds code and is not trusted, or needs what is not
                there; the callable fails or returns something else.
        """
        require_installed(self)
        if is_callable_name(request.source):
            build = load_callable(request.source)
            _seed(request.seed)
            with user_code(f"calling {request.source!r}"):
                value = build()
            return self.adopt(value, request)
        if request.weights is not None:
            raise SmithError(
                f"{request.source} holds its weights itself",
                "leave --weights away, or give module:callable for the model without them",
            )
        from onnxsmith.pipeline.frontends.keras.files import check_model

        content = check_model(Path(request.source), trust=request.trust)
        if "keras" not in sys.modules:  # in a worker: nobody has chosen before
            os.environ["KERAS_BACKEND"] = "tensorflow"
        from onnxsmith.pipeline.frontends.keras.load import load_model

        return self._source(load_model(content, trust=request.trust), request)

    def adopt(self, value: object, request: ConvertRequest) -> Source:
        """Take a live model of the backend that this process uses.

        Raises:
            SmithError: It is no keras.Model, or its inputs are not known.
        """
        import keras

        if not isinstance(value, keras.Model):
            hint = "return a keras.Model"
            if type(value).__module__.startswith("tf_keras"):
                hint = "save it with model.save('model.h5'), and convert that file"
            raise SmithError(f"{request.source!r} gives a {type(value).__name__}", hint)
        return self._source(value, request)

    def _source(self, model: Any, request: ConvertRequest) -> Source:
        import keras

        from onnxsmith.pipeline.frontends.keras.signature import describe_model

        described = describe_model(model, request)
        if keras.backend.backend() == "tensorflow":
            from onnxsmith.pipeline.frontends.keras.source import ModelSource

            return ModelSource(described, request)
        from onnxsmith.pipeline.frontends.keras.backends import OtherBackendSource

        return OtherBackendSource(described, request)


def versions() -> dict[str, str]:
    """Return the version of Keras."""
    return {"keras": version("keras")}


def _seed(seed: int) -> None:
    import keras

    keras.utils.set_random_seed(seed)
