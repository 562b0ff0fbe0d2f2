"""The metrics by name, and how one is made from ``NAME:OPTION=VALUE``."""

from __future__ import annotations

from dataclasses import fields
from typing import cast

from onnxsmith.errors import UsageError
from onnxsmith.pipeline.evaluation.base import Metric
from onnxsmith.plugins import Table, suggestion

METRICS = Table(
    "metric",
    "onnxsmith.metrics",
    {
        "accuracy": "onnxsmith.pipeline.evaluation.accuracy:Accuracy",
        "auc": "onnxsmith.pipeline.evaluation.auc:Auc",
        "f1": "onnxsmith.pipeline.evaluation.f1:F1",
        "f1-weighted": "onnxsmith.pipeline.evaluation.f1:WeightedF1",
        "log-loss": "onnxsmith.pipeline.evaluation.log_loss:LogLoss",
        "mae": "onnxsmith.pipeline.evaluation.mae:MeanAbsoluteError",
        "mse": "onnxsmith.pipeline.evaluation.mse:MeanSquaredError",
        "precision": "onnxsmith.pipeline.evaluation.precision:Precision",
        "precision-weighted": "onnxsmith.pipeline.evaluation.precision:WeightedPrecision",
        "r2": "onnxsmith.pipeline.evaluation.r2:R2",
        "recall": "onnxsmith.pipeline.evaluation.recall:Recall",
        "recall-weighted": "onnxsmith.pipeline.evaluation.recall:WeightedRecall",
        "rmse": "onnxsmith.pipeline.evaluation.rmse:RootMeanSquaredError",
        "snr": "onnxsmith.pipeline.evaluation.snr:SignalToNoise",
        "top-k": "onnxsmith.pipeline.evaluation.top_k:TopK",
    },
)
"""Each row is a dataclass with the interface of ``onnxsmith.pipeline.evaluation.base.Metric``."""

DEFAULTS = {
    "classification": ("accuracy", "precision", "recall", "f1"),
    "regression": ("rmse", "mae", "r2"),
}
"""What is computed where no metric is named, by task."""


def make_metric(text: str) -> Metric:
    """Return a new accumulator for ``accuracy`` or ``top-k:k=3``.

    Raises:
        UsageError: The metric or an option is unknown, or a value is no number.
    """
    name, *parts = text.split(":")
    made = METRICS.find(name)
    options: dict[str, float] = {}
    types: dict[str, type[float]] = {
        item.name: int if isinstance(item.default, int) else float
        for item in fields(made)
        if item.init
    }
    for part in parts:
        key, _, value = part.partition("=")
        if key not in types:
            hint = suggestion(key, list(types)) if types else "it takes none"
            raise UsageError(f"the metric {name!r} has no option {key!r}", hint)
        try:
            options[key] = types[key](value)
        except ValueError as error:
            raise UsageError(
                f"cannot read {part!r} of the metric {name!r}", f"write {name}:{key}=NUMBER"
            ) from error
    return cast("Metric", made(**options))
