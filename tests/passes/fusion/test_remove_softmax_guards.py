# ruff: noqa: E501 - a graph is easier read in one line
"""Guards of a softmax go where no row can be minus infinity throughout."""

from collections.abc import Callable

import numpy as np
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.fusion.remove_softmax_guards import RemoveSoftmaxGuards
from onnxsmith.runtime.session import Session

Load = Callable[..., Artifact]
LOWEST = np.float32(-3.4e38)
CONSTANTS = {
    "zero": np.float32(0),
    "one": np.float32(1),
    "half": np.float32(0.5),
    "low": LOWEST,
    "lowest": np.float32(-np.inf),
    "fixed": np.triu(np.full((3, 3), LOWEST), 1),
    "causal": np.triu(np.full((3, 3), -np.inf, np.float32), 1),
    "infinite": np.triu(np.full((3, 3), -np.inf, np.float32), 0),
    "wide": np.array([2, 3, 3]),
    "upward": np.full((3, 3), np.inf, np.float32),
}
HEAD = "g (float[2,3,4] q, float[2,4,3] k, float[2,3,4] v, bool[2,1,3] m, float[2,3,3] f, float[2,3,3] v2) => (float[2,3,4] y)"
GUARD = "p = Softmax<axis = -1>(s) n = IsNaN(p) w = Where(n, zero, p) y = MatMul(w, v)"
PLAIN = "p = Softmax<axis = -1>(s) y = MatMul(p, v)"

REMOVED = {
    "no mask": "s = MatMul(q, k)",
    "scaled": "a = MatMul(q, k) b = Div(a, half) s = Mul(half, b)",
    "constant mask": "a = MatMul(q, k) s = Add(a, fixed)",
    "causal mask": "a = MatMul(q, k) s = Add(a, causal)",
    "expanded mask": "a = MatMul(q, k) m2 = Expand(causal, wide) s = Add(a, m2)",
    "computed mask": "a = MatMul(q, k) c = Where(m, zero, low) s = Add(c, a)",
    "scaled and masked": "a = MatMul(q, k) b = Mul(a, half) c = Where(m, zero, low) s = Add(b, c)",
}
KEPT = {
    "infinite mask": ("a = MatMul(q, k) s = Add(a, infinite)", GUARD),
    "plus infinity": ("a = MatMul(q, k) s = Add(a, upward)", GUARD),
    "another number": ("a = MatMul(q, k) c = Where(m, one, lowest) s = Add(a, c)", GUARD),
    "another axis": ("a = MatMul(q, k) c = Where(m, zero, lowest) s = Add(a, c)", GUARD.replace("axis = -1", "axis = 1")),
    "no product": ("a = Neg(f) c = Where(m, zero, lowest) s = Add(a, c)", GUARD),
    "read otherwise": ("a = MatMul(q, k) c = Where(m, zero, lowest) s = Add(a, c)", GUARD.replace("MatMul(w, v)", "MatMul(v2, w)")),
    "scores read twice": ("a = MatMul(q, k) c = Where(m, zero, lowest) s = Add(a, c)", GUARD.replace("MatMul(w, v)", "MatMul(w, s)")),
    "scores chosen": ("a = MatMul(q, k) s = Where(m, a, lowest)", GUARD),
    "divided number": ("a = MatMul(q, k) s = Div(half, a)", GUARD),
    "another value": ("s = MatMul(q, k)", GUARD.replace("zero", "one")),
    "the test read twice": ("s = MatMul(q, k)", GUARD.replace("y = MatMul", "i = Cast<to = 1>(n) u = Add(w, i) y = MatMul").replace("(w, v)", "(u, v)")),
}  # fmt: skip


@pytest.mark.parametrize("name", REMOVED)
def test_a_guard_that_cannot_act_goes(name: str, load_text: Load) -> None:
    artifact = load_text(f"{HEAD} {{ {REMOVED[name]} {GUARD} }}", CONSTANTS, opset=20)
    wanted = load_text(f"{HEAD} {{ {REMOVED[name]} {PLAIN} }}", CONSTANTS, opset=20)
    generator = np.random.default_rng(1)
    feeds = {
        spec.name: generator.standard_normal(spec.shape).astype(np.float32)
        for spec in artifact.spec.inputs
        if spec.name != "m"
    }
    mask = np.array([[[True, False, True]], [[False, False, False]]])
    feeds["m"] = mask
    with Session(artifact, optimize=False) as session:
        before = session.run(feeds)["y"]
    model = artifact.model.clone()
    result = RemoveSoftmaxGuards().apply(model, PassContext())
    assert result.details == {"removed": 1}
    assert [str(n.op_type) for n in model.graph] == [n.op_type for n in wanted.model.graph]
    with Session(Artifact(model), optimize=False) as session:
        np.testing.assert_array_equal(session.run(feeds)["y"], before)
    assert not RemoveSoftmaxGuards().apply(model, PassContext()).modified


@pytest.mark.parametrize("name", KEPT)
def test_a_guard_that_may_act_stays(name: str, load_text: Load) -> None:
    scores, rest = KEPT[name]
    model = load_text(f"{HEAD} {{ {scores} {rest} }}", CONSTANTS, opset=20).model
    count = len(model.graph)
    assert not RemoveSoftmaxGuards().apply(model, PassContext()).modified
    assert len(model.graph) == count


MOVED = {
    "hidden where false": "a = MatMul(q, k) c = Where(m, zero, lowest) s = Add(a, c)",
    "hidden where true": "i = Not(m) a = MatMul(q, k) b = Mul(a, half) c = Where(i, lowest, zero) s = Add(c, b)",
}


@pytest.mark.parametrize("opset", [13, 20])
@pytest.mark.parametrize("name", MOVED)
def test_guards_of_rows_that_may_be_hidden_go_behind_the_product(
    name: str, opset: int, load_text: Load
) -> None:
    artifact = load_text(f"{HEAD} {{ {MOVED[name]} {GUARD} }}", CONSTANTS, opset=opset)
    generator = np.random.default_rng(1)
    feeds = {
        spec.name: generator.standard_normal(spec.shape).astype(np.float32)
        for spec in artifact.spec.inputs
    }
    feeds["m"] = np.array([[[True, False, True]], [[False, False, False]]])
    with Session(artifact, optimize=False) as session:
        before = session.run(feeds)["y"]
    assert not before[1].any()
    model = artifact.model.clone()
    result = RemoveSoftmaxGuards().apply(model, PassContext())
    assert result.details == {"removed": 0, "moved": 1}
    ops = [node.op_type for node in model.graph]
    assert "IsNaN" not in ops
    assert ops[-3:] == ["Softmax", "MatMul", "Mul"]
    with Session(Artifact(model), optimize=False) as session:
        np.testing.assert_array_equal(session.run(feeds)["y"], before)
    assert not RemoveSoftmaxGuards().apply(model, PassContext()).modified


def test_attentions_that_share_a_mask_share_what_is_made_of_it(load_text: Load) -> None:
    body = f"{MOVED['hidden where false']} {GUARD.replace('y =', 'z =')} a2 = MatMul(z, k) s2 = Add(a2, c) p2 = Softmax<axis = -1>(s2) n2 = IsNaN(p2) w2 = Where(n2, zero, p2) y = MatMul(w2, v)"
    model = load_text(f"{HEAD} {{ {body} }}", CONSTANTS, opset=20).model
    result = RemoveSoftmaxGuards().apply(model, PassContext())
    assert result.details == {"removed": 0, "moved": 2}
    ops = [node.op_type for node in model.graph]
    assert (ops.count("ReduceSum"), ops.count("Mul"), ops.count("Where")) == (1, 2, 2)
