"""Use onnxscript's rewrite rules as a pass."""

from __future__ import annotations

import abc
import types
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
from onnxscript.rewriter import RewriteRule, RewriteRuleSet

from onnxsmith.passes.base import Pass, PassContext, PassResult


@dataclass(frozen=True)
class RulesPass(Pass):
    """A pass made of onnxscript rewrite rules; subclasses say which."""

    @abc.abstractmethod
    def rules(self) -> Sequence[RewriteRule]:
        """Return the rules, tried in this order at each node."""

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Apply the rules everywhere they match."""
        count = RewriteRuleSet(list(self.rules())).apply_to_model(model)
        return PassResult(model, bool(count), {"matches": count})


def find_rules(module: Any, *names: str) -> tuple[RewriteRule, ...]:
    """Return onnxscript's rules by name; sets of rules, lists and functions are resolved."""
    found: list[RewriteRule] = []
    for name in names:
        item = getattr(module, name)
        if isinstance(item, types.FunctionType):
            item = item()
        if isinstance(item, RewriteRuleSet):
            item = item.rules
        found.extend(item if isinstance(item, Sequence) else [item])
    return tuple(found)
