"""Fold BatchNormalization into the linear operator before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.fusion.linear import KINDS, apply_affine, read_linear
from onnxsmith.passes.match import Array, array_of, int_attribute, is_op, only_user


@dataclass(frozen=True)
class FuseBatchNorm(Pass):
    """Fold BatchNormalization into the Conv, ConvTranspose, Gemm or MatMul before it.

    ``BN(W x + b) = (g W) x + g (b - mean) + beta`` with ``g = gamma / sqrt(var + epsilon)``. A
    MatMul becomes a Gemm. Weights are computed in float64 and rounded once.

    What is left alone: normalization that trains or gives its statistics out, weights that are not
    constant, results that anything else reads, a MatMul of more than two dimensions, and opsets
    before 7, in which the operator may mean something else.

    Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference", 2018, section 3.2.
    """

    name: ClassVar[str] = "fuse-batch-norm"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Fold in the graph and its subgraphs."""
        opset, count = model.opset_imports.get("", 1), 0
        for graph in model.graphs() if opset >= 7 else ():
            for node in list(graph):
                if is_op(node, *KINDS):
                    count += _fold(node)
        return PassResult(model, bool(count), {"folded": count})


def _fold(node: ir.Node) -> bool:
    norm = only_user(node.outputs[0], "BatchNormalization")
    if norm is None or norm.inputs[0] is not node.outputs[0] or norm.graph is not node.graph:
        return False
    if node.op_type == "MatMul" and not _is_matrix(node.inputs[0]):
        return False
    affine, linear = affine_of(norm), read_linear(node)
    if affine is None or linear is None:
        return False
    factor, shift = affine
    if factor.shape != (linear.channels,):
        return False
    return apply_affine(norm, linear, factor, shift)


def affine_of(norm: ir.Node) -> tuple[Array, Array] | None:
    """Return the factor and shift of a BatchNormalization in inference, float64, per channel."""
    if int_attribute(norm, "training_mode", 0) != 0 or int_attribute(norm, "spatial", 1) != 1:
        return None
    if any(value.uses() or value.is_graph_output() for value in norm.outputs[1:]):
        return None
    arrays = [array_of(value, 1 << 20) for value in norm.inputs[1:5]]
    epsilon = norm.attributes.get("epsilon")
    if any(array is None or array.ndim != 1 for array in arrays) or len(arrays) != 4:
        return None
    if epsilon is not None and epsilon.is_ref():
        return None
    scale, bias, mean, variance = (a.astype(np.float64) for a in arrays if a is not None)
    with np.errstate(all="ignore"):  # a result that is not finite is refused
        factor = scale / np.sqrt(variance + (1e-5 if epsilon is None else epsilon.as_float()))
        shift = bias - mean * factor
    if not (np.isfinite(factor).all() and np.isfinite(shift).all()):
        return None
    return factor, shift


def _is_matrix(value: ir.Value | None) -> bool:
    return value is not None and value.shape is not None and len(value.shape) == 2
