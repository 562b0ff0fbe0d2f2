"""Sessions run what they are given, on what was asked for, and trust no model file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.passes.observers import census
from onnxsmith.runtime.session import (
    Session,
    runtime_message,
    session_options,
    travelling_settings,
)
from onnxsmith.runtime.settings import DISABLED_KEY, SETTINGS_KEY

Load = Callable[..., Artifact]
Parse = Callable[..., onnx.ModelProto]

TEXT = "g (float[N,2] x, int64[2] k) => (float[N,2] y, int64[2] z) { y = Relu(x) z = Neg(k) }"
X = np.array([[-1, 2]], np.float32)
K = np.array([3, 4])


@pytest.fixture
def session(load_text: Load) -> Session:
    return Session(load_text(TEXT))


def test_outputs_come_by_name(session: Session) -> None:
    found = session.run({"k": K, "x": X})
    assert list(found) == ["y", "z"]
    np.testing.assert_array_equal(found["y"], [[0, 2]])
    np.testing.assert_array_equal(found["z"], [-3, -4])
    assert list(session.run({"k": K, "x": X}, ["z"])) == ["z"]
    assert session.providers == ("CPUExecutionProvider",)


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({"x": X}, "the input 'k' is missing"),
        ({"x": X, "k": K, "w": K}, "no input 'w'"),
        ({"x": X.astype(np.float64), "k": K}, "the input 'x' is float64, not float32"),
        ({"x": X, "k": K.astype(np.int32)}, "the input 'k' is int32, not int64"),
        ({"x": X[0], "k": K}, "the input 'x' has shape [2]"),
        ({"x": np.zeros((4, 3), np.float32), "k": K}, "the input 'x' has shape [4, 3]"),
        ({"x": X, "k": K[:1]}, "the input 'k' has shape [1]"),
    ],
)
def test_feeds_that_do_not_fit(session: Session, feeds: dict[str, Any], message: str) -> None:
    with pytest.raises(SmithError) as caught:
        session.run(feeds)
    assert message in caught.value.message
    assert caught.value.hint


def test_an_unknown_output_is_named(session: Session) -> None:
    with pytest.raises(SmithError, match="no output 'q'"):
        session.run({"x": X, "k": K}, ["q"])


def test_the_runtimes_failure_is_one_line(load_text: Load) -> None:
    artifact = load_text("g (float[N] x, float[M] k) => (float[K] y) { y = Add(x, k) }")
    with (
        Session(artifact) as session,
        pytest.raises(SmithError, match="running the model failed") as caught,
    ):
        session.run({"x": np.zeros(2, np.float32), "k": np.zeros(3, np.float32)})
    assert "\n" not in caught.value.message
    assert caught.value.message.endswith("by a dimension other than 1. 2 by 3")
    assert ".h:" not in caught.value.message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[ONNXRuntimeError] : 1 : FAIL : no\n  such", "no such"),
        (
            "[E] : 6 : X : running Relu node. Status Message: /src/a/op.cc:87 virtual T* "
            "ns::C::f(int, std::function<void(int)>) const [with T = float] "
            "[ONNXRuntimeError] : 2 : INVALID : it is so",
            "2 : INVALID : it is so",
        ),
        ("failed: element_wise_ops.cc:692 Compute Integer division", "failed: Integer division"),
        ("plain words", "plain words"),
    ],
)
def test_messages_without_the_runtimes_own_places(text: str, expected: str) -> None:
    assert runtime_message(RuntimeError(text)).endswith(expected)
    assert "/src" not in runtime_message(RuntimeError(text))


def test_a_model_that_the_runtime_refuses(load_text: Load) -> None:
    with pytest.raises(SmithError, match="the runtime refuses the model"):
        Session(load_text("g (float[2] x) => (float[2] y) { y = NoSuchThing(x) }"))


# Each runs as is; the runtime's own optimizer would fold, fuse or drop most of them.
LAYERS = """g (float[N,8] x) => (float[N,4] y) {
  i = Identity(x)
  m = MatMul(i, w)
  a = Add(m, b)
  z = Add(b, b)
  s = Add(a, z)
  r = Relu(s)
  y = Identity(r)
}"""


def test_optimize_false_runs_the_graph_as_it_stands(load_text: Load) -> None:
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.standard_normal((8, 4)).astype(np.float32),
        "b": rng.standard_normal(4).astype(np.float32),
    }
    artifact = load_text(LAYERS, weights)
    with Session(artifact, optimize=False) as plain, Session(artifact) as fast:
        placed = plain.placement()
        feeds = {"x": rng.standard_normal((3, 8)).astype(np.float32)}
        np.testing.assert_allclose(
            plain.run(feeds)["y"], fast.run(feeds)["y"], rtol=1e-5, atol=1e-5
        )
        fewer = fast.placement()
    counts: dict[str, int] = {}
    for node in placed:
        counts[node.op_type] = counts.get(node.op_type, 0) + 1
        assert node.provider == "CPUExecutionProvider"
    assert counts == census(artifact.model)
    assert len(fewer) < len(placed)


def test_large_weights_in_memory_are_spilled_and_removed(
    load_text: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parse_model: Parse
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "spill"))
    (tmp_path / "spill").mkdir()
    w = np.random.default_rng(0).standard_normal(50_000).astype(np.float32)
    text = "g (float[50000] x) => (float[50000] y) { a = Add(x, w) y = Add(a, v) }"
    artifact = Artifact.from_proto(parse_model(text, {"w": w, "v": 2 * w}))
    session = Session(artifact)
    assert [p.stat().st_size for p in (tmp_path / "spill").iterdir()] == [400_000]
    found = session.run({"x": np.zeros(50_000, np.float32)})["y"]
    np.testing.assert_array_equal(found, w + 2 * w)
    session.close()
    session.close()  # a second time does no harm
    assert list((tmp_path / "spill").iterdir()) == []


def test_no_room_to_spill_is_said(
    parse_model: Parse, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    w = np.zeros(50_000, np.float32)
    text = "g (float[50000] x) => (float[50000] y) { y = Add(x, w) }"
    with pytest.raises(SmithError, match="cannot write the weights for the runtime") as caught:
        Session(Artifact.from_proto(parse_model(text, {"w": w})))
    assert "TMPDIR" in caught.value.hint


def with_settings(artifact: Artifact, text: str) -> Artifact:
    artifact.model.metadata_props[SETTINGS_KEY] = text
    return artifact


def test_settings_that_choose_optimisations_travel(load_text: Load) -> None:
    wanted = {
        "session.qdqisint8allowed": "1",
        "optimization.enable_gelu_approximation": "1",
        "session.disable_prepacking": "1",
    }
    artifact = with_settings(load_text(TEXT), json.dumps(wanted))
    assert travelling_settings(artifact) == wanted
    options = session_options(artifact)
    for key, value in wanted.items():
        assert options.get_session_config_entry(key) == value
    with Session(artifact) as session:
        session.run({"x": X, "k": K})


def test_training_leaves_off_what_the_model_has_off(load_text: Load) -> None:
    artifact = with_settings(load_text(TEXT), json.dumps({DISABLED_KEY: "MatMulAddFusion"}))
    with Session(artifact, lean=True) as session:
        options = session._session.get_session_options()
    names = options.get_session_config_entry(DISABLED_KEY).split(";")
    assert "MatMulAddFusion" in names
    assert "EliminateDropout" in names
    assert "" not in names


@pytest.mark.parametrize(
    "text",
    [
        '{"session.custom_ops_library": "/tmp/evil.so"}',
        '{"session.register_custom_ops": "/tmp/evil.so"}',
        '{"session.model_external_initializers_file_folder_path": "/etc"}',
        '{"session.use_env_allocators": "1"}',
        '{"ep.context_file_path": "/etc/passwd"}',
        '{"optimization.enable_gelu_approximation": 1}',
        '["optimization.enable_gelu_approximation"]',
        "null",
        "{",
        "",
    ],
)
def test_other_settings_are_refused(load_text: Load, text: str) -> None:
    with pytest.raises(SmithError, match="session settings") as caught:
        Session(with_settings(load_text(TEXT), text))
    assert SETTINGS_KEY in caught.value.hint


def test_threads(load_text: Load) -> None:
    artifact = load_text(TEXT)
    assert session_options(artifact, threads=3).intra_op_num_threads == 3
    with Session(artifact, threads=1) as session:
        assert session.run({"x": X, "k": K})
    with pytest.raises(SmithError, match="cannot run on 0 threads"):
        Session(artifact, threads=0)


def test_binding_reuses_inputs_and_checks_them(session: Session) -> None:
    binding = session.bind()
    binding.set_input("x", X)
    binding.set_input("k", K)
    binding.run()
    np.testing.assert_array_equal(binding.outputs()["y"], [[0, 2]])
    binding.set_input("x", np.asfortranarray(np.array([[5, -6], [-7, 8]], np.float32)))
    binding.run()
    np.testing.assert_array_equal(binding.outputs()["y"], [[5, 0], [0, 8]])
    np.testing.assert_array_equal(binding.outputs()["z"], [-3, -4])
    with pytest.raises(SmithError, match="no input 'q'"):
        binding.set_input("q", X)
    with pytest.raises(SmithError, match="is float64"):
        binding.set_input("x", X.astype(np.float64))


@pytest.mark.parametrize(
    ("onnx_name", "name"), [("bfloat16", "bfloat16"), ("float8e4m3fn", "float8_e4m3fn")]
)
def test_small_floats_pass_in_and_out(load_text: Load, onnx_name: str, name: str) -> None:
    values = f"({onnx_name}[N,3] x, float[N] k) => ({onnx_name}[N,3] y, float[N] z)"
    text = f"g {values} {{ y = Identity(x) z = Neg(k) }}"
    x = np.arange(6).reshape(2, 3).astype(getattr(ml_dtypes, name))
    with Session(load_text(text, opset=21)) as session:
        found = session.run({"x": x.T.copy().T, "k": np.ones(2, np.float32)})
        empty = session.run({"x": x[:0], "k": np.ones(0, np.float32)})
    assert found["y"].dtype == x.dtype
    np.testing.assert_array_equal(found["y"].astype(np.float32), x.astype(np.float32))
    np.testing.assert_array_equal(found["z"], [-1, -1])
    assert empty["y"].shape == (0, 3)


def test_text_sequences_and_optionals(load_text: Load) -> None:
    values = "(string[N] s, seq(float[N]) q) => (string[N] t, seq(float[N]) r)"
    text = f"g {values} {{ t = Identity(s) r = Identity(q) }}"
    with Session(load_text(text)) as session:
        feeds: dict[str, Any] = {"s": np.array(["a", "é"]), "q": [np.ones(2, np.float32)]}
        found = session.run(feeds)
    assert found["t"].tolist() == ["a", "é"]
    assert len(found["r"]) == 1


def test_odd_signatures_run(load_text: Load) -> None:
    x = np.ones(2, np.float32)
    for text, feeds, expected in (
        ("g (float[2] x) => (float[2] x) { }", {"x": x}, {"x": x}),
        ("g () => (float[2] y) <float[2] w = {1, -2}> { y = Relu(w) }", {}, {"y": [1, 0]}),
        ("g (float[2] x) => (float[2] w) <float[2] w = {3, 4}> { }", {"x": x}, {"w": [3, 4]}),
        ("g (float s) => (float y) { y = Neg(s) }", {"s": np.array(2, np.float32)}, {"y": -2}),
    ):
        with Session(load_text(text), optimize=False) as session:
            found = session.run(feeds)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name], value)


def test_a_newer_file_format_runs(load_text: Load) -> None:
    # What onnx 1.23 writes unless told otherwise; the runtime reads up to 13.
    with Session(load_text(TEXT, ir_version=14)) as session:
        assert session.run({"x": X, "k": K})


def test_a_type_that_numpy_lacks_is_run_but_not_bound(load_text: Callable[..., Artifact]) -> None:
    artifact = load_text("g (bfloat16[2] x) => (bfloat16[2] y) { y = Identity(x) }")
    x = np.array([1, 2], ml_dtypes.bfloat16)
    with Session(artifact) as session:
        np.testing.assert_array_equal(session.run({"x": x})["y"], x)
        with pytest.raises(SmithError, match="cannot be bound"):
            session.bind().set_input("x", x)
