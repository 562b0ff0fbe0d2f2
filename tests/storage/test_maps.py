"""Models that return maps, as sklearn's classifiers do, pass through whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.manager import PassManager
from onnxsmith.passes.pipeline import PassPipeline
from onnxsmith.passes.verify import make_verifier
from onnxsmith.runtime.session import Session
from onnxsmith.spec import ValueSpec


def map_type() -> onnx.TypeProto:
    kind = onnx.TypeProto()
    inner = kind.sequence_type.elem_type.map_type
    inner.key_type = onnx.TensorProto.INT64
    inner.value_type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    return kind


@pytest.fixture
def zipmap() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Identity", ["x"], ["t"]),
        helper.make_node("ZipMap", ["t"], ["y"], domain="ai.onnx.ml", classlabels_int64s=[7, 8]),
    ]
    x = helper.make_tensor_value_info("x", 1, ["N", 2])
    graph = helper.make_graph(
        nodes,
        "g",
        [x],
        [helper.make_value_info("y", map_type())],
        value_info=[helper.make_value_info("m", map_type())],  # a stale one does no harm
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def test_the_type_survives_loading_optimizing_and_saving(
    zipmap: onnx.ModelProto, tmp_path: Path
) -> None:
    (tmp_path / "m.onnx").write_bytes(zipmap.SerializeToString())
    artifact = Artifact.load(tmp_path / "m.onnx")
    assert artifact.spec.outputs == (ValueSpec("y", "float32", None, "map"),)
    manager = PassManager(PassPipeline.preset("cpu").passes, PassContext(), make_verifier(artifact))
    result = manager.run(artifact)
    assert result.dropped == ()
    assert [d.ok for d in result.differences] == [True]
    result.artifact.save(tmp_path / "o.onnx")
    saved = onnx.load(tmp_path / "o.onnx")
    assert saved.graph.output[0].type == map_type()
    onnx.checker.check_model(saved)
    assert [node.op_type for node in saved.graph.node] == ["ZipMap"]
    with Session(Artifact.load(tmp_path / "o.onnx")) as session:
        found = session.run({"x": np.array([[1, 2]], np.float32)})["y"]
    assert found == [{7: 1.0, 8: 2.0}]


def test_a_model_in_memory_keeps_its_type(zipmap: onnx.ModelProto) -> None:
    before = zipmap.SerializeToString()
    artifact = Artifact.from_proto(zipmap)
    assert zipmap.SerializeToString() == before
    assert artifact.to_proto().graph.output[0].type == map_type()


def test_a_map_inside_a_branch_is_refused(zipmap: onnx.ModelProto) -> None:
    branch = onnx.GraphProto()
    branch.CopyFrom(zipmap.graph)
    branch.ClearField("input")
    outer = onnx.ModelProto()
    outer.CopyFrom(zipmap)
    del outer.graph.node[:]
    outer.graph.node.append(
        helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    )
    outer.graph.input.append(helper.make_tensor_value_info("c", onnx.TensorProto.BOOL, []))
    with pytest.raises(SmithError, match="of a subgraph is a map"):
        Artifact.from_proto(outer)
