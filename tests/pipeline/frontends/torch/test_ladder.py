"""Routes are tried in order, and none is trusted that the source contradicts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from onnxsmith.errors import RefusedError, SmithError
from onnxsmith.pipeline.frontends.base import ConvertRequest, Export
from onnxsmith.pipeline.frontends.convert import convert
from onnxsmith.pipeline.frontends.torch.frontend import TorchFrontend
from onnxsmith.pipeline.frontends.torch.ladder import Rung, Written, climb
from onnxsmith.pipeline.frontends.torch.probes import Probes
from onnxsmith.spec import ValueSpec

SPEC = (ValueSpec("x", "float32", ("batch", 3)),)
EXAMPLES = {"x": np.ones((2, 3), np.float32)}
RIGHT = "y = Abs (x)"
WRONG = "y = Identity (x)"
# Agrees at the example's size alone.
FROZEN = "n = Constant <value_ints = [2, 3]> ()\n r = Reshape (x, n)\n y = Abs (r)"


def magnitude(feeds: Any) -> dict[str, np.ndarray]:
    return {"y": np.abs(feeds["x"])}


@pytest.fixture
def rung(parse_model: Callable[..., onnx.ModelProto]) -> Callable[..., Rung]:
    def make(name: str, body: str, batch: str = "batch", **options: Any) -> Rung:
        def write(folder: Path) -> Written:
            text = f"g (float[{batch},3] x) => (float[{batch},3] y) {{ {body} }}"
            (folder / "m.onnx").write_bytes(parse_model(text).SerializeToString())
            return Written(folder / "m.onnx", (f"{name} ran",))

        return Rung(name, write, **options)

    return make


def failing(name: str) -> Rung:
    def fail(folder: Path) -> Written:
        raise SmithError(f"{name} failed at /home/me/net.py", f"mend {name}")

    return Rung(name, fail)


def climbed(folder: Path, *rungs: Rung, reference: Any = magnitude) -> Export:
    probes = Probes(SPEC, EXAMPLES, reference, 0)
    return climb(rungs, folder, probes, EXAMPLES, ("first",))


def test_the_first_right_route_is_taken(tmp_path: Path, rung: Callable[..., Rung]) -> None:
    export = climbed(
        tmp_path,
        failing("a"),
        rung("b", WRONG),
        rung("c", FROZEN),
        rung("d", RIGHT, batch="2"),
        rung("e", RIGHT),
        rung("f", RIGHT),
    )
    assert export.details["route"] == "e"
    failed = export.details["failed"]
    assert list(failed) == ["a", "b", "c", "d"]
    assert failed["a"] == "a failed at net.py"  # histories hold no paths
    assert "its output 'y' is wrong at x [3, 3]" in failed["b"]
    assert "it fails at x [" in failed["c"]
    assert "came out fixed at 2" in failed["d"]
    assert export.warnings == ("first", "e ran")


def test_a_route_that_needs_proof_is_not_believed_without(
    tmp_path: Path, rung: Callable[..., Rung]
) -> None:
    def picky(feeds: Any) -> dict[str, np.ndarray]:
        if feeds["x"].shape[0] != 2:
            raise SmithError("only two")
        return magnitude(feeds)

    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert climbed(tmp_path / "a", rung("a", RIGHT), reference=picky).details["route"] == "a"
    with pytest.raises(SmithError, match=r"runs at no other size \(only two\)"):
        climbed(tmp_path / "b", rung("a", RIGHT, needs_proof=True), reference=picky)


def test_when_all_fail_each_says_why(tmp_path: Path, rung: Callable[..., Rung]) -> None:
    with pytest.raises(SmithError, match="a failed") as caught:
        climbed(tmp_path, failing("a"), failing("b"), rung("c", WRONG, needs_proof=True))
    assert caught.value.hint == "mend a"
    lines = caught.value.output.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["a", "b", "c"]


def test_where_all_that_export_disagree_the_first_is_handed_over(
    tmp_path: Path, rung: Callable[..., Rung]
) -> None:
    export = climbed(tmp_path, failing("a"), rung("b", WRONG), rung("c", FROZEN))
    assert export.details["route"] == "b"
    assert export.path.exists()
    assert [w.partition(" is ")[0] for w in export.warnings if "route" in w] == [
        "the route 'a'", "the route 'b'", "the route 'c'",
    ]  # fmt: skip
    assert not (tmp_path / "route-2").exists()


def test_static_signatures_are_held_against_other_values(
    tmp_path: Path, rung: Callable[..., Rung]
) -> None:
    fixed = (ValueSpec("x", "float32", (2, 3)),)
    probes = Probes(fixed, EXAMPLES, magnitude, 0)
    assert probes.enough
    assert not probes.open
    wrong, right = rung("a", WRONG, batch="2"), rung("b", RIGHT, batch="2")
    assert climb((wrong, right), tmp_path, probes, EXAMPLES).details["route"] == "b"


def test_values_of_the_other_sign_are_tried(tmp_path: Path, rung: Callable[..., Rung]) -> None:
    """A branch that only positive values took agrees with them at every size."""
    positive = {"x": np.full((2, 3), 100.0, np.float32)}
    probes = Probes(SPEC, positive, magnitude, 0)
    route = climb((rung("a", WRONG), rung("b", RIGHT)), tmp_path, probes, positive)
    assert route.details["route"] == "b"


class Automatic(nn.Module):
    """Two lengths that must be equal: named apart, torch refuses; automatic, it finds out."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + y)


class Traceable(nn.Module):
    """What torch.export refuses and a trace gets right: a check on values."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.isnan().any():
            raise ValueError("NaN")
        return x * 2


class Config:
    _attn_implementation = "sdpa"


class Attentive(nn.Module):
    """As a model of Hugging Face whose attention can be exported when it is spelled out."""

    def __init__(self) -> None:
        super().__init__()
        self.config = Config()

    def set_attn_implementation(self, name: str) -> None:
        self.config._attn_implementation = name

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.config._attn_implementation == "sdpa" and x.sum() > 1e9:
            return x
        return torch.softmax(x, -1)


@pytest.fixture
def export(tmp_path: Path) -> Callable[..., Export]:
    def run(module: nn.Module, *inputs: str, **options: Any) -> Export:
        specs = tuple(map(ValueSpec.parse, inputs))
        request = ConvertRequest("net:build", inputs=specs, **options)
        return TorchFrontend().adopt(module, request).export(tmp_path)

    return run


def test_attention_is_spelled_out_where_that_helps(export: Callable[..., Export]) -> None:
    module = Attentive()
    found = export(module, "x:float32[batch,4]")
    assert found.details["route"] == "dynamo-eager"
    assert list(found.details["failed"]) == ["dynamo", "dynamo-auto"]
    assert module.config._attn_implementation == "sdpa"


def test_a_trace_tells_what_it_froze(export: Callable[..., Export]) -> None:
    found = export(Traceable(), "x:float32[batch,4]")
    assert found.details["route"] == "legacy"
    (warning,) = found.warnings
    assert "frozen as it ran on the example: Converting a tensor to a Python boolean" in warning
    assert "test_ladder.py:" in warning
    assert str(Path(__file__).parent) not in warning


def test_old_opsets_are_reached_by_the_older_exporter(export: Callable[..., Export]) -> None:
    found = export(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), "x:float32[batch,4]", opset=11)
    assert found.details["route"] == "legacy"
    assert "reaches no opset below 18" in found.details["failed"]["dynamo"]
    model = onnx.load(found.path)
    assert model.opset_import[0].version == 11
    assert [node.op_type for node in model.graph.node] == ["Gemm", "Relu"]


def test_dimensions_that_hang_together_are_found_out() -> None:
    result = convert(Automatic(), inputs=("x:float32[batch,n]", "y:float32[batch,n]"))
    assert [str(value) for value in result.artifact.spec.inputs] == [
        "x: float32[batch,n]", "y: float32[batch,n]",
    ]  # fmt: skip


class Halved(nn.Module):
    """The length must be even, which a named dimension does not say."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(x.shape[0], x.shape[1] // 2, 2).sum(-1)


def test_a_length_that_must_be_even_stays_open() -> None:
    result = convert(Halved(), inputs=("x:float32[batch,time]",))
    assert result.artifact.spec.input("x").shape == ("batch", "time")
    shapes = [probe["x"] for probe in result.artifact.history[-1].result["shapes"]]
    assert len(shapes) > 2


def test_a_refusal_says_what_each_route_did_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    class Frozen(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if not torch.compiler.is_exporting() and x.shape[0] > 4:
                return x * 2
            return x + 1

    with pytest.raises(RefusedError, match="does not compute") as caught:
        convert(Frozen(), inputs=("x:float32[batch,3]",))
    routes = [line.split("'")[1] for line in caught.value.output.splitlines()]
    assert routes == ["dynamo", "dynamo-auto", "legacy"]
