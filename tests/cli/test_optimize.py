import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.passes.base import Pass, PassResult
from onnxsmith.passes.cleanup.remove_identities import RemoveIdentities
from onnxsmith.passes.observers import census

TEXT = "g (float[N,3] x) => (float[N,3] y) { a = Identity(x) m = MatMul(a, w) y = Add(m, b) }"
WEIGHTS = {"w": np.eye(3, dtype=np.float32) * 2, "b": np.arange(3, dtype=np.float32)}


@pytest.fixture
def model(tmp_path: Path, parse_model: Callable[..., onnx.ModelProto]) -> Path:
    onnx.save(parse_model(TEXT, WEIGHTS), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


@pytest.fixture
def optimize(run_cli: Callable[..., Any], model: Path) -> Callable[..., Any]:
    def run(*options: str, source: Path = model) -> Any:
        return run_cli("optimize", source, "-o", model.with_name("out.onnx"), *options)

    return run


def ops(path: Path) -> dict[str, int]:
    return census(Artifact.load(path).model)


def test_a_preset_is_applied_checked_and_told(optimize: Callable[..., Any], model: Path) -> None:
    ended = optimize("--allow-slower")
    assert ended.code == 0, ended.err
    assert "3 nodes -> 1 nodes, checked" in ended.out
    assert ops(model.with_name("out.onnx")) == {"Gemm": 1}


def test_passes_by_name_as_json(optimize: Callable[..., Any], model: Path) -> None:
    ended = optimize("--passes", "remove-identities", "--json")
    assert ended.code == 0
    told = json.loads(ended.out)
    assert [run["pass"] for run in told["runs"]] == ["remove-identities"]
    assert told["verified"] is True
    assert told["census_before"]["Identity"] == 1
    assert ops(model.with_name("out.onnx")) == {"MatMul": 1, "Add": 1}


def test_the_output_may_be_the_input(run_cli: Callable[..., Any], model: Path) -> None:
    assert run_cli("optimize", model, "-o", model, "--allow-slower").code == 0
    assert ops(model) == {"Gemm": 1}


def test_a_pass_that_breaks_the_model_gives_3_and_the_rest(
    optimize: Callable[..., Any], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(self: Pass, graph: Any, context: Any) -> PassResult:
        graph.graph.initializers["w"].const_value = onnx_ir_zero()
        return PassResult(graph, modified=True)

    def onnx_ir_zero() -> Any:
        import onnx_ir as ir

        return ir.Tensor(np.zeros((3, 3), np.float32), name="w")

    monkeypatch.setattr(RemoveIdentities, "apply", wrong)
    ended = optimize("--passes", "infer-shapes,remove-identities,fuse-gemm")
    assert ended.code == 3
    assert "dropped remove-identities (wrong)" in ended.err
    assert ops(model.with_name("out.onnx")) == {"Identity": 1, "Gemm": 1}


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--passes", "fold-constant"], 2, "did you mean 'fold-constants'"),
        (["--passes", "fold-constants:limits=1"], 2, "did you mean 'limit'"),
        (["--passes", "fold-constants:limit=big"], 2, "type int"),
        (["--passes", ",", "--allow-slower"], 2, "empty"),
        (["--preset", "fastest"], 2, "unknown preset"),
        (["--target", "tpu"], 2, "unknown target"),
        (["--passes", "fuse-gemm", "--preset", "cpu"], 2, "exclude each other"),
        (["--dim", "batch"], 2, "NAME=SIZE"),
        (["--data", "npz:none.npz"], 1, "none.npz"),
        (["--data", "nonsense"], 2, "nonsense"),
    ],
)
def test_wrong_options_leave_the_output_as_it_was(
    optimize: Callable[..., Any], model: Path, options: list[str], code: int, words: str
) -> None:
    out = model.with_name("out.onnx")
    out.write_text("precious")
    ended = optimize(*options)
    assert (ended.code, ended.out) == (code, ""), ended.err
    assert words in ended.err
    assert len(ended.err.splitlines()) == 2
    assert out.read_text() == "precious"
    assert {f.name for f in model.parent.iterdir()} == {"model.onnx", "out.onnx"}


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x0a\x3a\xff\xff\xff\xff\x0f"])
def test_what_is_no_model_is_one_clear_error(
    optimize: Callable[..., Any], tmp_path: Path, content: bytes
) -> None:
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(content)
    ended = optimize(source=bad)
    assert ended.code == 1
    assert len(ended.err.splitlines()) == 2


def test_data_of_the_wrong_shape_is_refused(
    optimize: Callable[..., Any], model: Path, tmp_path: Path
) -> None:
    np.savez(tmp_path / "wide.npz", x=np.zeros((4, 5), np.float32))
    ended = optimize("--data", f"npz:{tmp_path / 'wide.npz'}")
    assert ended.code == 1
    assert "does not fit" in ended.err
    assert not model.with_name("out.onnx").exists()


def test_a_model_of_another_runtime_is_cleaned_up_and_called_unverified(
    optimize: Callable[..., Any], tmp_path: Path, parse_model: Callable[..., onnx.ModelProto]
) -> None:
    header = '<ir_version: 10, opset_import: ["": 18, "acme": 1]>'
    text = "g (float[2] x) => (float[2] y) { a = Identity(x) y = acme.Turbo(a) }"
    onnx.save(parse_model(text, header=header), tmp_path / "acme.onnx")
    ended = optimize("--passes", "remove-identities", source=tmp_path / "acme.onnx")
    assert ended.code == 0
    assert "not verified" in ended.err
    assert "not checked" in ended.out
    assert ops(tmp_path / "out.onnx") == {"acme.Turbo": 1}


def test_nan_outputs_that_were_nan_before_are_no_difference(
    optimize: Callable[..., Any], tmp_path: Path, parse_model: Callable[..., onnx.ModelProto]
) -> None:
    # The logarithm of made-up inputs, half of which are negative.
    text = "g (float[N,4] x) => (float[N,4] y) { a = Identity(x) y = Log(a) }"
    onnx.save(parse_model(text), tmp_path / "log.onnx")
    ended = optimize("--passes", "remove-identities", source=tmp_path / "log.onnx")
    assert ended.code == 0
    assert ops(tmp_path / "out.onnx") == {"Log": 1}


def test_each_graph_is_written_on_request(optimize: Callable[..., Any], tmp_path: Path) -> None:
    assert optimize("--passes", "remove-identities", "--dump", str(tmp_path / "d")).code == 0
    names = sorted(f.name for f in (tmp_path / "d").iterdir())
    assert names == ["000-input.txt", "001-remove-identities.txt"]


def test_a_model_beyond_the_limit_of_one_file(
    optimize: Callable[..., Any],
    tmp_path: Path,
    load_text: Callable[..., Artifact],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a model of more than 2 GB goes through, at a small scale: files in, files out."""
    monkeypatch.setattr("onnxsmith.storage.save.EMBED_LIMIT", 200_000)
    monkeypatch.setattr("onnxsmith.runtime.weights._SHARED_LIMIT", 200_000)
    rng = np.random.default_rng(0)
    weights = {n: rng.standard_normal((200, 200)).astype(np.float32) for n in ("u", "v", "w")}
    text = """g (float[N,200] x) => (float[N,200] y) {
      s = Transpose<perm = [1, 0]>(u) a = MatMul(x, s)
      t = Transpose<perm = [1, 0]>(v) b = MatMul(a, t)
      i = Identity(b) y = MatMul(i, w)
    }"""
    load_text(text, weights).save(tmp_path / "large.onnx")
    assert len(list(tmp_path.glob("large.*.data"))) == 1
    options = ("--allow-slower", "--shard-size", "200KB", "--json")
    ended = optimize(*options, source=tmp_path / "large.onnx")
    assert ended.code == 0
    assert json.loads(ended.out)["verified"] is True
    output = tmp_path / "out.onnx"
    result = onnx.load(output)
    assert len(list(tmp_path.glob("out.*.data"))) == 3
    assert [node.op_type for node in result.graph.node] == ["MatMul"] * 3
    found = {t.name: onnx.numpy_helper.to_array(t) for t in result.graph.initializer}
    np.testing.assert_array_equal(found["s"], weights["u"].T)
    np.testing.assert_array_equal(found["t"], weights["v"].T)
    np.testing.assert_array_equal(found["w"], weights["w"])
