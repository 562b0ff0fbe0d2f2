"""A model that onnx_ir would repair or shorten with a log line is refused or kept whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.runtime.session import Session

Parse = Callable[..., onnx.ModelProto]
TEXT = "g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { y = Add(x, w) }"


def refuse(model: onnx.ModelProto, folder: Path, reason: str) -> None:
    path = folder / "m.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(SmithError, match=reason) as caught:
        Artifact.load(path)
    assert caught.value.hint


def test_an_undefined_node_input(tmp_path: Path, parse_model: Parse) -> None:
    model = parse_model(TEXT)
    model.graph.node[0].input[0] = "nowhere"
    refuse(model, tmp_path, "input 'nowhere' of the Add node that makes 'y' is defined nowhere")


def test_an_undefined_output(tmp_path: Path, parse_model: Parse) -> None:
    model = parse_model(TEXT)
    model.graph.output[0].name = "nowhere"
    refuse(model, tmp_path, "output 'nowhere' of the graph is computed nowhere")


def test_a_repeated_initializer(tmp_path: Path, parse_model: Parse) -> None:
    model = parse_model(TEXT)
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(2, np.float32), "w"))
    refuse(model, tmp_path, "initializer 'w' is defined twice")


def test_a_repeated_output_and_a_computed_weight(tmp_path: Path, parse_model: Parse) -> None:
    model = parse_model(TEXT)
    model.graph.node.append(model.graph.node[0])
    refuse(model, tmp_path, "node output 'y' is defined twice")
    model.graph.node[1].output[0] = "w"
    refuse(model, tmp_path, "'w' is both given and computed")


def test_a_nameless_initializer(tmp_path: Path, parse_model: Parse) -> None:
    model = parse_model(TEXT)
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(2, np.float32), ""))
    refuse(model, tmp_path, "has no name")


def test_names_that_are_not_text(tmp_path: Path, parse_model: Parse) -> None:
    data = parse_model("g (float[2] xQx) => (float[2] y) { y = Relu(xQx) }").SerializeToString()
    path = tmp_path / "m.onnx"
    path.write_bytes(data.replace(b"xQx", b"x\xffx"))
    with pytest.raises(SmithError, match="is not UTF-8 text"):
        Artifact.load(path)


def test_training_information(tmp_path: Path, parse_model: Parse) -> None:
    model = parse_model(TEXT)
    model.training_info.add().algorithm.name = "sgd"
    refuse(model, tmp_path, "training information")


def test_outer_values_may_be_used_in_branches_before_they_are_made(
    tmp_path: Path, parse_model: Parse
) -> None:
    model = parse_model(
        """g (bool c, float[2] x) => (float[2] y) {
             late = Neg(x)
             y = If(c) <then_branch = a () => (float[2] p) { p = Relu(late) },
                        else_branch = b () => (float[2] q) { q = Abs(late) }>
           }"""
    )
    first, second = model.graph.node
    del model.graph.node[:]
    model.graph.node.extend([second, first])  # not sorted: sort-nodes may mend it
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    loaded = Artifact.load(tmp_path / "m.onnx")
    assert [node.op_type for node in loaded.model.graph] == ["Neg", "If"]
    assert loaded.clone().spec == loaded.spec  # onnx_ir clones only what is in order


def test_a_circle_is_refused(tmp_path: Path, parse_model: Parse) -> None:
    model = parse_model("g (float[2] x) => (float[2] y) { t = Add(x, x) y = Add(t, x) }")
    model.graph.node[0].input[1] = "y"
    refuse(model, tmp_path, "invalid graph")


def test_names_of_one_branch_are_unknown_in_the_other(tmp_path: Path, parse_model: Parse) -> None:
    model = parse_model(
        """g (bool c, float[2] x) => (float[2] y) {
             y = If(c) <then_branch = a () => (float[2] p) { t = Neg(x) p = Relu(t) },
                        else_branch = b () => (float[2] q) { q = Abs(x) }>
           }"""
    )
    model.graph.node[0].attribute[1].g.node[0].input[0] = "t"
    refuse(model, tmp_path, "input 't' of the Abs node that makes 'q' is defined nowhere")


def test_an_outer_value_that_a_branch_hands_out_itself(tmp_path: Path, parse_model: Parse) -> None:
    # The runtime refuses it as well, and onnx_ir cannot copy it.
    model = parse_model(
        """g (bool c, float[2] x) => (float[2] y) {
             y = If(c) <then_branch = a () => (float[2] x) { },
                        else_branch = b () => (float[2] q) { q = Abs(x) }>
           }"""
    )
    refuse(model, tmp_path, "output 'x' of a subgraph is computed nowhere")


@pytest.mark.parametrize("flat", [True, False])
def test_sparse_initializers_become_dense(tmp_path: Path, parse_model: Parse, flat: bool) -> None:
    model = parse_model("g (float[2,3] x) => (float[2,3] y) { y = Add(x, w) }")
    sparse = model.graph.sparse_initializer.add(dims=[2, 3])
    sparse.values.CopyFrom(numpy_helper.from_array(np.array([7, 9], np.float32), "w"))
    indices = np.array([2, 4]) if flat else np.array([[0, 2], [1, 1]])
    sparse.indices.CopyFrom(numpy_helper.from_array(indices, "w_indices"))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with Session(Artifact.load(tmp_path / "m.onnx"), optimize=False) as session:
        found = session.run({"x": np.zeros((2, 3), np.float32)})["y"]
    np.testing.assert_array_equal(found, [[0, 0, 7], [0, 9, 0]])
    np.testing.assert_array_equal(
        Artifact.from_proto(model).model.graph.initializers["w"].const_value.numpy(), found
    )
    assert len(model.graph.sparse_initializer) == 1  # the given model stays as it was


@pytest.mark.parametrize(
    ("dims", "indices"),
    [([2, 3], [6]), ([2, 3], [-1]), ([-2, 3], [0]), ([2**40, 2**20], [0]), ([2, 3], [0, 1])],
)
def test_lying_sparse_initializers_are_refused(
    tmp_path: Path, parse_model: Parse, dims: list[int], indices: list[int]
) -> None:
    model = parse_model("g (float[2,3] x) => (float[2,3] y) { y = Add(x, w) }")
    sparse = model.graph.sparse_initializer.add(dims=dims)
    sparse.values.CopyFrom(numpy_helper.from_array(np.array([7], np.float32), "w"))
    sparse.indices.CopyFrom(numpy_helper.from_array(np.array(indices), "w_indices"))
    refuse(model, tmp_path, "sparse tensor 'w' is not valid")


def test_descriptions_and_annotations_are_kept(tmp_path: Path, parse_model: Parse) -> None:
    model = parse_model(TEXT)
    model.doc_string, model.producer_name, model.domain = "doc", "someone", "a.b"
    model.producer_version, model.model_version = "1.2", 7
    model.graph.doc_string, model.graph.node[0].doc_string = "graph doc", "node doc"
    model.metadata_props.add(key="k", value="v")
    model.graph.metadata_props.add(key="gk", value="gv")
    model.graph.node[0].metadata_props.add(key="nk", value="nv")
    model.graph.input[0].doc_string = "an input"
    model.graph.input[0].type.denotation = "TENSOR"
    model.graph.input[0].type.tensor_type.shape.dim[0].denotation = "DATA_BATCH"
    annotation = model.graph.quantization_annotation.add(tensor_name="x")
    annotation.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="w")
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    Artifact.load(path).save(tmp_path / "o.onnx")
    saved = onnx.load(tmp_path / "o.onnx")
    saved.graph.ClearField("value_info")  # onnx_ir adds the initializer's type there
    # It also writes weights as raw bytes, and the empty domain as absent.
    model.graph.node[0].ClearField("domain")
    for one in (model, saved):
        for tensor in one.graph.initializer:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
    assert saved == model
