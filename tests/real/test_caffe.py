"""Caffe's networks: references of another implementation, and trained models."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from onnxsmith.artifact import Artifact
from onnxsmith.pipeline.data import open_data
from onnxsmith.pipeline.evaluation import evaluate
from onnxsmith.pipeline.frontends.convert import convert
from onnxsmith.runtime.session import Session

Array = np.ndarray[Any, Any]
REFERENCES = {
    # Name: nodes of the graph; convolutions are not joined with their normalizations yet.
    "cifar10_full": 24,
    "legacy_v1": 6,
    "lenet": 9,
    "mobilenet_v1_025": 60,
    "resnet18_thin": 72,
    "ssd_mini_head": 29,
}


def relative(found: Array, expected: Array) -> float:
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("name", REFERENCES)
def test_references_are_met_to_1e_5(material: Path, name: str) -> None:
    """Blobs before a softmax are compared too: some softmaxes are saturated."""
    path = material / "reference" / "caffe" / f"{name}.prototxt"
    artifact = convert(path).artifact
    assert len(artifact.model.graph) == REFERENCES[name]
    stored = dict(np.load(path.with_suffix(".npz")))
    feeds = {key[3:]: array for key, array in stored.items() if key.startswith("in_")}
    wanted = {key[4:]: a for key, a in stored.items() if key.startswith(("out_", "mid_"))}
    graph = artifact.model.graph
    assert {value.name for value in graph.outputs} <= wanted.keys()
    values = {value.name: value for node in graph for value in node.outputs}
    graph.outputs.extend(values[blob] for blob in wanted if values[blob] not in graph.outputs)
    with Session(Artifact(artifact.model), optimize=False) as session:
        found = session.run(feeds)
    assert {blob: relative(found[blob], array) for blob, array in wanted.items()} == {
        blob: pytest.approx(0, abs=1e-5) for blob in wanted
    }


@pytest.mark.parametrize("name", ["cifar10_full", "mobilenet_v1_025", "resnet18_thin"])
def test_a_batch_gives_what_its_samples_give(material: Path, name: str) -> None:
    path = material / "reference" / "caffe" / f"{name}.prototxt"
    artifact = convert(path, verify=False).artifact
    (spec,) = artifact.spec.inputs
    assert spec.shape is not None
    assert spec.shape[0] == "batch"
    x = np.random.default_rng(0).normal(size=(3, *map(int, spec.shape[1:]))).astype(np.float32)
    with Session(artifact, optimize=False) as session:
        (together,) = session.run({spec.name: x}).values()
        alone = [next(iter(session.run({spec.name: one[None]}).values())) for one in x]
    assert relative(together, np.concatenate(alone)) <= 5e-6


def test_recorded_outputs_are_checked_on_the_way_in(material: Path) -> None:
    path = material / "reference" / "caffe" / "lenet.prototxt"
    result = convert(path, reference=path.with_suffix(".npz"))
    assert any(difference.output == "prob" and difference.ok for difference in result.parity)


def test_lenet_scores_99_09_percent(material: Path) -> None:
    folder = material / "real" / "models" / "caffe" / "lenet_mnist"
    result = convert(
        folder / "lenet_deploy.prototxt", weights=folder / "lenet_iter_10000.caffemodel"
    )
    data = f"mnist:{material / 'real' / 'datasets' / 'mnist'}?split=test&scale=1/256"
    with Session(result.artifact, threads=1) as session:
        found = evaluate(session, open_data(data, session.spec), ["accuracy"])
    assert found.samples == 10_000
    assert found.metrics["accuracy"] == pytest.approx(0.9909, abs=1e-9)


@pytest.mark.parametrize(("kind", "name", "nodes"), [("RFB", "RFB", 110), ("slim", "slim", 95)])
def test_ultraface_equals_its_onnx_sibling(
    material: Path, kind: str, name: str, nodes: int
) -> None:
    """Measured: boxes 1.4e-5 at a magnitude of 5.8, scores 1.2e-6."""
    models = material / "real" / "models"
    artifact = convert(models / "caffe" / "ultraface" / f"{name}-320.prototxt").artifact
    assert [str(v) for v in artifact.spec.inputs] == ["input: float32[batch,3,240,320]"]
    siblings = models / "onnx" / "ultraface"
    image = Image.open(siblings / "1.jpg").convert("RGB").resize((320, 240))
    x = ((np.asarray(image, np.float32) - 127) / 128).transpose(2, 0, 1)[None]
    sibling = Artifact.load(siblings / f"version-{kind}-320_without_postprocessing.onnx")
    with Session(sibling, optimize=False) as session:
        expected = session.run({session.spec.inputs[0].name: x})
    with Session(artifact, optimize=False) as session:
        found = session.run({"input": x})
        more = session.run({"input": np.concatenate([x, x[:, :, ::-1], x])})
    assert set(found) == set(expected) == {"boxes", "scores"}
    for output, array in expected.items():
        assert relative(found[output], array) <= 5e-6
        np.testing.assert_allclose(more[output][2:], found[output], rtol=1e-5, atol=1e-6)
    # The simplified sibling is what onnxsim made of the same network.
    simplified = Artifact.load(siblings / f"version-{kind}-320_simplified.onnx")
    assert len(artifact.model.graph) == len(simplified.model.graph) == nodes


def test_converting_lenet_imports_no_framework(
    material: Path, tmp_path: Path, run_python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    path = material / "reference" / "caffe" / "lenet.prototxt"
    code = (
        "import sys\n"
        "from onnxsmith.cli.main import run\n"
        "assert run(['convert', sys.argv[1], '-o', sys.argv[2]]) == 0\n"
        "names = ('cv2', 'torch', 'tensorflow', 'jax', 'keras', 'sklearn', 'matplotlib')\n"
        "print([name for name in names if name in sys.modules])"
    )
    done = run_python(code, path, tmp_path / "lenet.onnx")
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
