"""External data: what a model may name, and where its values end up."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.runtime.session import Session
from onnxsmith.storage.tensors import ExternalWeight

Parse = Callable[..., onnx.ModelProto]
Edit = Callable[..., None]

SIZE = 20_000
W = np.random.default_rng(0).standard_normal(SIZE).astype(np.float32)


@pytest.fixture
def external(tmp_path: Path, parse_model: Parse) -> Path:
    """A model whose one weight lies in ``w.bin``."""
    folder = tmp_path / "in"
    folder.mkdir()
    text = f"g (float[{SIZE}] x) => (float[{SIZE}] y) {{ y = Add(x, w) }}"
    path = folder / "m.onnx"
    onnx.save(parse_model(text, {"w": W}), path, save_as_external_data=True, location="w.bin")
    return path


def set_entries(path: Path, **entries: str) -> None:
    model = onnx.load(path, load_external_data=False)
    tensor = model.graph.initializer[0]
    kept = {e.key: e.value for e in tensor.external_data} | entries
    tensor.ClearField("external_data")
    for key, value in kept.items():
        tensor.external_data.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())


def refuse(path: Path, reason: str) -> None:
    with pytest.raises(SmithError, match=reason) as caught:
        Artifact.load(path)
    assert caught.value.hint


def test_a_large_weight_stays_on_disk_and_runs(external: Path) -> None:
    artifact = Artifact.load(external)
    tensor = artifact.model.graph.initializers["w"].const_value
    assert isinstance(tensor, ExternalWeight)
    np.testing.assert_array_equal(tensor.numpy(), W)
    with Session(artifact) as session:
        np.testing.assert_array_equal(session.run({"x": np.zeros(SIZE, np.float32)})["y"], W)


def test_a_data_file_with_two_names_loads(external: Path) -> None:
    os.link(external.parent / "w.bin", external.parent / "same.bin")
    tensor = Artifact.load(external).model.graph.initializers["w"].const_value
    assert tensor is not None
    np.testing.assert_array_equal(tensor.numpy(), W)


def test_a_link_within_the_folder_loads(external: Path) -> None:
    (external.parent / "w.bin").rename(external.parent / "real.bin")
    (external.parent / "w.bin").symlink_to("real.bin")
    tensor = Artifact.load(external).model.graph.initializers["w"].const_value
    assert tensor is not None
    np.testing.assert_array_equal(tensor.numpy(), W)


@pytest.mark.parametrize(
    "location", ["../../etc/passwd", "/etc/passwd", "a/../../m.onnx", "..", "", "w\0bin"]
)
def test_locations_outside_the_folder_are_refused(external: Path, location: str) -> None:
    set_entries(external, location=location)
    refuse(external, "points outside the model's folder")


def test_links_out_of_the_folder_are_refused(external: Path) -> None:
    (external.parent / "w.bin").unlink()
    (external.parent / "w.bin").symlink_to("/etc/passwd")
    refuse(external, "leaves the model's folder through a link")
    (external.parent / "w.bin").unlink()
    (external.parent / "w.bin").symlink_to("w.bin")
    refuse(external, "cannot be read|is missing")


def test_a_linked_folder_is_refused(external: Path) -> None:
    (external.parent / "sub").symlink_to("/etc")
    set_entries(external, location="sub/passwd", length="100")
    refuse(external, "leaves the model's folder through a link")


def test_what_is_not_there_is_refused(external: Path) -> None:
    (external.parent / "w.bin").unlink()
    refuse(external, "is missing: 'w.bin'")
    (external.parent / "w.bin").mkdir()
    refuse(external, "is missing: 'w.bin'")
    set_entries(external, location="n" * 5000)
    refuse(external, "cannot be read")


def test_a_short_file_is_refused(external: Path) -> None:
    (external.parent / "w.bin").write_bytes(W.tobytes()[:-1])
    refuse(external, f"ends at byte {4 * SIZE}, but 'w.bin' has {4 * SIZE - 1} bytes")


@pytest.mark.parametrize(
    "entries",
    [
        {"offset": "4"},
        {"offset": str(2**62)},
        {"offset": "9" * 30},
        {"offset": "-4"},
        {"offset": "1e3"},
        {"offset": "\u0662"},
        {"length": "-1"},
        {"length": str(2**62)},
        {"length": str(4 * SIZE - 4)},
        {"length": "0"},
    ],
)
def test_impossible_ranges_are_refused(external: Path, entries: dict[str, str]) -> None:
    set_entries(external, **entries)
    refuse(external, "external data of 'w'")


def test_a_missing_length_follows_from_the_shape(external: Path) -> None:
    model = onnx.load(external, load_external_data=False)
    tensor = model.graph.initializer[0]
    tensor.ClearField("external_data")
    tensor.external_data.add(key="location", value="w.bin")
    external.write_bytes(model.SerializeToString())
    found = Artifact.load(external).model.graph.initializers["w"].const_value
    assert found is not None
    np.testing.assert_array_equal(found.numpy(), W)
    model.graph.initializer[0].dims[0] = SIZE + 1
    external.write_bytes(model.SerializeToString())
    refuse(external, f"has {4 * SIZE} bytes")


def test_a_replaced_data_file_is_an_error(external: Path) -> None:
    artifact = Artifact.load(external)
    (external.parent / "new.bin").write_bytes(W.tobytes()[::-1])
    os.replace(external.parent / "new.bin", external.parent / "w.bin")
    with pytest.raises(SmithError, match="was replaced after the model was loaded"):
        artifact.save(external.parent.parent / "o.onnx")
    with pytest.raises(SmithError, match="was replaced after the model was loaded"):
        Session(artifact)


BRANCHES = """g (bool c, float[4] x) => (float[4] y) {
  z = Add(x, w)
  y = If(c) <then_branch = a () => (float[4] p) <float[4] wa = {1, 2, 3, 4}> { p = Add(z, wa) },
             else_branch = b () => (float[4] q) {
               wb = Constant <value = float[4] {5, 6, 7, 8}> ()
               q = Mul(z, wb)
             }>
}"""


@pytest.mark.parametrize("external", [None, True, False])
def test_small_and_nested_external_tensors_move_with_the_model(
    tmp_path: Path, parse_model: Parse, external: bool | None
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    path = tmp_path / "in" / "m.onnx"
    w = np.array([10, 20, 30, 40], np.float32)
    proto = parse_model(BRANCHES, {"w": w})
    for branch in proto.graph.node[1].attribute:
        constants = [n.attribute[0].t for n in branch.g.node if n.op_type == "Constant"]
        for tensor in [*branch.g.initializer, *constants]:  # only raw bytes become external
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
    onnx.save(
        proto,
        path,
        save_as_external_data=True,
        location="w.bin",
        size_threshold=0,
        convert_attribute=True,
    )
    assert (tmp_path / "in" / "w.bin").stat().st_size >= 3 * 16
    Artifact.load(path).save(tmp_path / "out" / "o.onnx", external=external)
    for where in (path, tmp_path / "out" / "o.onnx"):
        for condition, expected in ((True, [11, 22, 33, 44]), (False, [50, 120, 210, 320])):
            feeds = {"c": np.array(condition), "x": np.zeros(4, np.float32)}
            with Session(Artifact.load(where), optimize=False) as session:
                np.testing.assert_array_equal(session.run(feeds)["y"], expected)


def test_many_tensors_that_name_the_same_bytes_are_refused(
    tmp_path: Path, parse_model: Parse
) -> None:
    proto = parse_model("g (float[1] x) => (float[1] y) { y = Relu(x) }")
    (tmp_path / "w.bin").write_bytes(bytes(60_000))
    for index in range(1200):  # 72 MB out of 60 kB
        tensor: Any = proto.graph.initializer.add(name=f"w{index}", data_type=1, dims=[15_000])
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="w.bin")
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    refuse(tmp_path / "m.onnx", "claim more external data than there is")


def test_a_model_in_memory_cannot_name_files(external: Path) -> None:
    proto = onnx.load(external, load_external_data=False)
    with pytest.raises(SmithError, match="lie in files"):
        Artifact.from_proto(proto)
