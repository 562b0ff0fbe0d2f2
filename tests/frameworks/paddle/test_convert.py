"""PaddlePaddle's programs and layers, converted in the environment that the tool makes for it."""

from __future__ import annotations

import collections
import json
import shutil
from pathlib import Path
from typing import Any

import onnx
import pytest

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.frontends.convert import ConvertResult, convert

# Node counts: what is left of 190, 300, 290 and 170 nodes that paddle2onnx writes.
LAYERS = {
    "nets:resnet18": ("image:float32[batch,3,height,width]", "batch,10", 80),
    "nets:mobilenet": ("image:float32[batch,3,height,width]", "batch,5", 110),
    "nets:Tagger": ("tokens:int64[batch,time]", "batch,time,5", 95),
    "nets:Encoder": ("x:float32[batch,time,32]", "batch,time,32", 72),
}


def operators(result: ConvertResult) -> dict[str, int]:
    return dict(collections.Counter(node.op_type for node in result.artifact.model.graph))


@pytest.mark.parametrize("source", LAYERS)
def test_layers_come_in_right_and_clean(project: Path, environments: Path, source: str) -> None:
    text, output, most = LAYERS[source]
    result = convert(source, inputs=[text], environments=environments)
    assert result.frontend == "paddle"
    assert result.warnings == ()
    assert max(d.max_rel for d in result.parity) <= 1e-5
    assert str(result.artifact.spec.inputs[0]) == text.replace(":", ": ")
    assert str(result.artifact.spec.outputs[0]) == f"output: float32[{output}]"
    found = operators(result)
    assert sum(found.values()) <= most
    assert not {"Constant", "Identity"} & set(found)
    step = result.artifact.history[0]
    assert step.result["route"] == "layer"
    assert set(step.result["versions"]) == {"paddlepaddle", "paddle2onnx"}
    parity = result.artifact.history[1].result
    assert len({str(shapes) for shapes in parity["shapes"]}) >= 3


@pytest.mark.parametrize("source", ["mobilenet", "mobilenet.json", "mobilenet.pdiparams", "old"])
def test_saved_programs_come_in(
    project: Path, environments: Path, source: str, tmp_path: Path, run_cli: Any
) -> None:
    out = tmp_path / "out.onnx"
    done = run_cli("convert", source, "-o", out, "--env-dir", environments, "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    old = source.startswith("old")
    sizes = "64,64" if old else "height,width"
    assert told["inputs"] == [f"x: float32[batch,3,{sizes}]"]
    # An output keeps the name that the program has for it, where it has one.
    assert told["outputs"][0].endswith("float32[batch,10]" if old else "float32[batch,5]")
    assert told["outputs"][0].startswith("linear_" if old else "output:")
    assert max(d["max_rel"] for d in told["parity"]) <= 1e-5
    assert told["history"][0]["result"]["route"] == ("pdmodel" if old else "json")
    assert len(told["history"][0]["result"]["weights_digest"]) == 64
    assert str(project) not in str(onnx.load(out).metadata_props)


def test_weights_may_lie_elsewhere(project: Path, environments: Path, tmp_path: Path) -> None:
    shutil.copy("several.json", tmp_path)
    with pytest.raises(SmithError, match=r"the weights of .* are missing"):
        convert(tmp_path / "several.json", environments=environments)
    result = convert(
        tmp_path / "several.json", weights="several.pdiparams", environments=environments
    )
    assert max(d.max_rel for d in result.parity) <= 1e-5
    names = [str(value) for value in result.artifact.spec.outputs]
    # Paddle puts the values of a dict into the order of their keys.
    assert names == [
        "output_0: float32[batch,4]",
        "output_1: float32[batch,4]",
        "output_2: int64[batch,4]",
        "output_3: float32[batch,3]",
    ]


def test_a_state_dict_is_loaded_into_a_layer(project: Path, environments: Path) -> None:
    inputs = ["b:float32[batch,4]", "a:float32[batch,4]"]  # forward's names, in any order
    results = [
        convert("nets:Several", weights=weights, inputs=inputs, environments=environments, seed=5)
        for weights in ("several.pdparams", None)
    ]
    weights = [result.artifact.model.graph.initializers for result in results]
    assert [v.name for v in results[0].artifact.model.graph.inputs] == ["a", "b"]
    arrays = [
        next(v.const_value.numpy() for v in found.values() if tuple(v.shape) == (4, 3))
        for found in weights
    ]
    assert not (arrays[0] == arrays[1]).all()


def test_branches_and_loops_stay_in_the_graph(project: Path, environments: Path) -> None:
    result = convert("branch.json", environments=environments)
    assert {"If", "Loop"} <= set(operators(result))
    assert max(d.max_rel for d in result.parity) <= 1e-5


def test_a_layer_may_declare_its_inputs_itself(project: Path, environments: Path) -> None:
    result = convert("nets:Declared", environments=environments)
    assert str(result.artifact.spec.inputs[0]) == "a: float32[batch,4]"


def test_an_operator_without_counterpart_is_named(project: Path, environments: Path) -> None:
    """paddle2onnx ends the process that it runs in; the worker survives and says why."""
    with pytest.raises(SmithError, match=r"paddle2onnx cannot convert the operators svd$"):
        convert("unsupported.json", environments=environments)


@pytest.mark.parametrize(
    ("source", "inputs", "message"),
    [
        ("nets:no_layer", ["x:float32[n,4]"], "is a int, not a layer"),
        ("nets:Encoder", [], "the inputs of 'nets:Encoder' are not known"),
        ("nets:leaves", ["x:float32[n,4]"], "SystemExit: 3"),
        ("nets:Encoder", ["x:float32[n,5]"], "making a program of the layer failed"),
        ("nets:Several", ["b:float32[n,4]"], "forward's argument 'a' stands before another"),
        ("mobilenet", ["x:float32[n,4,8,8]"], r"has the shape \[\?,3,\?,\?\]"),
        ("mobilenet", ["y:float32[n,3,8,8]"], "the program has no input 'y'"),
    ],
)
def test_what_does_not_fit_is_said(
    project: Path, environments: Path, source: str, inputs: list[str], message: str
) -> None:
    with pytest.raises((SmithError, UsageError), match=message) as caught:
        convert(source, inputs=inputs, environments=environments)
    assert caught.value.hint
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("part", ["json", "pdiparams"])
def test_damaged_programs_are_refused(
    project: Path, environments: Path, tmp_path: Path, part: str
) -> None:
    for suffix in ("json", "pdiparams"):
        shutil.copy(f"several.{suffix}", tmp_path)
    path = tmp_path / f"several.{part}"
    data = path.read_bytes()
    for kept in (len(data) - 10, len(data) // 2):
        path.write_bytes(data[:kept])
        with pytest.raises(SmithError) as caught:
            convert(tmp_path / "several.json", environments=environments)
        assert caught.value.hint
        assert "\n" not in caught.value.message
