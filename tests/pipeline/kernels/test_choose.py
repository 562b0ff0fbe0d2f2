from onnxsmith.artifact import Artifact
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.fusion.decompose import Decompose
from onnxsmith.passes.layout.set_session import SetSession
from onnxsmith.pipeline.kernels.choose import choose_kernels
from onnxsmith.runtime.census import runtime_census
from onnxsmith.runtime.measurement import Verdict
from onnxsmith.target import TARGETS


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
