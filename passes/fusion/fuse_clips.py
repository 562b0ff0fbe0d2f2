"""Merge chains of Relu, Clip, Min and Max."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from onnxscript.rewriter import RewriteRule
from onnxscript.rewriter.rules import common

from onnxsmith.passes.adapters import RulesPass, find_rules


@dataclass(frozen=True)
class FuseClips(RulesPass):
    """Merge chains of Relu, Clip, Min and Max.

    Equations:
    ``Relu(Clip(x, a, b)) = Clip(x, max(a, 0), max(b, 0))``, ``Min(Max(x, a), b) = Clip(x, a, b)``.

    Source: ``onnxscript.rewriter.rules.common``.
    """

    name: ClassVar[str] = "fuse-clips"

    def rules(self) -> Sequence[RewriteRule]:
        """Return onnxscript's rules."""
        return find_rules(
            common,
            "successive_clip_relu_rule",
            "successive_clip_rule",
            "successive_relu_clip_rule",
            "successive_relu_rule",
            "min_min_rule",
            "max_max_rule",
            "min_max_rule",
            "max_min_rule",
        )
