"""The user's metric on a part of the held-out data, for what is scored many times."""

from __future__ import annotations

from dataclasses import dataclass

from onnxsmith.artifact import Artifact
from onnxsmith.pipeline.data import DataSource, open_data
from onnxsmith.pipeline.evaluation import evaluate
from onnxsmith.pipeline.evaluation.table import make_metric
from onnxsmith.pipeline.quantization.job import Job
from onnxsmith.pipeline.quantization.request import QuantizeRequest
from onnxsmith.pipeline.report.quantization import LayerCost
from onnxsmith.runtime.session import Session

_SAMPLES, _BATCH = 256, 64


@dataclass
class PartialScore:
    """Scores artifacts on the first held-out samples; higher is better, whatever the metric.

    Attributes:
        request: What was asked for, with the metric.
        data: The held-out data.
        samples: How many samples were scored; 0 before the first time.
    """

    request: QuantizeRequest
    data: DataSource
    samples: int = 0

    @classmethod
    def open(cls, job: Job) -> PartialScore | None:
        """Return the score of a job; None where it has no held-out data.

        Raises:
            SmithError: The data cannot be read.
        """
        if job.request.eval_data is None:
            return None
        return cls(job.request, open_data(job.request.eval_data, job.artifact.spec))

    def __call__(self, artifact: Artifact) -> float:
        """Return the metric, negated where less is better.

        Raises:
            SmithError: It cannot be computed.
        """
        request, name = self.request, self.request.metric
        with Session(artifact, request.target, threads=request.threads) as session:
            found = evaluate(session, self.data, [name], _BATCH, _SAMPLES)
        self.samples = found.samples
        value = found.metrics[name]
        return value if make_metric(name).higher_is_better else -value

    def note(self, layers: tuple[LayerCost, ...]) -> str:
        """Say what the drops of these layers are."""
        scored = sum(layer.drop is not None for layer in layers)
        if not scored:
            return ""
        rest = "" if scored == len(layers) else f", of the {scored} layers with the most noise"
        return (
            f"The drop is what the {self.request.metric} loses on the first {self.samples} "
            f"held-out samples{rest}."
        )
