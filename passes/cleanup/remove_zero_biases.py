"""Drop biases that are all zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from onnxscript.rewriter import RewriteRule
from onnxscript.rewriter.rules import common

from onnxsmith.passes.adapters import RulesPass, find_rules


@dataclass(frozen=True)
class RemoveZeroBiases(RulesPass):
    """Drop biases that are all zero.

    Equations:
    ``Conv(x, w, 0) = Conv(x, w)``, and likewise ConvTranspose, Gemm, QLinearConv.

    Source: ``onnxscript.rewriter.rules.common``.
    """

    name: ClassVar[str] = "remove-zero-biases"

    def rules(self) -> Sequence[RewriteRule]:
        """Return onnxscript's rules."""
        return find_rules(
            common,
            "remove_optional_bias_from_conv_rule",
            "remove_optional_bias_from_conv_transpose_rule",
            "remove_optional_bias_from_gemm_rule",
            "remove_optional_bias_from_qlinear_conv_rule",
        )
