"""The optimizers by name."""

from __future__ import annotations

from typing import cast

from onnxsmith.options import make
from onnxsmith.pipeline.training.optimizers.base import Optimizer
from onnxsmith.plugins import Table

_HOME = "onnxsmith.pipeline.training.optimizers"

OPTIMIZERS = Table(
    "optimizer",
    "onnxsmith.optimizers",
    {
        "adagrad": f"{_HOME}.scaled:Adagrad",
        "adam": f"{_HOME}.adam:Adam",
        "adamw": f"{_HOME}.adam:AdamW",
        "lamb": f"{_HOME}.adam:Lamb",
        "lion": f"{_HOME}.sgd:Lion",
        "momentum": f"{_HOME}.sgd:Momentum",
        "nesterov": f"{_HOME}.sgd:Nesterov",
        "rmsprop": f"{_HOME}.scaled:RmsProp",
        "sgd": f"{_HOME}.sgd:Sgd",
    },
)
"""Each row is a subclass of :class:`onnxsmith.pipeline.training.optimizers.base.Optimizer`."""


def make_optimizer(text: str) -> Optimizer:
    """Return the optimizer that ``adamw:decay=0.1`` names.

    Raises:
        UsageError: The optimizer or an option is unknown, or a value does not fit.
    """
    return cast(Optimizer, make(OPTIMIZERS, text))
