"""Use an onnx_ir pass as one of ours, onnxscript's rules as a pass, and ours in onnx_ir."""

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
class IrPass(Pass):
    """A pass that onnx_ir implements; subclasses say which."""

    @abc.abstractmethod
    def implementation(self) -> ir.passes.PassBase:
        """Return a fresh onnx_ir pass with this pass's options."""

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Run the onnx_ir pass."""
        result = self.implementation()(model)
        return PassResult(result.model, result.modified)


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


class AsIrPass(ir.passes.InPlacePass):
    """One of our passes, for use in an ``onnx_ir.passes.PassManager``.

    Args:
        inner: The pass; it must edit the model it is given.
        context: What it may need from outside.
    """

    def __init__(self, inner: Pass, context: PassContext | None = None) -> None:
        super().__init__()
        self.inner = inner
        self.context = context or PassContext()

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Apply the pass."""
        result = self.inner.apply(model, self.context)
        return ir.passes.PassResult(result.model, result.modified)


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
