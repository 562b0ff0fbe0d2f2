"""The losses by name."""

from __future__ import annotations

from typing import cast

from onnxsmith.options import make
from onnxsmith.pipeline.loading import is_callable_name
from onnxsmith.pipeline.training.losses.base import Loss
from onnxsmith.pipeline.training.losses.graph import GraphLoss
from onnxsmith.plugins import Table

_HOME = "onnxsmith.pipeline.training.losses"

LOSSES = Table(
    "loss",
    "onnxsmith.losses",
    {
        "binary-cross-entropy": f"{_HOME}.binary_cross_entropy:BinaryCrossEntropy",
        "contrastive": f"{_HOME}.metric_learning:Contrastive",
        "cross-entropy": f"{_HOME}.cross_entropy:CrossEntropy",
        "ctc": f"{_HOME}.ctc:Ctc",
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
    """Return the loss that a text names.

    Args:
        text: ``cross-entropy:smoothing=0.1``, a file ``loss.onnx``, or ``package.module:function``.

    Raises:
        UsageError: The loss or an option is unknown, or a value does not fit.
        SmithError: A file or a function is no loss.
    """
    if text.endswith(".onnx") or is_callable_name(text):
        return GraphLoss.load(text)
    return cast(Loss, make(LOSSES, text))
