"""Loading reads the graph and leaves weights in the file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.storage.load import into_memory, load_model
from onnxsmith.storage.tensors import EmbeddedTensor
from onnxsmith.storage.wire import length_prefix

Parse = Callable[..., onnx.ModelProto]

BIG = 64 * 1024


def weight(model: Artifact, name: str = "w") -> Any:
    return model.model.graph.initializers[name].const_value


@pytest.fixture
def big(tmp_path: Path, parse_model: Parse) -> Path:
    w = np.random.default_rng(0).standard_normal((129, 131)).astype(np.float32)
    model = parse_model("g (float[N,129] x) => (float[N,131] y) { y = MatMul(x, w) }", {"w": w})
    path = tmp_path / "big.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_large_weights_stay_in_the_file_and_are_equal(big: Path) -> None:
    tensor = weight(Artifact.load(big))
    expected = numpy_helper.to_array(onnx.load(big).graph.initializer[0])
    assert isinstance(tensor, EmbeddedTensor)
    np.testing.assert_array_equal(tensor.numpy(), expected)
    assert big.read_bytes()[tensor.offset : tensor.offset + tensor.length] == expected.tobytes()


@pytest.mark.parametrize(("elements", "embedded"), [(BIG // 4 - 1, False), (BIG // 4, True)])
def test_only_weights_from_64_kib_on_are_indexed(
    tmp_path: Path, parse_model: Parse, elements: int, embedded: bool
) -> None:
    w = np.arange(elements, dtype=np.float32)
    path = tmp_path / "m.onnx"
    model = parse_model(f"g (float[{elements}] x) => (float[M] y) {{ y = Add(x, w) }}", {"w": w})
    path.write_bytes(model.SerializeToString())
    tensor = weight(Artifact.load(path))
    assert isinstance(tensor, EmbeddedTensor) is embedded
    np.testing.assert_array_equal(tensor.numpy(), w)


def test_weights_packed_as_float_data_are_indexed_too(tmp_path: Path, parse_model: Parse) -> None:
    w = np.random.default_rng(1).standard_normal(20_000).astype(np.float32)
    model = parse_model("g (float[20000] x) => (float[20000] y) { y = Add(x, w) }")
    tensor = onnx.TensorProto(dims=[20_000], data_type=1, name="w", float_data=w.tolist())
    model.graph.initializer.append(tensor)
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    found = weight(Artifact.load(path))
    assert isinstance(found, EmbeddedTensor)
    np.testing.assert_array_equal(found.numpy(), w)


def test_complex_float_data_is_left_to_the_parser(tmp_path: Path, parse_model: Parse) -> None:
    pairs = np.arange(40_000, dtype=np.float32)
    model = parse_model("g (float[1] x) => (float[1] y) { y = Relu(x) }")
    model.graph.initializer.append(
        onnx.TensorProto(dims=[20_000], data_type=14, name="w", float_data=pairs.tolist())
    )
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    np.testing.assert_array_equal(weight(Artifact.load(path)).numpy(), pairs.view(np.complex64))


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_a_linked_model_file_loads(
    big: Path, tmp_path: Path, link: Callable[[Path, Path], None]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    other = tmp_path / "elsewhere" / "link.onnx"
    link(big, other)
    np.testing.assert_array_equal(
        weight(Artifact.load(other)).numpy(), weight(Artifact.load(big)).numpy()
    )


def test_a_replaced_file_is_an_error_and_not_garbage(big: Path, parse_model: Parse) -> None:
    loaded = Artifact.load(big)
    model = parse_model(
        "g (float[N,129] x) => (float[N,131] y) { y = MatMul(x, w) }",
        {"w": np.ones((129, 131), np.float32)},
    )
    other = big.with_name("other.onnx")
    other.write_bytes(model.SerializeToString())
    os.replace(other, big)
    with pytest.raises(SmithError, match="was replaced after the model was loaded"):
        weight(loaded).numpy()
    with pytest.raises(SmithError, match="was replaced"):
        loaded.save(big.with_name("copy.onnx"))
    assert not big.with_name("copy.onnx").exists()


def test_weights_taken_into_memory_outlive_the_file(big: Path) -> None:
    loaded = Artifact.load(big)
    expected = weight(Artifact.load(big)).numpy().copy()
    into_memory(loaded.model)
    big.unlink()
    np.testing.assert_array_equal(weight(loaded).numpy(), expected)


@pytest.mark.parametrize("shape", [[129, 132], [129], [-129, -131], [2**40, 2**40]])
def test_a_weight_that_does_not_fill_its_shape_is_refused(big: Path, shape: list[int]) -> None:
    model = onnx.load(big)
    model.graph.initializer[0].ClearField("dims")
    model.graph.initializer[0].dims.extend(shape)
    big.write_bytes(model.SerializeToString())
    with pytest.raises(SmithError, match=r"initializer 'w' has|tensor 'w' has"):
        Artifact.load(big)


@pytest.mark.parametrize("data_type", [0, 8, 77])
def test_an_impossible_element_type_is_refused(big: Path, data_type: int) -> None:
    model = onnx.load(big)
    model.graph.initializer[0].data_type = data_type
    big.write_bytes(model.SerializeToString())
    with pytest.raises(SmithError, match="element type"):
        Artifact.load(big)


def test_what_is_no_model_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    with pytest.raises(SmithError, match="cannot read"):
        Artifact.load(path)
    with pytest.raises(SmithError, match="cannot read"):
        Artifact.load(tmp_path)
    path.write_bytes(b"")
    with pytest.raises(SmithError, match="is empty"):
        Artifact.load(path)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    with pytest.raises(SmithError, match="not an ONNX model"):
        Artifact.load(path)
    path.write_text("Version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(SmithError, match="not an ONNX model"):
        Artifact.load(path)
    path.write_bytes(onnx.ModelProto(ir_version=10).SerializeToString())
    with pytest.raises(SmithError, match="has no graph or no opset import"):
        Artifact.load(path)
    with pytest.raises(SmithError, match="not a regular file"):
        Artifact.load("/dev/null")


def test_a_graph_in_two_pieces_is_merged_as_protobuf_does(
    tmp_path: Path, parse_model: Parse
) -> None:
    first = np.random.default_rng(0).standard_normal(20_000).astype(np.float32)
    second = np.random.default_rng(1).standard_normal(20_000).astype(np.float32)
    text = "g (float[20000] x) => (float[20000] y) { t = Add(x, a)\n y = Mul(t, b) }"
    one = parse_model(text, {"a": first})
    two = onnx.ModelProto()
    two.graph.initializer.append(numpy_helper.from_array(second, "b"))
    path = tmp_path / "m.onnx"
    path.write_bytes(one.SerializeToString() + two.SerializeToString())
    loaded = Artifact.load(path)
    np.testing.assert_array_equal(weight(loaded, "a").numpy(), first)
    np.testing.assert_array_equal(weight(loaded, "b").numpy(), second)


def test_a_bomb_of_empty_nodes_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    body = b"\x0a\x00" * 500_001
    (tmp_path / "bomb.onnx").write_bytes(length_prefix(7, len(body)) + body)
    with pytest.raises(SmithError, match="its graph lists more than 500000 nodes and values"):
        load_model(tmp_path / "bomb.onnx")


def test_dimensions_named_by_numbers_are_unknown(parse_model: Parse) -> None:
    # Older exporters name every free dimension "-1"; by their names they would be of one size.
    proto = parse_model("g (float[A,B,4] x) => (float[C,D,4] y) { y = Relu(x) }")
    for value in (proto.graph.input[0], proto.graph.output[0]):
        first, second = value.type.tensor_type.shape.dim[:2]
        first.dim_param, second.dim_value = "-1", -1
    spec = Artifact.from_proto(proto).spec
    assert spec.inputs[0].shape == (None, None, 4)
    assert spec.outputs[0].shape == (None, None, 4)


def test_the_long_name_of_the_standard_operators_is_the_short_one(parse_model: Parse) -> None:
    text = """g (float[2] x) => (float[2] y) { a = ai.onnx.Relu(x) y = own.F(a) }
        <domain: "own", opset_import: ["ai.onnx": 18]> F (a) => (b) { b = Neg(a) }"""
    header = '<ir_version: 10, opset_import: ["ai.onnx": 18, "own": 1]>'
    model = Artifact.from_proto(parse_model(text, header=header)).model
    assert dict(model.opset_imports) == {"": 18, "own": 1}
    (function,) = model.functions.values()
    assert dict(function.opset_imports) == {"": 18}
