"""Trained files of others: MLPerf Tiny's networks and UltraFace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.pipeline.frontends.base import ConvertRequest
from onnxsmith.pipeline.frontends.tflite.interpreter import Runner
from onnxsmith.pipeline.frontends.tflite.source import TfliteSource
from onnxsmith.runtime.session import Session

pytestmark = pytest.mark.real
TINY = "real/models/tflite/mlperf_tiny"
FACES = "real/models/tflite/ultraface"


def exported(path: Path, folder: Path) -> tuple[TfliteSource, Any]:
    source = TfliteSource(ConvertRequest(str(path)))
    return source, source.export(folder)


def run(export: Any, feeds: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
    with Session(Artifact.load(export.path), optimize=False) as session:
        return session.run(feeds)


@pytest.mark.parametrize(
    "name",
    ["ad01_fp32", "kws_ref_model_float32", "pretrainedResnet", "vww_96_float"],
)
def test_float_networks_equal_the_interpreter(material: Path, tmp_path: Path, name: str) -> None:
    source, export = exported(material / TINY / f"{name}.tflite", tmp_path)
    found, expected = run(export, export.examples), source.reference(export.examples)
    for key, array in expected.items():
        assert np.abs(found[key] - array).max() <= 1e-5 * np.abs(array).max()


@pytest.mark.parametrize(
    ("name", "rows"),
    [("ad01_int8", 50), ("kws_ref_model", 100), ("str_ww_ref_model", 100), ("vww_96_int8", 20)],
)
def test_integer_networks_are_within_one_step_on_nearly_all_values(
    material: Path, tmp_path: Path, name: str, rows: int
) -> None:
    source, export = exported(material / TINY / f"{name}.tflite", tmp_path)
    ((name, example),) = export.examples.items()
    generator = np.random.default_rng(0)
    feeds = {name: generator.integers(-128, 128, (rows, *example.shape[1:])).astype(np.int8)}
    (found,), (expected,) = run(export, feeds).values(), source.reference(feeds).values()
    apart = np.abs(found.astype(int) - expected.astype(int))
    assert (apart > 1).mean() <= 1e-3


def photos(material: Path, size: tuple[int, int], count: int) -> np.ndarray[Any, Any]:
    """Return photos as bytes [count, height, width, 3]; ``size`` is width and height."""
    from PIL import Image

    paths = sorted((material / "real/datasets/imagenet_sample").rglob("*.JPEG"))[:count]
    assert len(paths) == count
    return np.stack([np.asarray(Image.open(p).convert("RGB").resize(size)) for p in paths])


def test_a_deep_integer_network_departs_less_than_the_interpreters_own_kernels(
    material: Path, tmp_path: Path
) -> None:
    """Ties that fall the other way in its additions spread to the softmax, whatever runs it."""
    path = material / TINY / "pretrainedResnet_quant.tflite"
    source, export = exported(path, tmp_path)
    pixels = (photos(material, (32, 32), 60).astype(np.int16) - 128).astype(np.int8)
    feeds = {"input_1_int8": pixels}
    (found,), (expected,) = run(export, feeds).values(), source.reference(feeds).values()
    (other,) = Runner(path, plain=True).run(feeds).values()
    apart = np.abs(found.astype(int) - expected.astype(int))
    kernels = np.abs(other.astype(int) - expected.astype(int))
    assert (apart > 1).mean() <= 0.02
    assert (apart > 1).mean() < (kernels > 1).mean()
    assert (found.argmax(1) == expected.argmax(1)).mean() >= 0.98


@pytest.mark.parametrize(("name", "accuracy"), [("_float32", 0.901), ("", 0.902)])
def test_keyword_spotting_keeps_its_accuracy(
    material: Path, tmp_path: Path, name: str, accuracy: float
) -> None:
    _, export = exported(material / TINY / f"kws_ref_model{name}.tflite", tmp_path)
    data = np.load(material / "real/datasets/kws01_mlperf_tiny/kws01.npz")
    features = data["x"]
    if name:
        features = (features.astype(np.float32) - 83) * 0.5847029089927673
    (scores,) = run(export, {"input_1": features}).values()
    assert float((scores.argmax(1) == data["y"]).mean()) == pytest.approx(accuracy, abs=1e-9)


@pytest.mark.parametrize("name", ["RFB", "slim"])
def test_faces_equal_their_onnx_sibling(material: Path, tmp_path: Path, name: str) -> None:
    stem = f"version-{name}-320_without_postprocessing"
    (sibling,) = (material / "real/models/onnx/ultraface").rglob(f"{stem}.onnx")
    source, export = exported(material / FACES / f"{stem}.tflite", tmp_path)
    pixels = photos(material, (320, 240), 1).astype(np.float32)
    image = np.ascontiguousarray((pixels.transpose(0, 3, 1, 2) - 127) / 128)
    with Session(Artifact.load(sibling)) as session:
        expected = session.run({session.spec.inputs[0].name: image})
    feeds = {"input_1": np.ascontiguousarray(image.transpose(0, 2, 3, 1))}
    found, own = run(export, feeds), source.reference(feeds)
    for array in expected.values():
        (key,) = (k for k, a in found.items() if a.shape == array.shape)
        scale = np.abs(array).max()
        assert np.abs(found[key] - own[key]).max() <= 1e-5 * scale
        assert np.abs(found[key] - array).max() <= 3.3e-4 * scale
