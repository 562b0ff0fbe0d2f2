"""What the tests of the frontend ``jax`` share: exports, and runs of both sides."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.pipeline.frontends.base import ConvertRequest, Source
from onnxsmith.pipeline.frontends.jax.frontend import JaxFrontend
from onnxsmith.runtime.session import Session
from onnxsmith.spec import ValueSpec

FOLDER = Path(__file__).resolve().parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """JAX, Flax and jax2onnx announce their own old ways; ours are errors still."""
    for item in items:
        if item.path.is_relative_to(FOLDER):
            for module in ("jax", "flax", "jax2onnx", "equinox", "orbax"):
                item.add_marker(pytest.mark.filterwarnings(f"ignore:::{module}"))


@pytest.fixture
def adopt() -> Callable[..., Source]:
    """Open a live function or module in this process, with inputs as texts."""

    def adopted(value: object, *inputs: str, **options: Any) -> Source:
        specs = tuple(ValueSpec.parse(text) for text in inputs)
        request = ConvertRequest("nets:build", inputs=specs, **options)
        return JaxFrontend().adopt(value, request)

    return adopted


@pytest.fixture
def parity(tmp_path: Path) -> Callable[..., tuple[onnx.ModelProto, float]]:
    """Export a source and run both on its example and on others; return the worst difference.

    The difference is relative to the largest magnitude of each output.
    """

    def check(
        source: Source, *others: dict[str, np.ndarray[Any, Any]]
    ) -> tuple[onnx.ModelProto, float]:
        export = source.export(tmp_path)
        onnx.checker.check_model(str(export.path), full_check=True)
        worst = 0.0
        with Session(Artifact.load(export.path), optimize=False) as session:
            for feeds in (dict(export.examples), *others):
                expected, found = source.reference(feeds), session.run(feeds)
                assert list(expected) == list(found)
                for name, array in expected.items():
                    assert found[name].shape == array.shape
                    assert found[name].dtype == array.dtype
                    scale = float(np.abs(array).max()) or 1.0
                    worst = max(worst, float(np.abs(found[name] - array).max()) / scale)
        return onnx.load(str(export.path)), worst

    return check
