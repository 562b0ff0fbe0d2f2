"""Gradients that custom operators bring, and of those that bring none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from tests.passes.autodiff.checking import close

from onnxsmith import plugins
from onnxsmith.artifact import Artifact
from onnxsmith.custom_ops.base import Array, CustomOp
from onnxsmith.custom_ops.table import OPERATORS
from onnxsmith.errors import SmithError
from onnxsmith.passes.autodiff.gradients import gradients
from onnxsmith.runtime.session import Session

BODY = """
<opset_import: ["" : 21], domain: "test.ops">
Scaled(x, factor) => (y, z) { y = Mul(x, factor) z = Neg(y) }
"""


class Scaled(CustomOp):
    """Its body has a gradient, but it brings none."""

    domain, name = "test.ops", "Scaled"

    def schema(self) -> onnx.defs.OpSchema:
        return onnx.defs.OpSchema(self.name, self.domain, self.version)

    def reference(
        self, arrays: Sequence[Array], attributes: Mapping[str, Any]
    ) -> tuple[Array, ...]:
        y = arrays[0] * arrays[1]
        return (y, -y)

    def function(self) -> ir.Function:
        return ir.from_proto(onnx.parser.parse_function(BODY))


class Reversing(Scaled):
    """Its rule is ``-3`` times the gradient, so that it is told from that of its body."""

    def gradient(self, node: ir.Node, outputs: Sequence[ir.Value | None]) -> list[ir.Value | None]:
        assert outputs[0] is not None
        three = ir.node("Constant", [], {"value": ir.tensor(np.float32(3))})
        times = ir.node("Mul", [outputs[0], three.outputs[0]])
        return [ir.node("Neg", [times.outputs[0]]).outputs[0], None]


class Wrong(Reversing):
    """Its rule forgets an input."""

    def gradient(self, node: ir.Node, outputs: Sequence[ir.Value | None]) -> list[ir.Value | None]:
        return super().gradient(node, outputs)[:1]


def _register(monkeypatch: pytest.MonkeyPatch, operator: type[CustomOp]) -> None:
    monkeypatch.setattr(OPERATORS, "rows", {"scaled": f"{__name__}:{operator.__name__}"})
    assert isinstance(OPERATORS, plugins.Table)


def _model() -> Artifact:
    return Artifact.from_proto(
        onnx.parser.parse_model(
            '<ir_version: 10, opset_import: ["" : 21, "test.ops" : 1]> g (float[3] x, float[3] f)'
            "=> (float[3] y) { e = Exp(x) t, u = test.ops.Scaled(e, f) y = Mul(t, t) }"
        )
    )


FEEDS = {"x": np.array([0.1, -0.5, 1], np.float32), "f": np.array([2, 3, -1], np.float32)}


def test_a_rule_that_an_operator_brings_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    _register(monkeypatch, Reversing)
    made = gradients(_model(), "y", ["x", "f"])
    assert "Scaled" in {node.op_type for node in made.model.graph}
    with Session(made) as session:
        found = session.run(FEEDS)
    scaled = np.exp(FEEDS["x"]) * FEEDS["f"]
    close(found["x_gradient"], -3 * 2 * scaled * np.exp(FEEDS["x"]), 1e-6, "x")
    assert (found["f_gradient"] == 0).all()


def test_without_a_rule_the_body_is_differentiated(monkeypatch: pytest.MonkeyPatch) -> None:
    _register(monkeypatch, Scaled)
    made = gradients(_model(), "y", ["x", "f"])
    with Session(made) as session:
        found = session.run(FEEDS)
    power = np.exp(FEEDS["x"])
    close(found["x_gradient"], 2 * (power * FEEDS["f"]) ** 2, 1e-6, "x")
    close(found["f_gradient"], 2 * power**2 * FEEDS["f"], 1e-6, "f")


def test_a_rule_is_used_in_branches(monkeypatch: pytest.MonkeyPatch) -> None:
    _register(monkeypatch, Reversing)
    model = Artifact.from_proto(
        onnx.parser.parse_model(
            '<ir_version: 10, opset_import: ["" : 21, "test.ops" : 1]>'
            "g (bool c, float[3] x, float[3] f) => (float[3] y) {"
            "y = If <then_branch = a () => (float[3] p) { p, q = test.ops.Scaled(x, f) },"
            "else_branch = b () => (float[3] r) { r = Exp(x) }> (c) }"
        )
    )
    with Session(gradients(model, "y", ["x"])) as session:
        found = session.run({**FEEDS, "c": np.array(True)})["x_gradient"]
    close(found, np.full(3, -3), 1e-6, "x")


def test_a_rule_with_too_few_gradients_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    _register(monkeypatch, Wrong)
    with pytest.raises(SmithError, match=r"'t' \(Scaled\).*1 gradients for 2 inputs"):
        gradients(_model(), "y", ["x"])


def test_operators_that_nobody_knows_are_refused() -> None:
    with pytest.raises(SmithError, match=r"'t' \(Scaled\).*no rule for test.ops"):
        gradients(_model(), "y", ["x"])
