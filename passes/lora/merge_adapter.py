"""Add a trained adapter to the weights it is for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import onnx_ir as ir

from onnxsmith.errors import UsageError
from onnxsmith.passes.base import Effect, Pass, PassContext, PassResult
from onnxsmith.passes.lora.adapter import Adapter


@dataclass(frozen=True)
class MergeAdapter(Pass):
    """Add a trained adapter to the weights it is for: ``W + scale A B``.

    Options: ``file``, what ``onnxsmith train --lora ... --adapter FILE`` wrote. The weights must
    have the names and shapes of the model that it was trained on.

    Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (2022), section 4.1.
    """

    name: ClassVar[str] = "merge-adapter"
    effect: ClassVar[Effect] = "lossy"

    file: str = ""

    def options(self) -> dict[str, Any]:
        """Return the file's name without its folders: the history holds no paths."""
        return {"file": Path(self.file).name}

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Read the adapter and merge it.

        Raises:
            UsageError: No file is named.
            SmithError: It is no adapter, or one of another model.
        """
        if not self.file:
            raise UsageError("merge-adapter needs a file", "write merge-adapter:file=tuned.npz")
        adapter = Adapter.load(Path(self.file))
        adapter.merge(model)
        return PassResult(model, modified=True, details={"weights": len(adapter.factors)})
