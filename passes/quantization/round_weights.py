"""Round weights so that the layers' outputs, not the weights, come out near."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import onnx_ir as ir

from onnxsmith.errors import SmithError
from onnxsmith.passes.base import PassContext, PassResult
from onnxsmith.passes.match import Array, add_constant, is_op
from onnxsmith.passes.quantization.base import QuantizingPass
from onnxsmith.passes.quantization.correct_biases import add_to_bias, mean_shifts, refusal
from onnxsmith.passes.quantization.moments import (
    Product,
    mean_error,
    read_product,
    second_moments,
)
from onnxsmith.passes.quantization.select import LeftFloat

_KINDS = ("Conv", "Gemm", "MatMul")
# Small enough for the cache: most of the work is keeping a block up to date.
_BLOCK = 16


@dataclass(frozen=True)
class RoundWeights(QuantizingPass):
    """Round weights so that the layers' outputs, not the weights, come out near.

    The weights stay float32 but become multiples ``s q`` of the scale ``s = max |W| / limit`` that
    a symmetric quantizer will choose, so that a pass such as ``quantize-static`` stores them
    without another error. Each ``q`` is one of the two integers around ``W / s``. Which one, is
    chosen to minimize the mean square of a layer's output error over the calibration samples::

        trace(E H E^T),  E = s q - W,  H = mean(x x^T)

    starting from the nearest integers and changing one column of weights after the other, as long
    as the error falls. So it never ends above that of rounding to the nearest. Only ``H`` is kept
    of the samples.

    Layers are Conv, Gemm and MatMul with constant float32 weights. Options: ``bits`` of the
    weights; ``per-channel`` scales, as in the quantizer that follows; ``samples`` is the most
    calibration batches to read; ``sweeps`` the most rounds over a layer's weights; ``biases`` takes
    what is left of the errors in the mean out of the biases, as ``correct-biases`` does.

    Source: the objective is that of Nagel et al., Up or Down? Adaptive Rounding for Post-Training
    Quantization, 2020 (arXiv:2004.10568), section 3.2; solved by coordinate descent.
    """

    name: ClassVar[str] = "round-weights"
    needs: ClassVar[tuple[str, ...]] = ("samples",)

    bits: Literal["8", "4"] = "8"
    per_channel: bool = True
    samples: int = 16
    sweeps: int = 2
    biases: bool = True

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Round the layers of the main graph.

        Raises:
            SmithError: The samples are empty, or activations are not finite on them.
        """
        self.selection.check(model)
        left = LeftFloat()
        products: list[Product] = []
        for node in model.graph:
            if not is_op(node, *_KINDS):
                continue
            found = self.selection.refusal(node) or read_product(node)
            if isinstance(found, str):
                left.add(node, found)
            else:
                products.append(found)
        original = model.clone()
        nearest = chosen = 0.0
        errors: dict[ir.Node, Array] = {}
        for product, moments in second_moments(model, products, context, self.samples):
            if not np.isfinite(moments).all():
                raise SmithError(
                    f"what {product.node.name or product.node.op_type!r} reads is not finite",
                    "clean the calibration data",
                )
            old = product.restored(product.weights)
            before, after = self._round(model.graph, product, moments)
            if not refusal(product.node):
                errors[product.node] = product.restored(product.weights) - old
            nearest, chosen = nearest + 1.0, chosen + (after / before if before else 1.0)
        if self.biases and errors:
            shifts = mean_shifts(original, errors, context, self.samples)
            for node, shift in shifts.items():
                add_to_bias(model.graph, node, -shift)
        details = {
            "layers": len(products),
            "error": round(chosen / nearest, 4) if products else 1.0,
            "left_float": left.to_json(),
        }
        return PassResult(model, bool(products), details)

    def _round(self, graph: ir.Graph, product: Product, moments: Array) -> tuple[float, float]:
        """Give the node rounded weights; return the error of the nearest ones, and of these."""
        weights = product.weights.astype(np.float64)
        limit = 2 ** (int(self.bits) - 1) - 1
        axis = 2 if self.per_channel else None
        peaks = np.abs(weights).max(axis=axis, keepdims=True)
        scale = np.where(peaks > 0, peaks / limit, 1.0)
        nearest = np.rint(weights / scale)
        other = nearest + np.sign(weights / scale - nearest)
        # What has the largest weight sets the scale, and must stay what it is.
        other = np.where(np.abs(nearest) >= limit, nearest, other)
        errors = _columns(nearest * scale - weights)
        others = _columns(other * scale - weights)
        before = mean_error(moments, errors)
        _descend(errors, others, moments, self.sweeps)
        after = mean_error(moments, errors)
        rounded = np.rint((weights + errors.transpose(0, 2, 1)) / scale) * scale
        value = product.node.inputs[1]
        assert value is not None  # read_product() looked at it
        array = product.restored(rounded).astype(np.float32)
        product.node.replace_input_with(1, add_constant(graph, array, f"{value.name}_rounded"))
        if value.is_initializer() and not value.uses() and not value.is_graph_output():
            graph.initializers.pop(value.name or "", None)
        return before, after


def _columns(errors: Array) -> Array:
    """Return errors with the columns first, which are gone through one by one."""
    return np.ascontiguousarray(errors.transpose(0, 2, 1), dtype=np.float32)


def _descend(errors: Array, others: Array, moments: Array, sweeps: int) -> None:
    """Swap errors for the others, in place, wherever that lowers ``trace(E H E^T)``.

    Swapping column j of a row changes its error by ``d (2 (E H)_j + d H_jj)`` with d the
    difference. Products with H are taken for blocks of columns, and kept up to date inside.

    Args:
        errors: E, columns first: shape [groups, inputs, outputs / groups].
        others: What the other integers would make of it.
        moments: H, shape [groups, inputs, inputs].
        sweeps: Most rounds over all columns.
    """
    for _ in range(sweeps):
        swapped = False
        for start in range(0, moments.shape[1], _BLOCK):
            block = moments[:, start : start + _BLOCK]
            gradient = block @ errors
            for index in range(block.shape[1]):
                column = start + index
                step = others[:, column] - errors[:, column]
                gain = step * (2 * gradient[:, index] + step * block[:, index, column, None])
                better = gain < 0
                if not better.any():
                    continue
                swapped = True
                step[~better] = 0
                rest = block[:, index + 1 :, column, None]
                gradient[:, index + 1 :] += rest * step[:, None, :]
                errors[:, column] += step
                others[:, column] -= step
        if not swapped:
            return
