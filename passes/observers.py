"""Watch a pipeline run: nothing of this belongs into a pass."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx_ir as ir
import onnx_ir.passes.common as common

from onnxsmith.errors import SmithError
from onnxsmith.passes.base import Pass, PassResult
from onnxsmith.storage.atomic import write_text


class InvalidModelError(SmithError):
    """A pass left a model that is not valid ONNX; the pass is left out."""


class Observer:
    """Sees every pass that ran; subclasses override what they need."""

    def before(self, pass_: Pass, model: ir.Model) -> None:
        """See the model that ``pass_`` is about to get."""

    def after(self, pass_: Pass, result: PassResult) -> None:
        """See what ``pass_`` made of it."""


class Checker(Observer):
    """Runs onnx_ir's structural check after each pass."""

    def after(self, pass_: Pass, result: PassResult) -> None:
        """Check the model.

        Raises:
            InvalidModelError: It is not valid.
        """
        try:
            common.CheckerPass()(result.model)
        except Exception as error:  # onnx's checker has no common base
            text = " ".join(str(error.__cause__ or error).split())[:300]
            raise InvalidModelError(f"left an invalid model: {text}") from error


class Dump(Observer):
    """Writes the graph as text before the first and after each pass that changed it.

    Args:
        folder: Where; made if missing.
    """

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SmithError(f"cannot make {folder}: {error.strerror}", "give another") from error
        self.folder = folder
        self._count = 0

    def before(self, pass_: Pass, model: ir.Model) -> None:
        """Write the input once."""
        if self._count == 0:
            self._write("input", model)

    def after(self, pass_: Pass, result: PassResult) -> None:
        """Write what the pass made."""
        if result.modified:
            self._write(pass_.name, result.model)

    def _write(self, name: str, model: ir.Model) -> None:
        # onnx_ir's own text form shows tensors in short, where ONNX text would print every weight.
        write_text(self.folder / f"{self._count:03d}-{name}.txt", str(model.graph))
        self._count += 1


def census(model: ir.Model) -> dict[str, int]:
    """Count operators, those of subgraphs and functions included; ``domain.Op`` outside ai.onnx."""
    counts: Counter[str] = Counter()
    graphs: list[ir.Graph | ir.Function] = [model.graph, *model.functions.values()]
    for graph in graphs:
        for node in ir.traversal.RecursiveGraphIterator(graph):
            prefix = f"{node.domain}." if node.domain not in ("", "ai.onnx") else ""
            counts[prefix + node.op_type] += 1
    return dict(sorted(counts.items()))
