"""What was asked for is what runs, or an error that says what is missing."""

from __future__ import annotations

from collections.abc import Callable

import onnxruntime as ort
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.runtime import providers
from onnxsmith.runtime.providers import (
    CPU,
    CUDA,
    TENSORRT,
    compiled_providers,
    provider_name,
    resolve_providers,
)
from onnxsmith.runtime.session import Session
from onnxsmith.target import TARGETS

TEXT = "g (float[2] x) => (float[2] y) { y = Relu(x) }"


@pytest.mark.parametrize("text", ["cpu", "CPU", "CPUExecutionProvider", "cpuexecutionprovider"])
def test_short_and_full_names(text: str) -> None:
    assert provider_name(text) == CPU


def test_an_unknown_provider_lists_the_known() -> None:
    with pytest.raises(SmithError, match="unknown execution provider 'gpu'") as caught:
        provider_name("gpu")
    assert "cuda" in caught.value.hint


def test_the_order_is_the_users_or_the_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "compiled_providers", lambda: (TENSORRT, CUDA, CPU))
    assert resolve_providers(TARGETS["tensorrt"]) == (TENSORRT, CUDA, CPU)
    assert resolve_providers(TARGETS["cpu"], ["cuda", "cpu"]) == (CUDA, CPU)


def test_a_provider_that_was_not_built_in_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "compiled_providers", lambda: (CPU,))
    with pytest.raises(SmithError, match="CUDAExecutionProvider is not available") as caught:
        resolve_providers(TARGETS["cuda"])
    assert "onnxruntime-gpu" in caught.value.hint
    assert "--target cpu" in caught.value.hint


def test_a_provider_that_silently_fell_back_is_an_error(
    load_text: Callable[..., Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The GPU runtime on a machine without a GPU: built in, yet it does not load.
    monkeypatch.setattr(providers, "compiled_providers", lambda: (CUDA, CPU))
    real = ort.InferenceSession
    monkeypatch.setattr(
        ort,
        "InferenceSession",
        lambda model, options, providers, provider_options: real(model, options, [CPU]),
    )
    artifact = load_text(TEXT)
    for call in (
        lambda: Session(artifact, TARGETS["cuda"]),
        lambda: Session(artifact, providers=["cuda", "cpu"]),
        lambda: Session(artifact, require_provider="cuda"),
    ):
        with pytest.raises(SmithError, match="CUDAExecutionProvider is not available"):
            call()
    with Session(artifact, require_provider="cpu") as session:
        assert session.providers == (CPU,)


def test_the_cpu_is_always_there() -> None:
    assert CPU in compiled_providers()
