import json
from collections.abc import Callable
from typing import Literal

import onnxruntime as ort
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError, UsageError
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.layout.set_session import SetSession
from onnxsmith.runtime.providers import CPU, CUDA
from onnxsmith.runtime.session import Session, session_options
from onnxsmith.runtime.settings import SETTINGS_KEY, provider_options

KEY = "optimization.disable_specified_optimizers"
TEXT = "g (float[2] x) => (float[2] y) { y = Relu(x) }"


def settings(artifact: Artifact) -> dict[str, str]:
    return dict(json.loads(artifact.model.metadata_props[SETTINGS_KEY]))


def test_names_add_up_and_other_settings_stay(load_text: Callable[..., Artifact]) -> None:
    artifact = load_text(TEXT)
    artifact.model.metadata_props[SETTINGS_KEY] = json.dumps({KEY: "A", "session.qdq_x": "1"})
    pass_ = SetSession(disable=("B", "A"), level="basic")
    assert pass_.apply(artifact.model, PassContext()).modified
    assert settings(artifact) == {
        KEY: "A;B",
        "optimization.level": "basic",
        "session.qdq_x": "1",
    }
    assert not pass_.apply(artifact.model, PassContext()).modified


def test_without_options_nothing_changes(load_text: Callable[..., Artifact]) -> None:
    artifact = load_text(TEXT)
    assert not SetSession().apply(artifact.model, PassContext()).modified
    assert SETTINGS_KEY not in artifact.model.metadata_props


def test_what_cannot_be_a_name_is_refused(load_text: Callable[..., Artifact]) -> None:
    with pytest.raises(UsageError, match="no name"):
        SetSession(disable=("a;b",)).apply(load_text(TEXT).model, PassContext())


def test_damaged_settings_are_refused(load_text: Callable[..., Artifact]) -> None:
    artifact = load_text(TEXT)
    artifact.model.metadata_props[SETTINGS_KEY] = '{"optimization.level": "best"}'
    with pytest.raises(SmithError, match="may not set"):
        SetSession(disable=("A",)).apply(artifact.model, PassContext())


def test_sessions_take_the_level(load_text: Callable[..., Artifact]) -> None:
    artifact = load_text(TEXT)
    SetSession(level="basic").apply(artifact.model, PassContext())
    level = session_options(artifact).graph_optimization_level
    assert level == ort.GraphOptimizationLevel.ORT_ENABLE_BASIC


@pytest.mark.parametrize(("nhwc", "wanted"), [("yes", "1"), ("no", "0")])
def test_the_layout_is_the_cuda_providers(
    load_text: Callable[..., Artifact], nhwc: Literal["yes", "no"], wanted: str
) -> None:
    artifact = load_text(TEXT)
    assert provider_options(artifact, [CUDA, CPU]) == [{}, {}]
    SetSession(nhwc=nhwc).apply(artifact.model, PassContext())
    assert provider_options(artifact, [CUDA, CPU]) == [{"prefer_nhwc": wanted}, {}]
    with Session(artifact) as session:  # other providers do without
        assert session.providers == (CPU,)


def test_a_layout_that_is_none_is_refused(load_text: Callable[..., Artifact]) -> None:
    artifact = load_text(TEXT)
    artifact.model.metadata_props[SETTINGS_KEY] = '{"ep.cuda.prefer_nhwc": "maybe"}'
    with pytest.raises(SmithError, match="may not set"):
        provider_options(artifact, [CUDA])


def test_options_are_read_from_text() -> None:
    pass_ = SetSession.from_options({"disable": "A+B", "level": "off"})
    assert pass_ == SetSession(disable=("A", "B"), level="off")
    assert str(pass_) == "set-session:disable=A+B:level=off"
