"""Merge a matrix product and the sum behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from onnxscript.rewriter import RewriteRule
from onnxscript.rewriter.rules import common

from onnxsmith.passes.adapters import RulesPass, find_rules


@dataclass(frozen=True)
class FuseGemm(RulesPass):
    """Merge a matrix product and the sum behind it.

    Equations:
    ``MatMul(a, b) + c = Gemm(a, b, c)`` for matrices, with transposes of ``a`` and ``b`` absorbed.

    Source: ``onnxscript.rewriter.rules.common``.
    """

    name: ClassVar[str] = "fuse-gemm"

    def rules(self) -> Sequence[RewriteRule]:
        """Return onnxscript's rules."""
        return find_rules(
            common,
            "matmul_add_to_gemm_rule",
            "transpose_a_matmul_add_to_gemm_rule",
            "transpose_b_matmul_add_to_gemm_rule",
            "transpose_ab_matmul_add_to_gemm_rule",
        )
