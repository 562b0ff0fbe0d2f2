"""The frontend as a whole: its files, its place in the program, what a conversion says."""

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
from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.frontends.convert import convert
from onnxsmith.pipeline.frontends.table import choose_frontend, find_frontend
from onnxsmith.storage.tensors import EmbeddedTensor

NET = """name: "small"
input: "data" input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
        inner_product_param { num_output: 200 } }
layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }
"""


@pytest.fixture
def arrays(rng: Any) -> dict[str, Any]:
    return {"ip": [rng.normal(size=(200, 192)), rng.normal(size=200)]}


@pytest.fixture
def net(caffe: Any, arrays: Any) -> Path:
    path: Path = caffe.write(NET, arrays)
    return path


@pytest.mark.parametrize("name", ["net.prototxt", "folder/NET.CAFFEMODEL", "deploy.PROTOTXT"])
def test_its_files_are_recognized(name: str) -> None:
    assert choose_frontend(name).name == "caffe"


@pytest.mark.parametrize(
    "name", ["net.onnx", "net.params", "prototxt", "module:prototxt", "net.pb"]
)
def test_other_files_are_not(name: str) -> None:
    assert find_frontend("caffe").match(name) is None
    assert find_frontend("caffe").match_object(object()) is None


def test_both_files_name_the_same_model(net: Path) -> None:
    first = convert(net).artifact
    second = convert(net.with_suffix(".caffemodel")).artifact
    assert [str(v) for v in first.spec.inputs] == ["data: float32[batch,3,8,8]"]
    for name, value in first.model.graph.initializers.items():
        other = second.model.graph.initializers[name].const_value
        assert value.const_value is not None
        assert other is not None
        np.testing.assert_array_equal(value.const_value.numpy(), other.numpy())
    assert first.model.graph.name == "small"


def test_a_conversion_is_seen_to_run_and_is_recorded(net: Path) -> None:
    result = convert(net)
    assert result.frontend == "caffe"
    assert any("not compared" in warning for warning in result.warnings)
    step = result.artifact.history[0]
    assert (step.name, step.kind) == ("caffe", "source")
    assert step.result["weights"] == net.with_suffix(".caffemodel").name
    assert len(step.result["weights_digest"]) == 64
    assert str(net.parent) not in json.dumps(step.to_json())


def test_recorded_outputs_are_compared(net: Path, tmp_path: Path, arrays: Any, rng: Any) -> None:
    x = rng.normal(size=(2, 3, 8, 8)).astype(np.float32)
    logits = x.reshape(2, -1) @ arrays["ip"][0].T + arrays["ip"][1]
    prob = np.exp(logits - logits.max(1, keepdims=True))
    prob /= prob.sum(1, keepdims=True)
    np.savez(tmp_path / "stored.npz", in_data=x, out_prob=prob.astype(np.float32))
    result = convert(net, reference=tmp_path / "stored.npz")
    assert [d.ok for d in result.parity] == [True]


def test_the_weights_are_copied_from_file_to_file(net: Path) -> None:
    artifact = convert(net).artifact
    assert isinstance(artifact.model.graph.initializers["ip/weight"].const_value, EmbeddedTensor)


def test_from_the_command_line(run_cli: Callable[..., Any], net: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    ended = run_cli("convert", net, "-o", out)
    assert ended.code == 0, ended.err
    assert "from caffe" in ended.out
    onnx.checker.check_model(str(out), full_check=True)
    assert [str(v) for v in Artifact.load(out).spec.outputs] == ["prob: float32[batch,200]"]


def test_weights_of_another_name(net: Path, run_cli: Callable[..., Any]) -> None:
    weights = net.with_suffix(".caffemodel").rename(net.with_name("iter_10000.caffemodel"))
    with pytest.raises(SmithError, match=r"layer 'ip' .*: its weights are missing") as caught:
        convert(net)
    assert caught.value.hint == (
        f"put {net.stem}.caffemodel beside {net.name}, or give --weights FILE "
        "(beside it: iter_10000.caffemodel)"
    )
    assert convert(net, weights=weights).artifact.spec.outputs[0].name == "prob"
    assert convert(weights, weights=net).artifact.spec.outputs[0].name == "prob"
    ended = run_cli("convert", net, "-o", net.with_suffix(".onnx"))
    assert ended.code == 1
    assert "give --weights FILE" in " ".join(ended.err.split())


def test_a_missing_network_is_named(net: Path) -> None:
    net.unlink()
    weights = net.with_suffix(".caffemodel")
    with pytest.raises(SmithError, match=f"the network of {weights.name} is missing") as caught:
        convert(weights)
    assert caught.value.hint == f"put {net.name} beside {weights.name}, or give --weights FILE"


def test_two_files_of_weights_are_a_usage_error(net: Path) -> None:
    weights = net.with_suffix(".caffemodel")
    with pytest.raises(UsageError, match="are both weights"):
        convert(weights, weights=weights)


def test_a_network_without_weights_needs_no_second_file(caffe: Any) -> None:
    text = NET.split("layer")[0] + 'layer { name: "r" type: "ReLU" bottom: "data" top: "y" }'
    assert caffe.convert(text, verify=True).artifact.spec.outputs[0].name == "y"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it has no layers"),
        (b"\x0a\x05small\xa2\x06\x00", "is not text"),
        (b"x" * 8_000_001, "more than any network's text"),
        (b"\xff\xfe\x00n\x00a", "is not text"),
        (b"<!DOCTYPE html><html>", "is not a network in protobuf's text format"),
    ],
)
def test_other_content_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "net.prototxt"
    path.write_bytes(content)
    with pytest.raises(SmithError, match=message):
        convert(path)


def test_swapped_contents_are_named(net: Path) -> None:
    net.with_suffix(".caffemodel").write_text(NET)
    with pytest.raises(SmithError, match="is not a caffemodel"):
        convert(net)


def test_a_byte_order_mark_and_foreign_text_do_no_harm(caffe: Any, arrays: Any) -> None:
    path = caffe.write("", arrays)
    path.write_bytes(b"\xef\xbb\xbf# \xe4\xbd\xa0 \xff\n" + NET.encode())
    assert convert(path).artifact.spec.outputs[0].name == "prob"


def test_a_folder_is_no_network(tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").mkdir()
    with pytest.raises(SmithError, match="not a regular file"):
        convert(tmp_path / "net.prototxt")


def test_live_objects_are_refused() -> None:
    from onnxsmith.pipeline.frontends.base import ConvertRequest

    with pytest.raises(SmithError, match="a dict is no Caffe file"):
        find_frontend("caffe").adopt({}, ConvertRequest("dict"))


def test_there_is_nothing_to_run_as_reference(net: Path) -> None:
    from onnxsmith.pipeline.frontends.base import ConvertRequest

    source = find_frontend("caffe").open(ConvertRequest(str(net)))
    with pytest.raises(SmithError, match="there is no Caffe here"):
        source.reference({})


def test_reading_a_network_imports_no_framework(
    net: Path, run_python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from onnxsmith.pipeline.frontends.base import ConvertRequest\n"
        "from onnxsmith.pipeline.frontends.caffe.source import CaffeSource\n"
        "folder = Path(sys.argv[1])\n"
        "CaffeSource(ConvertRequest(sys.argv[2])).export(folder)\n"
        "names = ('cv2', 'torch', 'tensorflow', 'onnxscript', 'onnxruntime', 'sklearn')\n"
        "print([name for name in names if name in sys.modules])"
    )
    done = run_python(code, net.parent, net)
    assert done.stdout.strip() == "[]", done.stderr
