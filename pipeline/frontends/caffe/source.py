"""A Caffe network as a source: its two files, found, read and exported."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from onnxsmith.artifact import file_digest
from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.frontends.base import ConvertRequest, Export
from onnxsmith.pipeline.frontends.caffe.caffemodel import Caffemodel
from onnxsmith.pipeline.frontends.caffe.importer import import_network
from onnxsmith.pipeline.frontends.caffe.net import read_network
from onnxsmith.pipeline.frontends.caffe.text import parse_text
from onnxsmith.storage.save import save_model

# The largest networks in use have 600 kB of text.
_MAX_TEXT = 8_000_000
_NETWORK, _WEIGHTS = ".prototxt", ".caffemodel"


class CaffeSource:
    """A network, read; its weights stay in their file.

    Args:
        request: Names the files.

    Raises:
        SmithError: A file is missing, of another kind, or damaged.
    """

    def __init__(self, request: ConvertRequest) -> None:
        self._request = request
        path, weights, self._missing = _find_files(request)
        self._network = read_network(parse_text(_read_text(path), path.name), request.part)
        self._model = None if weights is None else Caffemodel(weights)

    def export(self, folder: Path) -> Export:
        """Write the model as ONNX; see ``Source.export``."""
        found = import_network(
            self._network,
            self._model,
            missing=self._missing,
            given=self._request.inputs,
            opset=self._request.opset,
        )
        path = folder / "model.onnx"
        save_model(found.model, path)
        details: dict[str, Any] = {"layers": len(self._network.layers)}
        if self._model is not None and self._request.weights is None:
            details["weights"] = self._model.path.name
            details["weights_digest"] = file_digest(self._model.path)
        return Export(path, details=details, warnings=found.warnings, runnable=False)

    def reference(self, feeds: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, Any]:
        """Refuse: there is no Caffe to run the network.

        Raises:
            SmithError: Always.
        """
        raise SmithError("there is no Caffe here to run the network", "compare stored outputs")


def _find_files(request: ConvertRequest) -> tuple[Path, Path | None, str]:
    """Return the network's file, the weights' file, and what to do where that is missing."""
    source = Path(request.source)
    suffix = source.suffix.lower()
    other = _WEIGHTS if suffix != _WEIGHTS else _NETWORK
    second = source.with_suffix(other)
    if request.weights is not None:
        second = Path(request.weights)
        if suffix == _WEIGHTS and second.suffix.lower() == _WEIGHTS:
            raise UsageError(
                f"{source} and {second} are both weights", "give the .prototxt as SOURCE"
            )
    hint = f"put {second.name} beside {source.name}, or give --weights FILE"
    if beside := sorted(path.name for path in _beside(source, other)):
        hint += f" (beside it: {', '.join(beside[:5])})"
    if suffix == _WEIGHTS:
        if not second.is_file():
            raise SmithError(f"the network of {source.name} is missing: no {second.name}", hint)
        return second, source, hint
    return source, second if second.is_file() else None, hint


def _beside(source: Path, suffix: str) -> list[Path]:
    try:
        return [path for path in source.parent.iterdir() if path.suffix.lower() == suffix]
    except OSError:
        return []


def _read_text(path: Path) -> str:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise SmithError(f"{path} is not a regular file", "give a .prototxt")
        if status.st_size > _MAX_TEXT:
            raise SmithError(
                f"{path} has {status.st_size:,} bytes, more than any network's text",
                "give the .prototxt; weights are given with --weights FILE",
            )
        with path.open("rb") as file:
            data = file.read(_MAX_TEXT + 1)
    except OSError as error:
        raise SmithError(
            f"cannot read {path}: {error.strerror}", "check the path and its permissions"
        ) from error
    if b"\0" in data:
        raise SmithError(f"{path} is not text", "give the .prototxt that describes the network")
    return data.decode("utf-8-sig", errors="replace")
