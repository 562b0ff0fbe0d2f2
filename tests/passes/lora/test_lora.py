"""Adapters: what they compute, that merging is the same, and their file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError, UsageError
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.lora.adapter import Adapter
from onnxsmith.passes.lora.insert import LoraOptions, insert_adapters
from onnxsmith.passes.pipeline import PassPipeline
from onnxsmith.runtime.session import Session

RNG = np.random.default_rng(8)
CASES = {
    "matmul": ("n,l,6", "n,l,4", "MatMul(x, w)", (6, 4), 6),
    "gemm": ("n,6", "n,4", "Gemm <alpha = 0.5> (x, w, b)", (6, 4), 6),
    "turned gemm": ("n,6", "n,4", "Gemm <transB = 1, alpha = 2.0> (x, w, b)", (4, 6), 6),
    "conv": (
        "n,3,8,8", "n,4,h,w2",
        "Conv <strides = [2, 1], pads = [1, 0, 1, 2], dilations = [1, 2]> (x, w, b)",
        (4, 3, 3, 2), 18,
    ),
    "padded conv": (
        "n,3,8,8", "n,4,h,w2", 'Conv <auto_pad = "SAME_UPPER"> (x, w)', (4, 3, 2, 2), 12,
    ),
}  # fmt: skip


def model(case: str) -> Artifact:
    shape, result, node, size, _ = CASES[case]
    proto = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 20]> g (float[{shape}] x) => (float[{result}] y)'
        f"{{ y = {node} }}"
    )
    for name, sizes in {"w": size, "b": (4,)}.items():
        array = RNG.normal(size=sizes).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return Artifact.from_proto(proto)


def computed(artifact: Artifact, seed: int = 1) -> np.ndarray:
    spec = artifact.spec.inputs[0]
    size = spec.concrete({"n": 3, "l": 5}, 1)
    x = np.random.default_rng(seed).normal(size=size).astype(np.float32)
    with Session(artifact, optimize=False) as session:
        (found,) = session.run({"x": x}).values()
    return found


def trained(artifact: Artifact) -> Adapter:
    """The adapter of a model whose second factors are no longer zero."""
    held = artifact.model.graph.initializers
    second = held["w.lora_b"]
    moved = RNG.normal(size=second.const_value.numpy().shape).astype(np.float32)
    second.const_value = ir.Tensor(moved, name="w.lora_b")
    return Adapter(1.5, {"w": (held["w.lora_a"].const_value.numpy(), moved)})


@pytest.mark.parametrize("case", CASES)
def test_beside_the_weight_or_merged_into_it_is_the_same(case: str) -> None:
    plain = model(case)
    beside = plain.clone()
    assert insert_adapters(beside.model, LoraOptions(rank=2, alpha=3.0)) == ["w"]
    assert str(beside.spec) == str(plain.spec)
    before = computed(plain)
    np.testing.assert_array_equal(computed(beside), before)
    adapter = trained(beside)
    merged = plain.clone()
    adapter.merge(merged.model)
    changed = computed(beside)
    assert np.abs(changed - before).max() > 0.1 * np.abs(before).max()
    np.testing.assert_allclose(computed(merged), changed, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("case", CASES)
def test_first_factors_are_small_by_what_goes_in(case: str) -> None:
    beside = model(case)
    insert_adapters(beside.model, LoraOptions(rank=64), seed=3)
    first = beside.model.graph.initializers["w.lora_a"].const_value.numpy()
    limit = CASES[case][4] ** -0.5
    assert 0.9 * limit < np.abs(first).max() <= limit
    assert sorted(first.shape)[-1] == 64


def test_a_weight_with_two_readers_has_one_adapter() -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20]> g (float[n,4] x) => (float[n,4] y)'
        "{ h = MatMul(x, w) y = MatMul(h, w) }"
    )
    array = RNG.normal(size=(4, 4)).astype(np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(array, "w"))
    plain = Artifact.from_proto(proto)
    beside = plain.clone()
    insert_adapters(beside.model, LoraOptions(rank=2, alpha=3.0))
    adapter = trained(beside)
    merged = plain.clone()
    adapter.merge(merged.model)
    np.testing.assert_allclose(computed(merged), computed(beside), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "node",
    [
        "MatMul(w, x)", "Gemm <transA = 1> (x, w)", "Conv <group = 3> (x, w)", "Add(x, w)",
    ],
)  # fmt: skip
def test_what_no_adapter_stands_beside_is_refused(node: str) -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20]> g (float[3,3] x) => (float[3,3] y)'
        f"{{ y = {node} }}"
    )
    array = RNG.normal(size=(3, 3)).astype(np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(array, "w"))
    with pytest.raises(SmithError, match=r"no weight .* is called \*"):
        insert_adapters(Artifact.from_proto(proto).model, LoraOptions())


def test_patterns_name_weights_or_nodes() -> None:
    beside = model("gemm")
    next(iter(beside.model.graph)).name = "attention/query"
    assert insert_adapters(beside.clone().model, LoraOptions(target=("*query*",))) == ["w"]
    with pytest.raises(SmithError, match=r"is called \*key\* or \*value\*"):
        insert_adapters(beside.model, LoraOptions(target=("*key*", "*value*")))
    with pytest.raises(UsageError, match="rank=0"):
        LoraOptions(rank=0)


def test_the_file_keeps_all_and_the_pass_merges_it(tmp_path: Path) -> None:
    plain = model("turned gemm")
    beside = plain.clone()
    insert_adapters(beside.model, LoraOptions(rank=2, alpha=3.0))
    adapter = trained(beside)
    path = tmp_path / "own name.npz"
    adapter.save(path)
    again = Adapter.load(path)
    assert again.scale == 1.5
    np.testing.assert_array_equal(again.factors["w"][1], adapter.factors["w"][1])
    (merge,) = PassPipeline.parse(f"merge-adapter:file={path}").passes
    merged = Artifact(merge.apply(plain.clone().model, PassContext()).model)
    np.testing.assert_allclose(computed(merged), computed(beside), rtol=1e-5, atol=2e-5)
    assert merge.options() == {"file": "own name.npz"}


def test_a_file_that_is_no_adapter_or_of_another_model(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with pytest.raises(SmithError, match="there is no file"):
        Adapter.load(path)
    np.savez(path, x=np.zeros(3))
    with pytest.raises(SmithError, match="is no adapter"):
        Adapter.load(path)
    whole = tmp_path / "b.npz"
    Adapter(1.0, {"w": (np.zeros((6, 2)), np.zeros((2, 4)))}).save(whole)
    path.write_bytes(whole.read_bytes()[:-30])
    with pytest.raises(SmithError, match="is no adapter"):
        Adapter.load(path)
    with pytest.raises(SmithError, match=r"of shape \[6, 4\], not of \[4, 3, 3, 2\]"):
        Adapter.load(whole).merge(model("conv").model)
    with pytest.raises(SmithError, match="has no weight 'v'"):
        Adapter(1.0, {"v": (np.zeros((6, 2)), np.zeros((2, 4)))}).merge(model("gemm").model)
    with pytest.raises(UsageError, match="needs a file"):
        PassPipeline.parse("merge-adapter").passes[0].apply(model("gemm").model, PassContext())
