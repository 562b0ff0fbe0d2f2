"""Search for the fastest model that keeps enough of the metric."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from onnxsmith.artifact import Artifact, Step
from onnxsmith.errors import RefusedError, SmithError
from onnxsmith.passes.base import Pass
from onnxsmith.passes.manager import PassManager
from onnxsmith.passes.pipeline import PassPipeline
from onnxsmith.pipeline.gate import Change, measure_change
from onnxsmith.pipeline.quantization.apply import apply_passes
from onnxsmith.pipeline.quantization.job import Job
from onnxsmith.pipeline.quantization.mode import Mode
from onnxsmith.pipeline.quantization.modes import MODES
from onnxsmith.pipeline.quantization.request import QuantizeRequest
from onnxsmith.pipeline.quantization.result import QuantizeResult
from onnxsmith.pipeline.quantization.search.proposals import STATIC, gentler, proposals
from onnxsmith.pipeline.quantization.search.scoring import Scorer, make_scorer
from onnxsmith.pipeline.quantization.search.trial import Trial, points
from onnxsmith.pipeline.quantization.sensitivity import (
    Layers,
    calibrated,
    exactly,
    sensitivity,
)
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
        trials: All candidates so far, the input first.
        layers: What each layer costs, once that is known.
    """

    job: Job
    folder: Path
    scorer: Scorer
    trials: list[Trial] = field(default_factory=list)
    layers: tuple[LayerCost, ...] = ()
    _deadline: float = 0.0

    def run(self, float_passes: Sequence[Pass]) -> QuantizeResult:
        """Make, score and measure candidates; return the best."""
        request = self.job.request
        self._deadline = time.monotonic() + request.budget[1]
        score = self.scorer(self.job.artifact)
        self.trials = [Trial(INPUT, artifact=self.job.artifact, score=score, allowed=True)]
        base = self._float(float_passes)
        for name, proposal in proposals(request):
            self._try(name, proposal)
        if request.data is not None and any(t.name == STATIC and t.artifact for t in self.trials):
            self._look_at_layers(base)
        self._measure()
        return self._choose()

    def _float(self, passes: Sequence[Pass]) -> Artifact:
        """Add the float candidate; return it, or the input where it failed."""
        self.job.request.say(FLOAT)
        try:
            result = apply_passes(self.job, passes)
        except (SmithError, RefusedError) as error:
            self.trials.append(Trial(FLOAT, self.job.request, note=f"failed: {error.message}"))
            return self.job.artifact
        self._score(Trial(FLOAT, self.job.request, result.artifact, result))
        return result.artifact

    def _try(self, name: str, request: QuantizeRequest) -> Trial | None:
        """Make a candidate by its mode, unless the budget is spent."""
        if self._spent(name):
            return None
        self.job.request.say(name)
        try:
            result = MODES.find(request.mode)().run(replace(self.job, request=request))
        except (SmithError, RefusedError) as error:
            trial = Trial(name, request, note=f"failed: {error.message}")
            self.trials.append(trial)
            return trial
        return self._score(Trial(name, request, result.artifact, result))

    def _score(self, trial: Trial) -> Trial:
        self.trials.append(trial)
        assert trial.artifact is not None  # only made candidates are scored
        try:
            trial.score = self.scorer(trial.artifact)
        except SmithError as error:
            trial.note = f"failed: {error.message}"
            return trial
        trial.allowed = self.scorer.allows(trial.score)
        return trial

    def _spent(self, name: str) -> bool:
        """Tell whether the budget is spent, and note what was not tried for it."""
        made = len(self.trials) - 1
        if made >= self.job.request.budget[0] or time.monotonic() > self._deadline:
            self.trials.append(Trial(name, self.job.request, note="not tried: the budget is spent"))
            return True
        return False

    def _look_at_layers(self, base: Artifact) -> None:
        """Find out what each layer costs; where static loses too much, leave some in float."""
        static = next(t for t in self.trials if t.name == STATIC and t.request is not None)
        assert static.request is not None  # just asked
        request = self.job.request
        request.say("ranges of all layers")
        layers = calibrated(replace(self.job, artifact=base, request=static.request), self.folder)
        left = self._deadline - time.monotonic()
        self.layers = sensitivity(
            layers,
            threads=request.threads,
            seconds=max(0.0, left * _LAYERS_SHARE),
            say=request.say,
        )
        if not static.allowed:
            for name, proposal in gentler(request):
                if (trial := self._try(name, proposal)) is None or trial.allowed:
                    break
            self._leave_out(layers, static.request)

    def _leave_out(self, layers: Layers, request: QuantizeRequest) -> None:
        """Leave the most sensitive layers in float: one, two, four, until enough is kept."""
        ranked = [cost.layer for cost in self.layers if cost.snr_db is not None]
        count = 1
        while count < len(ranked):
            name = f"static, {count} of {len(ranked)} layers in float"
            if self._spent(name):
                return
            self.job.request.say(name)
            excluded = ranked[:count]
            artifact = layers.without(excluded)
            asked = replace(request, exclude=(*request.exclude, *exactly(excluded)))
            if self._score(Trial(name, asked, artifact)).allowed:
                return
            count *= 2

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
        """Return the candidates worth returning: the fastest first, then those only smaller."""
        allowed = [t for t in self.trials[1:] if t.allowed and t.comparison is not None]
        faster = [t for t in allowed if t.comparison and t.comparison.verdict == "faster"]
        size = self.job.artifact.size_bytes
        smaller = [
            t
            for t in allowed
            if t.comparison
            and t.comparison.verdict == "no change"
            and size >= _SMALLER * (t.size_bytes or size)
        ]
        return [
            *sorted(faster, key=lambda t: t.latency_ms or 0.0),
            *sorted(smaller, key=lambda t: t.size_bytes or 0),
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
