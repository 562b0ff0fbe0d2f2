"""Remove arithmetic that changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from onnxscript.rewriter import RewriteRule
from onnxscript.rewriter.rules import common

from onnxsmith.passes.adapters import RulesPass, find_rules


@dataclass(frozen=True)
class RemoveNoOps(RulesPass):
    """Remove arithmetic that changes nothing.

    Equations:
    ``x + 0 = x``, ``x - 0 = x``, ``x * 1 = x``, ``x / 1 = x``, ``Dropout(x) = x`` in inference.

    Source: ``onnxscript.rewriter.rules.common``.
    """

    name: ClassVar[str] = "remove-no-ops"

    def rules(self) -> Sequence[RewriteRule]:
        """Return onnxscript's rules."""
        return find_rules(
            common,
            "add_0_rule",
            "sub_0_rule",
            "mul_by_1_rule",
            "div_by_1_rule",
            "dropout_zero_rule",
            "dropout_inference_rule",
        )
