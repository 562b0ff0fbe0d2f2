"""What does quantizing each layer alone do to the outputs, and what does the layer take?"""

from __future__ import annotations

import glob
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import onnx_ir as ir

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.manager import PassManager
from onnxsmith.passes.match import Array
from onnxsmith.passes.quantization.calibration.ranges import Ranges
from onnxsmith.passes.quantization.quantize_static import QuantizeStatic
from onnxsmith.passes.quantization.select import label
from onnxsmith.pipeline.comparison.noise import Noise
from onnxsmith.pipeline.quantization.job import Job
from onnxsmith.pipeline.quantization.mode import prepared
from onnxsmith.pipeline.quantization.modes import MODES
from onnxsmith.pipeline.report.quantization import LayerCost
from onnxsmith.runtime.profile import node_times
from onnxsmith.runtime.session import Session

Score = Callable[[Artifact], float]
"""Tells how good an artifact is; higher is better."""

Feeds = dict[str, Array]
Say = Callable[[str], None]

MOST_SCORED = 16
"""Layers whose loss of the metric is measured, those with the most noise."""

# Of the time, where a metric has to be computed, too: what the noise may take.
_NOISE_SHARE = 0.6
_NO_TIME = "no time was left to measure it"


@dataclass(frozen=True)
class Layers:
    """A float model whose ranges are known: it can be quantized many times, in any part.

    Attributes:
        base: The float model, its weights in a file: candidates share them.
        pass_: How it is quantized.
        ranges: Of all its values.
        context: With the target.
    """

    base: Artifact
    pass_: QuantizeStatic
    ranges: Ranges
    context: PassContext

    @property
    def nodes(self) -> list[ir.Node]:
        """The layers that can be quantized, in the order of the graph."""
        return self.pass_.layers(self.base.model, self.ranges, self.context)

    def without(self, excluded: Sequence[str]) -> Artifact:
        """Return the model with these layers left in float, the others quantized."""
        return self._write(replace(self.pass_, exclude=(*self.pass_.exclude, *exactly(excluded))))

    def alone(self, layer: str) -> Artifact:
        """Return the model with one layer quantized."""
        return self._write(replace(self.pass_, only=exactly([layer])))

    def _write(self, pass_: QuantizeStatic) -> Artifact:
        return Artifact(pass_.write(self.base.model.clone(), self.ranges, self.context).model)


def exactly(names: Sequence[str]) -> tuple[str, ...]:
    """Return patterns that fit these names and no others."""
    return tuple(glob.escape(name) for name in names)


def on_disk(artifact: Artifact, folder: Path) -> Artifact:
    """Return the artifact with its weights in a file, which sessions map instead of copying."""
    path = folder / "float.onnx"
    artifact.save(path, external=True)
    return Artifact.load(path)


def calibrated(job: Job, folder: Path) -> Layers:
    """Return the job's float model with the ranges that static quantization needs.

    Args:
        job: With a request for mode ``static``.
        folder: For the float weights.

    Raises:
        SmithError: The data are poor, or nothing in the model can be quantized.
    """
    passes = prepared(MODES.find("static")().passes(job.artifact, job.request), job.request)
    (quantizer,) = [p for p in passes if isinstance(p, QuantizeStatic)]
    context = job.context()
    before = passes[: passes.index(quantizer)]
    plain = PassManager(before, context).run(job.artifact).artifact
    base = on_disk(plain, folder)
    return Layers(base, quantizer, quantizer.calibrate(base.model, context), context)


def sensitivity(
    layers: Layers,
    samples: int = 4,
    threads: int | None = None,
    score: Score | None = None,
    seconds: float = 120.0,
    say: Say = lambda words: None,
) -> tuple[LayerCost, ...]:
    """Return what each layer costs, the most sensitive first.

    Nothing is calibrated anew. Layers for which the time does not suffice are named, unmeasured,
    at the end; those that take the longest in float come first, since they matter most. The loss
    of the metric takes longer, so that only the layers with the most noise are scored.

    Args:
        layers: The calibrated model.
        samples: Batches to compare outputs on.
        threads: Threads of the sessions.
        score: The user's metric on a few samples; None leaves the drops out.
        seconds: About how long it may take.
        say: Told how far it is.

    Raises:
        SmithError: There are no samples, or the float model does not run.
    """
    assert layers.context.samples is not None  # calibration read them
    feeds = list(islice(layers.context.samples(), samples))
    start = time.monotonic()
    share = 1.0 if score is None else _NOISE_SHARE
    costs = _noises(layers, feeds, threads, start + share * seconds, say)
    ranked = sorted(costs, key=_rank)
    if score is not None:
        ranked = _with_drops(layers, ranked, score, start + seconds, say)
    return tuple(ranked)


def _noises(
    layers: Layers, feeds: Sequence[Feeds], threads: int | None, deadline: float, say: Say
) -> list[LayerCost]:
    """Return the time of each layer and the noise that it alone makes."""
    times, total = node_times(layers.base, layers.context.target, feeds[0], threads)
    reference = _outputs(layers.base, layers, feeds, threads)
    nodes = sorted(layers.nodes, key=lambda node: -times.get(node, 0.0))
    costs = []
    for count, node in enumerate(nodes, start=1):
        name, spent = label(node), times.get(node)
        cost = LayerCost(
            name, node.op_type, time_ms=spent, share=spent / total if spent and total else None
        )
        if time.monotonic() > deadline:
            costs.append(replace(cost, note=_NO_TIME))
            continue
        say(f"layer {count} of {len(nodes)}: {name}")
        try:
            found = _outputs(layers.alone(name), layers, feeds, threads)
        except SmithError as error:
            costs.append(replace(cost, note=error.message))
            continue
        costs.append(replace(cost, snr_db=_noise(reference, found)))
    return costs


def _with_drops(
    layers: Layers, ranked: Sequence[LayerCost], score: Score, deadline: float, say: Say
) -> list[LayerCost]:
    """Return the layers with what the first of them lose of the metric."""
    found, kept = list(ranked), score(layers.base)
    measured = [index for index, cost in enumerate(ranked) if cost.snr_db is not None]
    for count, index in enumerate(measured[:MOST_SCORED], start=1):
        if time.monotonic() > deadline:
            break
        cost = ranked[index]
        say(f"score with layer {count} of {len(measured[:MOST_SCORED])}: {cost.layer} quantized")
        try:
            found[index] = replace(cost, drop=kept - score(layers.alone(cost.layer)))
        except SmithError as error:
            found[index] = replace(cost, note=error.message)
    return found


def _rank(cost: LayerCost) -> tuple[bool, float]:
    return cost.snr_db is None, cost.snr_db or 0.0


def _outputs(
    artifact: Artifact, layers: Layers, feeds: Sequence[Feeds], threads: int | None
) -> list[Feeds]:
    with Session(artifact, layers.context.target, threads=threads) as session:
        return [session.run(feed) for feed in feeds]


def _noise(reference: Sequence[Feeds], found: Sequence[Feeds]) -> float:
    """Return the signal to noise of the worst output, in dB."""
    worst = float("inf")
    for name in reference[0]:
        noise = Noise()
        for expected, actual in zip(reference, found, strict=True):
            if expected[name].dtype.kind == "f" and expected[name].shape == actual[name].shape:
                noise.add(np.asarray(expected[name]), np.asarray(actual[name]))
        if noise.signal or noise.lost:
            worst = min(worst, noise.snr_db)
    return worst
