"""Data sources on real data sets."""

from pathlib import Path

import numpy as np
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.pipeline.data import open_data, shared_samples
from onnxsmith.pipeline.evaluation import evaluate
from onnxsmith.runtime.session import Session


def test_mnist_8_scores_its_published_accuracy(material: Path) -> None:
    artifact = Artifact.load(material / "real/models/onnx/mnist-8/mnist.onnx")
    data = open_data(f"mnist:{material}/real/datasets/mnist?split=test", artifact.spec)
    with Session(artifact) as session:
        result = evaluate(session, data, ["accuracy", "top-k:k=2", "log-loss"])
    assert result.samples == 10_000
    assert result.metrics["accuracy"] == pytest.approx(0.9891, abs=1e-4)
    assert result.metrics["top-k:k=2"] > 0.995
    assert result.confusion is not None
    assert int(np.trace(result.confusion)) == round(result.metrics["accuracy"] * 10_000)


def test_mnist_splits_share_nothing(material: Path) -> None:
    folder = f"mnist:{material}/real/datasets/mnist"
    assert shared_samples(open_data(folder), open_data(f"{folder}?split=test")) == 0


@pytest.mark.parametrize(
    ("file", "size", "columns", "classes"),
    [
        ("iris.csv", 150, 4, 3),
        ("sonar.csv", 208, 60, 2),
        ("wine.csv", 178, 13, None),
        ("housing.csv", 506, 13, None),
    ],
)
def test_tables(material: Path, file: str, size: int, columns: int, classes: int | None) -> None:
    text = f"csv:{material}/real/datasets/small_tabular/{file}?label=-1"
    data = open_data(text)
    assert data.size == size
    assert next(iter(data.batches(5))).inputs["x"].shape == (5, columns)
    assert (None if data.classes is None else len(data.classes)) == classes
    parts = [open_data(f"{text}&split={part}") for part in ("train", "test")]
    counts = [sum(len(batch) for batch in part.batches(64)) for part in parts]
    assert sum(counts) == size
    assert 0.1 * size < counts[1] < 0.3 * size
    assert shared_samples(*parts) == 0


def test_photos_with_a_table_of_labels(material: Path) -> None:
    data = open_data(
        f"images:{material}/real/datasets/imagenet_sample?label=class_index&resize=256&crop=224"
    )
    batches = list(data.batches(16))
    assert data.size == 63
    assert batches[0].inputs["x"].shape == (16, 3, 224, 224)
    labels = np.concatenate([batch.labels for batch in batches if batch.labels is not None])
    assert labels[:3].tolist() == [0, 16, 32]
