"""``onnxsmith compare``: how far is one model from another, and where does it start?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from onnxsmith.cli.options import (
    data_option,
    dim_option,
    json_option,
    seed_option,
    target_option,
    threads_option,
    tolerance_options,
)

if TYPE_CHECKING:
    from onnxsmith.pipeline.comparison.compare import CompareResult

_MOST_ROWS = 15


@click.command("compare")
@click.argument("first", type=click.Path(path_type=Path), metavar="A.onnx")
@click.argument("second", type=click.Path(path_type=Path), metavar="B.onnx")
@data_option
@click.option("--layers", is_flag=True, help="Find the layers at which B departs from A.")
@click.option(
    "--samples",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    metavar="N",
    help="Most batches (of 8 samples, or the model's own size) to read.",
)
@click.option(
    "--report",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the findings as one HTML file.",
)
@tolerance_options
@target_option
@dim_option
@threads_option
@seed_option
@click.option("--strict", is_flag=True, help="Exit with 4 where an output differs.")
@json_option
def command(
    first: Path,
    second: Path,
    data: str | None,
    layers: bool,
    samples: int,
    report: Path | None,
    rtol: float | None,
    atol: float | None,
    target_name: str,
    dims: tuple[str, ...],
    threads: int | None,
    seed: int,
    strict: bool,
    as_json: bool,
) -> int:
    """Run A.onnx and B.onnx on the same inputs and say how far B is from A.

    Differences are findings, not errors: the exit code is 0 unless --strict is given.
    """
    from onnxsmith.artifact import Artifact
    from onnxsmith.cli.main import DONE, REFUSED
    from onnxsmith.numerics import override
    from onnxsmith.pipeline.comparison.compare import CompareRequest, compare_models
    from onnxsmith.spec import parse_dims
    from onnxsmith.storage.atomic import check_writable
    from onnxsmith.target import find_target

    if report is not None:
        check_writable(report)
    request = CompareRequest(
        data=data,
        layers=layers,
        samples=samples,
        tolerance=override(rtol, atol),
        target=find_target(target_name),
        dims=parse_dims(dims),
        threads=threads,
        seed=seed,
    )
    models = Artifact.load(first), Artifact.load(second)
    result = compare_models(*models, request)
    if report is not None:
        from onnxsmith.pipeline.comparison.report import comparison_report
        from onnxsmith.pipeline.report.html import to_html
        from onnxsmith.storage.atomic import write_text

        write_text(report, to_html(comparison_report(first.name, second.name, *models, result)))
    if as_json:
        from onnxsmith.cli.output import print_json

        print_json(result.to_json())
    else:
        _show(result, report)
    return DONE if result.same or not strict else REFUSED


def _show(result: CompareResult, report: Path | None) -> None:
    from onnxsmith.cli.output import print_line, print_table, print_warning

    if result.made_up:
        print_warning("compared on made-up inputs; give --data for real ones")
    rows = [
        (d.output, f"{d.max_rel:.1e}", f"{d.snr_db:.1f} dB", "same" if d.ok else "differs")
        for d in result.outputs
    ]
    columns = ("output", "largest difference", "signal to noise", "verdict")
    print_table(f"outputs, worst of {result.batches} batches", columns, rows)
    if result.layers:
        ranked = result.ranked()
        layers = [
            (
                str(rank),
                layer.tensor,
                layer.op_type,
                f"{layer.snr_db:.1f} dB",
                f"{layer.before_db:.1f} dB",
                f"{layer.added:.1e}",
            )
            for rank, layer in enumerate(ranked[:_MOST_ROWS], start=1)
        ]
        heads = ("rank", "tensor", "operator", "signal to noise", "before it", "noise added")
        print_table("layers by the noise they add", heads, layers)
        by_name = sum(layer.how == "name" for layer in result.layers)
        print_line(
            f"{len(result.layers)} tensors in both models ({by_name} found by name, "
            f"{len(result.layers) - by_name} by structure), {result.unmatched} not found; "
            f"{len(ranked)} add noise"
        )
    if report is not None:
        print_line(f"wrote {report}")
