"""Which outputs depend on random operators, however two runs may come out."""

from collections.abc import Callable

import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.passes.randomness import may_vary, random_outputs
from onnxsmith.pipeline.optimize import OptimizeRequest, optimize

RANDOM = {
    "a generator": "y = RandomNormalLike(x) z = Relu(x)",
    "behind a generator": "a = Bernoulli(x) y = Neg(a) z = Relu(x)",
    "dropout that trains": "t = Constant<value = bool {1}>() r = Constant<value = float {0.9}>() y = Dropout(x, r, t) z = Relu(x)",  # noqa: E501
    "in a branch": """c = Constant<value = bool {1}>() z = Relu(x)
        y = If(c) <then_branch = a () => (float[2] p) { p = RandomNormalLike(x) },
                   else_branch = b () => (float[2] q) { q = Neg(x) }>""",
    "read by a branch": """c = Constant<value = bool {1}>() e = RandomNormalLike(x) z = Relu(x)
        y = If(c) <then_branch = a () => (float[2] p) { p = Neg(e) },
                   else_branch = b () => (float[2] q) { q = Neg(x) }>""",
    "in a function": "y = own.F(x) z = Relu(x)",
}  # fmt: skip
FUNCTION = '<domain: "own", opset_import: ["": 18]> F (a) => (b) { b = RandomNormalLike(a) }'
HEADER = '<ir_version: 10, opset_import: ["": 18, "own": 1]>'


def model(load_text: Callable[..., Artifact], body: str) -> Artifact:
    function = FUNCTION if "own.F" in body else ""
    text = f"g (float[2] x) => (float[2] y, float[2] z) {{ {body} }} {function}"
    return load_text(text, header=HEADER)


@pytest.mark.parametrize("body", RANDOM.values(), ids=RANDOM)
def test_what_depends_on_random_operators(load_text: Callable[..., Artifact], body: str) -> None:
    artifact = model(load_text, body)
    assert may_vary(artifact.model)
    assert random_outputs(artifact.model) == {"y"}


@pytest.mark.parametrize(
    "body",
    [
        "y = Dropout(x) z = Relu(x)",
        "t = Constant<value = bool {0}>() y = Dropout(x, , t) z = Relu(x)",
        "t = Constant<value = bool {1}>() r = Constant<value = float {0}>() y = Dropout(x, r, t) z = Relu(x)",  # noqa: E501
        "e = RandomNormalLike(x) y = Neg(x) z = Relu(x)",
    ],
)
def test_what_does_not(load_text: Callable[..., Artifact], body: str) -> None:
    assert random_outputs(model(load_text, body).model) == set()


def test_two_runs_that_are_equal_by_chance_drop_no_pass(load_text: Callable[..., Artifact]) -> None:
    # With a ratio this small two runs nearly always agree, and a third one seldom does not.
    body = """t = Constant<value = bool {1}>() r = Constant<value = float {0.001}>()
        a = Identity(x) b = Dropout(a, r, t) y = Identity(b) z = Relu(a)"""
    result = optimize(model(load_text, body), OptimizeRequest())
    assert result.dropped == ()
    assert result.pipeline.unverified == ("y",)
