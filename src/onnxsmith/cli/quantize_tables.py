"""What a quantization left in float, and how far rounded weights are off, for people to read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnxsmith.cli.output import print_line, print_table

if TYPE_CHECKING:
    from onnxsmith.pipeline.quantization.result import QuantizeResult

# Names of nodes that are shown for each reason; --json has them all.
_NAMES = 3


def show_rounding(result: QuantizeResult) -> None:
    """Say how far rounded weights are from what they were."""
    for run in result.pipeline.runs:
        if run.details.get("weight_error_worst"):
            mean, most = run.details["weight_error_mean"], run.details["weight_error_max"]
            worst = run.details["weight_error_worst"]
            print_line(f"weights are off by {mean:.2%} on average, by {most:.2%} in {worst}")


def show_left(result: QuantizeResult) -> None:
    """List what stayed in float: one row for each operator and reason, not for each node."""
    from onnxsmith.passes.quantization.select import grouped

    rows = []
    for (op, reason), names in grouped(result.left_float).items():
        more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
        rows.append((f"{len(names)} {op}", reason, ", ".join(names[:_NAMES]) + more))
    if rows:
        print_table("", ("left in float", "because", "nodes"), rows)
