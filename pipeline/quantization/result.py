"""What quantization made of an artifact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from onnxsmith.artifact import Artifact
from onnxsmith.passes.manager import PipelineResult
from onnxsmith.pipeline.evaluation import Evaluation
from onnxsmith.pipeline.gate import Change
from onnxsmith.pipeline.report.codec import encode
from onnxsmith.pipeline.report.quantization import LayerCost, Search


@dataclass(frozen=True)
class QuantizeResult:
    """The quantized artifact, how far it departs, and its scores where there is a budget.

    Attributes:
        artifact: The result, with its history.
        pipeline: The passes as they ran.
        warnings: What the user should know.
        before: The input's scores; None without a budget.
        after: The result's.
        search: The candidates; None where a mode was asked for.
        layers: What each layer costs, the most sensitive first, where that was asked for.
        layers_note: What the drops of the layers are; empty without any.
        speed: How fast the result is, where the mode measured it.
        dims: Sizes of named dimensions to measure it at: those of the data, or of the request.
    """

    artifact: Artifact
    pipeline: PipelineResult
    warnings: tuple[str, ...] = ()
    before: Evaluation | None = None
    after: Evaluation | None = None
    search: Search | None = None
    layers: tuple[LayerCost, ...] = ()
    layers_note: str = ""
    speed: Change | None = None
    dims: Mapping[str, int] = field(default_factory=dict)

    @property
    def left_float(self) -> tuple[dict[str, str], ...]:
        """The nodes that stayed in float: ``node``, ``op`` and ``reason`` of each."""
        return tuple(
            entry for run in self.pipeline.runs for entry in run.details.get("left_float", ())
        )

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        return {
            **self.pipeline.to_json(),
            "warnings": list(self.warnings),
            "left_float": list(self.left_float),
            "before": self.before.to_json() if self.before else None,
            "after": self.after.to_json() if self.after else None,
            "search": encode(self.search) if self.search else None,
            "layers": [encode(layer) for layer in self.layers],
            "layers_note": self.layers_note,
        }
