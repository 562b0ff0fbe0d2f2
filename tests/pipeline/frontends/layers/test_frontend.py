"""Networks in YAML: read, converted and trained from the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.cli.main import run
from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.convert import convert
from onnxsmith.pipeline.frontends.layers.description import load_network

NET = """
inputs: ["x:float32[batch,64]"]
layers:
  - {type: dense, units: 16, activation: relu}
  - {type: dense, units: 10, name: head}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "net.yaml"
    path.write_text(text)
    return path


def test_a_network_is_converted_and_its_seed_counts(tmp_path: Path) -> None:
    path = write(tmp_path, NET)
    first, second, other = (convert(path, seed=seed).artifact for seed in (0, 0, 1))

    def head(artifact: Artifact) -> np.ndarray:
        return artifact.model.graph.initializers["head.weight"].const_value.numpy()

    np.testing.assert_array_equal(head(first), head(second))
    assert (head(first) != head(other)).any()
    assert str(first.spec.inputs[0]) == "x: float32[batch,64]"
    step = first.history[0]
    assert (step.name, step.result["layers"]) == ("layers", 2)


def test_a_network_is_trained_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = write(tmp_path, NET), tmp_path / "out.onnx"
    arguments = ["train", str(path), "-o", str(out), "--data", "digits?split=train&scale=1/16"]
    assert run([*arguments, "--epochs", "2", "--threads", "1"]) == 0
    assert "trained 1,210 parameters" in capsys.readouterr().out
    assert [step.kind for step in Artifact.load(out).history] == ["source", "train"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("layers: [", "not YAML"),
        ("source: {path: m.onnx}", "is a recipe, not a network"),
        ("inputs: [a]", "describes no network"),
        ("- 1", "describes no network"),
        (NET.replace("units: 16", "units: 0"), r"layer 1 \(dense\): units: Input should be"),
        (NET.replace("units: 10", "unit: 10"), r"layer 2 \(head, dense\): units: Field required"),
        (NET.replace("relu", "rely"), r"layer 1 \(dense\): activation: Input should be 'none'"),
        (NET.replace("type: dense, units: 16", "type: dens"), r"layer 1 \(dens\): Input tag"),
        (NET.replace("  - {type: dense, units: 16, activation: relu}", "  - 3"), "layer 1: "),
        (NET.replace("layers:", "colour: red\nlayers:"), "colour: Extra inputs"),
    ],
)
def test_bad_descriptions_name_the_layer_and_the_field(
    tmp_path: Path, text: str, words: str
) -> None:
    with pytest.raises(SmithError, match=words) as caught:
        load_network(write(tmp_path, text))
    assert "\n" not in caught.value.message


def test_weights_and_inputs_are_the_networks_own(tmp_path: Path) -> None:
    path = write(tmp_path, NET)
    with pytest.raises(SmithError, match="its own inputs"):
        convert(path, inputs=["x:float32[1,64]"])
    with pytest.raises(SmithError, match="its own inputs and initial weights"):
        convert(path, weights=path)
