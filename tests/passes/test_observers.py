from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import onnx_ir as ir
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.cleanup.remove_identities import RemoveIdentities
from onnxsmith.passes.manager import PassManager
from onnxsmith.passes.observers import Checker, Dump, census

TEXT = "g (float[2] x) => (float[2] y) { a = Identity(x) y = Relu(a) }"


@dataclass(frozen=True)
class Misspell(Pass):
    """Name an operator that does not exist."""

    name: ClassVar[str] = "misspell"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        next(node for node in model.graph if node.op_type == "Relu").op_type = "Reluu"
        return PassResult(model, modified=True)


def test_the_checker_has_an_invalid_model_dropped(load_text: Callable[..., Artifact]) -> None:
    manager = PassManager([RemoveIdentities(), Misspell()], PassContext(), observers=[Checker()])
    result = manager.run(load_text(TEXT))
    assert [(d.pass_.name, d.cause) for d in result.dropped] == [("misspell", "crashed")]
    assert "invalid model" in result.dropped[0].reason
    assert result.census_after == {"Relu": 1}


def test_a_dump_shows_the_input_and_each_change(
    load_text: Callable[..., Artifact], tmp_path: Path
) -> None:
    folder = tmp_path / "dump"
    passes = [RemoveIdentities(), RemoveIdentities()]
    PassManager(passes, PassContext(), observers=[Dump(folder)]).run(load_text(TEXT))
    assert sorted(f.name for f in folder.iterdir()) == [
        "000-input.txt",
        "001-remove-identities.txt",
    ]
    assert "Identity" in (folder / "000-input.txt").read_text()
    assert "Identity" not in (folder / "001-remove-identities.txt").read_text()


def test_a_dump_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SmithError, match="cannot make"):
        Dump(tmp_path / "file" / "dump")


def test_the_census_counts_inside_branches(load_text: Callable[..., Artifact]) -> None:
    artifact = load_text(
        """g (bool c, float[2] x) => (float[2] y) {
            y = If(c) <
                then_branch = t () => (float[2] a) { a = Relu(x) },
                else_branch = e () => (float[2] b) { b = Neg(x) }
            >
        }"""
    )
    assert census(artifact.model) == {"If": 1, "Neg": 1, "Relu": 1}
