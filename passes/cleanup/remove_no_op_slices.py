"""Remove slices that keep everything and scatters that replace everything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from onnxscript.rewriter import RewriteRule
from onnxscript.rewriter.rules import common

from onnxsmith.passes.adapters import RulesPass, find_rules


@dataclass(frozen=True)
class RemoveNoOpSlices(RulesPass):
    """Remove slices that keep everything and scatters that replace everything.

    Equations:
    ``Slice(x, 0, size) = x``, ``ScatterND(x, all, y) = y``.

    Source: ``onnxscript.rewriter.rules.common``.
    """

    name: ClassVar[str] = "remove-no-op-slices"

    def rules(self) -> Sequence[RewriteRule]:
        """Return onnxscript's rules."""
        return find_rules(
            common,
            "collapse_slice_rule",
            "collapse_slice2_rule",
            "no_op_static_scatter_nd_rule",
            "no_op_dynamic_scatter_nd_rule",
        )
