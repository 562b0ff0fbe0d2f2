import onnx
import onnx.defs
import onnx.parser
import onnxruntime
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.inspection import costs
from onnxsmith.inspection.arithmetic import MACS
from onnxsmith.inspection.summary import Inspection, inspect_artifact

HEAD = '<ir_version: 10, opset_import: ["": 23, "com.microsoft": 1, "ai.onnx.ml": 3]>'


def inspected(body: str, **dims: int) -> Inspection:
    proto = onnx.parser.parse_model(f"{HEAD} {body}")
    return inspect_artifact(Artifact.from_proto(proto), dims)


@pytest.mark.parametrize(
    ("graph", "macs", "flops"),
    [
        # 5x7 outputs, 16 channels, each a sum over 3 channels and a 3x3 kernel; then the bias.
        (
            "g (float[2,3,7,9] x, float[16,3,3,3] w, float[16] b) => (float[2,16,5,7] y) "
            "{ y = Conv(x, w, b) }",
            2 * 16 * 5 * 7 * 27,
            2 * 2 * 16 * 5 * 7 * 27 + 2 * 16 * 5 * 7,
        ),
        # Depthwise: each output sums over its own channel.
        (
            "g (float[1,8,6,6] x, float[8,1,3,3] w) => (float[1,8,6,6] y) "
            "{ y = Conv<group: int = 8, pads: ints = [1,1,1,1]>(x, w) }",
            8 * 36 * 9,
            2 * 8 * 36 * 9,
        ),
        # Each of 4x5x5 inputs spreads over 6 channels and a 2x2 kernel.
        (
            "g (float[1,4,5,5] x, float[4,6,2,2] w) => (float[1,6,10,10] y) "
            "{ y = ConvTranspose<strides: ints = [2,2]>(x, w) }",
            100 * 24,
            2 * 100 * 24,
        ),
        (
            "g (float[5,3] x, float[7,5] w, float[7] c) => (float[3,7] y) "
            "{ y = Gemm<transA: int = 1, transB: int = 1>(x, w, c) }",
            3 * 7 * 5,
            2 * 3 * 7 * 5 + 21,
        ),
        (
            "g (float[2,1,4,3] x, float[6,3,5] w) => (float[2,6,4,5] y) { y = MatMul(x, w) }",
            2 * 6 * 4 * 5 * 3,
            2 * 2 * 6 * 4 * 5 * 3,
        ),
        ("g (float[3] x, float[3] w) => (float y) { y = MatMul(x, w) }", 3, 6),
        (
            "g (uint8[4,3] x, int8[3,5] w) => (int32[4,5] y) { y = MatMulInteger(x, w) }",
            60,
            120,
        ),
        (
            "g (uint8[1,2,4,4] x, float s, uint8 z, int8[3,2,1,1] w, int8 zw, int32[3] b) "
            "=> (uint8[1,3,4,4] y) { y = QLinearConv(x, s, z, w, s, zw, s, z, b) }",
            48 * 2,
            2 * 48 * 2 + 48,
        ),
        # Sequence 10, batch 2, input 4, hidden 6: 4 gates of 6 x (4 + 6) a step, 2 directions.
        (
            "g (float[10,2,4] x, float[2,24,4] w, float[2,24,6] r) => (float[10,2,2,6] y) "
            '{ y = LSTM<hidden_size: int = 6, direction: string = "bidirectional">(x, w, r) }',
            2 * 10 * 2 * 4 * 6 * 10,
            2 * 2 * 10 * 2 * 4 * 6 * 10,
        ),
        (
            "g (float[10,2,4] x, float[1,18,4] w, float[1,18,6] r) => (float[10,1,2,6] y) "
            "{ y = GRU<hidden_size: int = 6>(x, w, r) }",
            10 * 2 * 3 * 6 * 10,
            2 * 10 * 2 * 3 * 6 * 10,
        ),
        # 2 batches, 3 heads: 5 queries by 7 keys of width 4, then by values of width 6.
        (
            "g (float[2,3,5,4] q, float[2,3,7,4] k, float[2,3,7,6] v) => (float[2,3,5,6] y) "
            "{ y = Attention(q, k, v) }",
            2 * 3 * 5 * 7 * (4 + 6),
            2 * 2 * 3 * 5 * 7 * (4 + 6),
        ),
        # The same as flat tensors, 4 query heads sharing 2 key heads of width 8.
        (
            "g (float[2,5,32] q, float[2,7,16] k, float[2,7,16] v) => (float[2,5,32] y) "
            "{ y = Attention<q_num_heads: int = 4, kv_num_heads: int = 2>(q, k, v) }",
            2 * 4 * 5 * 7 * (8 + 8),
            2 * 2 * 4 * 5 * 7 * (8 + 8),
        ),
        (
            "g (float[3,4] a, float[4,5] b) => (float[3,5] y) "
            '{ y = Einsum<equation: string = "ij,jk->ik">(a, b) }',
            60,
            120,
        ),
        # Left to right: ij,jk -> ik is 3*4*5, then ik,kl -> il is 3*5*6.
        (
            "g (float[3,4] a, float[4,5] b, float[5,6] c) => (float[3,6] y) "
            '{ y = Einsum<equation: string = "ij,jk,kl->il">(a, b, c) }',
            60 + 90,
            2 * (60 + 90),
        ),
        (
            "g (float[2,7,3,4] a, float[7,4,5] b) => (float[2,7,3,5] y) "
            '{ y = Einsum<equation: string = "...ij,...jk->...ik">(a, b) }',
            2 * 7 * 60,
            2 * 2 * 7 * 60,
        ),
        (
            "g (float[3,4] a, float[4,5] b) => (float[3,5] y) "
            '{ y = Einsum<equation: string = "ij,jk">(a, b) }',
            60,
            120,
        ),
        # Contrib: 6 x 8 inputs by packed weights of 3 x 8, then attention of 6 by 6.
        (
            "g (float[1,6,8] x, float[8,24] w, float[24] b) => (float[1,6,8] y) "
            "{ y = com.microsoft.Attention<num_heads: int = 2>(x, w, b) }",
            6 * 8 * 24 + 6 * 6 * 16,
            2 * (6 * 8 * 24 + 6 * 6 * 16),
        ),
        # The same with a narrower V: Q and K of 8, V and the output of 4.
        (
            "g (float[1,6,8] x, float[8,20] w, float[20] b) => (float[1,6,4] y) "
            "{ y = com.microsoft.Attention"
            "<num_heads: int = 2, qkv_hidden_sizes: ints = [8,8,4]>(x, w, b) }",
            6 * 8 * 20 + 6 * 6 * (8 + 4),
            2 * (6 * 8 * 20 + 6 * 6 * (8 + 4)),
        ),
        (
            "g (float[1,6,8] q, float[1,9,8] k, float[1,9,8] v) => (float[1,6,8] y) "
            "{ y = com.microsoft.MultiHeadAttention<num_heads: int = 2>(q, k, v) }",
            6 * 9 * 16,
            2 * 6 * 9 * 16,
        ),
        (
            "g (float[3,5] a, float[3,7] b) => (float[5,7] y) "
            "{ y = com.microsoft.FusedMatMul<transA: int = 1>(a, b) }",
            105,
            210,
        ),
        (
            "g (float[2,3] x) => (float[2,1] y) "
            "{ y = ai.onnx.ml.LinearRegressor<coefficients: floats = [1.0, 2.0, 3.0]>(x) }",
            6,
            12,
        ),
    ],
)
def test_products_cost_what_their_equation_says(graph, macs, flops):
    found = inspected(graph)
    assert dict(found.uncounted) == {}
    assert (found.macs, found.flops) == (macs, flops)


@pytest.mark.parametrize(
    ("graph", "flops"),
    [
        ("g (float[4,5] x, float[5] b) => (float[4,5] y) { y = Add(x, b) }", 20),
        ("g (float[4,5] x) => (float[4,5] y) { y = Gelu(x) }", 80),
        ("g (float[4,5] x) => (float[4,5] y) { y = Softmax(x) }", 100),
        ("g (float[4,5] x) => (float[4,1] y) { y = ReduceMax(x) }", 20),
        ("g (float[4,5] x) => (float[4,5] y) { y = Sum(x, x, x) }", 40),
        (
            "g (float[1,2,6,6] x) => (float[1,2,3,3] y) "
            "{ y = MaxPool<kernel_shape: ints = [2,2], strides: ints = [2,2]>(x) }",
            72,
        ),
        ("g (float[4,5] x) => (float[5,4] y) { y = Transpose(x) }", 0),
        (
            "g (float[1,1,4,4] x) => (float[1,1,8,8] y) <float[4] s = {1., 1., 2., 2.}> "
            '{ y = Resize<mode: string = "linear">(x, , s) }',
            64 * 4 * 2,
        ),
        (
            "g (float[2,3,8] x, float[8] g) => (float[2,3,8] y) "
            "{ y = com.microsoft.SkipLayerNormalization(x, x, g) }",
            8 * 48,
        ),
    ],
)
def test_other_operators_cost_their_elements(graph, flops):
    found = inspected(graph)
    assert dict(found.uncounted) == {}
    assert (found.macs, found.flops) == (0, flops)


def test_unknown_operators_and_shapes_are_listed_not_guessed():
    found = inspected(
        "g (float[4] x) => (float[n] y) { i = NonZero(x) f = Cast<to: int = 1>(i) y = Exp(f) }"
    )
    assert dict(found.uncounted) == {"Exp": costs.UNKNOWN_SHAPE}
    custom = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 21, "mine": 1]> '
        "g (float[4] x) => (float[4] y) { t = mine.Magic(x) y = Exp(x) }"
    )
    assert dict(inspect_artifact(Artifact.from_proto(custom)).uncounted) == {
        "mine.Magic": costs.UNKNOWN_OPERATOR
    }


def test_every_counted_name_is_an_operator_that_exists():
    standard = {(s.domain, s.name) for s in onnx.defs.get_all_schemas_with_history()}
    native = onnxruntime.capi.onnxruntime_pybind11_state.get_all_operator_schema()
    known = standard | {(s.domain, s.name) for s in native}
    assert set(MACS) <= known
    for domain, table in costs._PER_OUTPUT.items():
        assert {(domain, name) for name in table} <= known
    names = {name for _, name in known}
    assert set(costs._OTHER) <= names
    assert names >= costs._FREE


def test_no_operator_is_counted_in_two_ways():
    tables = [
        [name for domain, name in MACS if domain == ""],
        costs._PER_OUTPUT[""],
        costs._OTHER,
        costs._FREE,
    ]
    names = [name for table in tables for name in table]
    assert sorted(names) == sorted(set(names))
