"""Time and memory of the sides of a comparison, in processes that take turns."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Iterable

Figures = dict[str, list[dict[str, float]]]


def take_turns(script: str, sides: Iterable[str], network: str, batch: int, rounds: int) -> Figures:
    """Run a script once a side and round; return what each run printed last, as JSON.

    Args:
        script: The program; it takes ``--side``, ``--network`` and ``--batch``.
        sides: What to compare.
        network: Which network is trained.
        batch: How many samples a step has.
        rounds: How many turns each side gets.
    """
    sides = tuple(sides)
    found: Figures = {side: [] for side in sides}
    for _ in range(rounds):
        for side in sides:
            command = [sys.executable, script, "--side", side]
            command += ["--network", network, "--batch", str(batch)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found[side].append(json.loads(done.stdout.splitlines()[-1]))
    return found


def medians(found: Figures, first: str, second: str, figure: str) -> tuple[float, float, float]:
    """Return the median figure of two sides, and that of the first one's share of the second's."""
    one, other = ([turn[figure] for turn in found[side]] for side in (first, second))
    ratio = statistics.median(a / b for a, b in zip(one, other, strict=True))
    return statistics.median(one), statistics.median(other), ratio
