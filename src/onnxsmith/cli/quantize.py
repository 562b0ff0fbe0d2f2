"""``onnxsmith quantize``: make a model smaller and faster in fewer bits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from onnxsmith.cli.options import (
    dim_option,
    json_option,
    seed_option,
    target_option,
    threads_option,
)
from onnxsmith.errors import UsageError
from onnxsmith.pipeline.quantization.modes import MODES

if TYPE_CHECKING:
    from onnxsmith.artifact import Artifact
    from onnxsmith.pipeline.quantization.request import (
        Activations,
        Algorithm,
        Form,
        Method,
        QuantizeRequest,
    )
    from onnxsmith.pipeline.quantization.result import QuantizeResult


@click.command("quantize")
@click.argument("source", type=click.Path(path_type=Path), metavar="IN.onnx")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="OUT.onnx",
    help="The file to write.",
)
@click.option(
    "--mode",
    type=click.Choice(list(MODES)),
    required=True,
    help="static and fp8 calibrate with --data; auto searches; the others need no data.",
)
@click.option("--data", metavar="D", help="What to calibrate with: a data source, or 'random'.")
@click.option(
    "--allow-poor-data", is_flag=True, help="Calibrate even on random data or few samples."
)
@click.option("--eval-data", metavar="D", help="Held-out data to score on.")
@click.option(
    "--metric",
    default="accuracy",
    show_default=True,
    metavar="M",
    help="The metric that --max-drop is about.",
)
@click.option(
    "--max-drop",
    type=click.FloatRange(min=0),
    metavar="X",
    help="Refuse a result that loses more than X of the metric.",
)
@click.option(
    "--exclude",
    multiple=True,
    metavar="PATTERN",
    help="Keep nodes of this name or operator in float; may be repeated.",
)
@click.option(
    "--only",
    multiple=True,
    metavar="PATTERN",
    help="Quantize nodes of this name or operator only; may be repeated.",
)
@click.option(
    "--per-channel/--per-tensor",
    default=True,
    show_default=True,
    help="One scale for each output channel of a weight, or one for all.",
)
@click.option(
    "--reduce-range/--full-range",
    default=None,
    help="7-bit weights, for x86 CPUs without VNNI. Default: what this machine needs.",
)
@click.option(
    "--activations",
    type=click.Choice(["auto", "uint8", "int8", "uint16", "int16"]),
    default="auto",
    show_default=True,
    help="The type of activations (static).",
)
@click.option(
    "--wide",
    multiple=True,
    metavar="PATTERN",
    help="Nodes of this name or operator read and make 16-bit activations (static).",
)
@click.option(
    "--weights",
    type=click.Choice(["int8", "int4"]),
    default="int8",
    show_default=True,
    help="The type of weights (static).",
)
@click.option(
    "--symmetric/--asymmetric",
    default=None,
    help="Whether 0 is in the middle of the activations' integers. Default: the target's way.",
)
@click.option(
    "--scope",
    type=click.Choice(["auto", "all", "products"]),
    default="auto",
    show_default=True,
    help="Round the inputs of products only, or compute all between them in integers (static).",
)
@click.option(
    "--qoperator",
    is_flag=True,
    help="Write operators on integers instead of pairs around ordinary ones (static).",
)
@click.option(
    "--both-activations", is_flag=True, help="Quantize products of two activations (static)."
)
@click.option(
    "--bits",
    type=click.Choice(["4", "8"]),
    default="4",
    show_default=True,
    help="Of a weight (weight-only).",
)
@click.option(
    "--block-size",
    type=int,
    default=32,
    show_default=True,
    metavar="N",
    help="Weights that share a scale: a power of 2 from 16 on (weight-only).",
)
@click.option(
    "--algorithm",
    type=click.Choice(["rtn", "hqq", "gptq"]),
    default="rtn",
    show_default=True,
    help="How weights are rounded; gptq needs --data (weight-only).",
)
@click.option(
    "--form",
    type=click.Choice(["matmul-nbits", "dequantize"]),
    default="matmul-nbits",
    show_default=True,
    help="The runtime's own operator, or standard ones (weight-only).",
)
@click.option(
    "--accuracy-level",
    type=click.IntRange(0, 4),
    default=0,
    show_default=True,
    metavar="N",
    help="What MatMulNBits may compute in: 4 is int8, 0 is its choice (weight-only).",
)
@click.option(
    "--method",
    type=click.Choice(["minmax", "moving-average", "percentile", "entropy", "mse"]),
    default="mse",
    show_default=True,
    help="How ranges are taken from calibration data.",
)
@click.option(
    "--samples",
    type=click.IntRange(min=1),
    default=256,
    show_default=True,
    metavar="N",
    help="Most calibration batches (of 8 samples, or the model's own size) to read.",
)
@click.option(
    "--prepare",
    default="",
    metavar="SPEC",
    help="Passes for the float model first: equalize-layers, smooth-quant, round-weights, ...",
)
@click.option(
    "--sensitivity",
    is_flag=True,
    help="Measure what each layer costs: the error with it alone quantized, and its time.",
)
@click.option(
    "--budget",
    type=(click.IntRange(min=1), click.FloatRange(min=0)),
    default=(20, 900.0),
    show_default=True,
    metavar="N SECONDS",
    help="Mode auto makes at most N candidates, and no more after so many seconds.",
)
@click.option(
    "--prefer",
    type=click.Choice(["speed", "size"]),
    default="speed",
    show_default=True,
    help="What mode auto makes best; nothing slower than the input is returned either way.",
)
@click.option(
    "--report",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the findings as one HTML file.",
)
@click.option("--no-bench", is_flag=True, help="Do not measure the speed of the result.")
@target_option
@dim_option
@threads_option
@seed_option
@json_option
def command(
    source: Path,
    output: Path,
    mode: str,
    data: str | None,
    allow_poor_data: bool,
    eval_data: str | None,
    metric: str,
    max_drop: float | None,
    exclude: tuple[str, ...],
    only: tuple[str, ...],
    per_channel: bool,
    reduce_range: bool | None,
    activations: Activations,
    wide: tuple[str, ...],
    weights: Literal["int8", "int4"],
    symmetric: bool | None,
    scope: Literal["auto", "all", "products"],
    qoperator: bool,
    both_activations: bool,
    bits: str,
    block_size: int,
    algorithm: Algorithm,
    form: Form,
    accuracy_level: int,
    method: Method,
    samples: int,
    prepare: str,
    sensitivity: bool,
    budget: tuple[int, float],
    prefer: Literal["speed", "size"],
    report: Path | None,
    no_bench: bool,
    target_name: str,
    dims: tuple[str, ...],
    threads: int | None,
    seed: int,
    as_json: bool,
) -> None:
    """Store IN.onnx in fewer bits and write OUT.onnx.

    A mode that was asked for is obeyed; how fast it is is printed. Mode auto tries several, and
    takes the fastest that loses no more than --max-drop of the metric (0.01 where that is not
    given; without --eval-data: whose outputs keep 20 dB of signal to noise), or the smallest of
    those no slower than IN.onnx with --prefer size.
    """
    from onnxsmith.pipeline.quantization.request import QuantizeRequest
    from onnxsmith.spec import parse_dims
    from onnxsmith.target import find_target

    request = QuantizeRequest(
        mode=mode,
        data=data,
        allow_poor_data=allow_poor_data,
        eval_data=eval_data,
        metric=metric,
        max_drop=max_drop,
        per_channel=per_channel,
        reduce_range=reduce_range,
        activations=activations,
        weights=weights,
        symmetric=symmetric,
        scope=scope,
        both_activations=both_activations,
        qoperator=qoperator,
        target=find_target(target_name),
        dims=parse_dims(dims),
        threads=threads,
        seed=seed,
    )
    request = replace(request, exclude=exclude, only=only, wide=wide)
    request = replace(request, method=method, samples=samples)
    request = replace(request, bits=int(bits), block_size=block_size, algorithm=algorithm)
    request = replace(request, form=form, accuracy_level=accuracy_level)
    request = replace(request, prepare=prepare, sensitivity=sensitivity)
    request = replace(request, budget=budget, prefer=prefer)
    _quantize(source, output, request, report, bench=not no_bench, as_json=as_json)


def _quantize(
    source: Path,
    output: Path,
    request: QuantizeRequest,
    report: Path | None,
    *,
    bench: bool,
    as_json: bool,
) -> None:
    """Quantize, measure, write and show."""
    from onnxsmith.artifact import Artifact
    from onnxsmith.cli.output import print_json
    from onnxsmith.errors import SmithError
    from onnxsmith.pipeline.gate import measure_change
    from onnxsmith.pipeline.quantization.run import quantize
    from onnxsmith.storage.atomic import check_writable

    if request.mode == "auto" and not bench:
        raise UsageError("mode auto chooses by measured speed", "leave out --no-bench")
    for path in (output, *([report] if report is not None else [])):
        check_writable(path)
    artifact = Artifact.load(source)
    request = replace(request, progress=lambda words: click.echo(words, err=True))
    result = quantize(artifact, request)
    change = result.speed
    if bench and request.mode != "auto":
        settings = (request.target, request.threads, result.dims, request.seed)
        try:
            change = measure_change(artifact, result.artifact, *settings)
        except SmithError as error:
            words = f"speed unmeasured: {error.message}"
            result = replace(result, warnings=(*result.warnings, words))
    result.artifact.save(output)
    if report is not None:
        _write_report(report, source, output, artifact, replace(result, speed=change))
    if as_json:
        print_json({**result.to_json(), "speed": change.figures if change else None})
        return
    _show(artifact, result, output, change.words if change else "")


def _write_report(
    report: Path, source: Path, output: Path, artifact: Artifact, result: QuantizeResult
) -> None:
    from onnxsmith.pipeline.quantization.report import quantization_report
    from onnxsmith.pipeline.report.html import to_html
    from onnxsmith.storage.atomic import write_text

    write_text(report, to_html(quantization_report(source.name, output.name, artifact, result)))


def _show(artifact: Artifact, result: QuantizeResult, output: Path, speed: str) -> None:
    from onnxsmith.cli.output import print_line, print_table, print_warning
    from onnxsmith.cli.quantize_tables import show_left, show_rounding
    from onnxsmith.cli.search_tables import show_layers, show_search
    from onnxsmith.pipeline.report.units import size

    rows = [
        (d.output, f"{d.max_rel:.1e}", f"{d.snr_db:.1f} dB") for d in result.pipeline.differences
    ]
    if rows:
        print_table("", ("output", "largest difference", "signal to noise"), rows)
    for warning in result.warnings:
        print_warning(warning)
    show_left(result)
    show_rounding(result)
    if result.layers:
        show_layers(result.layers, result.layers_note)
    if result.search is not None:
        show_search(result.search)
    before, after = artifact.size_bytes, result.artifact.size_bytes
    print_line(f"weights {size(before)} -> {size(after)} ({before / after:.2f}x)")
    if result.before and result.after:
        for name, value in result.before.metrics.items():
            print_line(f"{name} {value:.4f} -> {result.after.metrics[name]:.4f}")
    if speed:
        print_line(speed)
    print_line(f"wrote {output}")
