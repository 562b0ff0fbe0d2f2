import onnx
import onnx.parser
import onnx_ir as ir
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from onnxsmith.inspection.memory import Peak, peak_activations
from onnxsmith.inspection.shapes import infer_shapes

HEAD = '<ir_version: 10, opset_import: ["": 21]>'


def peak(text: str) -> Peak:
    model = ir.from_proto(onnx.parser.parse_model(f"{HEAD} {text}"))
    return peak_activations(infer_shapes(model, {}).model.graph)


def test_a_chain_holds_input_and_two_neighbors():
    found = peak("g (float[10] x) => (float[10] y) { a = Exp(x) b = Exp(a) c = Exp(b) y = Exp(c) }")
    # x and y belong to the caller; at each inner step two more live.
    assert found == Peak(3 * 40, "Exp", 0)


def test_a_long_skip_connection_is_held_until_it_is_read():
    found = peak(
        "g (float[1] x) => (float[1] y) <int64[1] n = {100}> "
        "{ a = Expand(x, n) b = Exp(a) c = Exp(b) d = Add(c, a) y = ReduceSum(d) }"
    )
    assert found.bytes == 4 + 3 * 400


def test_views_take_nothing_and_keep_their_source_alive():
    shaped = "<int64[1] s = {20}>"
    reshaped = peak(
        f"g (float[4,5] x) => (float[20] y) {shaped} "
        "{ a = Exp(x) b = Reshape(a, s) c = Exp(b) y = Exp(c) }"
    )
    assert reshaped.bytes == 3 * 80
    copied = peak(
        f"g (float[4,5] x) => (float[20] y) {shaped} "
        "{ a = Exp(x) t = Exp(a) b = Reshape(a, s) c = Exp(b) u = Exp(t) y = Exp(c) }"
    )
    assert copied.bytes == 4 * 80


def test_outputs_live_to_the_end():
    found = peak(
        "g (float[1] x) => (float[100] early, float[100] y) <int64[1] n = {100}> "
        "{ early = Expand(x, n) a = Exp(x) b = Exp(a) y = Expand(b, n) }"
    )
    assert found.bytes == 4 + 400 + 4 + 400


def test_weights_and_constants_are_not_activations():
    found = peak(
        "g (float[2,3] x) => (float[2,3] y) <float[3] w = {1., 2., 3.}> "
        "{ c = Constant<value_float = 2.0>() a = Mul(x, w) y = Mul(a, c) }"
    )
    assert found.bytes == 3 * 24


def test_the_larger_branch_counts_while_the_node_runs():
    found = peak(
        "g (bool p, float[1] x) => (float[1] y) <int64[1] n = {100}> { y = If(p) <"
        "then_branch = t () => (float[1] a) { t0 = Expand(x, n) t1 = Exp(t0) a = ReduceMax(t1) },"
        "else_branch = e () => (float[1] b) { b = Exp(x) }> }"
    )
    assert found.bytes == 1 + 4 + 4 + 800


def test_a_value_that_a_branch_reads_lives_until_the_branch():
    found = peak(
        "g (bool p, float[1] x) => (float[1] y) <int64[1] n = {100}> "
        "{ big = Expand(x, n) small = Exp(x) other = Expand(small, n) m = ReduceMax(other) "
        "y = If(p) <then_branch = t () => (float[1] a) { a = ReduceMax(big) }, "
        "else_branch = e () => (float[1] b) { b = Exp(m) }> }"
    )
    assert found.bytes == 1 + 4 + 400 + 400 + 4


def test_sub_byte_types_are_packed_and_unknown_sizes_are_counted():
    found = peak("g (float[7] x) => (float[n] y) { i = NonZero(x) y = Cast<to: int = 1>(i) }")
    assert found.unknown == 2
    packed = peak(
        "g (float[7] x) => (float[7] y) <float s = {1.0}, int4[7] w = {1,2,3,4,5,6,7}> "
        "{ q = Cast<to: int = 22>(x) y = Cast<to: int = 1>(q) }"
    )
    assert packed.bytes == 28 + 4 + 28


@st.composite
def random_graphs(draw):
    """Draw nodes as (size, inputs) over earlier values, and which values are outputs."""
    count = draw(st.integers(1, 9))
    nodes = [
        (draw(st.integers(1, 50)), draw(st.lists(st.integers(0, i), min_size=1, max_size=3)))
        for i in range(count)
    ]
    outputs = draw(st.sets(st.integers(1, count), min_size=1))
    return draw(st.integers(1, 50)), nodes, sorted(outputs)


@given(random_graphs())
def test_the_scan_agrees_with_a_simulation_of_every_step(graph):
    input_size, nodes, outputs = graph
    sizes = [input_size, *(size for size, _ in nodes)]
    proto = helper.make_graph(
        [
            helper.make_node("Mystery", [f"v{i}" for i in reads], [f"v{index}"], domain="x")
            for index, (_, reads) in enumerate(nodes, 1)
        ],
        "g",
        [helper.make_tensor_value_info("v0", TensorProto.FLOAT, [input_size])],
        [helper.make_tensor_value_info(f"v{i}", TensorProto.FLOAT, [sizes[i]]) for i in outputs],
        value_info=[
            helper.make_tensor_value_info(f"v{i}", TensorProto.FLOAT, [sizes[i]])
            for i in range(1, len(sizes))
            if i not in outputs
        ],
    )
    model = helper.make_model(
        proto, opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid("x", 1)]
    )
    expected = 0
    for step in range(1, len(nodes) + 1):
        live = 0
        for value, size in enumerate(sizes):
            made = value <= step
            read_later = any(value in reads for _, reads in nodes[step - 1 :])
            if made and (value == 0 or value == step or value in outputs or read_later):
                live += 4 * size
        expected = max(expected, live)
    found = peak_activations(infer_shapes(ir.from_proto(model), {}).model.graph)
    assert found.bytes == max(expected, 4 * input_size)
    assert found.unknown == 0
