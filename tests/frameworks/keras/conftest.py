"""What the tests of the frontend ``keras`` share: small networks, and runs of both sides."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.pipeline.frontends.base import ConvertRequest, Source
from onnxsmith.pipeline.frontends.keras.frontend import KerasFrontend
from onnxsmith.runtime.session import Session

FOLDER = Path(__file__).resolve().parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """TensorFlow, tf2onnx and Keras announce their own old ways; ours are errors still."""
    for item in items:
        if item.path.is_relative_to(FOLDER):
            for module in ("tensorflow", "tf2onnx", "keras", "google"):
                item.add_marker(pytest.mark.filterwarnings(f"ignore:::{module}"))
            item.add_marker(pytest.mark.filterwarnings("ignore:.*np.object.*:FutureWarning"))
            item.add_marker(pytest.mark.filterwarnings("ignore:.*__array__.*:DeprecationWarning"))
            item.add_marker(pytest.mark.filterwarnings("ignore:You are saving your model as an"))


@pytest.fixture
def open_source() -> Callable[..., Source]:
    """Open a path, or adopt a live model, in this process."""

    def opened(source: object, **options: Any) -> Source:
        frontend = KerasFrontend()
        if isinstance(source, (str, Path)):
            return frontend.open(ConvertRequest(str(source), **options))
        return frontend.adopt(source, ConvertRequest(type(source).__name__, **options))

    return opened


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


def operators(model: onnx.ModelProto) -> list[str]:
    """Return the types of the graph's nodes, in order."""
    return [node.op_type for node in model.graph.node]
