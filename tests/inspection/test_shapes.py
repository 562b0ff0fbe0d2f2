import numpy as np
import onnx
import onnx.defs
import onnx.parser
import onnx_ir as ir
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.inspection.contrib import DOMAIN, RULES, contrib_schemas
from onnxsmith.inspection.shapes import infer_shapes, sizes
from onnxsmith.runtime.session import Session

HEAD = '<ir_version: 10, opset_import: ["": 21, "com.microsoft": 1]>'

# One call of each contrib operator whose shapes we infer, with an Identity behind it so that the
# file itself declares nothing of its result.
CALLS = {
    "Attention": "(float[1,6,8] x, float[8,24] w, float[24] b) <num_heads: int = 2>(x, w, b)",
    "BiasGelu": "(float[4,8] x, float[8] b) (x, b)",
    "DequantizeLinear": "(uint8[4,8] x, float s, uint8 z) (x, s, z)",
    "DynamicQuantizeMatMul": "(float[4,8] x, int8[8,5] w, float s, int8 z) (x, w, s, z)",
    "EmbedLayerNormalization": (
        "(int32[2,3] i, int32[2,3] t, float[9,8] w, float[7,8] p, float[2,8] g, float[8] "
        "a, float[8] b) (i, t, w, p, g, a, b)"
    ),
    "FastGelu": "(float[4,8] x) (x)",
    "FusedGemm": (
        "(float[5,3] a, float[7,5] b, float[7] c) <transA: int = 1, transB: int = 1, "
        'activation: string = "Relu">(a, b, c)'
    ),
    "FusedMatMul": "(float[2,5,3] a, float[2,7,5] b) <transA: int = 1, transB: int = 1>(a, b)",
    "Gelu": "(float[4,8] x) (x)",
    "MatMulIntegerToFloat": (
        "(uint8[4,8] x, int8[8,5] w, float s, float t, uint8 z, int8 y) (x, w, s, t, z, y)"
    ),
    "MatMulNBits": (
        "(float[3,32] x, uint8[5,1,16] w, float[5] s) <K: int = 32, N: int = 5, bits: int "
        "= 4, block_size: int = 32>(x, w, s)"
    ),
    "MultiHeadAttention": (
        "(float[1,6,8] q, float[1,9,8] k, float[1,9,12] v) <num_heads: int = 2>(q, k, v)"
    ),
    "QAttention": (
        "(uint8[1,6,8] x, uint8[8,24] w, float[24] b, float s, float t, int32[1,6] m, "
        "uint8 z, uint8 y) <num_heads: int = 2>(x, w, b, s, t, m, z, y)"
    ),
    "QGemm": (
        "(uint8[3,5] a, float s, uint8 z, int8[5,7] b, float t, int8 y, int32[7] c, float "
        "u, uint8 o) (a, s, z, b, t, y, c, u, o)"
    ),
    "QLinearAdd": (
        "(uint8[4,8] a, float s, uint8 z, uint8[8] b, float t, uint8 y, float u, uint8 o) "
        "(a, s, z, b, t, y, u, o)"
    ),
    "QLinearLeakyRelu": (
        "(uint8[4,8] a, float s, uint8 z, float t, uint8 y) <alpha: float = 0.1>(a, s, z, t, y)"
    ),
    "QLinearMul": (
        "(uint8[4,8] a, float s, uint8 z, uint8[8] b, float t, uint8 y, float u, uint8 o) "
        "(a, s, z, b, t, y, u, o)"
    ),
    "QLinearSigmoid": "(uint8[4,8] a, float s, uint8 z, float t, uint8 y) (a, s, z, t, y)",
    "QLinearSoftmax": (
        "(uint8[4,8] a, float s, uint8 z, float t, uint8 y) <opset: int = 13>(a, s, z, t, y)"
    ),
    "QuantizeLinear": "(float[4,8] x, float s, uint8 z) (x, s, z)",
    "QuickGelu": "(float[4,8] x) (x)",
    "RotaryEmbedding": (
        "(float[1,3,8] x, int64[1,3] p, float[9,2] c, float[9,2] s) <num_heads: int = "
        "2>(x, p, c, s)"
    ),
    "SkipLayerNormalization": "(float[2,3,8] x, float[2,3,8] s, float[8] g) (x, s, g)",
    "SkipSimplifiedLayerNormalization": ("(float[2,3,8] x, float[2,3,8] s, float[8] g) (x, s, g)"),
}


def artifact(operator: str) -> Artifact:
    inputs, _, call = CALLS[operator].partition(") ")
    made = "made, mask" if operator == "EmbedLayerNormalization" else "made"
    text = (
        f"{HEAD} g {inputs}) => (out) {{ {made} = com.microsoft.{operator}{call} "
        "out = Identity(made) }"
    )
    return Artifact.from_proto(onnx.parser.parse_model(text))


def feeds(made: Artifact) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    found = {}
    for spec in made.spec.inputs:
        shape = spec.concrete({}, 1)
        if spec.dtype == "float32":
            found[spec.name] = generator.uniform(0.1, 1, shape).astype(np.float32)
        else:
            found[spec.name] = generator.integers(0, 2, shape).astype(spec.dtype)
    return found


@pytest.mark.parametrize("operator", sorted(CALLS))
def test_inferred_types_and_shapes_are_those_that_the_runtime_returns(operator):
    made = artifact(operator)
    with Session(made) as session:
        expected = session.run(feeds(made))["out"]
    output = infer_shapes(made.model, {}).model.graph.outputs[0]
    assert sizes(output) == expected.shape
    assert output.dtype == ir.DataType.from_numpy(expected.dtype)


def test_every_rule_is_tried():
    # BiasSoftmax has no CPU kernel, and GroupQueryAttention runs with its cache only.
    assert set(RULES) - set(CALLS) == {"BiasSoftmax", "GroupQueryAttention"}


def test_schemas_are_there_only_for_the_time():
    assert not onnx.defs.has("FastGelu", DOMAIN)
    with contrib_schemas():
        assert onnx.defs.has("FastGelu", DOMAIN)
    assert not onnx.defs.has("FastGelu", DOMAIN)


def test_dimensions_are_fixed_by_name_and_values_follow_through_reshapes():
    text = (
        f"{HEAD} g (float[N,S,8] x, float[?,2] z) => (float[A,B] y) "
        "<int64[1] eight = {8}, int64[1] minus = {-1}> "
        "{ s = Shape<start: int = 0, end: int = 1>(x) t = Concat<axis: int = 0>(s, minus) "
        "y = Reshape(x, t) }"
    )
    model = ir.from_proto(onnx.parser.parse_model(text))
    shaped = infer_shapes(model, {"N": 3, "S": 5})
    assert shaped.assumed == {"N": 3, "S": 5, "?": 1}
    assert sizes(shaped.model.graph.outputs[0]) == (3, 40)
    assert [str(d) for d in model.graph.inputs[0].shape] == ["N", "S", "8"]
    assert sizes(infer_shapes(model, {}).model.graph.outputs[0]) == (1, 8)


def test_functions_are_inlined():
    text = """<ir_version: 10, opset_import: ["": 21, "f": 1]>
    g (float[4,5] x) => (float[?,?] y) { y = f.twice(x) }
    <domain: "f", opset_import: ["": 21]> twice (a) => (b) { c = Transpose(a) b = MatMul(a, c) }"""
    shaped = infer_shapes(ir.from_proto(onnx.parser.parse_model(text)), {})
    assert [node.op_type for node in shaped.model.graph] == ["Transpose", "MatMul"]
    assert sizes(shaped.model.graph.outputs[0]) == (4, 4)


def test_constants_from_outside_count_inside_a_branch():
    text = f"""{HEAD} g (bool p, float[2] x) => (float[?] y) <int64[2] pads = {{1, 3}}> {{
    n = Constant<value_ints = [10]>()
    y = If(p) <then_branch = t () => (float[?] a) {{ a = Pad(x, pads) }},
    else_branch = e () => (float[?] b) {{ c = ReduceMax(x) b = Expand(c, n) }}> }}"""
    shaped = infer_shapes(ir.from_proto(onnx.parser.parse_model(text)), {})
    found = [sizes(g.outputs[0]) for g in shaped.model.graphs() if g is not shaped.model.graph]
    assert found == [(6,), (10,)]


def test_shapes_that_contradict_are_a_warning_not_an_error():
    text = f"{HEAD} g (float[4,5] x, float[6,7] w) => (float[?,?] y) {{ y = MatMul(x, w) }}"
    shaped = infer_shapes(ir.from_proto(onnx.parser.parse_model(text)), {})
    assert sizes(shaped.model.graph.outputs[0]) is None


def test_weights_are_not_read(tmp_path):
    weight = np.ones((300, 400), np.float32)
    text = f"{HEAD} g (float[N,300] x, float[300,400] w) => (float[N,400] y) {{ y = MatMul(x, w) }}"
    proto = onnx.parser.parse_model(text)
    del proto.graph.input[1]
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    path = tmp_path / "m.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="w.data", size_threshold=0)
    made = Artifact.load(path)
    (tmp_path / "w.data").unlink()
    assert sizes(infer_shapes(made.model, {"N": 2}).model.graph.outputs[0]) == (2, 400)
