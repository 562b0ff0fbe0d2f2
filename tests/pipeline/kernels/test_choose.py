from collections.abc import Callable, Mapping

import numpy as np
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.fusion.decompose import Decompose
from onnxsmith.passes.layout.set_session import SetSession
from onnxsmith.pipeline.kernels import choose
from onnxsmith.pipeline.kernels.cases import Case
from onnxsmith.pipeline.kernels.choose import choose_kernels, faster_fused
from onnxsmith.pipeline.kernels.measure import Kernel
from onnxsmith.runtime.census import runtime_census
from onnxsmith.runtime.measurement import Comparison, Verdict
from onnxsmith.target import TARGETS, Target

# What the runtime makes one SkipLayerNormalization of, and a Gelu of the model's own.
TEXT = """g (float[1,6,8] x) => (float[1,6,8] y) {
    r = Relu(x)
    s = Add(r, x)
    n = LayerNormalization<axis=-1>(s, g, b)
    y = Gelu(n)
}"""
WEIGHTS = {"g": np.ones(8, np.float32), "b": np.zeros(8, np.float32)}


@pytest.fixture
def artifact(load_text: Callable[..., Artifact]) -> Artifact:
    return load_text(TEXT, WEIGHTS, opset=20)


@pytest.fixture
def verdicts(monkeypatch: pytest.MonkeyPatch) -> dict[str, Verdict]:
    """What is said of an operator's parts instead of being measured."""
    said: dict[str, Verdict] = {}

    def measure(cases: Mapping[Case, int], target: Target, threads: int | None) -> list[Kernel]:
        return [
            Kernel(case.op_type, count, 1.0, 1.0, Comparison("a", "b", 1, 1, 1, said[case.op_type]))
            for case, count in cases.items()
        ]

    monkeypatch.setattr(choose, "measure_kernels", measure)
    return said


def run(artifact: Artifact, verdicts: dict[str, Verdict]) -> dict[str, int]:
    """Apply the choice and return what the runtime runs then."""
    for pass_ in choose_kernels(artifact, TARGETS["cpu"]).passes:
        pass_.apply(artifact.model, PassContext())
    return runtime_census(artifact)


def test_kernels_that_pay_are_left_alone(artifact: Artifact, verdicts: dict[str, Verdict]) -> None:
    verdicts.update({"SkipLayerNormalization": "no change", "Gelu": "slower"})
    choice = choose_kernels(artifact, TARGETS["cpu"])
    assert [k.op_type for k in choice.kernels] == ["SkipLayerNormalization", "Gelu"]
    assert choice.passes == ()


def test_what_the_runtime_makes_is_switched_off(
    artifact: Artifact, verdicts: dict[str, Verdict]
) -> None:
    verdicts.update({"SkipLayerNormalization": "faster", "Gelu": "no change"})
    assert choose_kernels(artifact, TARGETS["cpu"]).passes == (
        SetSession(("SkipLayerNormFusion",)),
    )
    assert run(artifact, verdicts) == {"Relu": 1, "Add": 1, "LayerNormalization": 1, "Gelu": 1}


def test_what_the_model_holds_is_written_in_parts(
    artifact: Artifact, verdicts: dict[str, Verdict]
) -> None:
    verdicts.update({"SkipLayerNormalization": "no change", "Gelu": "faster"})
    _, second, third = choose_kernels(artifact, TARGETS["cpu"]).passes
    assert second == Decompose(("Gelu",))
    assert third == SetSession(("GeluFusionL1", "GeluFusionL2"))
    operators = run(artifact, verdicts)
    assert operators["Erf"] == 1
    assert not any(name.endswith("Gelu") for name in operators)


def test_only_named_operators_that_beat_their_parts_are_returned(
    artifact: Artifact, verdicts: dict[str, Verdict]
) -> None:
    verdicts.update({"SkipLayerNormalization": "slower", "Gelu": "no change"})
    cpu = TARGETS["cpu"]
    assert set(faster_fused(artifact, {"SkipLayerNormalization"}, cpu)) == {
        "SkipLayerNormalization"
    }
    assert faster_fused(artifact, {"Gelu", "FusedConv"}, cpu) == {}
