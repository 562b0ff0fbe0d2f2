"""Which nodes become integers, which values are rounded, and why the rest stays in float."""

import numpy as np
import onnx_ir as ir
import pytest

from onnxsmith.passes.quantization.select import Selection
from onnxsmith.passes.quantization.static.plan import Plan, Scope, give_up, make_plans

SHAPES = {
    "w": (4, 3, 3, 3), "v": (4, 4, 1, 1), "d": (4, 8), "e": (8, 4), "b": (4,), "c": (1,),
    "k": (8, 8), "u": (3, 3, 1, 1), "six": (), "none": (), "minus": (),
}  # fmt: skip
VALUES = {"six": 6.0, "none": 0.0, "minus": -1.0}


def graph(body: str, inputs: str = "float[N,3,8,8] x", outputs: str = "float[] y") -> ir.Graph:
    text = f'<ir_version: 10, opset_import: ["" : 20]> g ({inputs}) => ({outputs}) {{ {body} }}'
    generator = np.random.default_rng(0)
    tensors = [
        ir.tensor(
            np.asarray(VALUES[name] if name in VALUES else generator.random(shape), np.float32),
            name=name,
        )
        for name, shape in SHAPES.items()
        if any(f"{before}{name}{after}" in body for before in "( ," for after in ",)")
    ]
    return ir.from_onnx_text(text, initializers=tensors).graph


def plan(body: str, scope: Scope | None = None, **texts: str) -> Plan:
    return make_plans(graph(body, **texts), scope or Scope())[-1]


def described(found: Plan) -> tuple[str, str]:
    """Return the operators in integers and the names of the values that are rounded."""
    ops = " ".join(node.op_type for node in found.nodes)
    return ops, " ".join(str(value.name) for value in found.values())


@pytest.mark.parametrize(
    ("body", "ops", "values"),
    [
        # A convolution gives integers; a Relu behind it is what rounding does anyway.
        ("y = Conv(x, w)", "Conv", "x y"),
        ("r = Conv(x, w) y = Relu(r)", "Conv", "x y"),
        ("r = Conv(x, w) y = Clip(r, none, six)", "Conv", "x y"),
        # A Clip from elsewhere is not, and neither is a Relu with another reader beside it.
        ("r = Conv(x, w) y = Clip(r, minus, six)", "Conv", "x r"),
        ("r = Conv(x, w) s = Relu(r) y = Sub(r, s)", "Conv", "x r"),
        # Between convolutions everything is in integers.
        ("a = Conv(x, w) s = Sigmoid(a) m = Mul(a, s) y = Conv(m, v)", "Conv Sigmoid Mul Conv",
         "x a s m y"),
        ("a = Conv(x, w) p = GlobalAveragePool(a) f = Flatten(p) y = MatMul(f, k)",
         "Conv GlobalAveragePool Flatten MatMul", "x a p f"),
        # A function of single values that nobody reads as integers would only lose precision,
        ("a = Conv(x, w) y = Sigmoid(a)", "Conv", "x a"),
        # a sum of integers is cheaper than two of floats.
        ("a = Conv(x, w) b2 = Conv(x, w) y = Add(a, b2)", "Conv Conv Add", "x a b2 y"),
        # Nothing is rounded for the sake of a sum, or to be moved.
        ("t = Transpose(x) y = Sin(t)", "", ""),
        ("s = Sin(x) t = Add(x, s) y = Add(t, c)", "", ""),
        ("s = Sin(x) t = Add(s, c) y = Conv(t, w)", "Conv", "t y"),
        # What several integer readers share is rounded for all of them,
        ("s = Sin(x) p = GlobalAveragePool(s) q = Conv(p, u) m = Mul(s, q) y = Conv(m, w)",
         "GlobalAveragePool Conv Mul Conv", "s p q m y"),
        # unless another reads it in float.
        ("s = Sin(x) p = GlobalAveragePool(s) q = Conv(p, u) m = Mul(s, q) n = Conv(m, w)"
         "y = Sub(n, s)", "Conv Conv", "p q m n"),
        # What only moves numbers may do so before or behind a product.
        ("t = Transpose<perm = [0, 3, 1, 2]>(x) y = Conv(t, w)", "Transpose Conv", "x t y"),
        ("a = Conv(x, w) m = MaxPool<kernel_shape = [2, 2]>(a) y = Conv(m, v)",
         "Conv MaxPool Conv", "x a m y"),
        # Softmax has no part in it.
        ("a = Conv(x, w) s = Softmax(a) y = Conv(s, v)", "Conv Conv", "x a s y"),
    ],
)  # fmt: skip
def test_what_becomes_integers(body: str, ops: str, values: str) -> None:
    assert described(plan(body)) == (ops, values)


@pytest.mark.parametrize(
    ("body", "values"),
    [
        # A matrix product gives floats unless integers are asked for.
        ("y = MatMul(x, d)", "x"),
        ("h = MatMul(x, d) y = MatMul(h, e)", "x h"),
        ("h = MatMul(x, d) r = Relu(h) y = MatMul(r, e)", "x r"),
        ("h = MatMul(x, d) g = Gelu(h) y = MatMul(g, e)", "x g"),
        ("h = Gemm(x, e, b) y = Add(h, c)", "x"),
    ],
)
def test_matrix_products_round_what_they_read(body: str, values: str) -> None:
    found = plan(body, inputs="float[N,4] x" if " MatMul(x, d)" in body else "float[N,8] x")
    assert described(found)[1] == values


def test_a_clip_needs_constant_limits() -> None:
    found = plan("r = Conv(x, w) y = Clip(r, low)", inputs="float[N,3,8,8] x, float low")
    assert described(found)[1] == "x r"


@pytest.mark.parametrize(
    ("body", "inputs", "reason"),
    [
        ("y = Conv(x, z)", "float[N,3,8,8] x, float[4,3,1,1] z", "its weight is not a constant"),
        ("y = Conv(x, w, z)", "float[N,3,8,8] x, float[4] z", "its bias is not a constant"),
        ("y = ConvTranspose(x, v)", "float[N,4,8,8] x", "no integer kernel"),
        ("y = MatMul(x, x)", "float[8,8] x", "both of its factors are activations"),
        ("y = MatMul(d, x)", "float[8,8] x", "its first factor is a constant"),
        ("y = MatMul(x, b)", "float[8,4] x", "its weight is a vector"),
        ("y = Gemm(x, x)", "float[8,8] x", "its weight is not a constant"),
        ("y = Gemm<transA = 1>(x, e)", "float[8,8] x", "its first factor is transposed"),
        ("y = Gemm<beta = 2.0>(x, e, b)", "float[8,8] x", "its bias is scaled"),
        ("y = Gemm(x, e, c)", "float[8,8] x", "one constant for each column"),
        ("y = MatMul(x, d)", "double[8,4] x", "not compute in float32"),
        (
            "y, h = LSTM<hidden_size = 4>(x, r, r)",
            "float[8,1,4] x, float[1,16,4] r",
            "known range",
        ),
    ],
)
def test_what_stays_in_float_has_a_reason(body: str, inputs: str, reason: str) -> None:
    found = plan(body, inputs=inputs)
    assert not found.nodes
    (entry,) = found.left.to_json()
    assert reason in entry["reason"]


BRANCHES = """y = If(q) <
    then_branch = t () => (float[8,4] s) { h = MatMul(x, d) s = MatMul(h, e) },
    else_branch = f () => (float[8,4] r) { r = Identity(x) }>"""


def test_bodies_are_planned_apart_inner_ones_first() -> None:
    found = make_plans(graph(BRANCHES, inputs="float[8,4] x, bool q"), Scope())
    assert [p.prefix for p in found] == ["y/0/", "y/1/", ""]
    assert not found[0].nodes  # nobody has inferred the types of its values
    entries = found[-1].left.to_json()
    assert {entry["reason"] for entry in entries} == {"the types of its values are not known"}


def test_bodies_of_other_operators_are_named() -> None:
    body = "y = SequenceMap(q) <body = t (float[8,4] z) => (float[8,8] s) { s = MatMul(z, d) }>"
    found = plan(body, inputs="seq(float[8,4]) q", outputs="seq(float[8,8]) y")
    assert found.left.to_json() == [
        {"node": "s", "op": "MatMul", "reason": "it is in the body of a node SequenceMap"}
    ]


def test_the_user_excludes_products_and_what_lies_between() -> None:
    body = "a = Conv(x, w) s = Sigmoid(a) m = Mul(a, s) y = Conv(m, v)"
    found = plan(body, Scope(Selection(exclude=("y",))))
    # Without the second convolution nobody wants the sigmoid's integers, nor the product's.
    assert described(found) == ("Conv", "x a")
    assert found.left.to_json()[0]["reason"] == "excluded by 'y'"
    assert described(plan(body, Scope(Selection(exclude=("Sigmoid",)))))[0] == "Conv Conv"
    assert described(plan(body, Scope(Selection(only=("y",))))) == ("Conv", "m y")


def test_tensorrt_rounds_the_inputs_of_products_only() -> None:
    scope = Scope(between=False, transposed=True)
    found = plan("a = Conv(x, w) r = Relu(a) s = Add(r, c) y = ConvTranspose(s, v)", scope)
    assert described(found) == ("Conv ConvTranspose", "x s")


def test_products_of_activations_are_quantized_where_that_is_asked_for() -> None:
    found = plan("y = MatMul(x, x)", Scope(both=True), inputs="float[8,8] x")
    assert described(found) == ("MatMul", "x")


def test_a_relu_behind_something_moved_is_no_clip() -> None:
    body = "a = Conv(x, w) t = Transpose(a) r = Relu(t) y = Sub(r, t)"
    assert "r" not in described(plan(body))[1].split()
    body = "a = Conv(x, w) t = MaxPool<kernel_shape = [1, 1]>(a) r = Relu(t) y = Conv(r, v)"
    assert described(plan(body)) == ("Conv MaxPool Conv", "x a t r y")


def test_useless_values_take_their_products_along() -> None:
    found = plan("a = Conv(x, w) s = Sigmoid(a) m = Mul(a, s) y = Conv(m, v)")
    (bad,) = [value for value in found.values() if value.name == "m"]
    give_up(found, {bad: "it is NaN"})
    assert described(found) == ("Conv", "x a")
    assert found.left.to_json() == [{"node": "y", "op": "Conv", "reason": "it is NaN"}]
