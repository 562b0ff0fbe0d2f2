"""What a search over quantizations and a look at its layers found, as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnxsmith.cli.output import print_line, print_table
from onnxsmith.pipeline.report import units

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onnxsmith.pipeline.report.quantization import LayerCost, Search, TrialPoint

_MOST_LAYERS = 15


def show_search(search: Search) -> None:
    """Print the candidates, and which of them none beats."""
    rows = [
        (
            trial.name,
            "" if trial.latency_ms is None else f"{trial.latency_ms:.3g} ms",
            "" if trial.score is None else f"{trial.score:.4g}",
            "" if trial.size_bytes is None else units.size(trial.size_bytes),
            _fronts(trial),
            "chosen" if trial.chosen else trial.verdict,
        )
        for trial in search.trials
    ]
    columns = ("candidate", "latency", search.score, "weights", "on the front of", "verdict")
    print_table("candidates", columns, rows)
    if search.limit is not None:
        print_line(f"allowed is {search.score} {search.limit:.4g}")


def _fronts(trial: TrialPoint) -> str:
    fronts = (("speed", trial.on_front), ("size", trial.on_size_front))
    return ", ".join(word for word, there in fronts if there)


def show_layers(layers: Sequence[LayerCost], note: str) -> None:
    """Print what each layer costs, the most sensitive first, and what the drops are."""
    scored = any(layer.drop is not None for layer in layers)
    rows = [
        (
            str(rank),
            layer.layer,
            layer.op_type,
            "" if layer.snr_db is None else f"{layer.snr_db:.1f} dB",
            *(("" if layer.drop is None else f"{layer.drop:.4g}",) if scored else ()),
            "" if layer.time_ms is None else f"{layer.time_ms:.3g} ms",
            "" if layer.share is None else f"{100 * layer.share:.1f} %",
            layer.note,
        )
        for rank, layer in enumerate(layers[:_MOST_LAYERS], start=1)
    ]
    drop = ("drop",) if scored else ()
    columns = ("rank", "layer", "operator", "signal to noise", *drop, "time", "share", "note")
    print_table("outputs with one layer quantized, the most sensitive first", columns, rows)
    if len(layers) > _MOST_LAYERS:
        print_line(f"and {len(layers) - _MOST_LAYERS} more; --json and --report have them all")
    if note:
        print_line(note)
