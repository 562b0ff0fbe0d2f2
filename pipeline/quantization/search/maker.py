"""Make and score the candidates of a search, until its budget is spent."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from onnxsmith.artifact import Artifact
from onnxsmith.errors import RefusedError, SmithError
from onnxsmith.passes.base import Pass
from onnxsmith.pipeline.quantization.apply import apply_passes
from onnxsmith.pipeline.quantization.job import Job
from onnxsmith.pipeline.quantization.mode import Mode
from onnxsmith.pipeline.quantization.modes import MODES
from onnxsmith.pipeline.quantization.request import QuantizeRequest
from onnxsmith.pipeline.quantization.result import QuantizeResult
from onnxsmith.pipeline.quantization.search.scoring import Scorer
from onnxsmith.pipeline.quantization.search.trial import Trial

_Made = QuantizeResult | Artifact


@dataclass
class Maker:
    """Makes candidates; those that cannot be made are kept with the reason.

    Attributes:
        job: The input and what was asked for.
        scorer: Scores candidates.
        deadline: The time, as of ``time.monotonic()``, after which none is begun.
        trials: All candidates so far, the input first.
    """

    job: Job
    scorer: Scorer
    deadline: float
    trials: list[Trial] = field(default_factory=list)

    def by_passes(self, name: str, passes: Sequence[Pass]) -> Trial | None:
        """Make a candidate by passes."""
        return self._make(name, self.job.request, lambda: apply_passes(self.job, passes))

    def by_mode(self, name: str, request: QuantizeRequest) -> Trial | None:
        """Make a candidate by the mode of a request."""
        mode: Mode = MODES.find(request.mode)()
        return self._make(name, request, lambda: mode.run(replace(self.job, request=request)))

    def directly(
        self, name: str, request: QuantizeRequest, make: Callable[[], Artifact]
    ) -> Trial | None:
        """Make a candidate that the request would make, by a shorter way."""
        return self._make(name, request, make)

    def find(self, name: str) -> Trial | None:
        """Return the candidate of this name, if it was made."""
        return next((t for t in self.trials if t.name == name and t.artifact is not None), None)

    def _make(self, name: str, request: QuantizeRequest, make: Callable[[], _Made]) -> Trial | None:
        """Add a candidate and return it; None where the budget is spent."""
        if self._spent():
            self.trials.append(Trial(name, request, note="not tried: the budget is spent"))
            return None
        self.job.request.say(name)
        trial = Trial(name, request)
        self.trials.append(trial)
        try:
            made = make()
            if isinstance(made, QuantizeResult):
                trial.artifact, trial.result = made.artifact, made
            else:
                trial.artifact = made
            trial.score = self.scorer(trial.artifact)
        except (SmithError, RefusedError) as error:
            trial.note = f"failed: {error.message}"
            return trial
        trial.allowed = self.scorer.allows(trial.score)
        return trial

    def _spent(self) -> bool:
        """Tell whether the budget is spent; what could not be made costs only time."""
        made = sum(trial.artifact is not None for trial in self.trials[1:])
        return made >= self.job.request.budget[0] or time.monotonic() > self.deadline
