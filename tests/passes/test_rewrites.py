# ruff: noqa: E501 - a graph is easier read in one line
"""What each wrapped pass makes of a small graph: operators before and after, and equal numbers."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.observers import census
from onnxsmith.passes.pipeline import PassPipeline
from onnxsmith.runtime.probe import probe_inputs
from onnxsmith.runtime.session import Session

RNG = np.random.default_rng(11)


def weights(**shapes: tuple[int, ...]) -> dict[str, np.ndarray[Any, Any]]:
    return {name: RNG.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def positive(name: str, size: int) -> dict[str, np.ndarray[Any, Any]]:
    return {name: RNG.uniform(0.5, 2, size).astype(np.float32)}


class Case(NamedTuple):
    """A pass, a graph and the operators it leaves."""

    passes: str
    text: str
    after: dict[str, int]
    weights: Mapping[str, np.ndarray[Any, Any]] = MappingProxyType({})


X = "float[N,4] x"
Y = "float[N,4] y"
IMAGE = "float[N,3,8,8] x"
BN = {**weights(g=(5,), bt=(5,), m=(5,)), **positive("v", 5)}

CASES = [
    Case("lift-constants", f"g ({X}) => ({Y}) {{ c = Constant<value = float {{3}}>() y = Mul(x, c) }}",
         {"Mul": 1}),
    Case("remove-unused-nodes", f"g ({X}) => ({Y}) {{ d = Exp(x) e = Neg(d) y = Relu(x) }}", {"Relu": 1}),
    Case("merge-common-subexpressions",
         f"g ({X}) => ({Y}) {{ a = Exp(x) b = Exp(x) y = Add(a, b) }}", {"Exp": 1, "Add": 1}),
    Case("settle-reshapes,remove-unused-nodes",
         "g (float[N,T,4] x) => (float[N,T,2,2] y) <int64[2] tail = {2, 2}> {"
         " s = Shape<start = 0, end = 2>(x) t = Concat<axis = 0>(s, tail) y = Reshape(x, t) }",
         {"Reshape": 1}),
    Case("infer-shapes,remove-neutral-elements",
         "g (float[N,3] x) => (float[N,3] y) <float[3] z = {0, 0, 0}, float[1,3] o = {1, 1, 1}> {"
         " e = Exp(x) a = Add(z, e) b = Sub(a, z) c = Mul(b, o) d = Div(c, o) y = Pow(d, o) }",
         {"Exp": 1}),
    *(Case("fuse-gelu,remove-unused-nodes", f"g ({X}) => ({Y}) <float h = {{0.5}}, float one = {{1}}, float r = {{1.4142135}},"
           f" float k = {{0.044715}}, float p = {{0.7978846}}, float three = {{3}}> {{ {body} }}", {"Gelu": 1})
      for body in (
          "a = Div(x, r) t = Erf(a) u = Add(t, one) v = Mul(x, u) y = Mul(v, h)",
          "a = Div(x, r) t = Erf(a) u = Add(one, t) v = Mul(h, x) y = Mul(v, u)",
          "q = Pow(x, three) s = Mul(q, k) a = Add(x, s) b = Mul(p, a) t = Tanh(b) u = Add(t, one)"
          " v = Mul(h, u) y = Mul(x, v)",
          "d = Mul(x, x) q = Mul(d, x) s = Mul(k, q) a = Add(s, x) b = Mul(a, p) t = Tanh(b) u = Add(t, one)"
          " w = Mul(x, h) y = Mul(w, u)",
      )),
    Case("drop-zero-states,remove-unused-nodes",
         "g (float[T,N,3] x) => (float[T,1,N,2] y) <int64[1] one = {1}, int64[1] two = {2}> {"
         " n = Shape<start = 1, end = 2>(x) s = Concat<axis = 0>(one, n, two)"
         " z = ConstantOfShape(s) y, h, c = LSTM<hidden_size = 2>(x, w, r, b, , z, z) }",
         {"LSTM": 1}, weights(w=(1, 8, 3), r=(1, 8, 2), b=(1, 16))),
    Case("merge-scales", "g (float[N,3,4] x) => (float[N,3,3] y) <float s = {0.5}, float t = {0.25}> {"
         " a = Mul(x, s) k = Transpose<perm = [0, 2, 1]>(x) b = Mul(t, k) y = MatMul(a, b) }",
         {"Mul": 1, "Transpose": 1, "MatMul": 1}),
    Case("unbatch-transposes",
         "g (float[N,2,3,4] x) => (float[N,2,4,3] y)"
         " <int64[3] a = {-1, 3, 4}, int64[4] b = {-1, 2, 4, 3}> {"
         " r = Reshape(x, a) t = Transpose<perm = [0, 2, 1]>(r) y = Reshape(t, b) }",
         {"Transpose": 1}),
    Case("unbatch-transposes,remove-unused-nodes",
         "g (float[N,2,T,4] x) => (float[N,2,4,T] y) <int64[2] m = {-1, 4}, int64[2] i = {2, 4}> {"
         " n = Shape<start = 0, end = 1>(x) t = Shape<start = 2, end = 3>(x)"
         " d = Constant<value_ints = [4]>() h = Constant<value_ints = [2]>() o = Constant<value_ints = [-1]>()"
         " a = Concat<axis = 0>(o, t, d) b = Concat<axis = 0>(n, h, d, t)"
         " r = Reshape(x, a) s = Transpose<perm = [0, 2, 1]>(r) y = Reshape(s, b) }",
         {"Transpose": 1}),
    Case("fold-scales", "g (float[N,4] x) => (float[N,2,3] y) <float s = {0.25}, int64[3] t = {0, 2, 3}> {"
         " a = MatMul(x, w) b = Add(a, c) r = Reshape(b, t) y = Mul(r, s) }",
         {"MatMul": 1, "Add": 1, "Reshape": 1}, weights(w=(4, 6), c=(6,))),
    Case("infer-shapes,fold-scales", "g (float[N,3,8,8] x) => (float[N,8,8,5] y) <float[1] s = {3}> {"
         " a = Conv<pads = [1, 1, 1, 1]>(x, w, b) t = Transpose<perm = [0, 2, 3, 1]>(a) y = Mul(s, t) }",
         {"Conv": 1, "Transpose": 1}, weights(w=(5, 3, 3, 3), b=(5,))),
    Case("fold-scales", "g (float[N,4] x) => (float[N,5] y) <float s = {2}> {"
         " a = Gemm<transB = 1, alpha = 0.5, beta = 3.0>(x, w, b) y = Div(a, s) }",
         {"Gemm": 1}, weights(w=(5, 4), b=(5,))),
    Case("remove-identities", f"g ({X}) => ({Y}) {{ a = Identity(x) b = Relu(a) y = Identity(b) }}",
         {"Relu": 1}),
    Case("lift-constants,remove-neutral-elements",
         f"""g ({X}) => ({Y}) {{ z = Constant<value = float {{0}}>() o = Constant<value = float {{1}}>()
         a = Add(x, z) b = Mul(a, o) c = Sub(b, z) d = Div(c, o) y = Relu(d) }}""", {"Relu": 1}),
    Case("infer-shapes,remove-no-op-casts",
         f"g ({X}) => ({Y}) {{ a = Cast<to = 1>(x) y = Relu(a) }}", {"Relu": 1}),
    Case("infer-shapes,remove-no-op-shapes",
         f"g ({X}) => ({Y}) {{ a = Transpose<perm = [1, 0]>(x) b = Transpose<perm = [1, 0]>(a) "
         "y = Relu(b) }", {"Relu": 1}),
    Case("lift-constants,infer-shapes,remove-no-op-slices",
         "g (float[6,4] x) => (float[6,4] y) { s = Constant<value = int64[1] {0}>() "
         "e = Constant<value = int64[1] {6}>() a = Constant<value = int64[1] {0}>() "
         "t = Constant<value = int64[1] {1}>() b = Slice(x, s, e, a, t) y = Relu(b) }", {"Relu": 1}),
    Case("fuse-batch-norm",
         "g (float[N,3,8,8] x) => (float[N,5,6,6] y) { c = Conv(x, w) "
         "y = BatchNormalization<epsilon = 0.01>(c, g, bt, m, v) }",
         {"Conv": 1}, {**weights(w=(5, 3, 3, 3)), **BN}),
    Case("fuse-batch-norm",
         "g (float[N,4] x) => (float[N,5] y) { c = Gemm(x, w, b) "
         "y = BatchNormalization(c, g, bt, m, v) }",
         {"Gemm": 1}, {**weights(w=(4, 5), b=(5,)), **BN}),
    Case("lift-constants,fuse-pad",
         "g (float[N,3,8,8] x) => (float[N,5,8,8] y) { "
         "p = Constant<value = int64[8] {0, 0, 1, 1, 0, 0, 1, 1}>() a = Pad(x, p) y = Conv(a, w) }",
         {"Conv": 1}, weights(w=(5, 3, 3, 3))),
    Case("lift-constants,fuse-clips",
         f"g ({X}) => ({Y}) {{ l = Constant<value = float {{-1}}>() h = Constant<value = float {{0.5}}>() "
         "a = Clip(x, l, h) y = Relu(a) }", {"Clip": 1}),
    Case("fuse-gemm", "g (float[N,4] x) => (float[N,5] y) { a = MatMul(x, w) y = Add(a, b) }",
         {"Gemm": 1}, weights(w=(4, 5), b=(5,))),
    Case("lift-constants,fuse-hard-swish",
         f"g ({X}) => ({Y}) {{ t = Constant<value = float {{3}}>() z = Constant<value = float {{0}}>() "
         "s = Constant<value = float {6}>() a = Add(x, t) b = Clip(a, z, s) c = Mul(x, b) "
         "y = Div(c, s) }", {"HardSwish": 1}),
    Case("remove-zero-biases", "g (float[N,3,8,8] x) => (float[N,5,6,6] y) { y = Conv(x, w, b) }",
         {"Conv": 1}, {**weights(w=(5, 3, 3, 3)), "b": np.zeros(5, np.float32)}),
    Case("merge-initializers", "g (float[N,4] x) => (float[N,5] y) { a = MatMul(x, w) "
         "b = MatMul(x, u) y = Add(a, b) }", {"MatMul": 2, "Add": 1},
         dict.fromkeys(("w", "u"), RNG.standard_normal((4, 5)).astype(np.float32))),
    Case("fold-constants", "g (float[N,4] x) => (float[N,5] y) { a = Transpose(w) b = Exp(a) "
         "y = MatMul(x, b) }", {"MatMul": 1}, weights(w=(5, 4))),
    Case("lift-constants,infer-shapes,fold-shapes,fold-constants", "g (float[N,4] x) => (float[N,4] y) { s = Shape(x) "
         "i = Constant<value = int64[1] {1}>() d = Gather<axis = 0>(s, i) f = Cast<to = 1>(d) y = Mul(x, f) }",
         {"Mul": 1}),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.passes)
def test_a_pass_leaves_these_operators_and_equal_numbers(
    case: Case, load_text: Callable[..., Artifact]
) -> None:
    artifact = load_text(case.text, case.weights, opset=20)
    feeds = probe_inputs(artifact.model, artifact.spec, {}, seed=1, default=3)
    with Session(artifact, optimize=False) as session:
        expected = session.run(feeds)["y"]
    model = artifact.model.clone()
    for pass_ in PassPipeline.parse(case.passes).passes:
        result = pass_.apply(model, PassContext())
        assert result.modified or pass_.name == "infer-shapes"
        model = result.model
    found = {
        op: n for op, n in census(model).items() if op != "Constant" or "Constant" in case.after
    }
    assert found == case.after
    rewritten = Artifact(model)
    assert [v.name for v in rewritten.spec.inputs] == ["x"]
    with Session(rewritten, optimize=False) as session:
        np.testing.assert_allclose(session.run(feeds)["y"], expected, rtol=2e-5, atol=2e-6)
    again = PassPipeline.parse(case.passes).passes[-1].apply(model, PassContext())
    assert census(again.model) == census(model)


REFUSED = [
    ("fold-constants", "g (float[2] x) => (float[2] y) { r = RandomNormal<shape = [2]>() "
     "y = Add(x, r) }", {}),
    ("fold-constants", "g (float[2] x) => (float[2] y) { d = DequantizeLinear(q, s) y = Add(x, d) }",
     {"q": np.array([1, 2], np.int8), "s": np.array(0.5, np.float32)}),
    # 4 MB out of 8 bytes: over the budget.
    ("fold-constants", "g (float[1] x) => (float[1000,1000] y) { e = Expand(w, n) y = Add(x, e) }",
     {"w": np.ones(1, np.float32), "n": np.array([1000, 1000], np.int64)}),
    ("remove-identities", "g (float[2] x) => (float[2] y) { y = Identity(x) }", {}),
    ("fuse-gemm", "g (float[2,3,4] x) => (float[2,3,5] y) { a = MatMul(x, w) y = Add(a, b) }",
     weights(w=(4, 5), b=(5,))),
    ("fuse-batch-norm", "g (float[N,3,8,8] x) => (float[N,5,6,6] y, float[N,5,6,6] c) { "
     "c = Conv(x, w) y = BatchNormalization(c, g, bt, m, v) }", {**weights(w=(5, 3, 3, 3)), **BN}),
    ("remove-neutral-elements", f"g ({X}) => ({Y}) {{ y = Mul(x, w) }}", weights(w=(1,))),
    ("merge-initializers", "g (float[4] x) => (float[4] y) { a = Add(x, w) y = Add(a, u) }",
     weights(w=(4,), u=(4,))),
    # The dimensions change places, so neither is kept, and -1 can stand for one only.
    ("settle-reshapes", "g (float[N,T] x) => (float[T,N] y) {"
     " n = Shape<start = 0, end = 1>(x) t = Shape<start = 1, end = 2>(x)"
     " c = Concat<axis = 0>(t, n) y = Reshape(x, c) }", {}),
    # A row of zeros that widens, zero minus x, and one that is not one.
    ("remove-neutral-elements", "g (float[N,1] x) => (float[N,3] y) <float[3] z = {0, 0, 0}> {"
     " y = Add(x, z) }", {}),
    ("remove-neutral-elements", "g (float[3] x) => (float[3] y) <float[3] z = {0, 0, 0}> {"
     " y = Sub(z, x) }", {}),
    ("remove-neutral-elements", "g (float[3] x) => (float[3] y) <float[3] o = {1, 1, 1.0000001}> {"
     " e = Exp(x) y = Mul(e, o) }", {}),
    # Another constant, and an inner value that is an output.
    ("fuse-gelu", "g (float[4] x) => (float[4] y) <float h = {0.5}, float o = {1}, float r = {1.5}> {"
     " a = Div(x, r) t = Erf(a) u = Add(t, o) v = Mul(x, u) y = Mul(v, h) }", {}),
    ("fuse-gelu", "g (float[4] x) => (float[4] y, float[4] u)"
     " <float h = {0.5}, float o = {1}, float r = {1.4142135}> {"
     " a = Div(x, r) t = Erf(a) u = Add(t, o) v = Mul(x, u) y = Mul(v, h) }", {}),
    # The first state is ones.
    ("drop-zero-states", "g (float[T,1,3] x) => (float[T,1,1,2] y) <float[1,1,2] z = {1, 1}> {"
     " y, h = RNN<hidden_size = 2>(x, w, r, b, , z) }",
     weights(w=(1, 2, 3), r=(1, 2, 2), b=(1, 4))),
    # Behind the reshape the last two dimensions are others than those that were swapped.
    ("unbatch-transposes", "g (float[N,2,3,4] x) => (float[N,2,3,4] y)"
     " <int64[3] a = {-1, 3, 4}, int64[4] b = {-1, 2, 3, 4}> {"
     " r = Reshape(x, a) t = Transpose<perm = [0, 2, 1]>(r) y = Reshape(t, b) }", {}),
    # The unscaled product is read elsewhere too.
    ("fold-scales", "g (float[N,4] x) => (float[N,5] y) <float s = {0.5}> {"
     " a = MatMul(x, w) b = Mul(a, s) y = Add(a, b) }", weights(w=(4, 5))),
    ("fold-scales", "g (float[N,4] x) => (float[N,5] y) {"
     " a = MatMul(x, w) y = Mul(a, s) }", weights(w=(4, 5), s=(1, 5))),
]  # fmt: skip


@pytest.mark.parametrize(("passes", "text", "constants"), REFUSED)
def test_what_must_stay_stays(
    passes: str,
    text: str,
    constants: dict[str, np.ndarray[Any, Any]],
    load_text: Callable[..., Artifact],
) -> None:
    artifact = load_text(text, constants, opset=20)
    model = artifact.model.clone()
    for pass_ in PassPipeline.parse(passes).passes:
        model = pass_.apply(model, PassContext()).model
    assert census(model) == census(artifact.model)
    assert len(model.graph.initializers) == len(artifact.model.graph.initializers)


def test_the_shape_of_a_constant_is_its_own(load_text: Callable[..., Artifact]) -> None:
    # A pass before may have left the name of a size that was unknown then.
    text = "g (float[2] x) => (float[2] y) { a = Unsqueeze(w, i) b = Squeeze(a, i) y = Add(x, b) }"
    model = load_text(text, {**weights(w=(2,)), "i": np.array([0])}, opset=20).model
    model.graph.initializers["w"].shape = ir.Shape(["unk"])
    (pass_,) = PassPipeline.parse("fold-constants").passes
    assert census(pass_.apply(model, PassContext()).model) == {"Add": 1}


def test_what_only_a_dead_branch_reads_is_dead(load_text: Callable[..., Artifact]) -> None:
    text = """g (float[2] x, bool c) => (float[2] y) {
        y = Neg(x) a = Relu(x)
        d = If(c) <then_branch = t () => (float[2] p) { p = Exp(a) },
                   else_branch = e () => (float[2] q) { q = Identity(x) }> }"""
    (pass_,) = PassPipeline.parse("remove-unused-nodes").passes
    result = pass_.apply(load_text(text, {}, opset=20).model, PassContext())
    assert census(result.model) == {"Neg": 1}


def test_a_budget_can_be_raised(load_text: Callable[..., Artifact]) -> None:
    _, text, constants = REFUSED[2]
    artifact = load_text(text, constants, opset=20)
    (pass_,) = PassPipeline.parse("fold-constants:limit=5000000").passes
    assert census(pass_.apply(artifact.model.clone(), PassContext()).model) == {"Add": 1}


def test_an_operator_that_the_runtime_lacks_is_left_and_named(
    load_text: Callable[..., Artifact],
) -> None:
    # The runtime's Softsign knows no float64; the other nodes fold all the same.
    text = """g (double[2] x) => (double[2] y) {
        a = Exp(w) b = Softsign(w) c = Neg(b) d = Add(a, c) y = Add(x, d) }"""
    artifact = load_text(text, {"w": np.ones(2)}, opset=20)
    result = PassPipeline.parse("fold-constants").passes[0].apply(artifact.model, PassContext())
    assert census(result.model) == {"Add": 2, "Neg": 1, "Softsign": 1}
    assert result.details["refused"] == ["Softsign"]


def test_an_outer_value_handed_out_by_a_branch_keeps_its_identity(
    load_text: Callable[..., Artifact],
) -> None:
    # onnx_ir's own pass fails on this graph.
    text = """g (bool c, float[2] x) => (float[2] y) {
        a = Relu(x)
        y = If(c) <
            then_branch = t () => (float[2] b) { b = Identity(a) },
            else_branch = e () => (float[2] d) { f = Identity(a) d = Neg(f) }
        >
    }"""
    artifact = load_text(text)
    (pass_,) = PassPipeline.parse("remove-identities").passes
    model = pass_.apply(artifact.model.clone(), PassContext()).model
    assert census(model) == {"If": 1, "Identity": 1, "Neg": 1, "Relu": 1}
    x = np.array([-1, 2], np.float32)
    for flag in (True, False):
        with Session(Artifact(model), optimize=False) as session:
            found = session.run({"c": np.array(flag), "x": x})["y"]
        np.testing.assert_array_equal(found, [0, 2] if flag else [0, -2])
