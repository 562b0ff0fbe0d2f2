# ruff: noqa: E501 - a graph is easier read in one line
"""An If of equal branches is its branch; of branches that only look alike it stays."""

from collections.abc import Callable

import numpy as np
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.cleanup.fold_ifs import FoldIfs
from onnxsmith.passes.observers import census
from onnxsmith.pipeline.optimize import OptimizeRequest, optimize

TEXT = """g (bool c, float[2] x, float[2] z) => (float[2] y) {{ e = Exp(x)
    y = If(c) <then_branch = a () => (float[2] p) {{ {first} }},
               else_branch = b () => (float[2] q) {{ {second} }}> }}"""

EQUAL = {
    "an operator": ("p = Sub(x, z)", "q = Sub(x, z)"),
    "a chain": (
        "u = Sub(e, z) p = LeakyRelu<alpha = 0.3>(u)",
        "v = Sub(e, z) q = LeakyRelu<alpha = 0.3>(v)",
    ),
    "constants": (
        "p = Constant<value = float[2] {1, 2}>()",
        "q = Constant<value = float[2] {1, 2}>()",
    ),
    "the same from outside": ("p = Identity(e)", "q = Identity(e)"),
    "one result read twice": ("u = Neg(x) p = Mul(u, u)", "v = Neg(x) q = Mul(v, v)"),
}
UNEQUAL = {
    "operands in another order": ("p = Sub(x, z)", "q = Sub(z, x)"),
    "another attribute": ("p = LeakyRelu<alpha = 0.3>(x)", "q = LeakyRelu<alpha = 0.2>(x)"),
    "other constants": ("p = Constant<value = float[2] {1, 2}>()", "q = Constant<value = float[2] {1, 3}>()"),
    "another value from outside": ("p = Identity(x)", "q = Identity(e)"),
    "inside and outside": ("u = Exp(x) p = Neg(u)", "q = Neg(e)"),
    "random numbers": ("p = RandomNormalLike(x)", "q = RandomNormalLike(x)"),
    "an unknown operator": ("p = own.F(x)", "q = own.F(x)"),
}  # fmt: skip


def folded(load_text: Callable[..., Artifact], first: str, second: str) -> tuple[bool, Artifact]:
    header = '<ir_version: 10, opset_import: ["": 18, "own": 1]>'
    artifact = load_text(TEXT.format(first=first, second=second), header=header)
    return FoldIfs().apply(artifact.clone().model, PassContext()).modified, artifact


@pytest.mark.parametrize(("first", "second"), EQUAL.values(), ids=EQUAL)
def test_equal_branches(load_text: Callable[..., Artifact], first: str, second: str) -> None:
    done, artifact = folded(load_text, first, second)
    assert done
    result = optimize(artifact, OptimizeRequest(preset="safe"))
    assert result.pipeline.verified
    assert result.dropped == ()
    assert "If" not in census(result.artifact.model)


@pytest.mark.parametrize(("first", "second"), UNEQUAL.values(), ids=UNEQUAL)
def test_branches_that_look_alike(
    load_text: Callable[..., Artifact], first: str, second: str
) -> None:
    assert not folded(load_text, first, second)[0]


def test_equal_weights_of_branches(load_text: Callable[..., Artifact]) -> None:
    text = """g (bool c, float[2] x) => (float[2] y) {{
        y = If(c) <then_branch = a () => (float[2] p) <float[2] k = {{1, 2}}> {{ p = Add(x, k) }},
                   else_branch = b () => (float[2] q) <float[2] m = {{1, {number}}}> {{ q = Add(x, m) }}> }}"""
    for number, done in ((2, True), (3, False)):
        model = load_text(text.format(number=number)).clone().model
        assert FoldIfs().apply(model, PassContext()).modified is done


def test_a_sequence_of_a_known_branch(load_text: Callable[..., Artifact]) -> None:
    """Before opset 16 no Identity takes a sequence: the If stays, and the model valid."""
    text = """g (float[2] x) => (seq(float[2]) y) {
        y = If(c) <then_branch = a () => (seq(float[2]) p) { p = SequenceConstruct(x, x) },
                   else_branch = b () => (seq(float[2]) q) { q = SequenceConstruct(x) }> }"""
    for opset, left in ((13, {"If": 1, "SequenceConstruct": 2}), (18, {"SequenceConstruct": 1})):
        artifact = load_text(text, {"c": np.array(True)}, opset=opset)
        result = optimize(artifact, OptimizeRequest(preset="safe"))
        assert result.pipeline.verified
        assert result.dropped == ()
        assert census(result.artifact.model) == left


def test_a_branch_of_another_number_of_results_stays(load_text: Callable[..., Artifact]) -> None:
    """The runtime takes such a model where nothing needs the If."""
    text = """g (float[2] x) => (float[2] y) <bool c = {1}> { y = Neg(x)
        u = If(c) <then_branch = a () => (float[2] p, float[2] r) { p = Exp(x) r = Abs(x) },
                   else_branch = b () => (float[2] q, float[2] s) { q = Sin(x) s = Cos(x) }> }"""
    model = load_text(text).clone().model
    assert not FoldIfs().apply(model, PassContext()).modified
