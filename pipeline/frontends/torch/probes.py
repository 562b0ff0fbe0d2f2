"""Hold an export against its source, on inputs that the exporter did not see."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.numerics import compare, is_floating
from onnxsmith.pipeline.frontends.sizes import probe_sizes
from onnxsmith.runtime.session import Session
from onnxsmith.spec import ValueSpec

_WANTED = 2

Arrays = dict[str, np.ndarray[Any, Any]]


class Probes:
    """The source's own outputs at sizes, and where none is open at values, of no export.

    Each probe comes with its floats' signs turned too: a branch on values that a trace froze goes
    the other way then.

    Args:
        specs: The signature; its named dimensions are open.
        examples: The inputs that are exported with; they tell sizes and ranges.
        reference: Runs the source.
        seed: Seed of the values.
    """

    def __init__(
        self,
        specs: tuple[ValueSpec, ...],
        examples: Mapping[str, np.ndarray[Any, Any]],
        reference: Callable[[Mapping[str, np.ndarray[Any, Any]]], Arrays],
        seed: int,
    ) -> None:
        self.specs = specs
        self._reference = reference
        self._cases: list[tuple[Arrays, Arrays]] = []
        self.refusal = ""
        sizes = _sizes(specs, examples)
        self.open = bool(sizes)
        self.random = False
        candidates = probe_sizes(sizes) or ({}, {})
        for number, other in enumerate(candidates):
            if len(self._cases) == 2 * _WANTED:
                break
            generator = np.random.default_rng(seed + 1000 + number)
            self._add(_values(specs, examples, other, generator))
        if self._cases and not self.random:
            feeds, outputs = self._cases[0]
            again = compare(outputs, reference(feeds))
            self.random = not all(difference.ok for difference in again)

    @property
    def enough(self) -> bool:
        """Whether the source ran at two sizes or sets of values at least."""
        return len(self._cases) >= 2 * _WANTED

    def judge(self, artifact: Artifact) -> None:
        """Check a model against the source.

        Raises:
            SmithError: It does not run, or computes something else.
        """
        with Session(artifact, optimize=False) as session:
            for feeds, expected in () if self.random else self._cases:
                shapes = ", ".join(f"{name} {list(a.shape)}" for name, a in feeds.items())
                try:
                    actual = session.run(feeds)
                except SmithError as error:
                    raise SmithError(f"it fails at {shapes}: {error.message}") from error
                bad = [d for d in compare(expected, actual) if not d.ok]
                if bad:
                    raise SmithError(
                        f"its output {bad[0].output!r} is wrong at {shapes}: {bad[0].reason}"
                    )

    def _add(self, feeds: Arrays) -> None:
        """Run the source on the inputs and on their negatives; nothing where it refuses them."""
        turned = {name: -a if is_floating(a) else a for name, a in feeds.items()}
        try:
            cases = [(case, self._reference(case)) for case in (feeds, turned)]
        except SmithError as error:
            self.refusal = error.message
            return
        self._cases += cases


def _sizes(
    specs: tuple[ValueSpec, ...], examples: Mapping[str, np.ndarray[Any, Any]]
) -> dict[str, int]:
    return {
        dim: examples[spec.name].shape[axis]
        for spec in specs
        for axis, dim in enumerate(spec.shape or ())
        if isinstance(dim, str)
    }


def _values(
    specs: tuple[ValueSpec, ...],
    examples: Mapping[str, np.ndarray[Any, Any]],
    sizes: Mapping[str, int],
    generator: np.random.Generator,
) -> Arrays:
    """Return random inputs of these sizes, in the ranges of the examples."""
    feeds: Arrays = {}
    for spec in specs:
        example = examples[spec.name]
        shape = tuple(
            sizes[dim] if isinstance(dim, str) else size
            for dim, size in zip(spec.shape or example.shape, example.shape, strict=True)
        )
        if is_floating(example):
            wide = example.astype(np.float64)
            spread = float(wide.std()) if wide.size else 1.0
            middle = float(wide.mean()) if wide.size else 0.0
            values: np.ndarray[Any, Any] = generator.standard_normal(shape) * (spread or 1.0)
            values = values + middle
        elif example.dtype == np.bool_ or not example.size:
            values = generator.integers(0, 2, shape)
        else:
            values = generator.integers(int(example.min()), int(example.max()) + 1, shape)
        feeds[spec.name] = np.asarray(values).astype(example.dtype)
    return feeds
