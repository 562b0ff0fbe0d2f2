"""What is saved is what was there, in either form, and the same bytes every time."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from onnxsmith.artifact import Artifact, Step
from onnxsmith.errors import SmithError
from onnxsmith.runtime.session import Session
from onnxsmith.storage import save as saving
from onnxsmith.storage.tensors import EmbeddedTensor, ExternalWeight

Parse = Callable[..., onnx.ModelProto]
Load = Callable[..., Artifact]
MATMUL = "g (float[N,150] x) => (float[N,160] y) { t = MatMul(x, w) y = Add(t, b) }"
FORMS = pytest.mark.parametrize("external", [False, True])


@pytest.fixture
def matmul(load_text: Load) -> Artifact:
    rng = np.random.default_rng(0)
    w = rng.standard_normal((150, 160)).astype(np.float32)
    return load_text(MATMUL, {"w": w, "b": rng.standard_normal(160).astype(np.float32)})


def arrays(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Read the weights with onnx's own reader."""
    return {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}


@FORMS
def test_round_trip_is_bit_equal(matmul: Artifact, tmp_path: Path, external: bool) -> None:
    path = tmp_path / "o.onnx"
    matmul.save(path, external)
    source = arrays(tmp_path / "text-0.onnx")
    found = arrays(path)
    assert found.keys() == source.keys()
    assert all(found[name].tobytes() == source[name].tobytes() for name in source)
    onnx.checker.check_model(str(path), full_check=True)
    assert len(list(tmp_path.glob("o.*.data"))) == external
    again = Artifact.load(path)
    kind = ExternalWeight if external else EmbeddedTensor
    assert isinstance(again.model.graph.initializers["w"].const_value, kind)
    again.save(tmp_path / "p.onnx")  # keeps the form
    assert len(list(tmp_path.glob("p.*.data"))) == external


@FORMS
def test_the_same_input_gives_the_same_bytes(
    matmul: Artifact, tmp_path: Path, external: bool
) -> None:
    written = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        step = Step("fold", "pass", {"b": 2, "a": 1}, {"n": 0.1})
        matmul.with_step(step).save(tmp_path / folder / "o.onnx", external)
        files = sorted((tmp_path / folder).iterdir())
        written.append([(file.name, file.read_bytes()) for file in files])
    assert written[0] == written[1]


@FORMS
def test_loading_and_saving_settles(matmul: Artifact, tmp_path: Path, external: bool) -> None:
    generations = []
    matmul.save(tmp_path / "o.onnx", external)
    for _ in range(3):
        Artifact.load(tmp_path / "o.onnx").save(tmp_path / "o.onnx")
        generations.append([(f.name, f.read_bytes()) for f in sorted(tmp_path.glob("o.*"))])
    assert generations[0] == generations[1] == generations[2]


@pytest.mark.parametrize(
    ("name", "code"),
    [("bfloat16", 16), ("float8_e4m3fn", 17), ("uint4", 21), ("int4", 22), ("float16", 10)],
)
@FORMS
def test_small_element_types(tmp_path: Path, name: str, code: int, external: bool) -> None:
    dtype = np.dtype(getattr(ml_dtypes, name, None) or name)
    array = np.random.default_rng(0).integers(0, 7, (333, 801)).astype(dtype)
    constant = ir.Value(name="w", const_value=ir.Tensor(array, name="w"))
    graph = ir.Graph([], [], nodes=[], initializers=[constant], opset_imports={"": 21}, name="g")
    Artifact(ir.Model(graph, ir_version=10)).save(tmp_path / "o.onnx", external)
    tensor = onnx.load(tmp_path / "o.onnx").graph.initializer[0]
    assert tensor.data_type == code
    np.testing.assert_array_equal(
        numpy_helper.to_array(tensor).astype(np.float32), array.astype(np.float32)
    )
    found = Artifact.load(tmp_path / "o.onnx").model.graph.initializers["w"].const_value
    assert isinstance(found, ir.ExternalTensor)
    np.testing.assert_array_equal(found.numpy().astype(np.float32), array.astype(np.float32))
    Artifact.load(tmp_path / "o.onnx").save(tmp_path / "p.onnx", not external)
    assert onnx.load(tmp_path / "p.onnx").graph.initializer[0].raw_data == tensor.raw_data


def test_ir_3_models_keep_their_weights_as_inputs(load_text: Load, tmp_path: Path) -> None:
    w = np.arange(20_000, dtype=np.float32)
    text = "g (float[20000] x, float[20000] w) => (float[20000] y) { y = Add(x, w) }"
    artifact = load_text(text, {"w": w}, ir_version=3, opset=8)
    assert [v.name for v in artifact.spec.inputs] == ["x"]
    artifact.save(tmp_path / "o.onnx")
    saved = onnx.load(tmp_path / "o.onnx")
    assert [v.name for v in saved.graph.input] == ["x", "w"]
    assert saved.ir_version == 3
    np.testing.assert_array_equal(arrays(tmp_path / "o.onnx")["w"], w)
    onnx.checker.check_model(saved)


def test_text_initializers(tmp_path: Path) -> None:
    words = np.array(["é", "", "b" * 200_000], dtype=object)
    graph = helper.make_graph(
        [helper.make_node("Identity", ["w"], ["y"])],
        "g",
        [],
        [helper.make_tensor_value_info("y", onnx.TensorProto.STRING, [3])],
        [numpy_helper.from_array(words, "w")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    Artifact.load(tmp_path / "m.onnx").save(tmp_path / "o.onnx", external=True)
    assert arrays(tmp_path / "o.onnx")["w"].tolist() == words.tolist()


SUBGRAPHS = """g (bool c, float[N] x) => (float[N] y) {
  y = If(c) <then_branch = a () => (float[N] p) <float[3] wa = {1, 2, 3}> { p = Add(x, wa) },
             else_branch = b () => (float[N] q) { q = Identity(x) }>
}"""


def test_subgraph_weights_functions_and_opsets(load_text: Load, tmp_path: Path) -> None:
    header = '<ir_version: 10, opset_import: ["": 18, "own": 3, "com.microsoft": 1]>'
    text = SUBGRAPHS.replace("y = If", "z = own.Twice(x) y = If").replace("Add(x", "Add(z")
    body = '<domain: "own", opset_import: ["": 18]> Twice (a) => (b) { b = Add(a, a) }'
    artifact = load_text(f"{text}\n{body}", header=header)
    artifact.save(tmp_path / "o.onnx")
    saved = onnx.load(tmp_path / "o.onnx")
    assert {o.domain: o.version for o in saved.opset_import} == {
        "": 18,
        "own": 3,
        "com.microsoft": 1,
    }
    assert [f.name for f in saved.functions] == ["Twice"]
    with Session(Artifact.load(tmp_path / "o.onnx"), optimize=False) as session:
        found = session.run({"c": np.array(True), "x": np.array([1, 10, 100], np.float32)})["y"]
    np.testing.assert_array_equal(found, [3, 22, 203])


@FORMS
def test_saving_over_the_own_file(matmul: Artifact, tmp_path: Path, external: bool) -> None:
    path = tmp_path / "o.onnx"
    matmul.save(path, external)
    expected = arrays(path)
    artifact = Artifact.load(path).with_step(Step("again", "pass"))
    artifact.save(path)
    found = arrays(path)
    assert all(found[name].tobytes() == expected[name].tobytes() for name in expected)
    assert Artifact.load(path).history[-1].name == "again"
    if external:  # equal weights: the data file of the same name is replaced by its equal
        assert len(list(tmp_path.glob("o.*.data"))) == 1
    with pytest.raises(SmithError, match="was replaced after the model was loaded"):
        artifact.save(tmp_path / "p.onnx")


def test_another_models_weights_replace_the_old_data_file(
    matmul: Artifact, load_text: Load, tmp_path: Path
) -> None:
    path = tmp_path / "o[1].onnx"  # a name that is a glob pattern, too
    neighbour = tmp_path / ("o1." + "0" * 16 + ".data")
    neighbour.write_bytes(b"kept")
    matmul.save(path, external=True)
    old = set(tmp_path.glob("o[[]1].*.data"))
    ones = np.ones((150, 160), np.float32)
    other = load_text(MATMUL, {"w": ones, "b": np.ones(160, np.float32)})
    other.save(path, external=True)
    new = set(tmp_path.glob("o[[]1].*.data"))
    assert len(old) == len(new) == 1
    assert old != new
    np.testing.assert_array_equal(arrays(path)["w"], ones)
    assert neighbour.read_bytes() == b"kept"


def test_weights_beyond_the_limit_go_outside(
    matmul: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "EMBED_LIMIT", 90_000)
    matmul.save(tmp_path / "o.onnx")
    assert len(list(tmp_path.glob("o.*.data"))) == 1
    with pytest.raises(SmithError, match="do not fit into one ONNX file"):
        matmul.save(tmp_path / "p.onnx", external=False)
    assert not (tmp_path / "p.onnx").exists()


def test_data_is_aligned_to_pages(load_text: Load, tmp_path: Path) -> None:
    weights = {n: np.full(20_001 + i, i, np.float32) for i, n in enumerate("abc")}
    text = "g (float[1] x) => (float[1] y) { y = Relu(x) }"
    load_text(text, weights).save(tmp_path / "o.onnx", external=True)
    for tensor in onnx.load(tmp_path / "o.onnx", load_external_data=False).graph.initializer:
        entries = {e.key: e.value for e in tensor.external_data}
        assert int(entries.get("offset", 0)) % 4096 == 0
    assert arrays(tmp_path / "o.onnx").keys() == weights.keys()
    assert all((arrays(tmp_path / "o.onnx")[n] == w).all() for n, w in weights.items())


def test_saving_changes_nothing_in_the_artifact(matmul: Artifact, tmp_path: Path) -> None:
    before = matmul.model.graph.initializers["w"].const_value
    matmul.save(tmp_path / "o.onnx", external=True)
    assert matmul.model.graph.initializers["w"].const_value is before
    assert "onnxsmith.history" not in matmul.model.metadata_props


def test_a_graph_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    value = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([1]))
    broken = ir.Node("", "Relu", [value], num_outputs=1)
    broken.outputs[0].name = "\udcff"
    graph = ir.Graph([value], broken.outputs, nodes=[broken], opset_imports={"": 18}, name="g")
    with pytest.raises(SmithError, match="cannot be written as ONNX"):
        Artifact(ir.Model(graph, ir_version=10)).save(tmp_path / "o.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_large_weight_is_never_held_whole(load_text: Load, tmp_path: Path) -> None:
    size = 16_000_000
    weight = np.ones(size, np.float32)
    artifact = load_text(
        f"g (float[{size}] x) => (float[{size}] y) {{ y = Add(x, w) }}", {"w": weight}
    )
    for external in (False, True):
        tracemalloc.start()
        artifact.save(tmp_path / "out.onnx", external=external)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < size  # a quarter of the weight
