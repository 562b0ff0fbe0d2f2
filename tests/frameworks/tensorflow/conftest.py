"""What the tests of the frontend ``tensorflow`` share: exports, and runs of both sides."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from onnxsmith.pipeline.frontends.base import ConvertRequest, Export, Source
from onnxsmith.pipeline.frontends.tensorflow.frontend import TensorflowFrontend

FOLDER = Path(__file__).resolve().parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """TensorFlow and tf2onnx announce their own old ways; ours are errors still."""
    for item in items:
        if item.path.is_relative_to(FOLDER):
            for module in ("tensorflow", "tf2onnx", "keras", "google"):
                item.add_marker(pytest.mark.filterwarnings(f"ignore:::{module}"))
            item.add_marker(pytest.mark.filterwarnings("ignore:.*np.object.*:FutureWarning"))


@pytest.fixture
def open_source() -> Callable[..., Source]:
    """Open a path, or adopt a live object, in this process."""

    def opened(source: object, **options: Any) -> Source:
        frontend = TensorflowFrontend()
        if isinstance(source, (str, Path)):
            return frontend.open(ConvertRequest(str(source), **options))
        return frontend.adopt(source, ConvertRequest(type(source).__name__, **options))

    return opened


@pytest.fixture
def parity(tmp_path: Path) -> Callable[..., tuple[onnx.ModelProto, float, Export]]:
    """Export a source, run both on its example and on other inputs; return the worst difference.

    The difference is relative to the largest magnitude of each output.
    """

    def check(
        source: Source, *others: dict[str, np.ndarray[Any, Any]]
    ) -> tuple[onnx.ModelProto, float, Export]:
        export = source.export(tmp_path)
        onnx.checker.check_model(str(export.path), full_check=True)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(str(export.path), options)
        names = [value.name for value in session.get_outputs()]
        worst = 0.0
        for feeds in (dict(export.examples), *others):
            expected = source.reference(feeds)
            assert list(expected) == names
            for name, array in zip(names, session.run(None, feeds), strict=True):
                assert array.shape == expected[name].shape
                assert array.dtype == expected[name].dtype
                if array.dtype == object:
                    assert array.tolist() == expected[name].tolist()
                elif array.size:
                    scale = float(np.abs(expected[name].astype(np.float64)).max()) or 1.0
                    worst = max(worst, float(np.abs(array - expected[name]).max()) / scale)
        return onnx.load(str(export.path)), worst, export

    return check


def signature(model: onnx.ModelProto) -> dict[str, list[int | str]]:
    """Return the name and shape of each input and output; open dimensions by name."""
    return {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
