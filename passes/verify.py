"""Does a rewritten model still compute the same? Probe inputs, reference outputs, one session."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.numerics import (
    Difference,
    Tolerance,
    compare,
    compare_value,
    numpy_dtype,
    tolerance_for,
)
from onnxsmith.passes.base import Conversion, Pass, Samples, Values
from onnxsmith.passes.computing import computes_in
from onnxsmith.passes.randomness import may_vary, random_outputs
from onnxsmith.runtime.probe import probe_inputs
from onnxsmith.runtime.session import Session
from onnxsmith.spec import Dim, ModelSpec, summands

Feeds = Mapping[str, np.ndarray[Any, Any]]

# Sizes for symbolic dimensions, one probe each: a shape frozen at one of them fails at the other.
# 1 is what most models are run with, and the cheapest; what broadcasting hides there shows at 3.
_PROBE_DIMS = (3, 1)
# Some models run with particular sizes only: not with one, with one only, or with a window that
# fits a kernel.
_PROBE_LADDER = (_PROBE_DIMS, (2, 3), (1,), (16, 17), (128,), (640,))
_PROBE_BATCHES = 2


@dataclass(frozen=True)
class Check:
    """The verdict on one candidate.

    Attributes:
        ok: Whether every verified output is within tolerance and the signature is kept.
        differences: One a verified output, the worst over all probes.
        reason: Why not, in words.
    """

    ok: bool
    differences: tuple[Difference, ...]
    reason: str = ""


@dataclass(frozen=True)
class Stage:
    """A signature that a pass gives the model, and how values get there from the one before.

    Attributes:
        spec: The signature.
        conversion: From the stage before.
    """

    spec: ModelSpec
    conversion: Conversion


def stages(spec: ModelSpec, passes: Sequence[Pass]) -> tuple[Stage, ...]:
    """Return the signatures that passes give a model of this one, one after the other."""
    found = []
    for pass_ in passes:
        conversion, changed = pass_.conversion(spec), pass_.signature(spec)
        if changed != spec or conversion != Conversion():
            found.append(Stage(changed, conversion))
        spec = changed
    return tuple(found)


class Verifier:
    """Compares candidates with a reference on fixed probe inputs.

    All runs use the graph as it stands: the runtime's own optimisations are off. Only one session
    exists at a time.

    Args:
        probes: Inputs to compare on.
        tolerance: Overrides the tolerance by element type.
        per_output: Overrides it for single outputs.
        stages: What a candidate's signature may be besides the reference's, in order.
    """

    def __init__(
        self,
        probes: Sequence[Feeds],
        tolerance: Tolerance | None = None,
        per_output: Mapping[str, Tolerance] | None = None,
        stages: Sequence[Stage] = (),
    ) -> None:
        self.probes = probes
        self.tolerance = tolerance
        self.per_output = dict(per_output or {})
        self.stages = tuple(stages)
        self.unverified: frozenset[str] = frozenset()
        self._spec: ModelSpec | None = None
        self._outputs: list[Values] = []
        self._reference: Artifact | None = None
        self._round_probes()

    def _round_probes(self) -> None:
        """Keep of the probes what every later signature can express."""
        for stage in self.stages:
            self.probes = [stage.conversion.feeds(feeds) for feeds in self.probes]
        for stage in reversed(self.stages):
            self.probes = [stage.conversion.back(feeds) for feeds in self.probes]

    def take_reference(self, artifact: Artifact) -> None:
        """Run the reference, twice where its operators may vary.

        Outputs on which two runs differ cannot be verified.

        Raises:
            SmithError: The model does not run on the probes.
        """
        if self._spec is not None:
            self._move_on(artifact)
        with Session(artifact, optimize=False) as session:
            self.take_reference_of(artifact, session)

    def take_reference_of(self, artifact: Artifact, session: Session) -> None:
        """Do the same in a session of the reference that is there, see :meth:`take_reference`."""
        self._outputs = [session.run(feeds) for feeds in self.probes]
        varies = may_vary(artifact.model)
        again = [session.run(feeds) for feeds in self.probes] if varies else []
        # What varied once is not trusted later, either: a pass may have frozen it.
        self.unverified |= frozenset(
            difference.output
            for first, second in zip(self._outputs, again, strict=varies)
            for difference in compare(first, second, Tolerance(0.0, 0.0))
            if not difference.ok
        )
        self.unverified |= random_outputs(artifact.model)
        self._spec = _observed(artifact.spec, self._outputs)
        self._reference = artifact

    def _move_on(self, artifact: Artifact) -> None:
        """Turn the probes into those of a later stage, if the artifact has its signature."""
        count = next(iter(self._stages_of(artifact.spec)), 0)
        for stage in self.stages[:count]:
            self.probes = [stage.conversion.feeds(feeds) for feeds in self.probes]
        self.stages = self.stages[count:]
        self.probes = [_known(feeds, artifact.spec) for feeds in self.probes]

    def _stages_of(self, spec: ModelSpec) -> list[int]:
        """Return how many stages may lie before a signature; none for the reference's own."""
        assert self._spec is not None  # take_reference() comes first
        found, drops, known = [], False, self._spec
        for count in range(len(self.stages) + 1):
            if count:
                stage = self.stages[count - 1]
                known, drops = stage.spec, drops or stage.conversion.drops_inputs
            if not signature_change(_without_unused(known, spec) if drops else known, spec):
                found.append(count)
        return found

    def check(self, artifact: Artifact) -> Check:
        """Compare ``artifact`` with the reference."""
        assert self._spec is not None  # take_reference() comes first
        check = Check(False, (), signature_change(self._spec, artifact.spec))
        for count in self._stages_of(artifact.spec):
            check = self._check(artifact, self.stages[:count])
            if check.ok:
                break
        return check

    def _check(self, artifact: Artifact, passed: Sequence[Stage]) -> Check:
        probes, references = list(self.probes), list(self._outputs)
        for stage in passed:
            probes = [stage.conversion.feeds(feeds) for feeds in probes]
            references = [stage.conversion.outputs(values) for values in references]
        try:
            with Session(artifact, optimize=False) as session:
                outputs = [session.run(_known(feeds, artifact.spec)) for feeds in probes]
        except SmithError as error:
            return Check(ok=False, differences=(), reason=error.message)
        differences = self._worst(references, outputs)
        bad = [difference for difference in differences if not difference.ok]
        reason = f"output {bad[0].output!r}: {bad[0].reason}" if bad else ""
        return Check(not bad, differences, reason)

    @cached_property
    def _coarse(self) -> Tolerance | None:
        """The tolerance of the narrowest type that the reference computes in, if below float32.

        A float32 output that is computed in float16 is no more exact than that.
        """
        assert self._reference is not None  # take_reference() comes first
        return next(
            (
                tolerance_for(numpy_dtype(name))
                for name in ("bfloat16", "float16")
                if computes_in(self._reference.model, ir.DataType[name.upper()])
            ),
            None,
        )

    def _worst(
        self, references: Sequence[Values], outputs: Sequence[Values]
    ) -> tuple[Difference, ...]:
        worst: dict[str, Difference] = {}
        for reference, candidate in zip(references, outputs, strict=True):
            for name, expected in reference.items():
                if name in self.unverified:
                    continue
                tolerance = self.per_output.get(name, self.tolerance)
                found = compare_value(name, expected, candidate[name], tolerance)
                if not found.ok and tolerance is None and self._coarse is not None:
                    found = compare_value(name, expected, candidate[name], self._coarse)
                known = worst.get(name)
                if known is None or (not found.ok, found.max_rel) > (not known.ok, known.max_rel):
                    worst[name] = found
        return tuple(worst.values())


def _observed(spec: ModelSpec, runs: Sequence[Values]) -> ModelSpec:
    """Return the signature without the shapes of outputs that the reference contradicts."""
    return ModelSpec(
        spec.inputs,
        tuple(
            replace(value, shape=None)
            if any(not _has_shape(values[value.name], value.shape) for values in runs)
            else value
            for value in spec.outputs
        ),
    )


def _has_shape(value: Any, declared: tuple[Dim, ...] | None) -> bool:
    if declared is None or not isinstance(value, np.ndarray):
        return True
    return len(declared) == value.ndim and all(
        not isinstance(dim, int) or dim == size
        for dim, size in zip(declared, value.shape, strict=True)
    )


def _known(feeds: Feeds, spec: ModelSpec) -> Feeds:
    """Return the feeds without those of inputs that a pass dropped."""
    names = {value.name for value in spec.inputs}
    return {name: value for name, value in feeds.items() if name in names}


def _without_unused(spec: ModelSpec, reduced: ModelSpec) -> ModelSpec:
    names = {value.name for value in reduced.inputs}
    return ModelSpec(tuple(v for v in spec.inputs if v.name in names), spec.outputs)


def make_verifier(
    artifact: Artifact,
    samples: Samples | None = None,
    dims: Mapping[str, int] | None = None,
    seed: int = 0,
    tolerance: Tolerance | None = None,
    per_output: Mapping[str, Tolerance] | None = None,
    stages: Sequence[Stage] = (),
) -> Verifier:
    """Return a verifier with its reference taken.

    Args:
        artifact: The reference.
        samples: Real inputs; without them inputs are made from the signature.
        dims: Sizes of symbolic dimensions.
        seed: Seed of made-up inputs.
        tolerance: Overrides the tolerance by element type.
        per_output: Overrides it for single outputs.
        stages: What a candidate's signature may be besides the reference's, in order.

    Raises:
        SmithError: The model cannot be run on any inputs that were given or made.
    """
    if samples is not None:
        given = list(islice(samples(), _PROBE_BATCHES))
        if not given:
            raise SmithError("the data is empty", "give data with at least one sample")
        verifier = Verifier(given, tolerance, per_output, stages)
        verifier.take_reference(artifact)
        return verifier
    try:
        session = Session(artifact, optimize=False)
    except SmithError as error:
        raise _does_not_run(error) from error
    last = None
    with session:
        for probes in _attempts(artifact, dict(dims or {}), seed):
            verifier = Verifier(probes, tolerance, per_output, stages)
            try:
                verifier.take_reference_of(artifact, session)
            except SmithError as error:
                last = error
            else:
                return verifier
    assert last is not None  # the loop either returned or failed
    raise _does_not_run(last) from last


def _does_not_run(error: SmithError) -> SmithError:
    return SmithError(
        f"the model does not run on made-up inputs: {error.message}",
        "give real inputs with --data, or sizes with --dim",
    )


def signature_change(before: ModelSpec, after: ModelSpec) -> str:
    """Say how the signature changed, or return an empty text.

    Dimensions may become better known, but neither names, order, types nor known sizes may change.
    """
    for role, old, new in (
        ("input", before.inputs, after.inputs),
        ("output", before.outputs, after.outputs),
    ):
        if [v.name for v in old] != [v.name for v in new]:
            return f"the {role}s changed from {[v.name for v in old]} to {[v.name for v in new]}"
        for first, second in zip(old, new, strict=True):
            if "unknown" not in (first.dtype, second.dtype) and first.dtype != second.dtype:
                return f"{role} {first.name!r} changed from {first.dtype} to {second.dtype}"
            if role == "input" and not _same_or_named(first.shape, second.shape):
                return f"input {first.name!r} changed from {first} to {second}"
            if first.kind != second.kind or not _compatible(first.shape, second.shape):
                return f"{role} {first.name!r} changed from {first} to {second}"
    return ""


def _compatible(before: tuple[Dim, ...] | None, after: tuple[Dim, ...] | None) -> bool:
    """Tell whether two shapes can be the same: equal rank, no known size contradicted."""
    if before is None or after is None:
        return True
    return len(before) == len(after) and all(
        old == new or not (isinstance(old, int) and isinstance(new, int))
        for old, new in zip(before, after, strict=True)
    )


def _same_or_named(before: tuple[Dim, ...] | None, after: tuple[Dim, ...] | None) -> bool:
    """Tell whether an input takes what it took: an unknown dimension may get a name only."""
    if before is None or after is None or len(before) != len(after):
        return before == after
    return all(
        old == new or (old is None and isinstance(new, str))
        for old, new in zip(before, after, strict=True)
    )


def _attempts(artifact: Artifact, dims: Mapping[str, int], seed: int) -> Iterator[list[Feeds]]:
    """Yield probes of one kind after the other, for models that do not run on the first."""
    spread = _spread(artifact.spec, dims, _PROBE_DIMS[0])
    if spread:  # sizes that are all equal would hide that one was taken for another
        large = _probes(artifact, spread, _PROBE_DIMS[:1], seed)
        yield [*large, *_probes(artifact, dims, _PROBE_DIMS[1:], seed + 1)]
    for sizes in _PROBE_LADDER:
        yield _probes(artifact, dims, sizes, seed)


def _spread(spec: ModelSpec, dims: Mapping[str, int], first: int) -> dict[str, int]:
    """Return a size of its own for each open dimension; nothing where there are less than two."""
    names = [
        name
        for value in spec.inputs
        for dim in value.shape or ()
        if isinstance(dim, str) and dim not in dims
        for name in summands(dim)
        if not name.isdecimal() and name not in dims
    ]
    sizes = {name: first + place for place, name in enumerate(dict.fromkeys(names))}
    return {**dims, **sizes} if len(sizes) > 1 else {}


def _probes(
    artifact: Artifact, dims: Mapping[str, int], sizes: Sequence[int], seed: int
) -> list[Feeds]:
    free = any(
        not isinstance(d, int) and d not in dims
        for value in artifact.spec.inputs
        for d in value.shape or ()
    )
    return [
        probe_inputs(artifact.model, artifact.spec, dims, seed + index, size)
        for index, size in enumerate(sizes if free else sizes[:1])
    ]
