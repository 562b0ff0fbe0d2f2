"""Remove Expand before an operator that broadcasts by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from onnxscript.rewriter import RewriteRule
from onnxscript.rewriter.rules import common

from onnxsmith.passes.adapters import RulesPass, find_rules


@dataclass(frozen=True)
class RemoveExpands(RulesPass):
    """Remove Expand before an operator that broadcasts by itself.

    Equations:
    ``Expand(x, s) + y = x + y`` where broadcasting gives the same shape.

    Source: ``onnxscript.rewriter.rules.common``.
    """

    name: ClassVar[str] = "remove-expands"

    def rules(self) -> Sequence[RewriteRule]:
        """Return onnxscript's rules."""
        return find_rules(common, "expand_before_binary_op_rules")
