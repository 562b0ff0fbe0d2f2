from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image
from tests.real.hearing import probabilities, speech

from onnxsmith.artifact import Artifact
from onnxsmith.passes.observers import census
from onnxsmith.pipeline.data import open_data
from onnxsmith.pipeline.evaluation import evaluate
from onnxsmith.pipeline.optimize import OptimizeRequest, optimize
from onnxsmith.runtime.session import Session

Array = np.ndarray[Any, Any]


@pytest.fixture
def models(material: Path) -> Path:
    return material / "real" / "models" / "onnx"


def optimized(path: Path) -> Artifact:
    """Optimize without the latency gate; nothing may be dropped."""
    result = optimize(Artifact.load(path), OptimizeRequest())
    assert result.dropped == ()
    assert result.warnings == ()
    assert result.pipeline.verified
    return result.artifact


def run(artifact: Artifact, feeds: dict[str, Array], *, optimize: bool = True) -> dict[str, Array]:
    with Session(artifact, optimize=optimize, threads=1) as session:
        return session.run(feeds)


def nodes(artifact: Artifact) -> int:
    return sum(census(artifact.model).values())


def test_mnist_8_scores_98_91_percent_before_and_after(models: Path, material: Path) -> None:
    path = models / "mnist-8" / "mnist.onnx"
    data = f"mnist:{material / 'real' / 'datasets' / 'mnist'}?split=test"
    for artifact in (Artifact.load(path), optimized(path)):
        with Session(artifact, threads=1) as session:
            found = evaluate(session, open_data(data, session.spec), ["accuracy"])
        assert found.samples == 10_000
        assert found.metrics["accuracy"] == pytest.approx(0.9891, abs=1e-9)


def test_mnist_conv_gives_its_stored_output(models: Path) -> None:
    folder = models / "mnist-conv_with_io"
    pair = [onnx.load_tensor(str(folder / name)) for name in ("input_0.pb", "output_0.pb")]
    image, expected = (numpy_helper.to_array(tensor) for tensor in pair)
    for artifact in (Artifact.load(folder / "model.onnx"), optimized(folder / "model.onnx")):
        (found,) = run(artifact, {artifact.spec.inputs[0].name: image}).values()
        # The figure that was measured on the stored pair: 7.9e-4 at a magnitude of 6575.
        assert np.abs(found - expected).max() <= 2e-3
        assert np.abs(expected).max() > 6000


def face_image(models: Path) -> Array:
    image = Image.open(models / "ultraface" / "1.jpg").convert("RGB").resize((320, 240))
    return ((np.asarray(image, np.float32) - 127) / 128).transpose(2, 0, 1)[None]


@pytest.mark.parametrize("kind", ["RFB", "slim"])
@pytest.mark.parametrize("variant", ["", "_simplified", "_without_postprocessing"])
def test_ultraface_gives_its_own_outputs(models: Path, kind: str, variant: str) -> None:
    path = models / "ultraface" / f"version-{kind}-320{variant}.onnx"
    before, after = Artifact.load(path), optimized(path)
    feeds = {before.spec.inputs[0].name: face_image(models)}
    expected = run(before, feeds, optimize=False)
    found = run(after, feeds)
    assert list(found) == list(expected)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=1e-5)
    assert nodes(after) < nodes(before) or variant == "_simplified"


@pytest.mark.parametrize("kind", ["RFB", "slim"])
def test_ultraface_equals_its_simplified_sibling(models: Path, kind: str) -> None:
    folder = models / "ultraface"
    ours = optimized(folder / f"version-{kind}-320_without_postprocessing.onnx")
    theirs = Artifact.load(folder / f"version-{kind}-320_simplified.onnx")
    feeds = {ours.spec.inputs[0].name: face_image(models)}
    expected, found = run(theirs, feeds), run(ours, feeds)
    for name, array in expected.items():
        assert np.abs(found[name] - array).max() <= 2e-5
    # onnxsim wrote the sibling.
    assert nodes(ours) <= nodes(theirs)


SPEECH_PROBABILITY = {
    "silero_vad": (1.000, 0.020, 0.012),
    "silero_vad_16k_op15": (1.000, 0.020, 0.012),
    "silero_vad_op18_ifless": (1.000, 0.020, 0.012),
    "silero_vad_half": (0.998, 0.065, 0.016),
}


@pytest.mark.parametrize("name", SPEECH_PROBABILITY)
def test_silero_hears_speech_as_before(
    models: Path, material: Path, name: str, record_property: Callable[[str, object], None]
) -> None:
    path = models / "silero_vad" / f"{name}.onnx"
    before, after = Artifact.load(path), optimized(path)
    record_property("nodes", (nodes(before), nodes(after)))
    files = ("yes_1000ms.wav", "noise_1000ms.wav", "silence_1000ms.wav")
    for file, figure in zip(files, SPEECH_PROBABILITY[name], strict=True):
        audio = speech(material, file)
        found = probabilities(after, audio)
        assert found.max() == pytest.approx(figure, abs=0.002)
        tolerance = 5e-3 if name.endswith("half") else 1e-5
        np.testing.assert_allclose(found, probabilities(before, audio), atol=tolerance)
