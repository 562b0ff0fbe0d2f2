"""Load the files of Keras 3 and Keras 2."""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Iterator
from typing import Any

import h5py
import keras
from keras.src.legacy.saving import legacy_h5_format

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.keras.files import ModelFile
from onnxsmith.pipeline.loading import describe


def load_model(file: ModelFile, *, trust: bool) -> Any:
    """Load a checked file, without its optimizer and losses.

    Raises:
        SmithError: It needs classes that are not there, or is of a version that Keras cannot read.
    """
    with _quiet(), _explained(file):
        if file.is_hdf5 and not file.keras_version.startswith("3"):
            return _load_legacy(file, trust)
        return keras.models.load_model(file.path, compile=False, safe_mode=not trust)


def _load_legacy(file: ModelFile, trust: bool) -> Any:
    from onnxsmith.pipeline.frontends.keras.legacy import replacements, upgrade_config

    if file.keras_version.startswith("1"):
        raise SmithError(
            f"{file.path} was written by Keras {file.keras_version}",
            "load it with Keras 2, and save it again",
        )
    with _Upgraded(file.path, json.dumps(upgrade_config(file.config))) as content:
        return legacy_h5_format.load_model_from_hdf5(
            content, custom_objects=replacements(), compile=False, safe_mode=not trust
        )


class _Upgraded(h5py.File):  # type: ignore[misc]  # h5py has no types
    """A file of Keras 2 that says of its model what Keras 3 understands."""

    def __init__(self, path: Any, config: str) -> None:
        super().__init__(path, "r")
        self._config = config

    @property
    def attrs(self) -> dict[str, str]:
        """What Keras reads of the file's attributes when it does not compile the model."""
        return {"model_config": self._config}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _explained(file: ModelFile) -> Iterator[None]:
    try:
        yield
    except SmithError:
        raise
    except Exception as error:  # Keras' deserialization raises any type
        text = str(error)
        hint = "load it in your own code, and give module:callable"
        if "Unknown layer" in text or "Could not locate" in text:
            hint = "it has classes of its own: load it where they are, and give module:callable"
        elif "safe_mode" in text:
            hint = "pass --trust if you know who made the file"
        writer = f"written by Keras {file.keras_version}" if file.keras_version else "it"
        # The last sentence is what went wrong; before it stands the layer's whole configuration.
        _, _, last = text.rpartition("Exception encountered: ")
        raise SmithError(
            f"Keras {keras.__version__} cannot load {file.path}, {writer}: "
            f"{describe(type(error)(last)) if last != text else describe(error)}",
            hint,
        ) from error
