"""Give symbolic dimensions a size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.cleanup.infer_shapes import InferShapes
from onnxsmith.spec import ModelSpec, parse_dims


@dataclass(frozen=True)
class SetShapes(Pass):
    """Give symbolic dimensions a size.

    ``set-shapes:dims=batch=1+height=224`` makes every dimension of that name this size, in the
    signature and inside, and infers the shapes anew. What is computed from them is constant then:
    run a preset afterwards. Providers that compile a model for its shapes need this.

    Options:
        dims: ``NAME=SIZE``, joined by ``+``.
    """

    name: ClassVar[str] = "set-shapes"

    dims: tuple[str, ...] = ()

    def signature(self, spec: ModelSpec) -> ModelSpec:
        """Return the signature with the sizes in place of the names."""
        return spec.with_dims(parse_dims(self.dims))

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Set the sizes in the graph and its subgraphs."""
        sizes = parse_dims(self.dims)
        count = 0
        for graph in model.graphs():
            values = [*graph.inputs, *(value for node in graph for value in node.outputs)]
            count += sum(_set(value, sizes) for value in values)
        if count:
            InferShapes().apply(model, context)
        return PassResult(model, bool(count), {"values": count})


def _set(value: ir.Value, sizes: dict[str, int]) -> bool:
    if value.shape is None:
        return False
    dims = [
        sizes.get(dim.value, dim) if isinstance(dim, ir.SymbolicDim) and dim.value else dim
        for dim in value.shape
    ]
    if dims == list(value.shape):
        return False
    value.shape = ir.Shape(dims)
    return True
