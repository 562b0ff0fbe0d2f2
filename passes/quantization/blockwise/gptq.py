"""Round weights one input at a time, and let the others make up for it."""

from __future__ import annotations

import numpy as np

from onnxsmith.passes.match import Array
from onnxsmith.passes.quantization.blockwise.blocks import Blocks, Grid

_DAMPING = 0.01


def round_by_curvature(weights: Array, upper: Array, grid: Grid) -> Blocks:
    """Return weights rounded so that the product's error on real inputs is small.

    Inputs are rounded in order; the error of each, weighed by the inverse Hessian, is taken out of
    the weights of the inputs that are still to come:
    ``w_j -= (w_i - q_i) / U_ii * U_ij`` with ``U' U`` the inverse.

    Args:
        weights: float32, of shape (outputs, inputs).
        upper: U, what :func:`inverse_factor` makes of ``X' X`` of the product's inputs.
        grid: Bits, size of blocks, and whether they are symmetric.

    Source: Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
    Transformers", 2022.
    """
    left = weights.astype(np.float32)  # what is still to be rounded
    outputs, inputs = left.shape
    integers = np.empty(left.shape, np.uint8)
    count = -(-inputs // grid.size)
    scale, zero = np.empty((outputs, count), np.float32), np.empty((outputs, count), np.float32)
    for block in range(count):
        columns = slice(block * grid.size, min((block + 1) * grid.size, inputs))
        part, factor = left[:, columns].copy(), upper[columns, columns]
        s, z = grid.fit(part)
        errors = np.empty_like(part)
        for i in range(part.shape[1]):
            rounded = grid.round(part[:, i], s, z)
            integers[:, columns.start + i] = rounded
            errors[:, i] = (part[:, i] - s * (rounded - z)) / factor[i, i]
            part[:, i + 1 :] -= np.outer(errors[:, i], factor[i, i + 1 :])
        left[:, columns.stop :] -= errors @ upper[columns, columns.stop :]
        scale[:, block], zero[:, block] = s, z
    return Blocks(grid, integers, scale, zero)


def inverse_factor(hessian: Array) -> Array:
    """Return the upper Cholesky factor of the damped Hessian's inverse, float32.

    Args:
        hessian: ``X' X`` of a product's inputs X, of shape (inputs, inputs).
    """
    damped = hessian.astype(np.float64)
    diagonal = np.einsum("ii->i", damped)  # a view
    diagonal[diagonal == 0] = 1  # inputs that are always 0
    diagonal += _DAMPING * diagonal.mean()
    inverse = np.linalg.inv(damped)
    factor: Array = np.linalg.cholesky((inverse + inverse.T) / 2).T
    return factor.astype(np.float32)
