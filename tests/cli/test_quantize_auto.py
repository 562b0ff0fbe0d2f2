"""``quantize --mode auto``: what a person sees, and what is refused."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.pipeline.quantization.search import auto
from onnxsmith.runtime.bench import bench
from onnxsmith.runtime.session import Session

RNG = np.random.default_rng(17)


@pytest.fixture
def arguments(load_text: Callable[..., Artifact], tmp_path: Path) -> list[Any]:
    """A small network and its data, as arguments."""
    text = "g (float[N,12] x) => (float[N,4] y) { y = Gemm<transB = 1>(x, w) }"
    artifact = load_text(text, {"w": RNG.standard_normal((4, 12)).astype(np.float32)})
    artifact.save(tmp_path / "model.onnx")
    found: list[Any] = ["quantize", tmp_path / "model.onnx", "-o", tmp_path / "auto.onnx"]
    for option, count in (("data", 64), ("eval-data", 200)):
        x = RNG.standard_normal((count, 12)).astype(np.float32)
        with Session(artifact) as session:
            labels = session.run({"x": x})["y"].argmax(axis=1)
        np.savez(tmp_path / f"{option}.npz", x=x, label=labels)
        found += [f"--{option}", f"npz:{tmp_path / option}.npz"]
    return found


def test_candidates_and_layers_are_shown_and_reported(
    arguments: list[Any],
    tmp_path: Path,
    run_cli: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(auto, "bench", partial(bench, isolate=False, rounds=3, runs=5))
    report = tmp_path / "report.html"
    options = ["--mode", "auto", "--budget", "2", "900", "--report", report, "--threads", "1"]
    ended = run_cli(*arguments, *options)
    assert ended.code == 0, ended.err
    for words in ("candidates", "optimized", "static", "one layer quantized", "allowed is"):
        assert words in ended.out
    assert "measuring 3 models" in ended.err
    assert Artifact.load(tmp_path / "auto.onnx").history[-1].name == "auto"
    page = report.read_text()
    for title in ("Search", "Sensitivity", "Accuracy"):
        assert f">{title}\n" in page or f">{title}<" in page


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--mode", "auto", "--no-bench"], "measured speed"),
        (["--mode", "dynamic", "--sensitivity"], "no layers to measure"),
        (["--mode", "auto", "--budget", "0", "9"], "budget"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    arguments: list[Any],
    tmp_path: Path,
    run_cli: Callable[..., Any],
    options: list[str],
    words: str,
) -> None:
    ended = run_cli(*arguments, *options)
    assert ended.code == 2
    assert words in ended.err
    assert not (tmp_path / "auto.onnx").exists()
