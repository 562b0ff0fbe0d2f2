"""ONNX files are validated and fitted to the target without any framework."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.frontends.convert import convert
from onnxsmith.runtime.session import Session
from onnxsmith.target import TARGETS

TEXT = """
    <ir_version: {ir}, opset_import: ["" : {opset}]>
    agraph (float[N, 4] x) => (float[N, 4] z) {{ a = Softmax <axis = 1> (x)  z = Exp(a) }}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    onnx.save(onnx.parser.parse_model(TEXT.format(ir=10, opset=20)), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_a_fitting_file_is_only_validated(path: Path) -> None:
    result = convert(path)
    assert (result.frontend, result.parity, result.warnings) == ("onnx", (), ())
    assert [step.kind for step in result.artifact.history] == ["source"]


def test_a_model_too_new_for_the_runtime_is_brought_down_and_compared(tmp_path: Path) -> None:
    """The runtime cannot run the source: ONNX's own evaluator gives the reference."""
    onnx.save(onnx.parser.parse_model(TEXT.format(ir=14, opset=27)), tmp_path / "new.onnx")
    result = convert(tmp_path / "new.onnx", target=TARGETS["edge-cpu"])
    assert result.artifact.model.opset_imports[""] == 21
    assert result.artifact.model.ir_version == 10
    assert result.parity[0].ok
    with Session(result.artifact) as session:
        session.run({"x": np.zeros((3, 4), np.float32)})


def test_an_old_opset_is_raised_when_asked(tmp_path: Path) -> None:
    """Softmax means another thing since opset 13: the converter rewrites it, parity proves it."""
    onnx.save(onnx.parser.parse_model(TEXT.format(ir=7, opset=11)), tmp_path / "old.onnx")
    result = convert(tmp_path / "old.onnx", opset=17)
    assert result.artifact.model.opset_imports[""] == 17
    assert result.parity[0].ok


def test_live_models_come_in(path: Path) -> None:
    assert convert(onnx.load(path)).frontend == "onnx"


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty"), (b"not a model at all", "not an ONNX model")],
)
def test_files_that_are_no_model_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "bad.onnx").write_bytes(content)
    with pytest.raises(SmithError, match=message):
        convert(tmp_path / "bad.onnx")


def test_a_missing_file_is_named() -> None:
    with pytest.raises(SmithError, match=r"there is no file nowhere\.onnx"):
        convert("nowhere.onnx")


def test_weights_beside_an_onnx_file_are_refused(path: Path) -> None:
    with pytest.raises(SmithError, match="names its weights itself"):
        convert(path, weights=path)


def test_an_opset_beyond_the_target_is_a_usage_error(path: Path) -> None:
    with pytest.raises(UsageError, match="opset 99"):
        convert(path, opset=99)


def test_data_gives_the_probes(path: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "probes.npz", x=np.full((6, 4), 3.0, np.float32))
    result = convert(path, opset=21, data=f"npz:{tmp_path / 'probes.npz'}")
    assert result.artifact.history[-1].result["shapes"][0] == {"x": [4, 4]}


def test_no_framework_is_imported_for_an_onnx_file(path: Path) -> None:
    code = (
        "import sys; from onnxsmith.pipeline.frontends.convert import convert;"
        f"convert({str(path)!r}); bad = {{'torch', 'sklearn', 'skl2onnx'}} & set(sys.modules);"
        "sys.exit(' '.join(bad) or None)"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True)


def test_a_source_that_refuses_the_probe_asks_for_sizes(tmp_path: Path) -> None:
    """The made-up size 2 is too small for a window of 5."""
    text = """
        <ir_version: 8, opset_import: ["" : 15]>
        agraph (float[1, 1, H, 9] x) => (float[1, 1, h, w] z)
        { z = MaxPool <kernel_shape = [5, 5]> (x) }
    """
    onnx.save(onnx.parser.parse_model(text), tmp_path / "pool.onnx")
    with pytest.raises(SmithError, match="does not run on the probe") as caught:
        convert(tmp_path / "pool.onnx", opset=17)
    assert "--dim NAME=SIZE" in caught.value.hint
    assert convert(tmp_path / "pool.onnx", opset=17, dims={"H": 11}).parity[0].ok


def invalid(text: str, path: Path, *, unsorted: bool = False) -> Path:
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> {text}')
    if unsorted:
        nodes = list(model.graph.node)
        del model.graph.node[:]
        model.graph.node.extend(reversed(nodes))
    onnx.save(model, path)
    return path


def test_unsorted_nodes_are_sorted(tmp_path: Path) -> None:
    text = "g (float[2] x) => (float[2] y) { a = Neg(x) y = Relu(a) }"
    artifact = convert(invalid(text, tmp_path / "m.onnx", unsorted=True)).artifact
    assert [node.op_type for node in artifact.model.graph] == ["Neg", "Relu"]


@pytest.mark.parametrize(
    "text",
    [
        "g (float[2] x) => (float[2] y) <float[3] a> { a = Neg(x) y = Relu(a) }",
        "g (float[2] x) => (float[4] y) { a = Neg(x) y = Relu(a) }",
    ],
    ids=["a wrong intermediate shape", "a wrong output shape"],
)
def test_wrong_shapes_are_mended_on_request(tmp_path: Path, text: str) -> None:
    path = invalid(text, tmp_path / "m.onnx")
    with pytest.raises(SmithError, match="checker refuses the model") as caught:
        convert(path)
    assert "--repair" in caught.value.hint
    result = convert(path, repair=True)
    onnx.checker.check_model(result.artifact.to_proto(), full_check=True)
    assert result.artifact.spec.outputs[0].shape == (2,)
    assert "not compared" in result.warnings[0]
    with Session(result.artifact) as session:
        np.testing.assert_array_equal(session.run({"x": np.float32([-1, 2])})["y"], [1, 0])


def test_doubled_names_and_outputs_are_mended_on_request(tmp_path: Path) -> None:
    text = "g (float[2] x) => (float[2] y, float[2] x) { [n] a = Neg(x) [n] y = Relu(a) }"
    artifact = convert(invalid(text, tmp_path / "m.onnx"), repair=True).artifact
    names = [node.name for node in artifact.model.graph]
    assert len(set(names)) == len(names) == 3
    with Session(artifact) as session:
        outputs = session.run({session.spec.inputs[0].name: np.float32([-1, 2])})
    assert [list(value) for value in outputs.values()] == [[1, 0], [-1, 2]]


@pytest.mark.parametrize("opset", range(7, 22))
def test_every_opset_from_7_on_reaches_the_newest(tmp_path: Path, opset: int) -> None:
    text = """g (float[N, 3, 8, 8] x) => (float[N, 4, 4, 4] z) {
        c = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, w)
        r = Relu(c)
        z = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r)
    }"""
    model = onnx.parser.parse_model(f'<ir_version: 3, opset_import: ["": {opset}]> {text}')
    weight = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    model.graph.input.append(onnx.helper.make_tensor_value_info("w", 1, (4, 3, 3, 3)))
    onnx.save(model, tmp_path / "old.onnx")
    result = convert(tmp_path / "old.onnx", opset=22)
    assert result.artifact.model.opset_imports[""] == 22
    assert all(difference.ok for difference in result.parity)
    assert len(result.parity) == 1
