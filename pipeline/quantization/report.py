"""What a quantization says, as a report."""

from __future__ import annotations

from onnxsmith.artifact import Artifact
from onnxsmith.pipeline.quantization.result import QuantizeResult
from onnxsmith.pipeline.report import collect
from onnxsmith.pipeline.report.model import Amount, Report, Speedup
from onnxsmith.runtime.environment import describe_environment


def quantization_report(
    source: str, product: str, artifact: Artifact, result: QuantizeResult
) -> Report:
    """Return the report of one quantization: the search, the layers, scores, sizes and speed.

    Args:
        source: Name of the input.
        product: Name of the result.
        artifact: The input.
        result: What was made of it.
    """
    source, product = collect.told_apart(source, product)
    scored = [(source, result.before), (product, result.after)]
    return Report(
        f"{source} quantized",
        baseline=source,
        candidate=product,
        sources=(collect.model_info(source, artifact),),
        products=(collect.model_info(product, result.artifact),),
        parity=(collect.parity(source, product, result.pipeline.differences, budget="reported"),)
        if result.pipeline.differences
        else (),
        searches=() if result.search is None else (result.search,),
        sensitivity=result.layers,
        sensitivity_note=result.layers_note,
        scores=tuple(collect.scores(name, found) for name, found in scored if found is not None),
        speedups=_speedups(source, product, result),
        sizes=(Amount(source, artifact.size_bytes), Amount(product, result.artifact.size_bytes)),
        history=collect.history(result.artifact.history),
        environment=collect.environment(describe_environment()),
        warnings=result.warnings,
    )


def _speedups(source: str, product: str, result: QuantizeResult) -> tuple[Speedup, ...]:
    if result.speed is None:
        return ()
    found = result.speed.figures
    return (
        Speedup(
            source,
            product,
            found["ratio"],
            found["low"],
            found["high"],
            found["verdict"],
            found["confidence"],
        ),
    )
