"""Whatever happens to ``optimize``, the output is the old file or the new one, and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from onnxsmith.artifact import Artifact

Cli = Callable[..., Any]
Parse = Callable[..., onnx.ModelProto]
TEXT = "g (float[N,300] x) => (float[N,300] y) { a = Identity(x) m = MatMul(a, w) y = Add(m, b) }"


@pytest.fixture
def model(tmp_path: Path, parse_model: Parse) -> Path:
    rng = np.random.default_rng(0)
    weights = {
        n: rng.standard_normal(s).astype(np.float32) for n, s in (("w", (300, 300)), ("b", 300))
    }
    onnx.save(parse_model(TEXT, weights), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def two_lines(ended: Any, code: int) -> str:
    assert ended.code == code, ended.err
    lines = ended.err.splitlines()
    assert [line.partition(": ")[0] for line in lines] == ["error", "hint"]
    return str(ended.err)


@pytest.mark.parametrize("form", [["--external"], ["--embed"]])
def test_where_nothing_can_be_written(run_cli: Cli, model: Path, form: list[str]) -> None:
    (model.parent / "file").write_text("kept")
    (model.parent / "folder.onnx").mkdir()
    before = sorted(p.name for p in model.parent.iterdir())
    for output in ("file/o.onnx", "none/o.onnx", "folder.onnx", "/proc/o.onnx", "/dev/null"):
        error = run_cli(
            "optimize", model, "-o", model.parent / output, "--passes", "fuse-gemm", *form
        )
        assert "cannot write" in two_lines(error, 1)
    assert sorted(p.name for p in model.parent.iterdir()) == before
    assert Path("/dev/null").is_char_device()


def test_a_full_disk_half_way(
    run_cli: Cli, model: Path, run_python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    output = model.with_name("o.onnx")
    output.write_text("precious")
    code = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from onnxsmith.cli.main import run
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
sys.exit(run(["optimize", sys.argv[1], "-o", sys.argv[2], "--verify", "off", "--allow-slower"]))
"""
    done = run_python(code, model, output)
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith(f"error: cannot write {output}: File too large\nhint: ")
    assert output.read_text() == "precious"
    assert len(list(model.parent.iterdir())) == 2


SLOW = """
import sys, time
import onnxsmith.storage.save as save
whole = save.tensor_chunks
def slowly(tensor):
    for chunk in whole(tensor):
        yield chunk[:1000]
        print("writing", flush=True)
        time.sleep(60)
        yield chunk[1000:]
save.tensor_chunks = slowly
from onnxsmith.cli.main import main
main(["optimize", sys.argv[1], "-o", sys.argv[2], "--passes", "remove-identities"])
"""


def interrupted_run(model: Path, output: Path) -> tuple[int, str]:
    with subprocess.Popen(
        [sys.executable, "-c", SLOW, str(model), str(output)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    return process.returncode, err


def test_ctrl_c_while_writing(model: Path) -> None:
    output = model.with_name("o.onnx")
    output.write_text("precious")
    code, err = interrupted_run(model, output)
    assert (code, err.strip()) == (130, "error: interrupted")
    assert output.read_text() == "precious"
    assert sorted(p.name for p in model.parent.iterdir()) == ["model.onnx", "o.onnx"]


def test_ctrl_c_at_any_moment(model: Path) -> None:
    output = model.with_name("o.onnx")
    arguments = ["optimize", str(model), "-o", str(output), "--passes", "remove-identities"]
    for delay in (0, 0.05, 0.1, 0.2, 0.4, 0.8):
        program = f"from onnxsmith.cli.main import main; print(flush=True); main({arguments!r})"
        with subprocess.Popen(
            [sys.executable, "-c", program],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(delay)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate()
        if delay == 0 and process.returncode == -signal.SIGINT and not output.exists():
            continue  # Python's own handler was still in place
        if process.returncode in (0, -signal.SIGINT):  # it was done, or even leaving, already
            assert len(Artifact.load(output).model.graph) == 2
        else:
            assert (process.returncode, err.strip()) == (130, "error: interrupted")
        assert not any(p.name.endswith(".tmp") for p in model.parent.iterdir())


def test_kill_leaves_the_old_file_and_the_next_run_cleans_up(run_cli: Cli, model: Path) -> None:
    output = model.with_name("o.onnx")
    output.write_text("precious")
    with subprocess.Popen(
        [sys.executable, "-c", SLOW, str(model), str(output)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        process.kill()
    assert output.read_text() == "precious"
    assert len(list(model.parent.glob(".o.onnx.*.tmp"))) == 1
    assert run_cli("optimize", model, "-o", output, "--passes", "fuse-gemm").code == 0
    assert sorted(p.name for p in model.parent.iterdir()) == ["model.onnx", "o.onnx"]


def test_a_hostile_external_path(run_cli: Cli, model: Path) -> None:
    proto = onnx.load(model)
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../../etc/passwd")
    model.write_bytes(proto.SerializeToString())
    error = two_lines(run_cli("optimize", model, "-o", model.with_name("o.onnx")), 1)
    assert "points outside the model's folder" in error
    assert not model.with_name("o.onnx").exists()


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--dim", "M=3"], 1, "no dimension 'M'"),
        (["--passes", ""], 2, "the pipeline is empty"),
        (["--passes", "", "--preset", "cpu"], 2, "exclude each other"),
        (["--threads", "0"], 2, "--threads"),
        (["--rtol", "-1"], 2, "--rtol"),
        (["--nonsense"], 2, "--nonsense"),
    ],
)
def test_options_that_do_not_fit(
    run_cli: Cli, model: Path, options: list[str], code: int, words: str
) -> None:
    output = model.with_name("o.onnx")
    assert words in two_lines(run_cli("optimize", model, "-o", output, *options), code)
    assert not output.exists()


def test_a_name_for_one_size_is_probed_with(run_cli: Cli, model: Path) -> None:
    output = model.with_name("o.onnx")
    ended = run_cli("optimize", model, "-o", output, "--dim", "N=5", "--allow-slower")
    assert ended.code == 0
    assert Artifact.load(output).spec.inputs[0].shape == ("N", 300)


def test_a_library_that_fails_inside_prints_no_traceback(
    model: Path, parse_model: Parse, run_python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    # A branch that reuses an outer name: shape inference and the runtime refuse it, in many words.
    text = """g (bool c, float[2] x) => (float[2] y) {
        t = Exp(x)
        a = If(c) <then_branch = a () => (float[2] p) { t = Neg(x) p = Add(t, x) },
                   else_branch = b () => (float[2] q) { q = Exp(x) }>
        y = Add(a, t) }"""
    model.write_bytes(parse_model(text).SerializeToString())
    code = "import sys; from onnxsmith.cli.main import main; main(sys.argv[1:])"
    done = run_python(
        code, "optimize", model, "-o", model.with_name("o.onnx"), "--passes", "infer-shapes"
    )
    assert done.returncode in (0, 1)
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 2


def test_output_to_a_closed_pipe_is_quiet(model: Path) -> None:
    command = [sys.executable, "-m", "onnxsmith", "passes", "list"]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
