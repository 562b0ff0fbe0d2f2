"""Random small graphs: the preset keeps what they compute, and a second run changes nothing."""

from typing import Any

import numpy as np
import onnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from onnxsmith.artifact import Artifact
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.manager import PassManager
from onnxsmith.passes.observers import census
from onnxsmith.passes.pipeline import PassPipeline
from onnxsmith.passes.verify import make_verifier

UNARY = ("Relu", "Identity", "Tanh", "Neg", "Abs", "Transpose2", "Cast", "Reshape", "Unsqueeze")
BINARY = ("Add", "Mul", "Sub", "MatMul", "Max")
SIZE = 3


@st.composite
def models(draw: st.DrawFn) -> onnx.ModelProto:
    """Draw a graph over 3 by 3 matrices: inputs, shared weights, dead ends and an If."""
    generator = np.random.default_rng(draw(st.integers(0, 2**16)))
    weights = [
        numpy_helper.from_array(generator.standard_normal((SIZE, SIZE)).astype(np.float32), f"w{k}")
        for k in range(2)
    ]
    weights.append(numpy_helper.from_array(numpy_helper.to_array(weights[0]), "w2"))
    weights.append(numpy_helper.from_array(np.array([SIZE, SIZE], np.int64), "shape"))
    weights.append(numpy_helper.from_array(np.array([0], np.int64), "axis"))
    values = ["x", "w0", "w1", "w2"]
    nodes: list[onnx.NodeProto] = []
    for index in range(draw(st.integers(1, 9))):
        out = f"v{index}"
        first = draw(st.sampled_from(values))
        op = draw(st.sampled_from(UNARY + BINARY + ("If",)))
        nodes += _nodes(op, first, draw(st.sampled_from(values)), out)
        values.append(out)
    outputs = draw(
        st.lists(
            st.sampled_from([n for n in values if n[0] == "v"]), min_size=1, max_size=2, unique=True
        )
    )
    graph = helper.make_graph(
        nodes,
        "random",
        [_info("x"), helper.make_tensor_value_info("flag", TensorProto.BOOL, [])],
        [_info(name) for name in outputs],
        weights,
    )
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])


def _info(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [SIZE, SIZE])


def _nodes(op: str, first: str, second: str, out: str) -> list[onnx.NodeProto]:
    make = helper.make_node
    if op in BINARY:
        return [make(op, [first, second], [out])]
    if op == "If":
        branches: dict[str, Any] = {
            f"{name}_branch": helper.make_graph(
                [make(inner, [value], [f"{out}_{name}"])], name, [], [_info(f"{out}_{name}")]
            )
            for name, inner, value in (("then", "Identity", first), ("else", "Neg", second))
        }
        return [make("If", ["flag"], [out], **branches)]
    if op == "Transpose2":
        return [make("Transpose", [first], [f"{out}_t"]), make("Transpose", [f"{out}_t"], [out])]
    if op == "Cast":
        return [make("Cast", [first], [out], to=TensorProto.FLOAT)]
    if op == "Reshape":
        return [make("Reshape", [first, "shape"], [out])]
    if op == "Unsqueeze":
        return [
            make("Unsqueeze", [first, "axis"], [f"{out}_u"]),
            make("Squeeze", [f"{out}_u", "axis"], [out]),
        ]
    return [make(op, [first], [out])]


def optimize(artifact: Artifact) -> Artifact:
    verifier = make_verifier(artifact)
    passes = PassPipeline.preset("cpu").passes
    result = PassManager(passes, PassContext(), verifier).run(artifact)
    assert result.dropped == ()
    assert result.verified
    return result.artifact


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(models())
def test_the_preset_keeps_what_a_graph_computes_and_settles(proto: onnx.ModelProto) -> None:
    onnx.checker.check_model(proto, full_check=True)
    before = Artifact.from_proto(proto)
    once = optimize(before)
    onnx.checker.check_model(once.to_proto(), full_check=True)
    assert [v.name for v in once.spec.inputs] == [v.name for v in before.spec.inputs]
    assert once.spec.outputs == before.spec.outputs
    assert sum(census(once.model).values()) <= sum(census(before.model).values())
    assert census(optimize(once).model) == census(once.model)
