"""Is an optimized model slower than its input, or than what a peer made of it?

Used by ``benchmarks/optimize.py --speed``. All models of a graph take turns, each turn in a process
of its own, as ``onnxsmith bench`` does it. A verdict of 'slower' is measured again on its own, with
twice the rounds, and stands only if it is found again: one interval in forty says so of equal
models.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median

from onnxsmith.errors import SmithError
from onnxsmith.runtime.bench import bench
from onnxsmith.runtime.measurement import Comparison, Measurement, compare

HEADER = (
    "| graph | onnxsmith ms | beside | ms | ratio | 95 % interval | verdict |\n" + "|---" * 7 + "|"
)


def verdicts(
    source: Path, ours: Path, peers: Mapping[str, Path], rounds: int, threads: int
) -> Iterator[tuple[str, str]]:
    """Yield a line of the table and the verdict for the input, and for the quickest peer's output.

    Args:
        source: The graph as it was exported.
        ours: What onnxsmith made of it.
        peers: What the other tools made of it; what does not run is left out.
        rounds: Turns of each model.
        threads: Threads within an operator.
    """
    models = {"onnxsmith": ours, "input": source}
    models |= {name: path for name, path in peers.items() if _runs(path, threads)}
    found = _measure(models, rounds, threads)
    quickest = min(models.keys() - {"onnxsmith", "input"}, key=lambda n: median(_ms(found[n])))
    for name in ("input", quickest):
        pair = (found[name], found["onnxsmith"])
        comparison = compare(*pair)
        if comparison.verdict == "slower":
            again = _measure({n: models[n] for n in (name, "onnxsmith")}, 2 * rounds, threads)
            pair = (again[name], again["onnxsmith"])
            comparison = compare(*pair)
        yield _line(source.stem, name, pair, comparison), comparison.verdict


def _measure(models: Mapping[str, Path], rounds: int, threads: int) -> dict[str, Measurement]:
    result = bench(list(models.values()), names=list(models), rounds=rounds, threads=threads)
    return dict(zip(models, result.measurements, strict=True))


def _runs(path: Path, threads: int) -> bool:
    try:
        bench([path], rounds=1, runs=1, threads=threads)
    except SmithError:
        return False
    return True


def _ms(measurement: Measurement) -> tuple[float, ...]:
    return measurement.samples_ms


def _line(
    graph: str, name: str, pair: tuple[Measurement, Measurement], comparison: Comparison
) -> str:
    theirs, ours = (median(_ms(measurement)) for measurement in pair)
    return (
        f"| {graph} | {ours:.1f} | {name} | {theirs:.1f} | {comparison.ratio:.2f} "
        f"| {comparison.low:.2f} to {comparison.high:.2f} | {comparison.verdict} |"
    )
