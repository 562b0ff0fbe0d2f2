"""What the tests of the frontend ``tflite`` share: small files, and runs of both sides."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from onnxsmith.pipeline.frontends.base import ConvertRequest, Source
from onnxsmith.pipeline.frontends.tflite.frontend import TfliteFrontend

FOLDER = Path(__file__).resolve().parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """TensorFlow and tf2onnx announce their own old ways; ours are errors still."""
    for item in items:
        if item.path.is_relative_to(FOLDER):
            for module in ("tensorflow", "tf2onnx", "keras", "google"):
                item.add_marker(pytest.mark.filterwarnings(f"ignore:::{module}"))
            item.add_marker(pytest.mark.filterwarnings("ignore:.*np.object.*:FutureWarning"))
            item.add_marker(pytest.mark.filterwarnings("ignore:Statistics for quantized"))


@pytest.fixture
def open_source() -> Callable[..., Source]:
    """Open a file in this process."""

    def opened(path: Path, **options: Any) -> Source:
        return TfliteFrontend().open(ConvertRequest(str(path), **options))

    return opened


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One small network in four forms: float, dynamic range, int8 and uint8 at its ends."""
    folder = tmp_path_factory.mktemp("tflite")
    generator = np.random.default_rng(0)
    kernel = tf.Variable(generator.standard_normal((3, 3, 3, 16), np.float32) * 0.3)
    dense = tf.Variable(generator.standard_normal((16, 70), np.float32))
    spec = tf.TensorSpec((1, 12, 12, 3), tf.float32, name="image")

    @tf.function(input_signature=[spec])
    def network(image: Any) -> Any:
        features = tf.nn.relu6(tf.nn.conv2d(image, kernel, 2, "SAME"))
        return tf.reduce_mean(features, (1, 2)) @ dense

    def examples() -> Iterator[list[np.ndarray[Any, Any]]]:
        for _ in range(20):
            yield [generator.standard_normal((1, 12, 12, 3), np.float32)]

    def write(name: str, **settings: Any) -> Path:
        module = tf.Module()
        module.kernel, module.dense = kernel, dense
        converter = tf.lite.TFLiteConverter.from_concrete_functions(
            [network.get_concrete_function()], module
        )
        for key, value in settings.items():
            setattr(converter, key, value)
        path = folder / f"{name}.tflite"
        path.write_bytes(converter.convert())
        return path

    optimize = [tf.lite.Optimize.DEFAULT]
    return {
        "float": write("float"),
        "dynamic": write("dynamic", optimizations=optimize),
        "int8": write(
            "int8", optimizations=optimize, representative_dataset=examples,
            inference_input_type=tf.int8, inference_output_type=tf.int8,
        ),
        "uint8": write(
            "uint8", optimizations=optimize, representative_dataset=examples,
            inference_input_type=tf.uint8, inference_output_type=tf.uint8,
        ),
        "quantized": write("quantized", optimizations=optimize, representative_dataset=examples),
    }  # fmt: skip
