"""What a candidate keeps: the user's metric, or the signal to noise of its outputs."""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.passes.match import Array
from onnxsmith.pipeline.comparison.noise import Noise
from onnxsmith.pipeline.data import DataSource, open_data, refuse_shared
from onnxsmith.pipeline.evaluation import Evaluation, evaluate
from onnxsmith.pipeline.evaluation.table import make_metric
from onnxsmith.pipeline.quantization.job import Job
from onnxsmith.runtime.probe import probe_inputs
from onnxsmith.runtime.session import Session

DEFAULT_DROP = 0.01
"""What of a metric may be lost where the user does not say: one point of a rate."""

LEAST_SNR = 20.0
"""The least signal to noise, in dB, where there is no metric: an error of a tenth."""

_SCORING_BATCH = 64
_SNR_BATCHES = 8


class Scorer(abc.ABC):
    """Scores candidates.

    Attributes:
        name: What the scores are.
        limit: The least score that is allowed, or the most where less is better.
        higher_is_better: Which way is better.
    """

    name: str
    limit: float
    higher_is_better: bool = True

    @abc.abstractmethod
    def __call__(self, artifact: Artifact) -> float:
        """Return the score of a candidate.

        Raises:
            SmithError: It cannot be computed.
        """

    def evaluation(self, artifact: Artifact) -> Evaluation | None:
        """Return the scores of an artifact for people; None where there is no metric."""
        return None

    def loss(self, score: float) -> float:
        """Return how much worse than the limit a score is; not above 0 where it is allowed."""
        return self.limit - score if self.higher_is_better else score - self.limit

    def allows(self, score: float) -> bool:
        """Tell whether a score is good enough; NaN is not."""
        return self.loss(score) <= 0


@dataclass
class MetricScorer(Scorer):
    """The user's metric on held-out data."""

    job: Job
    data: DataSource

    def __post_init__(self) -> None:
        request = self.job.request
        self.name = request.metric
        self.higher_is_better = make_metric(request.metric).higher_is_better
        self.kept = self(self.job.artifact)
        if not math.isfinite(self.kept):
            raise SmithError(
                f"the metric {request.metric!r} of the input is {self.kept}",
                "score on other data, or by another --metric",
            )
        allowed = DEFAULT_DROP if request.max_drop is None else request.max_drop
        self.limit = self.kept - allowed if self.higher_is_better else self.kept + allowed

    def __call__(self, artifact: Artifact) -> float:
        """Return the metric on all of the held-out data."""
        return self.evaluation(artifact).metrics[self.name]

    def evaluation(self, artifact: Artifact) -> Evaluation:
        """Return the metric with what else evaluations hold."""
        request = self.job.request
        with Session(artifact, request.target, threads=request.threads) as session:
            return evaluate(session, self.data, [request.metric], _SCORING_BATCH)


@dataclass
class NoiseScorer(Scorer):
    """The signal to noise of the worst output against those of the input, in dB."""

    job: Job

    def __post_init__(self) -> None:
        self.name, self.limit = "SNR (dB)", LEAST_SNR
        self._feeds = list(self._samples())
        self._expected = self._run(self.job.artifact)

    def __call__(self, artifact: Artifact) -> float:
        """Return the signal to noise over the first samples."""
        found = self._run(artifact)
        return min(
            (noise.snr_db for noise in self._noises(found) if noise.signal or noise.lost),
            default=math.inf,
        )

    def _noises(self, found: Sequence[Mapping[str, Array]]) -> list[Noise]:
        noises = []
        for name in self._expected[0]:
            noise = Noise()
            for expected, actual in zip(self._expected, found, strict=True):
                if getattr(expected[name], "dtype", None) is not None:
                    noise.add(expected[name], actual[name])
            noises.append(noise)
        return noises

    def _samples(self) -> list[dict[str, Array]]:
        job = self.job
        if job.samples is not None:
            found = list(islice(job.samples(), _SNR_BATCHES))
            if not found:
                raise SmithError("the data is empty", "give data with at least one sample")
            return found
        spec, request = job.artifact.spec, job.request
        return [probe_inputs(job.artifact.model, spec, request.dims, request.seed)]

    def _run(self, artifact: Artifact) -> list[dict[str, Array]]:
        request = self.job.request
        with Session(artifact, request.target, threads=request.threads) as session:
            return [session.run(feeds) for feeds in self._feeds]


def make_scorer(job: Job) -> Scorer:
    """Return what candidates are scored by: the metric where there is data for it.

    Raises:
        SmithError: The metric cannot be computed, or a sample is also among the calibration data.
    """
    if job.request.eval_data is None:
        return NoiseScorer(job)
    held_out = open_data(job.request.eval_data, job.artifact.spec)
    if job.source is not None:
        refuse_shared(job.source, held_out)
    return MetricScorer(job, held_out)
