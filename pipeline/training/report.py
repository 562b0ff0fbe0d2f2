"""What a training says, as a report."""

from __future__ import annotations

from onnxsmith.artifact import Artifact
from onnxsmith.pipeline.report import collect
from onnxsmith.pipeline.report.model import Report
from onnxsmith.pipeline.training.request import TrainRequest, TrainResult
from onnxsmith.runtime.environment import describe_environment


def training_report(
    source: str, product: str, artifact: Artifact, request: TrainRequest, result: TrainResult
) -> Report:
    """Return the report of one training: its curves, both models and the history.

    Args:
        source: Name of the input.
        product: Name of the result.
        artifact: The input.
        request: What was asked for.
        result: What came out.
    """
    source, product = collect.told_apart(source, product)
    return Report(
        f"{source} trained",
        baseline=source,
        candidate=product,
        sources=(collect.model_info(source, artifact),),
        products=(collect.model_info(product, result.artifact),),
        trainings=(collect.training(result, request.loss, request.optimizer),),
        history=collect.history(result.artifact.history),
        environment=collect.environment(describe_environment()),
    )
