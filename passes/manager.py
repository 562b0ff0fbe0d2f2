"""Run passes, check them, and leave out the ones that break the model."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Literal

from onnxsmith.artifact import Artifact, Step
from onnxsmith.errors import SmithError
from onnxsmith.garbage import collected_rarely
from onnxsmith.numerics import Difference
from onnxsmith.passes.background import LateVerifier
from onnxsmith.passes.base import Pass, PassContext
from onnxsmith.passes.observers import InvalidModelError, Observer, census
from onnxsmith.passes.verify import Check, Verifier
from onnxsmith.storage.load import release_mappings

VerifyMode = Literal["each", "end", "off"]


@dataclass(frozen=True)
class PassRun:
    """One pass as it ran: its figures."""

    pass_: Pass
    modified: bool
    seconds: float
    nodes_before: int
    nodes_after: int
    details: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return the run as JSON values."""
        return {
            "pass": str(self.pass_),
            "effect": self.pass_.effect,
            "modified": self.modified,
            "seconds": self.seconds,
            "nodes_before": self.nodes_before,
            "nodes_after": self.nodes_after,
            "details": self.details,
        }


@dataclass(frozen=True)
class Dropped:
    """A pass that was left out, and why."""

    pass_: Pass
    cause: Literal["wrong", "crashed", "slower"]
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"pass": str(self.pass_), "cause": self.cause, "reason": self.reason}


@dataclass(frozen=True)
class PipelineResult:
    """What a pipeline made of an artifact.

    Attributes:
        artifact: The result, with its history.
        runs: The passes that are in it.
        dropped: The passes that are not.
        differences: Outputs against the reference, worst case over all checks.
        unverified: Outputs on which two runs of the input differ.
        verified: Whether the result was checked.
        census_before: Operators before.
        census_after: Operators after.
    """

    artifact: Artifact
    runs: tuple[PassRun, ...]
    dropped: tuple[Dropped, ...]
    differences: tuple[Difference, ...]
    unverified: tuple[str, ...]
    verified: bool
    census_before: dict[str, int]
    census_after: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        return {
            "runs": [run.to_json() for run in self.runs],
            "dropped": [dropped.to_json() for dropped in self.dropped],
            "differences": [difference.to_json() for difference in self.differences],
            "unverified": list(self.unverified),
            "verified": self.verified,
            "census_before": self.census_before,
            "census_after": self.census_after,
        }


class _PassCrashedError(Exception):
    """A pass raised; carries its position so that the run can be replayed without it."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(reason)
        self.index = index
        self.reason = reason


@dataclass
class PassManager:
    """Runs passes on a clone; the input artifact stays as it was.

    Consecutive exact passes are checked together at the end. When the check fails, the culprit is
    found by bisection over the passes, left out, and the rest replayed, until the check holds.

    Attributes:
        passes: What to run, in order.
        context: What passes may need from outside.
        verifier: Holds the reference; None checks nothing. A late one is begun with the first pass.
        mode: ``end`` checks once, ``each`` after every pass, ``off`` never.
        observers: See every pass that ran; on a replay they see it again.
    """

    passes: Sequence[Pass]
    context: PassContext
    verifier: Verifier | LateVerifier | None = None
    mode: VerifyMode = "end"
    observers: Sequence[Observer] = ()
    _runs: list[PassRun] = field(default_factory=list, init=False)
    _dropped: list[Dropped] = field(default_factory=list, init=False)
    _checks: list[Check] = field(default_factory=list, init=False)

    @collected_rarely()
    def run(self, artifact: Artifact) -> PipelineResult:
        """Return what the passes make of ``artifact``.

        Raises:
            SmithError: A pass lacks what it needs, or refuses the model.
        """
        for pass_ in self.passes:
            pass_.check_context(self.context)
        self._runs, self._dropped, self._checks = [], [], []
        try:
            current = self._run_groups(artifact)
        finally:
            if isinstance(self.verifier, LateVerifier):
                self.verifier.wait()  # the caller may do with the artifact what they like
        verifier = self.resolved_verifier()
        return PipelineResult(
            artifact=current,
            runs=tuple(self._runs),
            dropped=tuple(self._dropped),
            differences=_worst(self._checks),
            unverified=tuple(sorted(verifier.unverified)) if verifier else (),
            verified=self._checking,
            census_before=census(artifact.model),
            census_after=census(current.model),
        )

    def resolved_verifier(self) -> Verifier | None:
        """Return the verifier; waits for a late one.

        Raises:
            SmithError: The reference cannot be taken.
        """
        if isinstance(self.verifier, LateVerifier):
            return None if self.mode == "off" else self.verifier.get()
        return self.verifier

    def _run_groups(self, artifact: Artifact) -> Artifact:
        current = artifact
        for exact, group in groupby(self.passes, key=lambda p: p.effect == "exact"):
            if exact:
                current = self._run_exact(current, list(group))
            else:
                for pass_ in group:
                    current = self._run_inexact(current, pass_)
        return Artifact(current.model, (*artifact.history, *self._steps()))

    @property
    def _checking(self) -> bool:
        return self.mode != "off" and self.resolved_verifier() is not None

    def _run_exact(self, start: Artifact, passes: list[Pass]) -> Artifact:
        """Run exact passes; those that break the model are left out one by one."""
        if self.mode == "each" and self._checking:
            current = start
            for pass_ in passes:
                current = self._run_checked(current, [pass_])
            return current
        return self._run_checked(start, passes)

    def _run_checked(self, start: Artifact, passes: list[Pass]) -> Artifact:
        active = list(passes)
        while active:
            try:
                candidate, runs = self._replay(start, active)
            except _PassCrashedError as error:
                self._dropped.append(Dropped(active.pop(error.index), "crashed", error.reason))
                continue
            if not self._checking:
                self._runs += runs
                return candidate
            if not any(run.modified for run in runs):
                self._runs += runs
                # Not the candidate: a pass may be wrong about having changed nothing.
                return start.clone()
            check = self._check(candidate)
            if check.ok:
                self._runs += runs
                self._checks.append(check)
                return candidate
            index, check = self._bisect(start, active, check)
            self._dropped.append(Dropped(active.pop(index), "wrong", check.reason))
        return start

    def _run_inexact(self, start: Artifact, pass_: Pass) -> Artifact:
        """Run one approximate or lossy pass: only a broken model or metric drops it."""
        try:
            candidate, runs = self._replay(start, [pass_])
        except _PassCrashedError as error:
            self._dropped.append(Dropped(pass_, "crashed", error.reason))
            return start
        if self._checking:
            check = self._check(candidate)
            reason = _broken(check)
            if reason:
                self._dropped.append(Dropped(pass_, "wrong", reason))
                return start
            verifier = self.resolved_verifier()
            assert verifier is not None  # _checking says so
            self._checks.append(check)
            # What comes after is measured against the new model, not against the original.
            verifier.take_reference(candidate)
        self._runs += runs
        return candidate

    def _check(self, candidate: Artifact) -> Check:
        verifier = self.resolved_verifier()
        assert verifier is not None  # only called when checking
        return verifier.check(candidate)

    def _bisect(self, start: Artifact, passes: list[Pass], last: Check) -> tuple[int, Check]:
        """Return the first pass behind which the check fails, and that check.

        The input passes the check by definition and the whole pipeline does not, so there is
        always a pass where it turns.
        """
        good, bad, found = 0, len(passes), last
        while bad - good > 1:
            middle = (good + bad) // 2
            candidate, _ = self._replay(start, passes[:middle], observed=False)
            check = self._check(candidate)
            if check.ok:
                good = middle
            else:
                bad, found = middle, check
        return bad - 1, found

    def _replay(
        self, start: Artifact, passes: Sequence[Pass], *, observed: bool = True
    ) -> tuple[Artifact, list[PassRun]]:
        late = self.verifier if isinstance(self.verifier, LateVerifier) else None
        if late is not None:
            late.wait()
        model = start.model.clone()
        if late is not None and self.mode != "off":
            late.begin()
        runs = []
        before = _count(model)
        for index, pass_ in enumerate(passes):
            watch = self.observers if observed else ()
            for observer in watch:
                observer.before(pass_, model)
            began = time.perf_counter()
            try:
                result = pass_.apply(model, self.context)
            except SmithError:
                raise
            except Exception as error:  # a pass may fail in any way: it is named and left out
                text = " ".join(str(error).split())[:300]
                raise _PassCrashedError(index, f"{type(error).__name__}: {text}") from error
            seconds = time.perf_counter() - began
            model = result.model
            try:
                for observer in watch:
                    observer.after(pass_, result)
            except InvalidModelError as error:
                raise _PassCrashedError(index, error.message) from error
            details = dict(result.details)
            after = _count(model) if result.modified else before
            runs.append(PassRun(pass_, result.modified, seconds, before, after, details))
            before = after
        release_mappings(model)
        return Artifact(model, start.history), runs

    def _steps(self) -> tuple[Step, ...]:
        steps = [
            Step(
                run.pass_.name,
                "pass",
                run.pass_.options(),
                {"nodes_before": run.nodes_before, "nodes_after": run.nodes_after, **run.details},
            )
            for run in self._runs
            if run.modified
        ]
        steps += [
            Step(d.pass_.name, "dropped", d.pass_.options(), {"cause": d.cause})
            for d in self._dropped
        ]
        if self._checking:
            steps.append(Step("verify", "check", {}, {"ok": True}))
        return tuple(steps)


def _broken(check: Check) -> str:
    """Say why an inexact pass's result is unusable, or return an empty text.

    A difference is what such a pass is for; an incomparable output (another shape or type, NaN) or
    a model that does not run is not.
    """
    if not check.differences:
        return check.reason
    for difference in check.differences:
        if not difference.ok and math.isinf(difference.max_abs) and difference.snr_db < 0:
            return f"output {difference.output!r}: {difference.reason}"
    return ""


def _worst(checks: Sequence[Check]) -> tuple[Difference, ...]:
    worst: dict[str, Difference] = {}
    for check in checks:
        for difference in check.differences:
            known = worst.get(difference.output)
            if known is None or difference.max_rel > known.max_rel:
                worst[difference.output] = difference
    return tuple(worst.values())


def _count(model: Any) -> int:
    return sum(census(model).values())
