import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.pipeline.kernels.lost import faster_fused, lost_in_words
from onnxsmith.runtime.measurement import Verdict
from onnxsmith.target import TARGETS

CPU = TARGETS["cpu"]
LOST = {"com.microsoft.SkipLayerNormalization": (1, 0), "Gelu": (3, 2), "FusedConv": (5, 1)}


def test_only_named_operators_that_beat_their_parts_are_returned(
    artifact: Artifact, verdicts: dict[str, Verdict]
) -> None:
    verdicts.update({"SkipLayerNormalization": "slower", "Gelu": "no change"})
    assert set(faster_fused(artifact, {"SkipLayerNormalization"}, CPU)) == {
        "SkipLayerNormalization"
    }
    assert faster_fused(artifact, {"Gelu", "FusedConv"}, CPU) == {}


def test_what_was_faster_is_said(artifact: Artifact, verdicts: dict[str, Verdict]) -> None:
    verdicts.update({"SkipLayerNormalization": "no change", "Gelu": "slower"})
    first, second, third = lost_in_words(LOST, artifact, (), CPU)
    made = "where it made 1 of the input"
    assert first == f"the runtime makes 0 com.microsoft.SkipLayerNormalization {made}"
    assert second.startswith("the runtime makes 2 Gelu where it made 3 of the input, and b: ")
    assert third == "the runtime makes 1 FusedConv where it made 5 of the input"


def test_what_was_given_up_is_not_missed(artifact: Artifact, verdicts: dict[str, Verdict]) -> None:
    verdicts.update({"SkipLayerNormalization": "slower", "Gelu": "slower"})
    words = lost_in_words(LOST, artifact, {"SkipLayerNormalization", "FusedConv"}, CPU)
    assert [line.split()[4] for line in words] == ["Gelu"]


def test_nothing_lost_is_not_measured(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxsmith.pipeline.kernels.lost.final_cases", None)
    assert lost_in_words({}, artifact, (), CPU) == ()
