"""What a report says about models of fewer bits: where they part, what each layer costs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LayerNoise:
    """How far one tensor is from the reference's.

    Attributes:
        tensor: Its name in the reference.
        op_type: The operator that makes it.
        snr_db: Signal to noise in dB; infinite where the two are the same.
        before_db: That of the worst tensor it is computed from.
        added: Noise power over signal power that the layer adds.
        max_rel: Largest difference over the largest magnitude.
    """

    tensor: str
    op_type: str = ""
    snr_db: float | None = None
    before_db: float | None = None
    added: float | None = None
    max_rel: float | None = None


@dataclass(frozen=True)
class Departure:
    """Where a candidate departs from a reference, layer by layer.

    Attributes:
        reference: What was trusted.
        candidate: What was compared with it.
        layers: The tensors found in both, in the order of computation.
        unmatched: How many of the reference's were not found.
    """

    reference: str
    candidate: str
    layers: tuple[LayerNoise, ...] = ()
    unmatched: int = 0


@dataclass(frozen=True)
class LayerCost:
    """What quantizing one layer alone does.

    Attributes:
        layer: The node.
        op_type: Its operator.
        snr_db: Signal to noise of the outputs with this layer alone quantized.
        drop: Loss of the metric; None without one.
        time_ms: Its time in the float model.
        share: Its share of the float model's time, 0 to 1.
        note: Why it could not be quantized alone, or an empty text.
    """

    layer: str
    op_type: str = ""
    snr_db: float | None = None
    drop: float | None = None
    time_ms: float | None = None
    share: float | None = None
    note: str = ""


@dataclass(frozen=True)
class TrialPoint:
    """One candidate of a search.

    Attributes:
        name: What it is.
        latency_ms: Its measured median; None where it was not measured.
        score: What it keeps: the metric, or the signal to noise in dB.
        size_bytes: Bytes of its weights.
        verdict: What became of it.
        on_front: Whether no other candidate is both faster and better.
        chosen: Whether it is the result.
        on_size_front: Whether no other candidate is both smaller and better.
    """

    name: str
    latency_ms: float | None = None
    score: float | None = None
    size_bytes: int | None = None
    verdict: str = ""
    on_front: bool = False
    chosen: bool = False
    on_size_front: bool = False


@dataclass(frozen=True)
class Search:
    """A search over ways to quantize.

    Attributes:
        score: What the trials' scores are: a metric's name, or ``SNR (dB)``.
        limit: The least score that is allowed.
        trials: All candidates, the input first.
    """

    score: str
    limit: float | None = None
    trials: tuple[TrialPoint, ...] = ()
