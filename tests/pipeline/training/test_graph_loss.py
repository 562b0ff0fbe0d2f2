"""Losses of the user's own: ONNX graphs and onnxscript functions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.pipeline.training.graphs import gradient_graph
from onnxsmith.pipeline.training.losses.graph import GraphLoss
from onnxsmith.pipeline.training.losses.table import make_loss
from onnxsmith.runtime.session import Session

MODEL = (
    '<ir_version: 10, opset_import: ["" : 20]> '
    "g (float[n,3] x) => (float[n,3] y) { s = Mul(x, k) y = Tanh(s) }"
)
# A name of the model's, a function, a constant and a vector instead of a scalar.
LOSS = """
<ir_version: 10, opset_import: ["" : 18, "own" : 1]>
loss (float[n,3] s, float[n,3] wanted) => (float[n] each)
<float four = {4.0}, int64[1] axis = {1}>
{
  away = Sub(s, wanted)
  square = own.square(away)
  long = ReduceSum <keepdims = 0> (square, axis)
  each = Mul(long, four)
}
<domain: "own", opset_import: ["" : 18]>
square (x) => (y) { y = Mul(x, x) }
"""


def model() -> Artifact:
    proto = onnx.parser.parse_model(MODEL)
    proto.graph.initializer.append(
        onnx.numpy_helper.from_array(np.array([0.5, -1, 2], np.float32), "k")
    )
    return Artifact.from_proto(proto)


def computed(loss: GraphLoss) -> tuple[float, np.ndarray, float, np.ndarray]:
    """Loss and gradient, and what they should be for ``4 |tanh(k x) - t|^2``."""
    rng = np.random.default_rng(4)
    k = np.array([0.5, -1, 2])
    x, wanted = rng.normal(size=(2, 6, 3))
    graph = gradient_graph(model(), ["k"], loss)
    feeds = {"x": x, "k": k, "labels": wanted}
    with Session(graph.artifact) as session:
        found = session.run({name: array.astype(np.float32) for name, array in feeds.items()})
    y = np.tanh(k * x)
    slope = (8 * (y - wanted) * (1 - y**2) * x).sum(0) / 6
    value = 4 * ((y - wanted) ** 2).sum(1).mean()
    return float(found["loss"]), found[graph.gradients["k"]], value, slope


def test_a_graph_is_a_loss_and_a_vector_is_averaged(tmp_path: Path) -> None:
    onnx.save(onnx.parser.parse_model(LOSS), tmp_path / "own.onnx")
    loss = make_loss(str(tmp_path / "own.onnx"))
    assert isinstance(loss, GraphLoss)
    assert str(tmp_path) not in loss.name
    value, gradient, expected, slope = computed(loss)
    assert value == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(gradient, slope, rtol=1e-5)
    assert computed(loss)[0] == value  # it can be used again


SCRIPT = """
from onnxscript import FLOAT, script
from onnxscript import opset18 as op

@script(default_opset=op)
def squares(output: FLOAT["N", 3], wanted: FLOAT["N", 3]) -> FLOAT[...]:
    away = output - wanted
    return op.ReduceMean(op.ReduceSum(away * away * 4.0, [1], keepdims=0))

def make():
    return squares

def nothing():
    return 3

def wrong():
    raise ValueError("not today")
"""


@pytest.mark.parametrize("name", ["squares", "make"])
def test_a_script_is_a_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / f"own_{name}.py").write_text(SCRIPT)
    monkeypatch.chdir(tmp_path)
    loss = make_loss(f"own_{name}:{name}")
    assert isinstance(loss, GraphLoss)
    value, gradient, expected, slope = computed(loss)
    assert value == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(gradient, slope, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "words"), [("nothing", "gives a int, not a loss"), ("wrong", "not today")]
)
def test_other_functions_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, words: str
) -> None:
    (tmp_path / f"own_{name}.py").write_text(SCRIPT)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SmithError, match=words):
        make_loss(f"own_{name}:{name}")


def graph_loss(text: str) -> GraphLoss:
    return GraphLoss(Artifact.from_proto(onnx.parser.parse_model(text)), "own")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("float[n,3] a) => (float y) { y = ReduceSum(a) }", "1 inputs and 1 outputs"),
        ("float[n,3] a, float[n,3] t) => (bool[n,3] y) { y = Greater(a, t) }", "gives no float"),
        (
            "double[n,3] a, double[n,3] t) => (double[n,3] y) { y = Sub(a, t) }",
            "takes DOUBLE, but the output 'y' is FLOAT",
        ),
    ],
)
def test_other_graphs_are_refused(text: str, words: str) -> None:
    with pytest.raises(SmithError, match=words):
        computed(graph_loss(f'<ir_version: 10, opset_import: ["" : 18]> g ({text}'))


def test_a_loss_of_a_newer_opset_than_the_model_names_both() -> None:
    text = LOSS.replace('"" : 18, "own"', '"" : 22, "own"').replace('["" : 18]', '["" : 22]')
    with pytest.raises(SmithError, match="the loss is of opset 22, the model of 20"):
        computed(graph_loss(text))
