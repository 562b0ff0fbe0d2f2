"""Remove casts that change nothing, and merge chains of casts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from onnxscript.rewriter import RewriteRule
from onnxscript.rewriter.rules import common

from onnxsmith.passes.adapters import RulesPass, find_rules


@dataclass(frozen=True)
class RemoveNoOpCasts(RulesPass):
    """Remove casts that change nothing, and merge chains of casts.

    Equations:
    ``Cast(x, to=type(x)) = x``, ``Cast(Cast(x, a), b) = Cast(x, b)`` where ``a`` loses nothing.

    Source: ``onnxscript.rewriter.rules.common``.
    """

    name: ClassVar[str] = "remove-no-op-casts"

    def rules(self) -> Sequence[RewriteRule]:
        """Return onnxscript's rules."""
        return find_rules(
            common,
            "no_op_cast_rule",
            "cast_cast_rule",
            "cast_constant_of_shape_rule",
            "cast_constant_of_shape_without_value_rule",
        )
