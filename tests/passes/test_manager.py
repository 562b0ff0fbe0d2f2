"""Evil passes: the manager finds them, leaves them out and keeps the rest."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx_ir as ir
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.numerics import Tolerance
from onnxsmith.passes.base import Effect, Pass, PassContext, PassResult
from onnxsmith.passes.cleanup.remove_identities import RemoveIdentities
from onnxsmith.passes.cleanup.remove_unused_nodes import RemoveUnusedNodes
from onnxsmith.passes.fusion.fuse_gemm import FuseGemm
from onnxsmith.passes.manager import PassManager, PipelineResult, VerifyMode
from onnxsmith.passes.observers import census
from onnxsmith.passes.verify import make_verifier

TEXT = "g (float[N,3] x) => (float[N,3] y) { a = Identity(x) m = MatMul(a, w) y = Add(m, b) }"
WEIGHTS = {"w": np.eye(3, dtype=np.float32) * 2, "b": np.arange(3, dtype=np.float32)}


@dataclass(frozen=True)
class Evil(Pass):
    """Add ``amount`` to the weight ``which``."""

    name: ClassVar[str] = "evil"

    which: str = "b"
    amount: float = 0.01

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        value = model.graph.initializers[self.which]
        array = value.const_value.numpy() + np.float32(self.amount)
        value.const_value = ir.Tensor(array.astype(np.float32), name=self.which)
        return PassResult(model, modified=True)


@dataclass(frozen=True)
class LossyEvil(Evil):
    """The same, as a lossy pass."""

    name: ClassVar[str] = "lossy-evil"
    effect: ClassVar[Effect] = "lossy"


@dataclass(frozen=True)
class Liar(Evil):
    """The same, but denies it."""

    name: ClassVar[str] = "liar"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        return PassResult(super().apply(model, context).model, modified=False)


@dataclass(frozen=True)
class Crash(Pass):
    """Break the model, then raise."""

    name: ClassVar[str] = "crash"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        model.graph.remove(next(iter(model.graph)))
        raise RuntimeError("oh\nno")


@dataclass(frozen=True)
class Rename(Pass):
    """Rename the output."""

    name: ClassVar[str] = "rename"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        model.graph.outputs[0].name = "z"
        return PassResult(model, modified=True)


GOOD = (RemoveIdentities(), FuseGemm())


@pytest.fixture
def artifact(load_text: Callable[..., Artifact]) -> Artifact:
    return load_text(TEXT, WEIGHTS, opset=20)


def run(artifact: Artifact, *passes: Pass, mode: VerifyMode = "end") -> PipelineResult:
    verifier = None if mode == "off" else make_verifier(artifact)
    return PassManager(passes, PassContext(), verifier, mode).run(artifact)


def dropped(result: PipelineResult) -> list[tuple[str, str]]:
    return [(str(d.pass_), d.cause) for d in result.dropped]


@pytest.mark.parametrize("mode", ["end", "each"])
@pytest.mark.parametrize("position", range(3))
def test_the_culprit_is_dropped_wherever_it_stands(
    artifact: Artifact, position: int, mode: VerifyMode
) -> None:
    passes: list[Pass] = [*GOOD]
    passes.insert(position, Evil("w"))
    result = run(artifact, *passes, mode=mode)
    assert dropped(result) == [("evil:which=w", "wrong")]
    assert "beyond" in result.dropped[0].reason or "differ" in result.dropped[0].reason
    assert census(result.artifact.model) == {"Gemm": 1}
    assert result.verified
    assert all(difference.ok for difference in result.differences)


def test_two_culprits_are_both_found(artifact: Artifact) -> None:
    result = run(artifact, Evil("b"), GOOD[0], Evil("w"), GOOD[1])
    assert sorted(dropped(result)) == [("evil", "wrong"), ("evil:which=w", "wrong")]
    assert census(result.artifact.model) == {"Gemm": 1}


def test_what_only_breaks_together_loses_its_second_half(artifact: Artifact) -> None:
    # Each alone stays within the tolerance for float32; twice does not.
    small = 5e-5
    assert not run(artifact, Evil("b", small)).dropped
    result = run(artifact, Evil("b", small), Evil("b", 4 * small))
    assert dropped(result) == [("evil:amount=0.0002", "wrong")]


def test_where_all_are_wrong_the_input_is_kept(artifact: Artifact) -> None:
    result = run(artifact, Evil("b"), Evil("w"))
    assert len(result.dropped) == 2
    assert result.census_after == result.census_before
    np.testing.assert_array_equal(
        result.artifact.model.graph.initializers["b"].const_value, WEIGHTS["b"]
    )


def test_a_crash_is_named_in_one_line_and_undone(artifact: Artifact) -> None:
    result = run(artifact, GOOD[0], Crash(), GOOD[1])
    assert dropped(result) == [("crash", "crashed")]
    assert result.dropped[0].reason == "RuntimeError: oh no"
    assert census(result.artifact.model) == {"Gemm": 1}


def test_a_renamed_output_is_a_broken_model(artifact: Artifact) -> None:
    result = run(artifact, Rename(), *GOOD)
    assert dropped(result) == [("rename", "wrong")]
    assert "['y'] to ['z']" in result.dropped[0].reason


def test_a_pass_that_denies_its_change_changes_nothing(artifact: Artifact) -> None:
    result = run(artifact, Liar("w"))
    np.testing.assert_array_equal(
        result.artifact.model.graph.initializers["w"].const_value, WEIGHTS["w"]
    )


def test_a_lossy_change_is_reported_and_becomes_the_reference(artifact: Artifact) -> None:
    result = run(artifact, LossyEvil("b", 0.5), *GOOD)
    assert not result.dropped
    (difference,) = result.differences
    assert difference.max_abs == pytest.approx(0.5, rel=1e-5)
    again = run(artifact, LossyEvil("b", 0.5), Evil("b", 0.5), *GOOD)
    assert dropped(again) == [("evil:amount=0.5", "wrong")]


def test_a_lossy_pass_that_makes_nan_is_dropped(artifact: Artifact) -> None:
    result = run(artifact, LossyEvil("b", float("nan")), *GOOD)
    assert [d.pass_.name for d in result.dropped] == ["lossy-evil"]
    assert "NaN" in result.dropped[0].reason


def test_without_a_check_nothing_is_dropped_and_nothing_claimed(artifact: Artifact) -> None:
    result = run(artifact, Evil("w"), mode="off")
    assert not result.dropped
    assert not result.verified
    assert [step.name for step in result.artifact.history] == ["evil"]


def test_random_outputs_are_called_unverified(load_text: Callable[..., Artifact]) -> None:
    text = """g (float[2,3] x) => (float[2,3] y, float[2,3] z)
        { a = Identity(x) y = Relu(a) z = RandomNormalLike(x) }"""
    result = run(load_text(text), RemoveIdentities(), RemoveUnusedNodes())
    assert result.unverified == ("z",)
    assert [difference.output for difference in result.differences] == ["y"]
    assert not result.dropped


def test_the_input_artifact_is_not_touched(artifact: Artifact) -> None:
    before = str(artifact.model.graph)
    run(artifact, *GOOD, Evil("w"), Crash(), Rename())
    assert str(artifact.model.graph) == before


def test_history_travels_and_the_same_input_gives_the_same_bytes(
    artifact: Artifact, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        run(artifact, *GOOD, Evil("w")).artifact.save(tmp_path / f"{name}.onnx")
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()
    history = Artifact.load(tmp_path / "one.onnx").history
    assert [(step.name, step.kind) for step in history] == [
        ("remove-identities", "pass"),
        ("fuse-gemm", "pass"),
        ("evil", "dropped"),
        ("verify", "check"),
    ]
    assert history[0].result["nodes_before"] == 3
    assert history[2].options == {"which": "w"}


def test_a_pass_that_lacks_what_it_needs_stops_before_anything_runs(artifact: Artifact) -> None:
    @dataclass(frozen=True)
    class Needy(Evil):
        needs: ClassVar[tuple[str, ...]] = ("metric",)

    with pytest.raises(SmithError, match="needs metric"):
        run(artifact, Crash(), Needy())


def test_tolerances_can_be_set_for_all_or_for_one_output(artifact: Artifact) -> None:
    small = Evil("b", 5e-5)
    for tolerance, per_output, names in (
        (None, None, []),
        (Tolerance(0.0, 0.0), None, ["evil"]),
        (None, {"y": Tolerance(0.0, 0.0)}, ["evil"]),
        (Tolerance(0.0, 0.0), {"y": Tolerance(1.0, 1.0)}, []),
    ):
        verifier = make_verifier(artifact, tolerance=tolerance, per_output=per_output)
        result = PassManager([small], PassContext(), verifier).run(artifact)
        assert [d.pass_.name for d in result.dropped] == names


@dataclass(frozen=True)
class Confused(Pass):
    """Take the second dimension of the reshape's target for the first."""

    name: ClassVar[str] = "confused"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        index = model.graph.initializers["index"]
        index.const_value = ir.Tensor(np.array([1], np.int64), name="index")
        return PassResult(model, modified=True)


def test_a_dimension_that_is_taken_for_another_is_found(
    load_text: Callable[..., Artifact],
) -> None:
    """With all open sizes equal, as 3 and 3, it would not be."""
    text = """g (float[B,S,2] x) => (float[N,M] y) {
        s = Shape(x) n = Gather<axis = 0>(s, index)
        t = Concat<axis = 0>(n, rest) y = Reshape(x, t) }"""
    weights = {"index": np.array([0]), "rest": np.array([-1])}
    artifact = load_text(text, weights)
    result = PassManager([Confused()], PassContext(), make_verifier(artifact)).run(artifact)
    assert [str(dropped.pass_) for dropped in result.dropped] == ["confused"]


def test_dimensions_that_have_to_be_equal_are_probed_so(load_text: Callable[..., Artifact]) -> None:
    artifact = load_text(
        "g (float[A,2] x, float[B,2] z) => (float[A,4] y) { y = Concat<axis = 1>(x, z) }"
    )
    verifier = make_verifier(artifact)
    assert [feeds["x"].shape for feeds in verifier.probes] == [(3, 2), (1, 2)]
    assert verifier.check(artifact).ok
