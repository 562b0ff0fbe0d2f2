"""Recognise HardSwish and HardSigmoid in their primitives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from onnxscript.rewriter import RewriteRule
from onnxscript.rewriter.rules import common

from onnxsmith.passes.rules import RulesPass, find_rules


@dataclass(frozen=True)
class FuseHardSwish(RulesPass):
    """Recognise HardSwish and HardSigmoid in their primitives.

    Equations:
    ``x * Clip(x + 3, 0, 6) / 6 = HardSwish(x)``.

    Source: ``onnxscript.rewriter.rules.common``.
    """

    name: ClassVar[str] = "fuse-hard-swish"

    def rules(self) -> Sequence[RewriteRule]:
        """Return onnxscript's rules."""
        return find_rules(common, "fuse_hardswish_rules")
