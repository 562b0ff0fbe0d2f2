"""Give the channels between two layers the same range on both sides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.quantization.layer_pairs import Pair, find_pairs

_CLOSE = 1e-3
_LARGEST = 2.0**12


@dataclass(frozen=True)
class EqualizeLayers(Pass):
    """Give the channels between two layers the same range on both sides.

    For layers with weights ``W1``, ``W2`` and a function ``f`` between them that keeps factors
    above zero, ``f(s x) = s f(x)``, and any ``s_c > 0`` for each channel ``c`` between them::

        W2 f(W1 x + b1) = (W2 diag(s)) f(diag(1/s) W1 x + diag(1/s) b1)

    ``s_c = sqrt(r1_c / r2_c)``, with ``r`` the largest weight of a channel, makes both ranges
    ``sqrt(r1_c r2_c)``. Pairs share layers, so this is repeated until no factor changes by more
    than a thousandth, at most ``rounds`` times. Where nothing lies between two layers and the
    second pads nothing, the first one's bias is moved into the second:
    ``W2 (W1 x + b1) + b2 = W2 W1 x + (W2 b1 + b2)``.

    Layers are Conv (depthwise and grouped ones too), ConvTranspose, Gemm and MatMul with constant
    weights. Between them may stand Relu, LeakyRelu, PRelu with one slope, MaxPool, AveragePool,
    GlobalAveragePool, GlobalMaxPool, Dropout and Identity. Left alone are pairs whose middle
    anything else reads, and other functions: Clip, as in ReLU6, cuts at a fixed height.

    Source: Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction,
    2019 (arXiv:1906.04721), section 4.1.
    """

    name: ClassVar[str] = "equalize-layers"

    rounds: int = 20

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Equalize the pairs of the main graph."""
        pairs, reasons = find_pairs(model.graph)
        layers = {id(layer): layer for pair in pairs for layer in (pair.first, pair.second)}
        for _ in range(self.rounds):
            if not any([_equalize(pair) for pair in pairs]):
                break
        moved = sum(_move_bias(pair) for pair in pairs)
        changed = [layer for layer in layers.values() if layer.changed]
        for layer in changed:
            layer.write(model.graph)
        details = {"pairs": len(pairs), "moved_biases": moved, "left": reasons}
        return PassResult(model, bool(changed), details)


def _equalize(pair: Pair) -> bool:
    """Take one step; return whether a factor was far from one."""
    first = pair.first.output_ranges()
    second = pair.second.input_ranges()
    live = (first > 0) & (second > 0)
    factors = np.ones_like(first)
    np.divide(first, second, out=factors, where=live)
    factors = np.clip(np.sqrt(factors), 1 / _LARGEST, _LARGEST)
    if np.abs(factors - 1).max(initial=0.0) <= _CLOSE:
        return False
    pair.first.scale_outputs(1 / factors)
    pair.second.scale_inputs(factors)
    return True


def _move_bias(pair: Pair) -> bool:
    bias = pair.first.bias
    if not pair.direct or bias is None or not bias.any() or not pair.second.takes_constants:
        return False
    pair.second.add_bias(pair.second.response(bias))
    pair.first.add_bias(-bias)
    return True
