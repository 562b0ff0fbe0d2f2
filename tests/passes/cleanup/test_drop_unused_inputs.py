"""Unused inputs are kept unless the pass is asked for, and it drops no others."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.errors import UsageError
from onnxsmith.passes.table import PRESETS
from onnxsmith.pipeline.optimize import OptimizeRequest, optimize
from onnxsmith.runtime.session import Session

TEXT = """g (float[2] x, float[3] u, float[2] dead, bool c) => (float[2] y) {
    k = Exp(dead)
    y = If(c) <then_branch = a () => (float[2] p) { p = Neg(x) },
               else_branch = b () => (float[2] q) { q = Abs(x) }> }"""


def inputs(artifact: Artifact) -> list[str]:
    return [value.name for value in artifact.spec.inputs]


def test_what_only_dead_nodes_read_goes_too(load_text: Callable[..., Artifact]) -> None:
    result = optimize(load_text(TEXT), OptimizeRequest(passes="drop-unused-inputs"))
    assert result.dropped == ()
    assert result.pipeline.verified
    assert inputs(result.artifact) == ["x", "c"]
    with Session(result.artifact) as session:
        found = session.run({"x": np.array([1, -2], np.float32), "c": np.array(True)})
    np.testing.assert_array_equal(found["y"], [-1, 2])


@pytest.mark.parametrize("preset", PRESETS)
def test_no_preset_drops_inputs(load_text: Callable[..., Artifact], preset: str) -> None:
    result = optimize(load_text(TEXT), OptimizeRequest(preset=preset))
    assert inputs(result.artifact) == ["x", "u", "dead", "c"]


def test_inputs_that_are_to_be_kept_stay(load_text: Callable[..., Artifact]) -> None:
    artifact = load_text(TEXT)
    result = optimize(artifact, OptimizeRequest(passes="drop-unused-inputs:keep=u"))
    assert inputs(result.artifact) == ["x", "u", "c"]
    with pytest.raises(UsageError, match="no input 'w'"):
        optimize(artifact, OptimizeRequest(passes="drop-unused-inputs:keep=w"))


def test_an_input_that_is_an_output_stays(load_text: Callable[..., Artifact]) -> None:
    artifact = load_text("g (float[2] x, float[2] z) => (float[2] x, float[2] y) { y = Neg(z) }")
    result = optimize(artifact, OptimizeRequest(passes="drop-unused-inputs"))
    assert inputs(result.artifact) == ["x", "z"]


def test_passes_before_and_behind(load_text: Callable[..., Artifact]) -> None:
    text = "g (float[2] x, float[2] u) => (float[2] y) { a = Mul(u, z) b = Size(a) c = Cast<to = 1>(b) y = Add(x, c) }"  # noqa: E501
    passes = "infer-shapes,fold-shapes,drop-unused-inputs,remove-unused-nodes,to-float16"
    result = optimize(
        load_text(text, {"z": np.zeros(2, np.float32)}), OptimizeRequest(passes=passes)
    )
    assert result.dropped == ()
    assert inputs(result.artifact) == ["x"]


def test_on_the_command_line(
    run_cli: Callable[..., Any], tmp_path: Path, load_text: Callable[..., Artifact]
) -> None:
    load_text(TEXT).save(tmp_path / "in.onnx")
    ended = run_cli(
        "optimize",
        tmp_path / "in.onnx",
        "-o",
        tmp_path / "o.onnx",
        "--passes",
        "drop-unused-inputs",
    )
    assert ended.code == 0, ended.err
    assert [v.name for v in onnx.load(tmp_path / "o.onnx").graph.input] == ["x", "c"]
