"""Evaluation: metrics, one a file, and the scoring of a model on labelled data."""

from onnxsmith.pipeline.evaluation.base import Metric, Predictions
from onnxsmith.pipeline.evaluation.evaluate import Runner, evaluate
from onnxsmith.pipeline.evaluation.result import ClassScore, Evaluation
from onnxsmith.pipeline.evaluation.table import METRICS, make_metric

__all__ = [
    "METRICS",
    "ClassScore",
    "Evaluation",
    "Metric",
    "Predictions",
    "Runner",
    "evaluate",
    "make_metric",
]
