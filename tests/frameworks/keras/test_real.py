"""MLPerf Tiny's trained Keras files equal the TensorFlow Lite files made of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.pipeline.frontends.base import ConvertRequest
from onnxsmith.pipeline.frontends.tflite.interpreter import interpreter_module
from onnxsmith.pipeline.frontends.tflite.source import TfliteSource
from onnxsmith.runtime.session import Session

pytestmark = pytest.mark.real
KERAS = "real/models/keras/mlperf_tiny"
LITE = "real/models/tflite/mlperf_tiny"


@pytest.mark.parametrize(
    ("name", "sibling", "low", "high", "nodes", "apart"),
    [
        # The moving means in these two files differ (dense_5: 2.74 and 3.02), so they are not of
        # the same moment of training: no conversion of the one can equal the other.
        ("ad01", "ad01_fp32", -10.0, 10.0, 47, 3e-2),
        ("pretrainedResnet", "pretrainedResnet", 0.0, 255.0, 31, 1e-3),
        # 65, but on a busy machine TensorFlow's own optimizer leaves a scale apart now and then;
        # with its batch normalizations not folded the network has more than 90.
        ("vww_96", "vww_96_float", 0.0, 1.0, 70, 1e-3),
    ],
)
def test_networks_equal_their_siblings(
    material: Path,
    tmp_path: Path,
    open_source: Callable[..., Any],
    name: str,
    sibling: str,
    low: float,
    high: float,
    nodes: int,
    apart: float,
) -> None:
    (tmp_path / "lite").mkdir()
    export = open_source(material / KERAS / f"{name}.h5").export(tmp_path)
    artifact = Artifact.load(export.path)
    assert len(artifact.model.graph) <= nodes
    lite = TfliteSource(ConvertRequest(str(material / LITE / f"{sibling}.tflite")))
    (input_name,) = lite.export(tmp_path / "lite").examples
    with Session(artifact, optimize=False) as session:
        (spec,) = session.spec.inputs
        generator = np.random.default_rng(0)
        sizes = [size if isinstance(size, int) else 1 for size in spec.shape or ()]
        for _ in range(10):
            x = generator.uniform(low, high, sizes).astype(np.float32)
            (found,) = session.run({spec.name: x}).values()
            (expected,) = lite.reference({input_name: x}).values()
            assert np.abs(found - expected).max() <= apart * np.abs(expected).max()


def test_the_wake_word_decides_as_its_integer_sibling(
    material: Path, tmp_path: Path, open_source: Callable[..., Any]
) -> None:
    # There is no float file of it, and 8 bits round scores: decisions are compared.
    (tmp_path / "lite").mkdir()
    export = open_source(material / KERAS / "str_ww_ref_model.h5").export(tmp_path)
    lite = TfliteSource(ConvertRequest(str(material / LITE / "str_ww_ref_model.tflite")))
    steps = lite.export(tmp_path / "lite")
    (input_name,) = steps.examples
    with np.load(material / KERAS / "calibration_samples.npz") as samples:
        specs = samples["specs"].astype(np.float32)
    interpreter = interpreter_module().Interpreter(str(lite.path))
    ((scale, zero),) = [detail["quantization"] for detail in interpreter.get_input_details()]
    stored = np.clip(np.round(specs / scale) + zero, -128, 127).astype(np.int8)
    with Session(Artifact.load(export.path), optimize=False) as session:
        (found,) = session.run({session.spec.inputs[0].name: specs}).values()
    (expected,) = lite.reference({input_name: stored}).values()
    assert (found.argmax(1) == expected.argmax(1)).all()
