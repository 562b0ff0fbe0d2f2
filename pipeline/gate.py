"""The latency gate: is the changed model slower than what it replaces?"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onnxsmith.artifact import Artifact
from onnxsmith.runtime.bench import bench
from onnxsmith.target import Target

Array = np.ndarray[Any, Any]

# Enough rounds for an interval, few enough that small models cost a few seconds.
_ROUNDS = 5


@dataclass(frozen=True)
class Change:
    """The measured change in latency.

    Attributes:
        slower: Whether the interval of the ratio lies below 1.
        words: The finding in words.
        figures: The comparison as JSON values.
        faster: Whether the interval lies above 1.
    """

    slower: bool
    words: str
    figures: Mapping[str, Any]
    faster: bool = False


def measure_change(
    before: Artifact,
    after: Artifact,
    target: Target,
    threads: int | None = None,
    dims: Mapping[str, int] | None = None,
    seed: int = 0,
    feeds: Mapping[str, Array] | None = None,
) -> Change:
    """Measure ``after`` against ``before``, alternated in worker processes.

    A finding of ``slower`` is measured once more with twice the rounds, and stands only if it is
    found again: one interval in forty says so of equal models.

    Args:
        before: The input.
        after: The candidate.
        target: Supplies the providers.
        threads: Threads within an operator; None leaves the choice to the runtime.
        dims: Sizes of symbolic dimensions in made-up inputs.
        seed: Seed of made-up inputs.
        feeds: Inputs by name instead of made-up ones.

    Raises:
        SmithError: One of them does not run.
    """
    with tempfile.TemporaryDirectory() as folder:
        paths = (Path(folder, "before.onnx"), Path(folder, "after.onnx"))
        for artifact, path in zip((before, after), paths, strict=True):
            artifact.save(path)
        for rounds in (_ROUNDS, 2 * _ROUNDS):
            result = bench(
                paths,
                target=target,
                threads=threads,
                dims=dims if feeds is None else None,
                rounds=rounds,
                seed=seed,
                feeds=feeds,
            )
            comparison = result.comparisons[0]
            if comparison.verdict != "slower":
                break
    words = (
        f"{comparison.ratio:.2f}x the speed of the input "
        f"(95 % interval {comparison.low:.2f} to {comparison.high:.2f}): {comparison.verdict}"
    )
    verdict = comparison.verdict
    return Change(verdict == "slower", words, comparison.to_json(), verdict == "faster")
