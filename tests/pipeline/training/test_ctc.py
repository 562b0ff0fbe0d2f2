"""CTC against torch's, in value and in gradient."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest
import torch

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.pipeline.training.graphs import gradient_graph
from onnxsmith.pipeline.training.losses.table import make_loss
from onnxsmith.runtime.session import Session

LABELS = np.array([[1, 2, 2, 4], [3, -1, -1, -1], [1, 1, 1, 1], [-1, -1, -1, -1]])


def scaled(shape: str = "n,t,5") -> Artifact:
    """A model whose output is its input times a factor for each place and class."""
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 21]>'
        f"g (float[{shape}] x) => (float[{shape}] y) {{ y = Mul(x, k) }}"
    )
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((8, 5), np.float32), "k"))
    return Artifact.from_proto(proto)


def computed(x: np.ndarray, labels: np.ndarray, blank: int) -> tuple[float, np.ndarray]:
    graph = gradient_graph(scaled(), ["k"], make_loss(f"ctc:blank={blank}"))
    feeds = {"x": x, "labels": labels, "k": np.ones((8, 5), np.float32)}
    with Session(graph.artifact, threads=2) as session:
        found = session.run(feeds)
    return float(found["loss"]), found[graph.gradients["k"]]


@pytest.mark.parametrize("blank", [0, 4])
@pytest.mark.parametrize("spread", [1.0, 30.0])
def test_value_and_gradient_are_torchs(blank: int, spread: float) -> None:
    x = (spread * np.random.default_rng(0).normal(size=(4, 8, 5))).astype(np.float32)
    # No label may be the blank: the classes are renamed so that it is never among them.
    labels = np.where((blank == LABELS) & (LABELS >= 0), 0, LABELS)
    k = torch.ones(8, 5, dtype=torch.float64, requires_grad=True)
    scores = (torch.from_numpy(x).double() * k).log_softmax(2).transpose(0, 1)
    expected = torch.nn.functional.ctc_loss(
        scores, torch.from_numpy(np.maximum(labels, 0)), torch.full((4,), 8),
        torch.from_numpy((labels >= 0).sum(1)), blank=blank, reduction="none",
    ).mean()  # fmt: skip
    expected.backward()
    loss, gradient = computed(x, labels, blank)
    assert loss == pytest.approx(expected.item(), rel=5e-6)
    assert k.grad is not None
    limit = 1e-5 * float(k.grad.abs().max())
    np.testing.assert_allclose(gradient, k.grad.numpy(), rtol=1e-4, atol=limit)


def test_labels_that_have_no_room_have_an_infinite_loss() -> None:
    x = np.zeros((1, 8, 5), np.float32)
    fits, too_many = np.array([[1, 1, 1, 1]]), np.array([[1, 1, 1, 1, 1]])
    assert np.isfinite(computed(x, fits, 0)[0])
    assert computed(x, too_many, 0)[0] == np.inf


def test_other_outputs_are_refused() -> None:
    with pytest.raises(SmithError, match=r"is not \[N, length, classes\]"):
        gradient_graph(scaled("n,5"), ["k"], make_loss("ctc"))
