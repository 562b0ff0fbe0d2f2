"""What a gradient rule sees of the node it differentiates."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from onnxsmith.passes.autodiff.writer import Writer, rank_of

Gradients = Sequence[ir.Value | None]
"""The gradient for each input of a node; None where there is none."""


class NotDifferentiableError(Exception):
    """A rule cannot differentiate this node; the message is the reason."""


@dataclass(frozen=True)
class Backward:
    """One node on the way back.

    Attributes:
        node: The node of the forward graph.
        grads: The gradient of each of its outputs, None where nothing depends on one; never all.
        needs: Whether the gradient for each input is asked for. A rule may give more: what
            nobody reads is removed.
        write: Writes the nodes of the gradient.
        custom: Rules for operators of other domains, for what is in the node's bodies.
    """

    node: ir.Node
    grads: tuple[ir.Value | None, ...]
    needs: tuple[bool, ...]
    write: Writer
    custom: Rules = field(default_factory=dict)

    @property
    def grad(self) -> ir.Value:
        """The gradient of the first output."""
        if self.grads[0] is None:
            raise NotDifferentiableError("only its first output can be differentiated")
        return self.grads[0]

    @property
    def y(self) -> ir.Value:
        """The first output."""
        return self.node.outputs[0]

    def x(self, index: builtins.int = 0) -> ir.Value:
        """Return an input that has to be there."""
        value = self.node.inputs[index]
        if value is None:
            raise NotDifferentiableError(f"its input {index} is missing")
        return value

    def optional(self, index: builtins.int) -> ir.Value | None:
        """Return an input that may be left out."""
        return self.node.inputs[index] if index < len(self.node.inputs) else None

    def int(self, name: str, default: builtins.int) -> builtins.int:
        """Return an attribute."""
        return self.node.attributes.get_int(name, default)

    def float(self, name: str, default: builtins.float) -> builtins.float:
        """Return an attribute."""
        return self.node.attributes.get_float(name, default)

    def string(self, name: str, default: str) -> str:
        """Return an attribute."""
        return self.node.attributes.get_string(name, default)

    def ints(self, name: str) -> list[builtins.int] | None:
        """Return an attribute, None where it is left out."""
        value = self.node.attributes.get_ints(name)
        return None if value is None else list(value)

    def axis(
        self, default: builtins.int, name: str = "axis", of: ir.Value | None = None
    ) -> builtins.int:
        """Return an axis as a place from the front."""
        return self.int(name, default) % rank_of(self.x() if of is None else of)


Rule = Callable[[Backward], Gradients]
"""Returns the gradients for a node's inputs, the trailing ones may be left out."""

Rules = Mapping[tuple[str, str], Rule]
"""Rules for operators of other domains, by domain and operator."""
