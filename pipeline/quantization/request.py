"""What a user asks of quantization."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from onnxsmith.target import TARGETS, Target

Method = Literal["minmax", "moving-average", "percentile", "entropy", "mse"]
Algorithm = Literal["rtn", "hqq", "gptq"]
Form = Literal["matmul-nbits", "dequantize"]
Activations = Literal["auto", "uint8", "int8", "uint16", "int16"]


@dataclass(frozen=True)
class QuantizeRequest:
    """How to quantize. A mode reads the fields that concern it.

    Attributes:
        mode: A row of ``modes.MODES``: ``static`` and ``fp8`` need data to calibrate with.
        data: A data source as text, or ``random`` for made-up inputs.
        allow_poor_data: Calibrate even on random data, or on a handful of samples.
        eval_data: Held-out data for the budget.
        metric: What ``max_drop`` is about; higher is better.
        max_drop: Largest loss of the metric that is accepted.
        exclude: Patterns of nodes, by name or operator, that stay in float.
        only: Patterns of the only nodes that are quantized; empty for all.
        per_channel: One scale an output channel instead of one a tensor.
        reduce_range: 7-bit weights, for x86 CPUs without VNNI; None finds out.
        method: How ranges are taken from calibration data.
        samples: Most calibration batches to read.
        activations: The type of activations where ranges are known; ``auto`` is the target's.
        wide: Patterns of nodes that read and make activations of 16 bits where others have 8.
        weights: The type of weights where ranges are known.
        symmetric: Whether the zero point of activations is in the middle; None is the target's.
        scope: What is rounded: ``products`` only their inputs, ``all`` what lies between, too.
        both_activations: Whether products of two activations are quantized.
        qoperator: Whether known ranges are written as operators on integers, instead of as pairs
            of QuantizeLinear and DequantizeLinear around ordinary ones.
        bits: Of a weight where only weights are stored in fewer bits: 4 or 8.
        block_size: How many of these weights share a scale.
        algorithm: How these weights are rounded.
        form: Which operators these weights are written for.
        accuracy_level: What the runtime's MatMulNBits may compute in; 0 as it likes, 4 int8.
        prepare: Passes for the float model before it is rounded, such as ``equalize-layers``.
        sensitivity: Whether to measure what each layer costs; mode ``auto`` does where it can.
        budget: Most candidates that mode ``auto`` makes, and seconds after which it makes no more.
        prefer: What mode ``auto`` makes as good as it can, among what is not slower than the input.
        target: Where the model will run.
        dims: Sizes of symbolic dimensions in made-up inputs.
        threads: Threads of sessions.
        seed: Seed of made-up inputs.
        progress: Told what is being done where it takes long.
    """

    mode: str = "dynamic"
    data: str | None = None
    allow_poor_data: bool = False
    eval_data: str | None = None
    metric: str = "accuracy"
    max_drop: float | None = None
    exclude: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    per_channel: bool = True
    reduce_range: bool | None = None
    method: Method = "mse"
    samples: int = 256
    activations: Activations = "auto"
    wide: tuple[str, ...] = ()
    weights: Literal["int8", "int4"] = "int8"
    symmetric: bool | None = None
    scope: Literal["auto", "all", "products"] = "auto"
    both_activations: bool = False
    qoperator: bool = False
    bits: int = 4
    block_size: int = 32
    algorithm: Algorithm = "rtn"
    form: Form = "matmul-nbits"
    accuracy_level: int = 0
    prepare: str = ""
    sensitivity: bool = False
    budget: tuple[int, float] = (20, 900.0)
    prefer: Literal["speed", "size"] = "speed"
    target: Target = TARGETS["cpu"]
    dims: Mapping[str, int] = field(default_factory=dict)
    threads: int | None = None
    seed: int = 0
    progress: Callable[[str], None] | None = None

    def say(self, words: str) -> None:
        """Report progress."""
        if self.progress is not None:
            self.progress(words)
