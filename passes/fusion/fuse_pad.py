"""Fold constant zero padding into the Conv behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from onnxscript.rewriter import RewriteRule
from onnxscript.rewriter.rules import common

from onnxsmith.passes.adapters import RulesPass, find_rules


@dataclass(frozen=True)
class FusePad(RulesPass):
    """Fold constant zero padding into the Conv behind it.

    Equations:
    ``Conv(Pad(x, p), pads=q) = Conv(x, pads=p + q)`` for zero padding of spatial axes.

    Source: ``onnxscript.rewriter.rules.common``.
    """

    name: ClassVar[str] = "fuse-pad"

    def rules(self) -> Sequence[RewriteRule]:
        """Return onnxscript's rules."""
        return find_rules(
            common,
            "normalize_pad_format_conv_rule",
            "normalize_pad_format_conv_integer_rule",
            "fuse_pad_into_conv_rule",
            "fuse_pad_into_conv_integer_rule",
        )
