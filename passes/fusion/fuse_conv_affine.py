"""Fold a scalar scale and shift around Conv into its weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from onnxscript.rewriter import RewriteRule
from onnxscript.rewriter.rules import common

from onnxsmith.passes.adapters import RulesPass, find_rules


@dataclass(frozen=True)
class FuseConvAffine(RulesPass):
    """Fold a scalar scale and shift around Conv into its weights.

    Equations:
    ``Conv(a x + b) = Conv'(x)`` without padding, ``a Conv(x) + b = Conv'(x)``.

    Source: ``onnxscript.rewriter.rules.common``.
    """

    name: ClassVar[str] = "fuse-conv-affine"

    def rules(self) -> Sequence[RewriteRule]:
        """Return onnxscript's rules."""
        return find_rules(common, "affine_conv_fusion_rule", "conv_affine_fusion_rule")
