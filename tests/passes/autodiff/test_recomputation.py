"""Activations are computed again: where it cuts, what it writes, and that no number changes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from tests.passes.autodiff.checking import model_of

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.passes.autodiff.recomputation.checkpoints import bytes_of, narrowest
from onnxsmith.passes.autodiff.training_form import seed_random, train_dropout
from onnxsmith.pipeline.training.graphs import GradientGraph, GradientOptions, gradient_graph
from onnxsmith.pipeline.training.losses.table import make_loss
from onnxsmith.runtime.session import Session

STEPS = 3


def chain(between: str = "", last: str = "t3") -> Artifact:
    """Return ``y = Tanh(Tanh(Tanh(x a) b) c) d``."""
    text = (
        "g (float[n, 6] x) => (float[n, 4] y) { h1 = MatMul(x, a) t1 = Tanh(h1)"
        f"h2 = MatMul(t1, b) t2 = Tanh(h2) h3 = MatMul(t2, c) t3 = Tanh(h3) {between}"
        f"y = MatMul({last}, d) }}"
    )
    proto = model_of(text)
    rng = np.random.default_rng(0)
    for name, sizes in {"a": (6, 6), "b": (6, 6), "c": (6, 6), "d": (6, 4)}.items():
        array = rng.normal(size=sizes).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return Artifact.from_proto(proto)


def graph_of(artifact: Artifact, recompute: tuple[str, ...] = ()) -> GradientGraph:
    work = artifact.clone()
    names = [n for n, v in work.model.graph.initializers.items() if v.shape is not None and v.shape]
    train_dropout(work.model)
    options = GradientOptions(recompute=recompute)
    made = gradient_graph(work, names, make_loss("cross-entropy"), options=options)
    seed_random(made.artifact.model, 7)
    return made


def results(graph: GradientGraph, feeds: dict[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
    """Return the outputs of some steps: dropout draws anew in each."""
    with Session(graph.artifact, threads=1, lean=True) as session:
        found = [session.run(feeds) for _ in range(STEPS)]
    renamed = {name: parameter for parameter, name in graph.gradients.items()}
    return [{renamed.get(n, n): array for n, array in step.items()} for step in found]


def feeds_of(artifact: Artifact) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    held = artifact.model.graph.initializers
    feeds = {n: v.const_value.numpy() for n, v in held.items() if v.const_value.shape.rank()}
    feeds["x"] = rng.normal(size=(5, *artifact.spec.inputs[0].shape[1:])).astype(np.float32)
    feeds["labels"] = rng.integers(0, 4, 5)
    return feeds


def branches(graph: GradientGraph) -> list[ir.Graph]:
    found = [node for node in graph.artifact.model.graph if node.op_type == "If"]
    return [node.attributes["then_branch"].as_graph() for node in found]


def same(artifact: Artifact, recompute: tuple[str, ...]) -> GradientGraph:
    """Assert that gradients are the same bit by bit, and return the graph."""
    feeds = feeds_of(artifact)
    made = graph_of(artifact, recompute)
    onnx.checker.check_model(made.artifact.to_proto(), full_check=True)
    for one, other in zip(results(graph_of(artifact), feeds), results(made, feeds), strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)
    return made


def test_what_crosses_a_cut_is_kept_and_the_rest_computed_again() -> None:
    made = same(chain(), ("h2", "h3"))
    later, first = branches(made)
    assert [node.op_type for node in later][:1] == ["Tanh"]
    assert [node.op_type for node in first][:2] == ["MatMul", "Tanh"]
    inside = {v.name for b in (later, first) for n in b for v in n.inputs if v is not None}
    assert {"h2", "x", "a"} <= inside
    assert not {"t1", "t2"} & inside
    outside = {v.name: node for node in made.artifact.model.graph for v in node.inputs if v}
    assert outside["t1"].op_type == outside["t2"].op_type == "MatMul"


def test_the_last_stretch_is_kept() -> None:
    made = same(chain(), ("t3",))
    (only,) = branches(made)
    assert sum(node.op_type == "Tanh" for node in only) == 2
    assert [v.name for v in only[0].inputs if v is not None] == ["x", "a"]


def test_the_runtime_merges_nothing(tmp_path: Path) -> None:
    path = tmp_path / "made.onnx"
    counts = []
    for recompute in ((), ("h2", "h3")):
        graph = graph_of(chain(), recompute)
        with Session(graph.artifact, lean=True, save_optimized=path):
            proto = onnx.load(path, load_external_data=False)
        inner = [a.g for n in proto.graph.node for a in n.attribute if a.name == "then_branch"]
        nodes = [node for g in (proto.graph, *inner) for node in g.node]
        counts.append(sum(node.op_type == "Tanh" for node in nodes))
    assert counts == [3, 5]


@pytest.mark.parametrize("rate", ["0.3", "0.6"])
def test_dropout_draws_the_same_again(rate: str) -> None:
    between = (
        f"r = Constant <value_float = {rate}> () d1 = Dropout(t3, r) s = Sigmoid(d1)"
        "d2 = Dropout(s, r) u = Mul(d2, d2) v = Tanh(u)"
    )
    made = same(chain(between, "v"), ("t2", "u"))
    assert sum(node.op_type == "Dropout" for b in branches(made) for node in b) == 2
    masks = results(made, feeds_of(chain(between, "v")))
    assert (masks[0]["d"] != masks[1]["d"]).any()


def test_gaussian_noise_is_drawn_again() -> None:
    between = "n = RandomNormalLike(t3) m = Mul(t3, n) s = Sigmoid(m) u = Mul(s, m)"
    made = same(chain(between, "u"), ("u",))
    assert any(node.op_type == "RandomNormalLike" for b in branches(made) for node in b)


@pytest.mark.parametrize(
    "body",
    [
        "h = Gelu(h0) s = Add(h, x) m = LayerNormalization(s, g, e) t = Gelu(m) u = Add(t, s)",
        "b0 = Add(h0, e) b1 = Gelu(b0) s = Add(b1, h0) m = LayerNormalization(s, g, e)"
        "t = Sigmoid(m) u = Mul(t, m)",
        "z = Constant <value_int = 3> () i = Constant <value_bool = 1> () "
        "w = Loop(z, i, h0) <body = b (int64 k, bool c, float[n, 2, 48] q) =>"
        "(bool o, float[n, 2, 48] r)"
        "{ o = Identity(c) r1 = Sin(q) r = Mul(r1, g) }>"
        "f = Constant <value_ints = [-1, 2, 48]> () w0 = Reshape(w, f) k = Tanh(w0)"
        "s = Sigmoid(k) t = Mul(s, k) u = Add(t, e)",
    ],
    ids=["pre-norm", "bias-gelu", "loop"],
)
def test_fusions_and_bodies_change_nothing(body: str) -> None:
    body = body.replace("value_bool = 1", "value = bool {1}")
    text = (
        "g (float[n, 2, 48] x) => (float[n, 4] y)"
        f"{{ h0 = MatMul(x, a) {body} v = Flatten(u) y = MatMul(v, d) }}"
    )
    proto = model_of(text)
    rng = np.random.default_rng(0)
    for name, sizes in {"a": (48, 48), "d": (96, 4), "g": (48,), "e": (48,)}.items():
        array = rng.normal(size=sizes).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    made = same(Artifact.from_proto(proto), ("u",))
    assert len(branches(made)) == 1


def test_a_pattern_without_a_match_is_refused() -> None:
    with pytest.raises(SmithError, match="no value that depends on the data is called 'q\\*'"):
        graph_of(chain(), ("q*",))


def test_a_cut_behind_everything_is_none() -> None:
    assert branches(graph_of(chain(), ("loss",))) == []


def test_cuts_are_where_it_is_narrow() -> None:
    saved = list(range(10, 130, 10))
    wide = [40, 2, 40, 40, 40, 3, 40, 40, 40, 2, 40, 0]
    assert narrowest(wide, saved) == [1, 5, 9]
    # What is kept costs as much as it spares: nothing is cut.
    assert narrowest([60] * 11 + [0], saved) == []
    assert narrowest([], []) == []
    assert narrowest([5, 5, 0], [0, 0, 0]) == []


def test_an_even_chain_is_cut_into_about_the_square_root_of_it() -> None:
    cuts = narrowest([10] * 99 + [0], list(range(10, 1010, 10)))
    assert 7 <= len(cuts) <= 11
    ends = np.diff([-1, *cuts, 99])
    assert ends.max() <= 14


def test_sizes_that_are_not_known_count_as_a_batch() -> None:
    kind = ir.TensorType(ir.DataType.FLOAT16)
    assert bytes_of(ir.Value(name="v", type=kind, shape=ir.Shape(["n", 3]))) == 64 * 3 * 2
    assert bytes_of(ir.Value(name="v", type=kind)) == 0


_PEAK = """
import sys
from pathlib import Path
import numpy as np, onnx.parser
from onnxsmith.artifact import Artifact
from onnxsmith.pipeline.training.graphs import GradientOptions, gradient_graph
from onnxsmith.pipeline.training.losses.table import make_loss
from onnxsmith.runtime.session import Session
def peak():  # of this program alone: what getrusage says begins with that of the tests
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])
body = "".join(f"h{i} = MatMul(t{i}, a) t{i + 1} = Tanh(h{i})" for i in range(24))
head = '<ir_version: 10, opset_import: ["" : 21]>'
signature = "g (float[n, 64] t0) => (float[n, 64] t24)"
proto = onnx.parser.parse_model(f"{head} {signature} {{ {body} }}")
a = np.eye(64, dtype=np.float32)
proto.graph.initializer.append(onnx.numpy_helper.from_array(a, "a"))
options = GradientOptions(recompute=tuple(sys.argv[1:]))
made = gradient_graph(Artifact.from_proto(proto), ["a"], make_loss("mse"), options=options)
x = np.zeros((32768, 64), np.float32)
with Session(made.artifact, threads=1, lean=True) as session:
    before = peak()
    session.run({"t0": x, "labels": x, "a": a})
    print(peak() - before)
"""


def test_less_memory_is_held() -> None:
    """24 values of 8 MB each, which the gradient reads."""
    plain, again = (
        int(
            subprocess.run(
                [sys.executable, "-P", "-c", _PEAK, *extra],
                check=True, capture_output=True, text=True,
            ).stdout
        )
        for extra in ((), ("auto",))
    )  # fmt: skip
    assert plain > 24 * 8000
    assert again < plain / 2
