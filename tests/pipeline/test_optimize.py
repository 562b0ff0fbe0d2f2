from collections.abc import Callable, Iterator
from typing import Any

import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.passes.layout.set_session import SetSession
from onnxsmith.passes.observers import census
from onnxsmith.pipeline import optimize as module
from onnxsmith.pipeline.gate import Change
from onnxsmith.pipeline.kernels.choose import KernelChoice
from onnxsmith.pipeline.kernels.measure import Kernel
from onnxsmith.pipeline.optimize import OptimizeRequest, optimize
from onnxsmith.runtime.measurement import Comparison
from onnxsmith.runtime.settings import SETTINGS_KEY

# A cleanup (Identity) and a fusion (MatMul and Add).
TEXT = "g (float[N,3] x) => (float[N,3] y) { a = Identity(x) m = MatMul(a, w) y = Add(m, b) }"
SLOWER = Change(slower=True, words="0.5x", figures={})
FASTER = Change(slower=False, words="2x", figures={}, faster=True)
SAME = Change(slower=False, words="1x", figures={})


@pytest.fixture
def artifact(load_text: Callable[..., Artifact]) -> Artifact:
    import numpy as np

    weights = {"w": np.eye(3, dtype=np.float32) * 2, "b": np.ones(3, np.float32)}
    return load_text(TEXT, weights, opset=20)


def measured(monkeypatch: pytest.MonkeyPatch, answers: list[Change | SmithError]) -> list[Any]:
    """Have measurements answer ``answers`` in turn; return the calls."""
    calls: list[Any] = []
    queue: Iterator[Change | SmithError] = iter(answers)

    def measure(*_: Any, **options: Any) -> Change:
        calls.append(options)
        answer = next(queue)
        if isinstance(answer, SmithError):
            raise answer
        return answer

    monkeypatch.setattr(module, "measure_change", measure)
    return calls


def ops(artifact: Artifact) -> dict[str, int]:
    return census(artifact.model)


def test_a_faster_preset_is_kept(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    measured(monkeypatch, [FASTER])
    result = optimize(artifact, OptimizeRequest(gate=True))
    assert ops(result.artifact) == {"Gemm": 1}
    assert result.dropped == ()
    assert result.speed == "2x"


def test_where_fusions_are_slower_the_cleanup_stays(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured(monkeypatch, [SLOWER, FASTER])
    result = optimize(artifact, OptimizeRequest(gate=True))
    assert ops(result.artifact) == {"MatMul": 1, "Add": 1}
    names = {dropped.pass_.name for dropped in result.dropped}
    assert "fuse-gemm" in names
    assert "remove-identities" not in names
    assert {dropped.cause for dropped in result.dropped} == {"slower"}


def test_where_everything_is_slower_the_input_comes_back(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured(monkeypatch, [SLOWER, SLOWER])
    result = optimize(artifact, OptimizeRequest(gate=True))
    assert ops(result.artifact) == {"Identity": 1, "MatMul": 1, "Add": 1}
    assert result.artifact is artifact


def test_a_model_that_takes_no_single_item_is_measured_on_the_probe(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = measured(monkeypatch, [SmithError("no"), FASTER])
    optimize(artifact, OptimizeRequest(gate=True))
    assert "feeds" not in calls[0]
    assert calls[1]["feeds"]["x"].shape == (3, 3)


def test_what_cannot_be_measured_is_kept_and_said(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured(monkeypatch, [SmithError("no GPU"), SmithError("no GPU")])
    result = optimize(artifact, OptimizeRequest(gate=True))
    assert ops(result.artifact) == {"Gemm": 1}
    assert result.warnings == ("speed unmeasured: no GPU",)


def test_nothing_to_change_is_not_measured(
    load_text: Callable[..., Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = measured(monkeypatch, [])
    optimize(
        load_text("g (float[2] x) => (float[2] y) { y = Relu(x) }"), OptimizeRequest(gate=True)
    )
    assert calls == []


SLOW_KERNEL = Kernel("Gelu", 2, 2.0, 1.0, Comparison("Gelu", "its parts", 2, 1.9, 2.1, "faster"))
SWITCHED_OFF = KernelChoice((SLOW_KERNEL,), (SetSession(("GeluFusionL1",)),))


def chosen(monkeypatch: pytest.MonkeyPatch, answer: KernelChoice | SmithError) -> None:
    """Have the choice of kernels come out as ``answer``."""

    def choose(*_: Any) -> KernelChoice:
        if isinstance(answer, SmithError):
            raise answer
        return answer

    monkeypatch.setattr(module, "choose_kernels", choose)


def test_a_slow_kernel_is_switched_off(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen(monkeypatch, SWITCHED_OFF)
    measured(monkeypatch, [FASTER, FASTER])
    result = optimize(artifact, OptimizeRequest(gate=True))
    assert "GeluFusionL1" in result.artifact.model.metadata_props[SETTINGS_KEY]
    assert ops(result.artifact) == {"Gemm": 1}
    assert [step.name for step in result.artifact.history if step.name == "set-session"]
    assert result.pipeline.verified
    assert result.pipeline.census_before == {"Identity": 1, "MatMul": 1, "Add": 1}
    (kernel,) = result.to_json()["kernels"]
    assert (kernel["operator"], kernel["fused_ms"], kernel["plain_ms"]) == ("Gelu", 2.0, 1.0)


def test_a_choice_that_the_whole_model_contradicts_is_not_taken(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen(monkeypatch, SWITCHED_OFF)
    measured(monkeypatch, [SLOWER, FASTER])
    result = optimize(artifact, OptimizeRequest(gate=True))
    assert SETTINGS_KEY not in result.artifact.model.metadata_props
    assert result.kernels == (SLOW_KERNEL,)


def test_kernels_that_cannot_be_measured_are_said(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen(monkeypatch, SmithError("no GPU"))
    measured(monkeypatch, [FASTER])
    result = optimize(artifact, OptimizeRequest(gate=True))
    assert result.warnings == ("kernels unmeasured: no GPU",)
    assert ops(result.artifact) == {"Gemm": 1}


def test_a_model_that_passes_leave_alone_may_get_settings(
    load_text: Callable[..., Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen(monkeypatch, SWITCHED_OFF)
    measured(monkeypatch, [FASTER, FASTER])
    plain = load_text("g (float[2] x) => (float[2] y) { y = Relu(x) }")
    result = optimize(plain, OptimizeRequest(gate=True))
    assert SETTINGS_KEY in result.artifact.model.metadata_props


def test_without_the_gate_nothing_is_measured(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen(monkeypatch, SmithError("called"))
    assert optimize(artifact, OptimizeRequest()).warnings == ()


@pytest.mark.parametrize(("answer", "kept"), [(FASTER, True), (SAME, False), (SLOWER, False)])
def test_another_layout_is_kept_where_it_is_faster(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch, answer: Change, kept: bool
) -> None:
    chosen(monkeypatch, KernelChoice())
    monkeypatch.setattr(module, "layout_candidates", lambda *_: (SetSession(nhwc="yes"),))
    measured(monkeypatch, [answer, FASTER])
    result = optimize(artifact, OptimizeRequest(gate=True))
    assert ("prefer_nhwc" in result.artifact.model.metadata_props.get(SETTINGS_KEY, "")) == kept


def test_what_was_lost_and_cannot_be_measured_is_said(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> tuple[str, ...]:
        raise SmithError("it does not run with one item")

    chosen(monkeypatch, KernelChoice())
    measured(monkeypatch, [FASTER])
    monkeypatch.setattr(module, "lost_in_words", refuse)
    result = optimize(artifact, OptimizeRequest(gate=True))
    assert ops(result.artifact) == {"Gemm": 1}
    words = "the fusions that were lost are unmeasured: it does not run with one item"
    assert result.warnings == (words,)
    assert result.runtime_census_after is not None
