"""Remove and merge reshapes, transposes, expands and unsqueezes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from onnxscript.rewriter import RewriteRule
from onnxscript.rewriter.rules import common

from onnxsmith.passes.adapters import RulesPass, find_rules


@dataclass(frozen=True)
class RemoveNoOpShapes(RulesPass):
    """Remove and merge reshapes, transposes, expands and unsqueezes.

    Equations:
    ``Transpose(x, identity) = x``, ``Transpose(Transpose(x, p), q) = Transpose(x, p[q])``,
    ``Reshape(Reshape(x, a), b) = Reshape(x, b)``, ``Expand(x, shape(x)) = x``.

    Source: ``onnxscript.rewriter.rules.common``.
    """

    name: ClassVar[str] = "remove-no-op-shapes"

    def rules(self) -> Sequence[RewriteRule]:
        """Return onnxscript's rules."""
        return find_rules(
            common,
            "no_op_transpose_rule",
            "transpose_transpose_rule",
            "reshape_reshape_rule",
            "no_op_expand_rule",
            "unsqueeze_unsqueeze_rule",
            "squeeze_reshape_1d_rule",
            "flatten_to_reshape_rule",
        )
