"""Search for the fastest model that keeps enough of the metric."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from onnxsmith.artifact import Artifact, Step
from onnxsmith.errors import RefusedError, SmithError
from onnxsmith.passes.base import Pass
from onnxsmith.passes.manager import PassManager
from onnxsmith.passes.pipeline import PassPipeline
from onnxsmith.pipeline.gate import Change, measure_change
from onnxsmith.pipeline.quantization.job import Job
from onnxsmith.pipeline.quantization.mode import Mode
from onnxsmith.pipeline.quantization.modes import MODES
from onnxsmith.pipeline.quantization.partial_score import PartialScore
from onnxsmith.pipeline.quantization.request import QuantizeRequest
from onnxsmith.pipeline.quantization.result import QuantizeResult
from onnxsmith.pipeline.quantization.search.maker import Maker
from onnxsmith.pipeline.quantization.search.mixtures import mix
from onnxsmith.pipeline.quantization.search.proposals import (
    STATIC,
    gentler,
    proposals,
    smaller,
    stored,
    wider,
)
from onnxsmith.pipeline.quantization.search.scoring import Scorer, make_scorer
from onnxsmith.pipeline.quantization.search.trial import Trial, points
from onnxsmith.pipeline.quantization.sensitivity import Layers, calibrated, sensitivity
from onnxsmith.pipeline.report.quantization import LayerCost, Search
from onnxsmith.runtime.bench import bench

INPUT, FLOAT = "input", "float32, optimized"

# Of the time: what looking at the layers may take.
_LAYERS_SHARE = 0.3
# A model that is no faster is worth having from here on.
_SMALLER = 1.5


class AutoMode(Mode):
    """The fastest of several modes and mixtures that loses no more than is allowed.

    Candidates are made, scored on the user's metric and measured against the input in alternated
    processes. What is returned is never slower than the input.
    """

    def passes(self, artifact: Artifact, request: QuantizeRequest) -> Sequence[Pass]:
        """Return the float passes that all candidates start from."""
        return PassPipeline.preset(request.target.preset).passes

    def run(self, job: Job) -> QuantizeResult:
        """Search.

        Raises:
            SmithError: The metric cannot be computed, the data does not fit, or the input does
                not run.
        """
        with tempfile.TemporaryDirectory(prefix="onnxsmith-search-") as folder:
            return _AutoSearch(job, Path(folder), make_scorer(job)).run(
                self.passes(job.artifact, job.request)
            )


@dataclass
class _AutoSearch:
    """A search at work.

    Attributes:
        job: The input and what was asked for.
        folder: For files of candidates.
        scorer: Scores candidates.
        maker: Makes candidates, and holds them.
        layers: What each layer costs, once that is known.
        layers_note: What the layers' drops are.
    """

    job: Job
    folder: Path
    scorer: Scorer
    maker: Maker = field(init=False)
    layers: tuple[LayerCost, ...] = ()
    layers_note: str = ""

    def __post_init__(self) -> None:
        deadline = time.monotonic() + self.job.request.budget[1]
        self.maker = Maker(self.job, self.scorer, deadline)

    @property
    def trials(self) -> list[Trial]:
        """All candidates so far, the input first."""
        return self.maker.trials

    def run(self, float_passes: Sequence[Pass]) -> QuantizeResult:
        """Make, score and measure candidates; return the best."""
        request, maker = self.job.request, self.maker
        score = self.scorer(self.job.artifact)
        self.trials.append(Trial(INPUT, artifact=self.job.artifact, score=score, allowed=True))
        base = maker.by_passes(FLOAT, float_passes)
        for name, proposal in proposals(request):
            maker.by_mode(name, proposal)
        static = maker.find(STATIC)
        if static is not None:
            layers = self._look_at_layers(static, base)
            if not static.allowed:
                self._rescue(static, layers)
        for name, proposal in stored(request):
            maker.by_mode(name, proposal)
        if static is not None:
            self._first_allowed(smaller(request))
        self._measure()
        return self._choose()

    def _look_at_layers(self, static: Trial, base: Trial | None) -> Layers:
        """Find out what each layer costs."""
        assert static.request is not None  # only the input has none
        request = self.job.request
        request.say("ranges of all layers")
        artifact = base.artifact if base is not None else None
        job = replace(self.job, artifact=artifact or self.job.artifact, request=static.request)
        layers = calibrated(job, self.folder)
        score = PartialScore.open(self.job)
        left = self.maker.deadline - time.monotonic()
        self.layers = sensitivity(
            layers,
            threads=request.threads,
            score=score,
            seconds=max(0.0, left * _LAYERS_SHARE),
            say=request.say,
        )
        self.layers_note = "" if score is None else score.note(self.layers)
        return layers

    def _rescue(self, static: Trial, layers: Layers) -> None:
        """Try what loses less than plain static quantization."""
        assert static.request is not None  # only the input has none
        request = self.job.request
        self._first_allowed(gentler(request))
        ranked = [cost.layer for cost in self.layers if cost.snr_db is not None]
        mix(self.maker, layers, static.request, ranked)
        self._first_allowed(wider(request))

    def _first_allowed(self, ways: Iterable[tuple[str, QuantizeRequest]]) -> None:
        """Try ways until one keeps enough, or the budget is spent."""
        for name, proposal in ways:
            trial = self.maker.by_mode(name, proposal)
            if trial is None or trial.allowed:
                return

    def _measure(self) -> None:
        """Measure all candidates in alternated processes."""
        made = [t for t in self.trials if t.artifact is not None and t.score is not None]
        if len(made) < 2:
            return
        request = self.job.request
        request.say(f"measuring {len(made)} models")
        paths = [self.folder / f"candidate-{index}.onnx" for index in range(len(made))]
        for trial, path in zip(made, paths, strict=True):
            assert trial.artifact is not None  # those that were made
            trial.artifact.save(path)
        result = bench(
            paths,
            target=request.target,
            threads=request.threads,
            dims=request.dims,
            seed=request.seed,
            names=[trial.name for trial in made],
        )
        for trial, measurement in zip(made, result.measurements, strict=True):
            trial.latency_ms = measurement.p50_ms
        for trial, comparison in zip(made[1:], result.comparisons, strict=True):
            trial.comparison = comparison

    def _choose(self) -> QuantizeResult:
        """Return the fastest that is allowed, once it has proved again that it is not slower."""
        for trial in self._ranked():
            result = self._remade(trial)
            if result is None:
                continue
            request = self.job.request
            change = measure_change(
                self.job.artifact,
                result.artifact,
                request.target,
                request.threads,
                request.dims,
                request.seed,
            )
            if change.slower:
                trial.note = "slower when measured again"
                continue
            trial.chosen = True
            return self._finished(result, change)
        return self._nothing()

    def _ranked(self) -> list[Trial]:
        """Return the candidates worth returning, the best first.

        The fastest first, then those that are only smaller; by size where that is preferred.
        """
        allowed = [t for t in self.trials[1:] if t.allowed and t.comparison is not None]
        faster = [t for t in allowed if t.comparison and t.comparison.verdict == "faster"]
        even = [t for t in allowed if t.comparison and t.comparison.verdict == "no change"]
        size = self.job.artifact.size_bytes
        if self.job.request.prefer == "size":
            small = [t for t in (*faster, *even) if (t.size_bytes or size) < size]
            return sorted(small, key=lambda t: (t.size_bytes or 0, t.latency_ms or 0.0))
        shrunk = [t for t in even if size >= _SMALLER * (t.size_bytes or size)]
        return [
            *sorted(faster, key=lambda t: t.latency_ms or 0.0),
            *sorted(shrunk, key=lambda t: t.size_bytes or 0),
        ]

    def _remade(self, trial: Trial) -> QuantizeResult | None:
        """Return how a candidate was made; mixtures are made once more, and checked, by the mode.

        They come out the same, and whoever reads the history can repeat it.
        """
        if trial.result is not None:
            return trial.result
        assert trial.request is not None  # only the input has none, and it is not ranked
        try:
            mode: Mode = MODES.find(trial.request.mode)()
            return mode.run(replace(self.job, request=trial.request))
        except (SmithError, RefusedError) as error:
            trial.note = f"failed: {error.message}"
            return None

    def _finished(self, result: QuantizeResult, change: Change | None) -> QuantizeResult:
        scorer, artifact = self.scorer, result.artifact
        found = points(self.trials, self._better)
        chosen = next((p.name for p in found if p.chosen), INPUT)
        step = Step(
            "auto",
            "search",
            {"score": scorer.name, "limit": scorer.limit},
            {"candidates": [point.name for point in found], "chosen": chosen},
        )
        warnings = result.warnings
        if chosen == FLOAT:
            warnings = (*warnings, f"no quantized candidate is better: {self._why()}")
        return replace(
            result,
            artifact=artifact.with_step(step),
            warnings=warnings,
            before=scorer.evaluation(self.job.artifact),
            after=scorer.evaluation(artifact),
            search=Search(scorer.name, scorer.limit, tuple(found)),
            layers=self.layers,
            layers_note=self.layers_note,
            speed=change,
        )

    def _nothing(self) -> QuantizeResult:
        """Return the input, and why."""
        self.trials[0].chosen = True
        done = PassManager([], self.job.context()).run(self.job.artifact)
        words = f"no candidate is better than the input: {self._why()}"
        return self._finished(QuantizeResult(self.job.artifact, done, (words,)), None)

    def _why(self) -> str:
        made = [t for t in self.trials[1:] if t.comparison is not None]
        if not made:
            notes = sorted({t.verdict for t in self.trials[1:]})
            return "; ".join(notes) or "there was none"
        made = [t for t in made if t.name != FLOAT] or made
        allowed = [t for t in made if t.allowed]
        if not allowed:
            best = min(made, key=lambda t: self.scorer.loss(t.score or 0.0))
            return (
                f"all lose too much; the nearest is {best.name!r}, "
                f"{self.scorer.name} {best.score:.4g} where {self.scorer.limit:.4g} is allowed"
            )
        words = [f"{t.name}: {t.verdict}" for t in allowed]
        return f"of those that keep enough none is faster ({', '.join(words)})"

    def _better(self, first: float, second: float) -> bool:
        return self.scorer.loss(first) < self.scorer.loss(second)
