"""Does the ONNX model compute what its source computes? Checked before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxsmith.artifact import Artifact
from onnxsmith.errors import RefusedError, SmithError
from onnxsmith.numerics import Difference, Tolerance, compare_value, is_floating
from onnxsmith.pipeline.frontends.base import Source
from onnxsmith.pipeline.frontends.process import WorkerLostError
from onnxsmith.pipeline.frontends.sizes import probe_sizes
from onnxsmith.pipeline.frontends.stored import Stored
from onnxsmith.runtime.probe import probe_inputs
from onnxsmith.runtime.session import Session
from onnxsmith.spec import summands

# Two larger ones and a single sample; two are enough where the source refuses one.
_WANTED_SHAPES, _FEWEST_SHAPES = 3, 2

# Of a quantized output's elements, the share that may differ by more than its step: 99.9 % within.
_BEYOND_STEP = 1e-3

Arrays = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Parity:
    """What a check of parity found.

    Attributes:
        differences: For each output the worst over all probes.
        shapes: The input shapes probed, by name, in order.
        observed: Output name to the shapes that the runtime gave, in the order of ``shapes``.
        warnings: What could not be checked, one line each.
    """

    differences: tuple[Difference, ...]
    shapes: tuple[Mapping[str, tuple[int, ...]], ...]
    observed: Mapping[str, tuple[tuple[int, ...], ...]]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the figures for the history, rounded: the last digits differ by machine."""
        worst = max((d.max_rel for d in self.differences), default=0.0)
        return {
            "max_rel": float(f"{worst:.1e}"),
            "outputs": len(self.differences),
            "shapes": [{n: list(s) for n, s in shapes.items()} for shapes in self.shapes],
        }


def check_parity(
    source: Source | None,
    artifact: Artifact,
    *,
    examples: Mapping[str, np.ndarray[Any, Any]],
    originals: Mapping[str, str],
    given: Sequence[Arrays] = (),
    tolerance: Tolerance | None = None,
    dims: Mapping[str, int] | None = None,
    seed: int = 0,
    rows: bool = False,
    steps: Mapping[str, float] | None = None,
) -> Parity:
    """Compare the source's outputs with the runtime's, its optimisations disabled.

    Probes the example's shape and, where dimensions are symbolic, two more shapes that the
    exporter did not see: graphs frozen at one size are wrong only at others.

    Args:
        source: Gives the reference outputs; None where it cannot run, so that the model is only
            seen to run at all these shapes.
        artifact: The model that came in.
        examples: Inputs of the export, by today's names.
        originals: Today's name of each renamed input or output to the name the source knows.
        given: Inputs from the user's data, probed first.
        tolerance: Instead of the element type's.
        dims: Sizes of symbolic dimensions that examples do not tell.
        seed: Seed of the probes' values.
        rows: Whether probes are drawn from the rows of the examples.
        steps: Output name, as the source knows it, to its quantization step.

    Raises:
        RefusedError: An output differs, or the source accepts no shape but the example's.
        SmithError: The runtime or the source fails.
    """
    artifact.spec.with_dims(dims or {})  # names an unknown dimension
    reference = None if source is None else source.reference
    checker = _Checker(reference, artifact, originals, tolerance, steps or {})
    with Session(artifact, optimize=False) as session:
        for feeds in given:
            checker.probe(session, feeds)
        sizes = symbol_sizes(artifact, examples) | dict(dims or {})
        make = _drawn if rows else _values
        checker.probe(session, make(artifact, examples, sizes, seed))
        candidates = probe_sizes(sizes)
        probed = 0
        for number, other in enumerate(candidates):
            feeds = make(artifact, examples, other, seed + 1 + number)
            probed += checker.probe(session, feeds, tolerate_refusal=True)
            if probed == _WANTED_SHAPES:
                break
    if candidates and not probed:
        names = ", ".join(repr(name) for name in sizes)
        raise RefusedError(
            f"the source runs at no size of {names} but the example's: {checker.refusal}",
            "write the sizes instead of names in --input, or give inputs that run with --data",
        )
    return checker.result(few=bool(candidates) and probed < _FEWEST_SHAPES)


def check_stored(stored: Stored, artifact: Artifact, tolerance: Tolerance | None = None) -> Parity:
    """Compare a recorded run's outputs with the runtime's, its optimisations disabled.

    Raises:
        RefusedError: The model does not run on the recorded inputs.
    """
    checker = _Checker(stored.reference, artifact, {}, tolerance)
    with Session(artifact, optimize=False) as session:
        checker.probe(session, dict(stored.inputs))
    return checker.result(few=False)


def symbol_sizes(
    artifact: Artifact, examples: Mapping[str, np.ndarray[Any, Any]]
) -> dict[str, int]:
    """Return the size of each named dimension in the examples; 2 where there is none.

    A sum has no size of its own: it follows from its parts.
    """
    sizes: dict[str, int] = {}
    for spec in artifact.spec.inputs:
        shape = examples[spec.name].shape if spec.name in examples else None
        for axis, dim in enumerate(spec.shape or ()):
            if isinstance(dim, str) and len(summands(dim)) == 1:
                sizes.setdefault(dim, 2 if shape is None else shape[axis])
    return sizes


def refuse_mismatch(parity: Parity) -> Parity:
    """Return what was found, unless an output differs.

    Raises:
        RefusedError: One does: the worst is named.
    """
    bad = [d for d in parity.differences if not d.ok]
    if bad:
        worst = max(bad, key=lambda d: d.max_rel)
        raise RefusedError(
            f"the ONNX model does not compute what its source does: output {worst.output!r}: "
            f"{worst.reason}",
            "nothing was written; --no-verify writes it all the same, to look into it",
        )
    return parity


class _Checker:
    """Collects the worst difference of each output over several probes."""

    def __init__(
        self,
        reference: Callable[[Arrays], Arrays] | None,
        artifact: Artifact,
        originals: Mapping[str, str],
        tolerance: Tolerance | None,
        steps: Mapping[str, float] | None = None,
    ) -> None:
        self.reference = reference
        self.spec = artifact.spec
        self.originals = originals
        self.tolerance = tolerance
        self.steps = steps or {}
        self.worst: dict[str, Difference] = {}
        self.shapes: list[dict[str, tuple[int, ...]]] = []
        self.observed: dict[str, list[tuple[int, ...]]] = {}
        self.nan: set[str] = set()
        self.refusal = ""

    def probe(self, session: Session, feeds: Arrays, *, tolerate_refusal: bool = False) -> bool:
        """Run both on one set of inputs; return False where the source refuses its shape."""
        named = {self.originals.get(name, name): array for name, array in feeds.items()}
        try:
            found = self.reference(named) if self.reference else {}
        except WorkerLostError:
            raise
        except SmithError as error:
            if not tolerate_refusal:
                raise SmithError(
                    f"the source does not run on the probe: {error.message}",
                    "give sizes with --dim NAME=SIZE, or inputs that it takes with --data",
                ) from error
            self.refusal = error.message
            return False
        try:
            actual = _run(session, feeds)
        except RefusedError as error:
            if self.reference is not None or not tolerate_refusal:
                raise
            self.refusal = error.message  # without its source, nobody knows which sizes it takes
            return False
        expected = {
            name: _like(found[self.originals.get(name, name)], array)
            for name, array in actual.items()
            if self.originals.get(name, name) in found
        }
        for name, array in expected.items():
            difference = compare_value(name, array, actual[name], self._tolerance(name))
            best = self.worst.get(difference.output)
            if best is None or (not difference.ok, difference.max_rel) > (
                not best.ok,
                best.max_rel,
            ):
                self.worst[difference.output] = difference
        for name, array in expected.items():
            if is_floating(array) and np.isnan(array.astype(np.float64)).any():
                self.nan.add(name)
        for name, array in actual.items():
            if isinstance(array, np.ndarray):
                self.observed.setdefault(name, []).append(array.shape)
        self.shapes.append({name: array.shape for name, array in feeds.items()})
        return True

    def _tolerance(self, name: str) -> Tolerance | None:
        step = self.steps.get(self.originals.get(name, name))
        if self.tolerance is not None or step is None:
            return self.tolerance
        return Tolerance(1e-6, 1e-6, step, _BEYOND_STEP)

    def result(self, *, few: bool) -> Parity:
        """Return what was found."""
        warnings = [
            f"the source itself gives NaN in output {name!r} on the probes: "
            "give real inputs with --data"
            for name in sorted(self.nan)
        ]
        warnings += [
            f"output {spec.name!r} was not compared: its source has no such output"
            for spec in self.spec.outputs
            if self.reference and spec.name not in self.worst
        ]
        if few:
            warnings.append("the source ran at one more shape only; others are unverified")
        observed = {name: tuple(shapes) for name, shapes in self.observed.items()}
        return Parity(tuple(self.worst.values()), tuple(self.shapes), observed, tuple(warnings))


def _run(session: Session, feeds: Arrays) -> Arrays:
    try:
        return session.run(feeds)
    except SmithError as error:
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in feeds.items())
        raise RefusedError(
            f"the ONNX model fails where its source should run ({shapes}): {error.message}",
            "the exporter fixed a size: write sizes instead of names in --input",
        ) from error


def _like(reference: np.ndarray[Any, Any], actual: Any) -> np.ndarray[Any, Any]:
    """Return the reference in the element type and, for single columns, the rank of the model.

    scikit-learn computes in float64 and gives one value a sample where ONNX gives a column.
    """
    if not isinstance(actual, np.ndarray):
        return reference
    if actual.dtype == object:
        return reference.astype(str).astype(object)
    integers = actual.dtype.kind in "iu" and reference.dtype.kind in "iu"
    if integers or (is_floating(actual) and is_floating(reference)):
        reference = reference.astype(actual.dtype)
    if reference.ndim == 1 and actual.shape == (reference.shape[0], 1):
        reference = reference.reshape(-1, 1)
    return reference


def _drawn(
    artifact: Artifact,
    examples: Mapping[str, np.ndarray[Any, Any]],
    sizes: Mapping[str, int],
    seed: int,
) -> Arrays:
    """Return rows of the examples: the same ones of each input, all of them where they suffice."""
    generator = np.random.default_rng(seed)
    count = max(len(array) for array in examples.values())
    feeds: Arrays = {}
    chosen: dict[int, np.ndarray[Any, Any]] = {}
    for spec in artifact.spec.inputs:
        size = spec.concrete(sizes, count)[0]
        if size not in chosen:
            spare = generator.integers(0, count, max(0, size - count))
            chosen[size] = np.concatenate([generator.permutation(count), spare])[:size]
        array = examples[spec.name][chosen[size]]
        feeds[spec.name] = array.astype(object) if spec.dtype == "string" else array
    return feeds


def _values(
    artifact: Artifact,
    examples: Mapping[str, np.ndarray[Any, Any]],
    sizes: Mapping[str, int],
    seed: int,
) -> Arrays:
    """Return random inputs in the ranges that the examples show."""
    feeds = probe_inputs(artifact.model, artifact.spec, sizes, seed)
    generator = np.random.default_rng(seed)
    for name, array in feeds.items():
        example = examples.get(name)
        if example is None or not example.size:
            continue
        if array.dtype.kind == "f" and example.std() > 0:
            spread = array * float(example.std()) + float(example.mean())
            feeds[name] = spread.astype(array.dtype)
        elif array.dtype.kind in "iu":
            low, high = int(example.min()), int(example.max())
            if high > 1:  # 0 and 1 tell nothing about the range
                feeds[name] = generator.integers(low, high + 1, array.shape).astype(array.dtype)
        elif array.dtype == object:
            feeds[name] = generator.choice(example.ravel(), array.shape).astype(object)
    return feeds
