"""Recipes: what a run does, as YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pydantic
from pydantic import BaseModel, ConfigDict, Field

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.plain_yaml import check_values, read_yaml
from onnxsmith.pipeline.quantization.modes import MODES, NEED_DATA


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SourceRecipe(_Part):
    """Where the model comes from."""

    path: str = Field(description="A file, a folder or package.module:callable.")
    framework: str | None = Field(None, description="The frontend; found out where omitted.")
    weights: str | None = Field(None, description="A second file with the weights.")
    part: str | None = Field(None, description="Which model, where the source holds several.")
    inputs: tuple[str, ...] = Field((), description="NAME:DTYPE[D,D,...], one an input.")
    dims: dict[str, int] = Field({}, description="Sizes of symbolic dimensions in examples.")
    opset: int | None = Field(None, description="The ai.onnx opset; the target's where omitted.")
    rename: dict[str, str] = Field({}, description="New names of inputs and outputs.")
    preprocess: tuple[str, ...] = Field(
        (), description="[INPUT?]KEY=VALUE&..., built into the graph, one an input."
    )
    reference: str | None = Field(None, description="Recorded inputs and outputs to compare with.")
    domains: tuple[str, ...] = Field((), description="Custom operator domains to let in.")
    repair: bool = Field(False, description="Mend an invalid ONNX graph.")
    verify: bool = Field(True, description="Compare with the source's own outputs.")


class OptimizeRecipe(_Part):
    """Which passes run, and how they are checked."""

    preset: str | None = Field(None, description="A preset; the target's where omitted.")
    passes: str | None = Field(None, description="A pipeline of passes instead of a preset.")
    verify: Literal["end", "each", "off"] = "end"
    allow_slower: bool = Field(False, description="Keep the result without measuring it.")


class TrainRecipe(_Part):
    """How the model is trained, on ``data``; see ``onnxsmith train --help``."""

    after: Literal["convert", "optimize"] = Field(
        "convert", description="What is trained: the model as it came, or the optimized one."
    )
    loss: str = "cross-entropy"
    optimizer: str = "adam"
    lr: float | None = Field(None, ge=0, description="The learning rate; the optimizer's own.")
    schedule: str = "constant"
    epochs: int = Field(5, ge=1)
    batch_size: int = Field(32, ge=1)
    parallel: int = Field(1, ge=1, description="Processes that share each update.")
    engine: Literal["local", "ray"] = "local"
    precision: Literal["float16", "bfloat16"] | None = Field(None, description="Of products.")
    loss_scale: str | None = Field(None, description="A number, or dynamic.")
    recompute: tuple[str, ...] = Field((), description="Values to keep, or auto: saves memory.")
    accumulate: int = Field(1, ge=1, description="Batches whose gradients make one update.")
    clip: float | None = Field(None, ge=0, description="The greatest length of the gradient.")
    average: float | None = Field(None, ge=0, lt=1, description="Keep a mean of the parameters.")
    freeze: tuple[str, ...] = Field((), description="Patterns of parameters that stay.")
    only: tuple[str, ...] = Field((), description="Patterns of the only parameters to train.")
    no_decay: tuple[str, ...] = Field((), description="Patterns that weight decay leaves alone.")
    lora: str | None = Field(None, description="Train adapters: rank=8:alpha=16:target=*attn*.")
    qat: bool = Field(False, description="Train in int8; the result is quantized.")
    keep_zeros: bool = Field(False, description="Parameters that are zero stay zero.")
    batch_norm: Literal["train", "frozen"] = "train"
    augment: str | None = Field(None, description="Change images: flip=0.5:crop=2:rotate=10.")
    workers: int = Field(1, ge=1, description="Threads that change batches ahead.")
    private: str | None = Field(None, description="Privacy: noise=1.1:clip=1:delta=1e-5.")
    mixup: float | None = Field(None, gt=0, description="Blend samples.")
    patience: int | None = Field(None, ge=1, description="Stop after so many epochs no better.")
    metrics: tuple[str, ...] = Field((), description="Metric names; the task's where omitted.")
    output_name: str | None = Field(None, description="The model's output that is learned.")


class QuantizeRecipe(_Part):
    """How the model is quantized."""

    mode: str = Field("static", description="As of the command.")
    exclude: tuple[str, ...] = Field((), description="Nodes, by name or operator, kept in float.")
    only: tuple[str, ...] = Field((), description="The only nodes to quantize; all if omitted.")
    allow_poor_data: bool = Field(False, description="Calibrate on random data or few samples.")
    per_channel: bool = True
    reduce_range: bool | None = Field(None, description="7-bit weights; the machine's if omitted.")
    method: Literal["minmax", "moving-average", "percentile", "entropy", "mse"] = "mse"
    activations: Literal["auto", "uint8", "int8", "uint16", "int16"] = "auto"
    wide: tuple[str, ...] = Field((), description="Nodes whose activations have 16 bits (static).")
    weights: Literal["int8", "int4"] = "int8"
    symmetric: bool | None = Field(None, description="The target's where omitted.")
    scope: Literal["auto", "all", "products"] = "auto"
    qoperator: bool = Field(False, description="Write operators on integers, not pairs.")
    both_activations: bool = Field(False, description="Quantize products of two activations.")
    bits: Literal[4, 8] = Field(4, description="Of a weight (weight-only).")
    block_size: int = Field(32, ge=16, description="Weights that share a scale (weight-only).")
    algorithm: Literal["rtn", "hqq", "gptq"] = "rtn"
    form: Literal["matmul-nbits", "dequantize"] = "matmul-nbits"
    accuracy_level: int = Field(0, ge=0, le=4, description="What MatMulNBits may compute in.")
    samples: int = Field(256, ge=1, description="Most calibration batches to read.")
    prepare: str = Field("", description="Passes for the float model before it is rounded.")
    sensitivity: bool = Field(False, description="Measure what each layer costs (static).")
    candidates: int = Field(20, ge=1, description="Most candidates to make (auto).")
    seconds: float = Field(900.0, ge=0, description="After which no more are made (auto).")
    prefer: Literal["speed", "size"] = Field("speed", description="What is made best (auto).")
    metric: str = Field("accuracy", description="What max_drop is about.")
    max_drop: float | None = Field(
        None, ge=0, description="Largest loss of the metric; a greater one refuses the model."
    )

    @pydantic.field_validator("mode")
    @classmethod
    def _known_mode(cls, mode: str) -> str:
        if mode not in MODES:
            raise ValueError(f"unknown mode; known: {', '.join(MODES)}")
        return mode


class EvaluateRecipe(_Part):
    """How the models are scored."""

    metrics: tuple[str, ...] = Field((), description="Metric names; the task's where omitted.")
    batch_size: int = Field(64, ge=1)


class BenchRecipe(_Part):
    """How the models are measured."""

    rounds: int = Field(5, ge=3)
    runs: int = Field(30, ge=1, description="Timed runs of a model in a round.")
    dims: dict[str, int] = Field({}, description="Sizes of symbolic dimensions.")


class Recipe(_Part):
    """One run: source, training, passes, quantization, evaluation and measurement."""

    name: str = Field(min_length=1, max_length=100)
    source: SourceRecipe
    target: str = "cpu"
    seed: int = 0
    threads: int | None = Field(None, ge=1)
    data: str | None = Field(None, description="Trains, calibrates and probes.")
    eval_data: str | None = Field(None, description="Scores; shares no sample with data.")
    train: TrainRecipe | None = None
    optimize: OptimizeRecipe | None = OptimizeRecipe()
    quantize: QuantizeRecipe | None = None
    evaluate: EvaluateRecipe | None = None
    bench: BenchRecipe | None = BenchRecipe()

    @pydantic.model_validator(mode="after")
    def _needs_data(self) -> Recipe:
        if self.train and not self.data:
            raise ValueError("'train' needs 'data' to train on")
        if self.train and self.train.qat and self.quantize:
            raise ValueError("'train.qat' quantizes the model: leave 'quantize' out")
        if self.train and self.train.after == "optimize" and not self.optimize:
            raise ValueError("'train' comes after 'optimize', which is left out")
        if self.quantize and self.quantize.mode in NEED_DATA and not self.data:
            raise ValueError(f"{self.quantize.mode} quantization needs 'data' to calibrate with")
        if (self.evaluate or (self.quantize and self.quantize.max_drop is not None)) and (
            not self.eval_data
        ):
            raise ValueError("'evaluate' and 'max_drop' need 'eval_data'")
        return self


def load_recipe(path: Path) -> Recipe:
    """Read a recipe file.

    Raises:
        SmithError: The file cannot be read, is no YAML, or a field is wrong: the field is named.
    """
    return parse_recipe(read_yaml(path, "recipe"), str(path))


def parse_recipe(value: Any, origin: str) -> Recipe:
    """Read a recipe from plain values.

    Raises:
        SmithError: A field is wrong: the field is named.
    """
    if not isinstance(value, dict):
        raise SmithError(f"{origin} is not a recipe", "see 'onnxsmith schema' for its fields")
    return check_values(Recipe, value, origin, "see 'onnxsmith schema' for the fields")
