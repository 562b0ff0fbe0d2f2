"""Recognise Split in slices that share an axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from onnxscript.rewriter import RewriteRule
from onnxscript.rewriter.rules import common

from onnxsmith.passes.rules import RulesPass, find_rules


@dataclass(frozen=True)
class FuseSplit(RulesPass):
    """Recognise Split in slices that share an axis.

    Equations:
    ``Slice(x, 0, n/2), Slice(x, n/2, n) = Split(x)``.

    Source: ``onnxscript.rewriter.rules.common``.
    """

    name: ClassVar[str] = "fuse-split"

    def rules(self) -> Sequence[RewriteRule]:
        """Return onnxscript's rules."""
        return find_rules(common, "slice_split_rule")
