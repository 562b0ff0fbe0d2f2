"""What a comparison says, as a report."""

from __future__ import annotations

from onnxsmith.artifact import Artifact
from onnxsmith.pipeline.comparison.compare import CompareResult, Layer
from onnxsmith.pipeline.report import collect
from onnxsmith.pipeline.report.model import Amount, Report
from onnxsmith.pipeline.report.quantization import Departure, LayerNoise
from onnxsmith.runtime.environment import describe_environment

MADE_UP = "Compared on made-up inputs: figures on real data may differ."


def comparison_report(
    reference: str, candidate: str, first: Artifact, second: Artifact, result: CompareResult
) -> Report:
    """Return the report of one comparison.

    Args:
        reference: Name of the first model.
        candidate: Name of the second.
        first: The first model.
        second: The second model.
        result: What was found.
    """
    reference, candidate = collect.told_apart(reference, candidate, ("A", "B"))
    return Report(
        f"{candidate} against {reference}",
        baseline=reference,
        candidate=candidate,
        sources=(
            collect.model_info(reference, first),
            collect.model_info(candidate, second),
        ),
        parity=(collect.parity(reference, candidate, result.outputs, budget=_budget(second)),),
        departures=(departure(reference, candidate, result),) if result.layers else (),
        sizes=(Amount(reference, first.size_bytes), Amount(candidate, second.size_bytes)),
        history=collect.history(second.history),
        environment=collect.environment(describe_environment()),
        warnings=(MADE_UP,) if result.made_up else (),
    )


def departure(reference: str, candidate: str, result: CompareResult) -> Departure:
    """Return the layers of a comparison."""
    return Departure(
        reference, candidate, tuple(_row(layer) for layer in result.layers), result.unmatched
    )


def _budget(artifact: Artifact) -> str:
    """Say that differences are no mistake where the model was changed to have some."""
    lossy = ("quantize-", "to-float16", "to-bfloat16", "prune-")
    known = any(step.name.startswith(lossy) for step in artifact.history)
    return "reported" if known else ""


def _row(layer: Layer) -> LayerNoise:
    return LayerNoise(
        layer.tensor, layer.op_type, layer.snr_db, layer.before_db, layer.added, layer.max_rel
    )
