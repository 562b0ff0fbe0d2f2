"""The losses by name."""

from __future__ import annotations

from typing import cast

from onnxsmith.options import make
from onnxsmith.pipeline.training.losses.base import Loss
from onnxsmith.plugins import Table

_HOME = "onnxsmith.pipeline.training.losses"

LOSSES = Table(
    "loss",
    "onnxsmith.losses",
    {
        "binary-cross-entropy": f"{_HOME}.binary_cross_entropy:BinaryCrossEntropy",
        "contrastive": f"{_HOME}.metric_learning:Contrastive",
        "cross-entropy": f"{_HOME}.cross_entropy:CrossEntropy",
        "distillation": f"{_HOME}.distillation:Distillation",
        "focal": f"{_HOME}.focal:Focal",
        "huber": f"{_HOME}.regression:Huber",
        "mae": f"{_HOME}.regression:MeanAbsolute",
        "mse": f"{_HOME}.regression:MeanSquared",
        "triplet": f"{_HOME}.metric_learning:Triplet",
    },
)
"""Each row is a subclass of :class:`onnxsmith.pipeline.training.losses.base.Loss`."""


def make_loss(text: str) -> Loss:
    """Return the loss that ``cross-entropy:smoothing=0.1`` names.

    Raises:
        UsageError: The loss or an option is unknown, or a value does not fit.
    """
    return cast(Loss, make(LOSSES, text))
