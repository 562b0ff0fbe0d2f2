"""Remove reshapes around a MatMul that broadcasts by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from onnxscript.rewriter import RewriteRule
from onnxscript.rewriter.rules import common

from onnxsmith.passes.rules import RulesPass, find_rules


@dataclass(frozen=True)
class FuseMatMulReshapes(RulesPass):
    """Remove reshapes around a MatMul that broadcasts by itself.

    Equations:
    ``Reshape(MatMul(Reshape(a), Reshape(b))) = MatMul(a, b)`` where the shapes agree.

    Source: ``onnxscript.rewriter.rules.common``.
    """

    name: ClassVar[str] = "fuse-matmul-reshapes"

    def rules(self) -> Sequence[RewriteRule]:
        """Return onnxscript's rules."""
        return find_rules(
            common, "two_reshapes_matmul_reshape_rule", "one_reshape_matmul_reshape_rule"
        )
