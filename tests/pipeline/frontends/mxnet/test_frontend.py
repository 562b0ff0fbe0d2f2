"""The frontend as a whole: its files, its inputs, its refusals, what a conversion says."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.errors import RefusedError, SmithError, UsageError
from onnxsmith.pipeline.frontends.convert import convert
from onnxsmith.pipeline.frontends.table import choose_frontend, find_frontend
from onnxsmith.runtime.session import Session

Array = np.ndarray[Any, Any]

# Takes images of 12 x 12: pooled to 5 x 5, so 100 features.
CNN: list[Any] = [
    ("null", "data", {}, []),
    ("null", "conv_weight", {}, []),
    ("null", "conv_bias", {}, []),
    ("Convolution", "conv", {"kernel": (3, 3), "num_filter": 4}, [0, 1, 2]),
    ("Activation", "act", {"act_type": "relu"}, [3]),
    ("Pooling", "pool", {"kernel": (2, 2), "stride": (2, 2), "pool_type": "max"}, [4]),
    ("null", "fc_weight", {}, []),
    ("null", "fc_bias", {}, []),
    ("FullyConnected", "fc", {"num_hidden": 3}, [5, 6, 7]),
    ("null", "softmax_label", {}, []),
    ("SoftmaxOutput", "softmax", {}, [8, 9]),
]
MLP: list[Any] = [
    ("null", "data", {}, []),
    ("null", "fc_weight", {}, []),
    ("null", "fc_bias", {}, []),
    ("FullyConnected", "fc", {"num_hidden": 3}, [0, 1, 2]),
]
SIZE = "data:float32[batch,2,12,12]"


@pytest.fixture
def weights(rng: np.random.Generator) -> dict[str, Array]:
    shapes = {
        "conv_weight": (4, 2, 3, 3),
        "conv_bias": (4,),
        "fc_weight": (3, 100),
        "fc_bias": (3,),
    }
    return {name: rng.normal(size=s).astype(np.float32) for name, s in shapes.items()}


@pytest.fixture
def cnn(mxnet: Any, weights: dict[str, Array]) -> Path:
    path: Path = mxnet.write(CNN, [10], weights)
    return path


@pytest.fixture
def mlp(mxnet: Any, rng: np.random.Generator) -> Path:
    arrays = {
        "fc_weight": rng.normal(size=(3, 4)).astype(np.float32),
        "fc_bias": np.zeros(3, np.float32),
    }
    path: Path = mxnet.write(MLP, [3], arrays)
    return path


def first_weight(artifact: Artifact) -> Array:
    value = artifact.model.graph.initializers["fc_weight"].const_value
    assert value is not None
    return value.numpy()


def test_its_files_are_recognized(cnn: Path, tmp_path: Path) -> None:
    assert choose_frontend(str(cnn)).name == "mxnet"
    assert choose_frontend(str(next(tmp_path.glob("*.params")))).name == "mxnet"
    other = tmp_path / "graph.json"
    other.write_text(cnn.read_text())
    assert choose_frontend(str(other)).name == "mxnet"
    assert choose_frontend("missing-SYMBOL.JSON").name == "mxnet"


@pytest.mark.parametrize("text", ["{}", '{"program": []}', '{"nodes": [1]}', "hello", ""])
def test_other_files_are_not(tmp_path: Path, text: str) -> None:
    path = tmp_path / "model.json"
    path.write_text(text)
    mxnet = find_frontend("mxnet")
    assert mxnet.match(str(path)) is None
    assert mxnet.match("model.onnx") is None
    assert mxnet.match("module:symbol") is None
    assert mxnet.match_object(object()) is None


def test_live_models_are_told_what_to_do() -> None:
    base = type("Block", (), {"__module__": "mxnet"})
    live = type("Net", (base,), {})()
    frontend = find_frontend("mxnet")
    assert frontend.match_object(live) is not None
    with pytest.raises(SmithError, match="live models of MXNet are not taken") as caught:
        convert(live)
    assert "net.export" in caught.value.hint


def test_a_checkpoint(cnn: Path, weights: dict[str, Array], close: Any) -> None:
    result = convert(cnn, inputs=[SIZE])
    assert result.frontend == "mxnet"
    assert any("not compared" in warning for warning in result.warnings)
    artifact = result.artifact
    assert [str(v) for v in artifact.spec.inputs] == ["data: float32[batch,2,12,12]"]
    assert [str(v) for v in artifact.spec.outputs] == ["softmax_output: float32[batch,3]"]
    assert [node.name for node in artifact.model.graph] == [
        "conv",
        "act",
        "pool",
        "fc/Flatten",
        "fc",
        "softmax",
    ]
    x = np.random.default_rng(0).normal(size=(2, 2, 12, 12)).astype(np.float32)
    with Session(artifact, optimize=False) as session:
        found = session.run({"data": x})["softmax_output"]
    conv = sum(
        np.einsum(
            "bchw,oc->bohw", x[:, :, i : i + 10, j : j + 10], weights["conv_weight"][..., i, j]
        )
        for i in range(3)
        for j in range(3)
    )
    active = np.maximum(conv + weights["conv_bias"].reshape(1, 4, 1, 1), 0)
    pooled = active.reshape(2, 4, 5, 2, 5, 2).max((3, 5))
    logits = pooled.reshape(2, -1) @ weights["fc_weight"].T + weights["fc_bias"]
    e = np.exp(logits - logits.max(1, keepdims=True))
    close(found, e / e.sum(1, keepdims=True))


def test_the_sizes_are_asked_for_with_an_example_that_works(cnn: Path) -> None:
    with pytest.raises(SmithError, match=r"'fc' \(FullyConnected\) needs 100 features") as caught:
        convert(cnn)
    assert caught.value.hint == "say the sizes: --input 'data:float32[batch,2,12,12]'"
    convert(cnn, inputs=[SIZE])


def test_sizes_follow_from_the_weights(mlp: Path) -> None:
    assert [str(v) for v in convert(mlp).artifact.spec.inputs] == ["data: float32[batch,4]"]


def test_global_pools_leave_height_and_width_open(mxnet: Any, weights: dict[str, Array]) -> None:
    nodes = [*CNN[:5], ("Pooling", "pool", {"global_pool": True, "pool_type": "avg"}, [4])]
    artifact = convert(mxnet.write(nodes, [5], weights)).artifact
    assert [str(v) for v in artifact.spec.inputs] == ["data: float32[batch,2,height,width]"]


def test_shapes_that_the_file_tells(mxnet: Any) -> None:
    hints = {"__shape__": "(0, 3, 8, 8)", "__dtype__": "1"}
    path = mxnet.write([("null", "x", hints, []), ("relu", "y", {}, [0])], [1], {})
    assert [str(v) for v in convert(path).artifact.spec.inputs] == ["x: float64[batch,3,8,8]"]


def test_a_shape_that_nothing_tells(mxnet: Any) -> None:
    path = mxnet.write([("null", "x", {}, []), ("relu", "y", {}, [0])], [1], {})
    with pytest.raises(SmithError, match="the shape of the input 'x' does not follow") as caught:
        convert(path)
    assert caught.value.hint.startswith("say it, for example: --input 'x:float32[")
    with pytest.raises(UsageError, match="the graph has no input 'z'") as wrong:
        convert(path, inputs=["z:float32[2]"])
    assert wrong.value.hint == "its inputs: 'x'"


def test_the_last_epoch_is_taken(mlp: Path, params: Any, tmp_path: Path) -> None:
    name = mlp.name.removesuffix("-symbol.json")
    for epoch in (3, 12):
        arrays = {"fc_weight": np.full((3, 4), epoch), "fc_bias": np.zeros(3)}
        data = params({n: a.astype(np.float32) for n, a in arrays.items()})
        (tmp_path / f"{name}-{epoch:04}.params").write_bytes(data)
    (tmp_path / f"{name}x-0099.params").write_bytes(b"another model's")
    result = convert(mlp)
    assert first_weight(result.artifact)[0, 0] == 12
    assert any(f"the last was taken: {name}-0012.params" in text for text in result.warnings)
    third = convert(mlp, weights=tmp_path / f"{name}-0003.params")
    assert first_weight(third.artifact)[0, 0] == 3
    named = convert(tmp_path / f"{name}-0003.params")  # the weights may be SOURCE
    assert first_weight(named.artifact)[0, 0] == 3


def test_gluon_s_plain_names(mlp: Path, tmp_path: Path) -> None:
    """save_parameters writes NAME.params, without prefixes."""
    name = mlp.name.removesuffix("-symbol.json")
    (tmp_path / f"{name}-0000.params").rename(tmp_path / f"{name}.params")
    assert first_weight(convert(mlp).artifact).shape == (3, 4)
    assert first_weight(convert(tmp_path / f"{name}.params").artifact).shape == (3, 4)


def test_weights_that_are_not_there(mlp: Path, cnn: Path, tmp_path: Path) -> None:
    for path in tmp_path.glob("*.params"):
        path.rename(path.with_name(f"moved-{path.name}"))
    with pytest.raises(SmithError, match="there are no weights beside") as caught:
        convert(mlp)
    assert caught.value.hint == "name their .params file with --weights"
    with pytest.raises(SmithError, match=r"has no 'conv_weight', which the node 'conv'"):
        convert(cnn, inputs=[SIZE], weights=tmp_path / "moved-net1-0000.params")
    with pytest.raises(SmithError, match="there is no graph moved-net2-symbol"):
        convert(tmp_path / "moved-net2-0000.params")


def test_weights_in_both_places(mlp: Path, tmp_path: Path) -> None:
    weights = next(tmp_path.glob("*.params"))
    with pytest.raises(SmithError, match="holds weights, as --weights does"):
        convert(weights, weights=weights)
    with pytest.raises(SmithError, match=r"is not a \.params file of MXNet"):
        convert(mlp, weights=mlp)


def test_operators_that_are_not_known_are_named(mxnet: Any) -> None:
    nodes: list[Any] = [
        ("null", "x", {}, []),
        ("_contrib_CTCLoss", "ctc", {}, [0]),
        ("Correlation", "corr", {}, [1]),
        ("Proposal", "prop", {}, [2]),
    ]
    path = mxnet.write(nodes, [3], {})
    with pytest.raises(SmithError) as caught:
        convert(path, inputs=["x:float32[2]"])
    assert caught.value.message == (
        "the operator of the node 'ctc' (_contrib_CTCLoss) cannot be imported; "
        "also Correlation, Proposal"
    )
    custom = mxnet.write(
        [("null", "x", {}, []), ("Custom", "mine", {"op_type": "focal"}, [0])], [1], {}
    )
    with pytest.raises(SmithError, match=r"'mine' \(Custom\) runs the user's own Python code"):
        convert(custom, inputs=["x:float32[2]"])


def test_outputs_that_inference_does_not_compute(mxnet: Any) -> None:
    path = mxnet.write([("null", "x", {}, []), ("relu", "y", {}, [0])], [(1, 3)], {})
    with pytest.raises(SmithError, match=r"is output 3 of the node 'y' \(relu\), which inference"):
        convert(path, inputs=["x:float32[2]"])


@pytest.mark.parametrize(
    ("op", "attrs", "name"),
    [
        ("relu", {}, "it_output"),
        ("SliceChannel", {"num_outputs": 1}, "it_output0"),
        ("topk", {"ret_typ": "value"}, "it_output0"),
        ("sort", {}, "it_output0"),
        ("make_loss", {}, "it_loss"),
    ],
)
def test_outputs_keep_mxnet_s_names(mxnet: Any, op: str, attrs: dict[str, Any], name: str) -> None:
    path = mxnet.write([("null", "x", {}, []), (op, "it", attrs, [0])], [1], {})
    spec = convert(path, inputs=["x:float32[2,3]"], verify=False).artifact.spec
    assert [value.name for value in spec.outputs] == [name]


def test_an_input_that_is_an_output(mxnet: Any) -> None:
    nodes: list[Any] = [("null", "x", {}, []), ("relu", "y", {}, [0]), ("BlockGrad", "z", {}, [1])]
    path = mxnet.write(nodes, [0, 1, 2, 1], {})
    artifact = convert(path, inputs=["x:float32[2]"]).artifact
    assert len({value.name for value in artifact.spec.outputs}) == 4


def test_two_variables_of_one_name_are_one(mxnet: Any, close: Any) -> None:
    nodes: list[Any] = [
        ("null", "x", {}, []),
        ("null", "w", {}, []),
        ("null", "w", {}, []),
        ("broadcast_add", "a", {}, [0, 1]),
        ("broadcast_mul", "b", {}, [3, 2]),
    ]
    w = np.array([2, 3], np.float32)
    path = mxnet.write(nodes, [4], {"w": w})
    found = mxnet.run(path, {"x": np.ones((1, 2), np.float32)})
    close(found["b_output"], ((1 + w) * w)[None])


def test_half_precision(mxnet: Any) -> None:
    arrays = {"fc_weight": np.eye(3, 4, dtype=np.float16), "fc_bias": np.zeros(3, np.float16)}
    path = mxnet.write(MLP, [3], arrays)
    assert str(convert(path).artifact.spec.inputs[0]) == "data: float16[batch,4]"


def test_recorded_outputs_are_compared(mlp: Path, tmp_path: Path) -> None:
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    y = x @ first_weight(convert(mlp).artifact).T
    np.savez(tmp_path / "stored.npz", in_data=x, out_fc_output=y)
    assert [d.ok for d in convert(mlp, reference=tmp_path / "stored.npz").parity] == [True]
    np.savez(tmp_path / "wrong.npz", in_data=x, out_fc_output=y + 0.01)
    with pytest.raises(RefusedError):
        convert(mlp, reference=tmp_path / "wrong.npz")


def test_the_history_names_no_place(mlp: Path) -> None:
    step = convert(mlp).artifact.history[0]
    assert (step.name, step.kind) == ("mxnet", "source")
    assert str(mlp.parent) not in json.dumps(step.to_json())
    assert "1.9.1" in json.dumps(step.to_json())


@pytest.mark.parametrize("opset", [13, 17, 22])
def test_any_opset(cnn: Path, opset: int) -> None:
    artifact = convert(cnn, inputs=[SIZE], opset=opset).artifact
    assert artifact.model.opset_imports[""] == opset


def test_from_the_command_line(run_cli: Callable[..., Any], cnn: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    ended = run_cli("convert", cnn, "-o", out, "--input", SIZE)
    assert ended.code == 0, ended.err
    assert "from mxnet" in ended.out
    onnx.checker.check_model(str(out), full_check=True)
    ended = run_cli("convert", cnn, "-o", tmp_path / "no.onnx")
    assert ended.code == 1
    assert "error: the node 'fc' (FullyConnected) needs 100 features" in " ".join(ended.err.split())
    assert not (tmp_path / "no.onnx").exists()


def test_recognizing_a_file_loads_nothing_heavy(
    run_python: Callable[..., subprocess.CompletedProcess[str]], cnn: Path
) -> None:
    code = (
        "import sys\n"
        "from onnxsmith.pipeline.frontends.mxnet.frontend import MxnetFrontend\n"
        "assert MxnetFrontend().match(sys.argv[1])\n"
        "print([n for n in ('onnx', 'onnx_ir', 'onnxruntime', 'torch') if n in sys.modules])"
    )
    done = run_python(code, cnn)
    assert done.stdout.strip() == "[]", done.stderr
    code = (
        "import sys\n"
        "from onnxsmith.pipeline.frontends.convert import convert\n"
        "convert(sys.argv[1], inputs=[sys.argv[2]])\n"
        "print([n for n in ('torch', 'sklearn', 'mxnet', 'scipy') if n in sys.modules])"
    )
    done = run_python(code, cnn, SIZE)
    assert done.stdout.strip() == "[]", done.stderr
