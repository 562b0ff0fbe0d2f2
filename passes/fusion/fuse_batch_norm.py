"""Fold BatchNormalization into the Conv, ConvTranspose or Gemm before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from onnxscript.rewriter import RewriteRule
from onnxscript.rewriter.rules import common

from onnxsmith.passes.adapters import RulesPass, find_rules


@dataclass(frozen=True)
class FuseBatchNorm(RulesPass):
    """Fold BatchNormalization into the Conv, ConvTranspose or Gemm before it.

    Equations:
    ``BN(W x + b) = (g W) x + g (b - mean) + beta`` with ``g = gamma / sqrt(var + eps)``.

    Source: ``onnxscript.rewriter.rules.common``.
    """

    name: ClassVar[str] = "fuse-batch-norm"

    def rules(self) -> Sequence[RewriteRule]:
        """Return onnxscript's rules."""
        return find_rules(
            common,
            "fuse_batchnorm_into_conv_rule",
            "fuse_batchnorm_into_conv_transpose_rule",
            "fuse_batchnorm_into_gemm_rule",
        )
