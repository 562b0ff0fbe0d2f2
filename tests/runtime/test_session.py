import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.runtime.session import SETTINGS_KEY, Session, session_options
from onnxsmith.target import find_target

TEXT = """g (float[N,3] x) => (float[N,3] y, float[N,3] z)
    { m = MatMul(x, w) y = Add(m, b) z = Relu(y) }"""
W = np.arange(9, dtype=np.float32).reshape(3, 3) - 4
B = np.array([1, -2, 3], np.float32)
X = np.array([[1, 2, 3], [-1, 0, 2]], np.float32)


@pytest.fixture
def artifact(load_text: Callable[..., Artifact]) -> Artifact:
    return load_text(TEXT, {"w": W, "b": B})


def test_outputs_come_by_name_all_or_chosen(artifact: Artifact) -> None:
    with Session(artifact) as session:
        found = session.run({"x": X})
        np.testing.assert_allclose(found["y"], X @ W + B, rtol=1e-6)
        np.testing.assert_allclose(found["z"], np.maximum(X @ W + B, 0), rtol=1e-6)
        assert list(session.run({"x": X}, ["z"])) == ["z"]
        with pytest.raises(SmithError, match="no output 'q'"):
            session.run({"x": X}, ["q"])


@pytest.mark.parametrize(
    ("feeds", "words"),
    [
        ({}, "the input 'x' is missing"),
        ({"x": X, "q": X}, "no input 'q'"),
        ({"x": X.astype(np.float64)}, "is float64, not float32"),
        ({"x": X[:, :2]}, "has shape \\[2, 2\\]"),
        ({"x": X[0]}, "has shape \\[3\\]"),
    ],
)
def test_feeds_that_do_not_fit_are_named(
    artifact: Artifact, feeds: dict[str, Any], words: str
) -> None:
    with Session(artifact) as session, pytest.raises(SmithError, match=words) as caught:
        session.run(feeds)
    assert "x" in caught.value.hint


def test_a_binding_gives_the_same_and_can_be_refilled(artifact: Artifact) -> None:
    with Session(artifact) as session:
        binding = session.bind()
        for x in (X, 2 * X, np.asfortranarray(X)):
            binding.set_input("x", x)
            binding.run()
            np.testing.assert_allclose(binding.outputs()["y"], x @ W + B, rtol=1e-6)


def test_without_optimisation_the_graph_runs_as_it_stands(artifact: Artifact) -> None:
    with Session(artifact, optimize=False) as session:
        assert [place.op_type for place in session.placement()] == ["MatMul", "Add", "Relu"]
        assert {place.provider for place in session.placement()} == {"CPUExecutionProvider"}
    with Session(artifact) as session:
        assert {place.op_type for place in session.placement()} == {"Gemm", "Relu"}


def test_large_weights_in_memory_are_run_from_a_file_and_gone_afterwards(
    load_text: Callable[..., Artifact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spill = tmp_path / "spill"
    spill.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(spill))
    large = np.random.default_rng(0).standard_normal((300, 300)).astype(np.float32)
    artifact = load_text(
        "g (float[N,300] x) => (float[N,300] y) { y = MatMul(x, w) }", {"w": large}
    )
    artifact.model.graph.initializers["w"].const_value = ir.Tensor(2 * large, name="w")
    x = np.ones((1, 300), np.float32)
    with Session(artifact) as session:
        assert len(list(spill.iterdir())) == 1
        np.testing.assert_allclose(
            session.run({"x": x})["y"], x @ (2 * large), rtol=1e-4, atol=1e-4
        )
    assert not list(spill.iterdir())


def test_a_provider_that_is_not_there_is_an_error_and_no_silent_cpu_run(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A GPU build on a machine without GPU: compiled in, but it does not load.
    monkeypatch.setattr(
        "onnxsmith.runtime.providers.compiled_providers",
        lambda: ("CUDAExecutionProvider", "CPUExecutionProvider"),
    )
    monkeypatch.setattr("onnxsmith.runtime.providers._preload_cuda", lambda: None)
    if "CUDAExecutionProvider" in ort.get_available_providers():
        real = ort.InferenceSession

        def without_cuda(*arguments: Any, **_: Any) -> Any:
            return real(*arguments[:2], providers=["CPUExecutionProvider"])

        monkeypatch.setattr(ort, "InferenceSession", without_cuda)
    for options in ({"providers": ["cuda"]}, {"target": find_target("cuda")}):
        with pytest.raises(SmithError, match="CUDAExecutionProvider") as caught:
            Session(artifact, **options)  # type: ignore[arg-type]
        assert "--target cpu" in caught.value.hint


def test_a_required_provider_must_be_in_use(artifact: Artifact) -> None:
    with Session(artifact, require_provider="cpu") as session:
        assert session.providers == ("CPUExecutionProvider",)
    with pytest.raises(SmithError, match="CUDAExecutionProvider"):
        Session(artifact, require_provider="cuda")
    with pytest.raises(SmithError, match="unknown execution provider 'quantum'"):
        Session(artifact, require_provider="quantum")


def test_settings_that_travel_are_obeyed(artifact: Artifact) -> None:
    key = "optimization.disable_specified_optimizers"
    artifact.model.metadata_props[SETTINGS_KEY] = json.dumps({key: "MatMulAddFusion"})
    options = session_options(artifact)
    assert options.get_session_config_entry(key) == "MatMulAddFusion"


@pytest.mark.parametrize(
    "settings",
    [
        '{"session.custom_op_library": "/tmp/evil.so"}',
        '{"session.model_external_initializers_file_folder_path": "/etc"}',
        '{"optimization.level": 3}',
        "[]",
        "{",
    ],
)
def test_settings_a_model_may_not_make_are_refused(artifact: Artifact, settings: str) -> None:
    artifact.model.metadata_props[SETTINGS_KEY] = settings
    with pytest.raises(SmithError) as caught:
        Session(artifact)
    assert SETTINGS_KEY in caught.value.hint


def test_threads_are_set_and_checked(artifact: Artifact) -> None:
    assert session_options(artifact, threads=3).intra_op_num_threads == 3
    with pytest.raises(SmithError, match="0 threads"):
        Session(artifact, threads=0)


def test_a_model_that_the_runtime_refuses_is_one_line(load_text: Callable[..., Artifact]) -> None:
    header = '<ir_version: 10, opset_import: ["": 18, "acme": 1]>'
    artifact = load_text("g (float[2] x) => (float[2] y) { y = acme.Turbo(x) }", header=header)
    with pytest.raises(SmithError, match="acme") as caught:
        Session(artifact)
    assert "\n" not in caught.value.message
    assert "/onnxruntime_src" not in caught.value.message
