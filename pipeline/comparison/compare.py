"""Compare two models: their outputs, and layer by layer where one departs from the other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.numerics import Difference, Tolerance, compare
from onnxsmith.passes.base import Samples
from onnxsmith.pipeline.comparison.correspondence import Correspondence, How, correspondence
from onnxsmith.pipeline.comparison.noise import Noise, decibel, measure_noise
from onnxsmith.pipeline.data import feeds, open_data
from onnxsmith.runtime.probe import probe_inputs
from onnxsmith.runtime.session import Session
from onnxsmith.target import TARGETS, Target

_BATCH = 8
_PROBES = 2


@dataclass(frozen=True)
class CompareRequest:
    """What to compare, and on what.

    Attributes:
        data: A data source as text; inputs are made up without.
        layers: Whether to look inside.
        samples: Most batches to read.
        tolerance: What the outputs may differ by; None takes that of exact rewrites.
        target: Where the models run.
        dims: Sizes of symbolic dimensions in made-up inputs.
        threads: Threads of the sessions that run the whole models.
        seed: Seed of made-up inputs.
    """

    data: str | None = None
    layers: bool = False
    samples: int = 16
    tolerance: Tolerance | None = None
    target: Target = TARGETS["cpu"]
    dims: Mapping[str, int] = field(default_factory=dict)
    threads: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Layer:
    """How far one tensor is from the first model's.

    Attributes:
        position: Its place in the order of computation, from 0.
        tensor: Its name in the first model.
        other: Its name in the second.
        node: The node that makes it in the first.
        op_type: That node's operator.
        how: How it was found in the second.
        snr_db: Signal to noise; infinite for equal tensors.
        before_db: That of the worst tensor it is computed from; infinite at the start.
        added: What the layer adds to the noise: noise power over signal power here, less that of
            the worst tensor it is computed from, and no less than zero.
        max_rel: Largest difference over the largest magnitude.
    """

    position: int
    tensor: str
    other: str
    node: str
    op_type: str
    how: How
    snr_db: float
    before_db: float
    added: float
    max_rel: float

    def to_json(self) -> dict[str, Any]:
        """Return JSON values; infinities become None."""
        return {
            name: value if not isinstance(value, float) or math.isfinite(value) else None
            for name, value in vars(self).items()
        }


@dataclass(frozen=True)
class CompareResult:
    """What was found.

    Attributes:
        outputs: The worst difference of each output.
        layers: Every matched tensor, in the order of computation; empty where not asked for.
        unmatched: Tensors of the first model without a partner.
        batches: How many batches were read.
        made_up: Whether the inputs were made up.
    """

    outputs: tuple[Difference, ...]
    layers: tuple[Layer, ...]
    unmatched: int
    batches: int
    made_up: bool

    @property
    def same(self) -> bool:
        """Whether all outputs are within the tolerance."""
        return all(difference.ok for difference in self.outputs)

    def ranked(self) -> tuple[Layer, ...]:
        """Return the layers that add noise, the worst first."""
        noisy = [layer for layer in self.layers if layer.added > 0]
        return tuple(sorted(noisy, key=lambda layer: (-layer.added, layer.position)))

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        return {
            "same": self.same,
            "outputs": [difference.to_json() for difference in self.outputs],
            "layers": [layer.to_json() for layer in self.layers],
            "ranked": [layer.tensor for layer in self.ranked()],
            "unmatched": self.unmatched,
            "batches": self.batches,
            "made_up": self.made_up,
        }


def compare_models(first: Artifact, second: Artifact, request: CompareRequest) -> CompareResult:
    """Run both models on the same inputs and say how far the second is from the first.

    Raises:
        SmithError: The data is empty or does not fit, the models have no input or output in
            common, or one does not run.
    """
    _check_signatures(first, second)
    samples = sample_stream(first, request)
    outputs, batches = _outputs(first, second, samples, request)
    layers: tuple[Layer, ...] = ()
    unmatched = 0
    if request.layers:
        match = correspondence(first.model, second.model)
        noise = measure_noise(first, second, match.pairs, samples, request.target)
        layers = rank_layers(match, noise)
        unmatched = match.unmatched + len(match.pairs) - len(layers)
        if not layers:
            raise SmithError(
                "no tensor of one model could be found in the other",
                "compare a model with what was made from it, without --layers otherwise",
            )
    return CompareResult(outputs, layers, unmatched, batches, request.data is None)


def sample_stream(artifact: Artifact, request: CompareRequest) -> Samples:
    """Return what starts a stream of inputs: from the data, or made up."""
    if request.data is None:
        made = [
            probe_inputs(artifact.model, artifact.spec, request.dims, request.seed + number)
            for number in range(_PROBES)
        ]
        return lambda: iter(made)
    source = open_data(request.data, artifact.spec)

    def stream() -> Iterator[dict[str, np.ndarray[Any, Any]]]:
        for feed in islice(feeds(source, artifact.spec, _BATCH), request.samples):
            yield feed.inputs

    return stream


def rank_layers(match: Correspondence, noise: Mapping[str, Noise]) -> tuple[Layer, ...]:
    """Return every measured tensor with what it adds to the noise."""
    layers = []
    for position, pair in enumerate(match.pairs):
        if pair.name not in noise:
            continue
        here = noise[pair.name]
        earlier = [noise[n].ratio for n in match.before[pair.name] if n in noise]
        worst = max(earlier, default=0.0)
        added = 0.0 if math.isinf(worst) else max(0.0, here.ratio - worst)
        layers.append(
            Layer(
                position,
                pair.name,
                pair.other,
                pair.node,
                pair.op_type,
                pair.how,
                here.snr_db,
                -decibel(worst),
                added,
                here.max_rel,
            )
        )
    return tuple(layers)


def _outputs(
    first: Artifact, second: Artifact, samples: Samples, request: CompareRequest
) -> tuple[tuple[Difference, ...], int]:
    """Compare the outputs of both as a user would run them, the worst over all batches."""
    worst: dict[str, Difference] = {}
    count = 0
    with (
        Session(first, request.target, threads=request.threads) as one,
        Session(second, request.target, threads=request.threads) as two,
    ):
        for batch in samples():
            count += 1
            for found in compare(one.run(batch), two.run(batch), request.tolerance):
                known = worst.get(found.output)
                if known is None or (not found.ok, found.max_rel) > (not known.ok, known.max_rel):
                    worst[found.output] = found
    if not count:
        raise SmithError("the data is empty", "give data with at least one sample")
    return tuple(worst.values()), count


def _check_signatures(first: Artifact, second: Artifact) -> None:
    for role, one, two in (
        ("input", first.spec.inputs, second.spec.inputs),
        ("output", first.spec.outputs, second.spec.outputs),
    ):
        names, others = {v.name for v in one}, {v.name for v in two}
        if (role == "input" and names != others) or not names & others:
            raise SmithError(
                f"the models' {role}s differ: {_listed(names)} and {_listed(others)}",
                "give two models of one signature; 'onnxsmith convert --rename' renames",
            )


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "none"
