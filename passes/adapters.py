"""Use an onnx_ir pass as one of ours, and ours in onnx_ir."""

from __future__ import annotations

import abc
from dataclasses import dataclass

import onnx_ir as ir

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
