"""The reference is taken while passes run, and nobody copies the graph meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.passes.background import LateVerifier
from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.manager import PassManager
from onnxsmith.passes.verify import Verifier, make_verifier
from onnxsmith.pipeline.optimize import OptimizeRequest, optimize

Load = Callable[..., Artifact]

TEXT = "g (float[N,2] x) => (float[N,2] y) { a = Identity(x) y = Relu(a) }"


@dataclass(frozen=True)
class Crash(Pass):
    """Fails."""

    name: ClassVar[str] = "crash"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        raise RuntimeError("it fails")


@dataclass(frozen=True)
class Break(Pass):
    """Computes something else."""

    name: ClassVar[str] = "break"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        node = next(n for n in model.graph if n.op_type == "Relu")
        node.op_type = "Neg"
        return PassResult(model, True)


@dataclass(frozen=True)
class Refuse(Pass):
    """Refuses the model."""

    name: ClassVar[str] = "refuse"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        raise SmithError("refused", "no hint")


class Watched:
    """Makes a verifier slowly; knows whether it is at it."""

    def __init__(self, artifact: Artifact) -> None:
        self.artifact = artifact
        self.busy = False
        self.copies: list[bool] = []

    def make(self) -> Verifier:
        self.busy = True
        time.sleep(0.2)
        verifier = make_verifier(self.artifact)
        self.busy = False
        return verifier

    def watch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clone = ir.Model.clone

        def watched(model: ir.Model) -> ir.Model:
            self.copies.append(self.busy)
            return clone(model)

        monkeypatch.setattr(ir.Model, "clone", watched)


@pytest.mark.parametrize("passes", [[Crash(), Break()], [Break(), Crash()], [Break()], []])
def test_the_graph_is_not_copied_while_the_reference_is_taken(
    load_text: Load, monkeypatch: pytest.MonkeyPatch, passes: list[Pass]
) -> None:
    artifact = load_text(TEXT)
    watched = Watched(artifact)
    watched.watch(monkeypatch)
    result = PassManager(passes, PassContext(), LateVerifier(watched.make)).run(artifact)
    assert not any(watched.copies)
    assert result.verified
    assert {d.pass_.name: d.cause for d in result.dropped} == {
        p.name: "crashed" if p.name == "crash" else "wrong" for p in passes
    }
    assert not watched.busy


def test_a_refusal_waits_for_the_reference(load_text: Load) -> None:
    """Otherwise the caller would get an artifact back that is still worked on."""
    artifact = load_text(TEXT)
    watched = Watched(artifact)
    with pytest.raises(SmithError, match="refused"):
        PassManager([Refuse()], PassContext(), LateVerifier(watched.make)).run(artifact)
    assert not watched.busy
    assert watched.copies == []


def test_nothing_is_begun_where_nothing_is_checked(load_text: Load) -> None:
    called: list[str] = []
    late = LateVerifier(lambda: called.append("made"))
    result = PassManager([Break()], PassContext(), late, "off").run(load_text(TEXT))
    assert not result.verified
    assert [run.pass_.name for run in result.runs] == ["break"]
    assert called == []


def test_an_error_is_raised_where_the_verifier_is_asked_for() -> None:
    def fail() -> Verifier:
        raise SmithError("no reference", "none")

    late = LateVerifier(fail)
    late.begin()
    late.wait()
    for _ in range(2):
        with pytest.raises(SmithError, match="no reference"):
            late.get()


def test_passes_run_while_the_reference_is_taken(load_text: Load) -> None:
    begun, release = threading.Event(), threading.Event()

    @dataclass(frozen=True)
    class Release(Pass):
        """Lets the reference go on: it would wait for ever if the passes waited for it."""

        name: ClassVar[str] = "release"

        def apply(self, model: ir.Model, context: PassContext) -> PassResult:
            assert begun.wait(60)
            release.set()
            return PassResult(model, False)

    artifact = load_text(TEXT)

    def make() -> Verifier:
        begun.set()
        assert release.wait(60)
        return make_verifier(artifact)

    result = PassManager([Release()], PassContext(), LateVerifier(make)).run(artifact)
    assert result.verified
    assert result.dropped == ()


def test_data_is_read_before_the_passes_may_read_it(
    load_text: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []
    monkeypatch.setattr(LateVerifier, "begin", lambda late: begun.append("begin"))
    monkeypatch.setattr(LateVerifier, "get", lambda late: begun.append("get"))
    source = "onnxsmith.pipeline.data:digits"
    monkeypatch.setattr("onnxsmith.pipeline.optimize.open_data", lambda text, spec: source)
    optimize(load_text(TEXT), OptimizeRequest(data="any"))
    assert begun[0] == "get"
