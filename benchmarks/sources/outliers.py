"""Channels that dwarf the others, as large language models have them, in a network without any."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnxsmith.artifact import Artifact

CHANNELS, FACTOR, SEED = 3, 50.0, 0


def with_outliers(artifact: Artifact) -> Artifact:
    """Return a network that computes the same from activations with outliers.

    Scale and bias of some channels of each LayerNormalization are multiplied, and the rows of the
    matrices that read it are divided, so that nothing else changes. A LayerNormalization that
    anything but products with constant matrices reads is left as it is.
    """
    model, generator = artifact.model.clone(), np.random.default_rng(SEED)
    for norm in model.graph:
        if norm.op_type != "LayerNormalization":
            continue
        uses = list(norm.outputs[0].uses())
        if any(use.node.op_type != "MatMul" or use.idx != 0 for use in uses):
            continue
        width = _array(norm.inputs[1]).size
        factors = np.ones(width, np.float32)
        factors[generator.choice(width, CHANNELS, replace=False)] = FACTOR
        for value in norm.inputs[1:]:
            _multiply(value, factors)
        for use in uses:
            _multiply(use.node.inputs[1], 1 / factors[:, None])
    return Artifact(model)


def _array(value: ir.Value | None) -> np.ndarray:
    assert value is not None and value.const_value is not None  # noqa: PT018 - as it was trained
    return value.const_value.numpy()


def _multiply(value: ir.Value | None, factors: np.ndarray) -> None:
    array = _array(value) * factors
    assert value is not None  # _array() looked
    value.const_value = ir.Tensor(array.astype(np.float32), name=value.name)
