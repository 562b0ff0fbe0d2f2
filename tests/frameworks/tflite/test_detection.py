"""The one custom operator that is converted: boxes out of an SSD's scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from flatbuffers import flexbuffers
from tensorflow.lite.python import schema_py_generated as schema

from onnxsmith.artifact import Artifact
from onnxsmith.pipeline.frontends.base import ConvertRequest
from onnxsmith.pipeline.frontends.tflite.source import TfliteSource
from onnxsmith.runtime.session import Session

ANCHORS, CLASSES, MOST = 20, 3, 5


def write(path: Path, *, regular: bool) -> Path:
    """Write a file of one operator, ``TFLite_Detection_PostProcess``."""
    generator = np.random.default_rng(0)
    anchors = np.concatenate(
        [generator.uniform(0.1, 0.9, (ANCHORS, 2)), generator.uniform(0.1, 0.3, (ANCHORS, 2))], 1
    )
    model = schema.ModelT()
    model.version = 3
    held = schema.BufferT()
    held.data = np.frombuffer(anchors.astype(np.float32).tobytes(), np.uint8)
    model.buffers = [schema.BufferT(), held]
    graph = schema.SubGraphT()
    graph.name = "main"
    shapes = {
        "boxes": (1, ANCHORS, 4), "scores": (1, ANCHORS, CLASSES + 1), "anchors": (ANCHORS, 4),
        "places": (1, MOST, 4), "classes": (1, MOST), "certainty": (1, MOST), "count": (1,),
    }  # fmt: skip
    graph.tensors = []
    for name, shape in shapes.items():
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.buffer = name, list(shape), int(name == "anchors")
        graph.tensors.append(tensor)
    graph.inputs, graph.outputs = [0, 1], [3, 4, 5, 6]
    code = schema.OperatorCodeT()
    code.deprecatedBuiltinCode = code.builtinCode = schema.BuiltinOperator.CUSTOM
    code.customCode, code.version = "TFLite_Detection_PostProcess", 1
    model.operatorCodes = [code]
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0, 1, 2], [3, 4, 5, 6]
    operator.customOptions = np.frombuffer(options(regular=regular), np.uint8)
    graph.operators = [operator]
    model.subgraphs = [graph]
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def options(*, regular: bool) -> bytes:
    builder = flexbuffers.Builder()
    with builder.Map():
        builder.Bool("use_regular_nms", regular)
        for key, number in (
            ("max_detections", MOST), ("max_classes_per_detection", 1),
            ("detections_per_class", MOST), ("num_classes", CLASSES),
        ):  # fmt: skip
            builder.Int(key, number)
        for key, value in (
            ("nms_score_threshold", 0.3), ("nms_iou_threshold", 0.5), ("y_scale", 10.0),
            ("x_scale", 10.0), ("h_scale", 5.0), ("w_scale", 5.0),
        ):  # fmt: skip
            builder.Float(key, value)
    return bytes(builder.Finish())


@pytest.mark.parametrize("regular", [False, True])
def test_detections_equal_the_interpreters(tmp_path: Path, regular: bool) -> None:
    source = TfliteSource(ConvertRequest(str(write(tmp_path / "ssd.tflite", regular=regular))))
    export = source.export(tmp_path)
    generator = np.random.default_rng(1)
    with Session(Artifact.load(export.path), optimize=False) as session:
        assert str(session.spec.outputs[0]) == "places: float32[1,5,4]"
        for _ in range(5):
            feeds: dict[str, np.ndarray[Any, Any]] = {
                "boxes": generator.standard_normal((1, ANCHORS, 4)).astype(np.float32),
                "scores": generator.uniform(0, 1, (1, ANCHORS, CLASSES + 1)).astype(np.float32),
            }
            found, expected = session.run(feeds), source.reference(feeds)
            for name, array in expected.items():
                np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-6)
