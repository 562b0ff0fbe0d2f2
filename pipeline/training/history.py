"""Write how a training run went."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from onnxsmith.storage.atomic import write_text

if TYPE_CHECKING:
    from onnxsmith.pipeline.training.request import Epoch


def write_csv(path: Path, epochs: Sequence[Epoch]) -> None:
    """Write a row an epoch: number, updates, loss, rate, seconds and each metric.

    Private runs have a column with epsilon as well.

    Raises:
        SmithError: The file cannot be written.
    """
    metrics = sorted({name for row in epochs for name in row.metrics})
    private = ["epsilon"] if any(row.epsilon is not None for row in epochs) else []
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["epoch", "updates", "loss", "rate", "seconds", *private, *metrics])
    for row in epochs:
        scores = [row.metrics.get(name, "") for name in metrics]
        figures = [row.number, row.updates, row.loss, row.rate, row.seconds]
        writer.writerow([*figures, *([row.epsilon] if private else []), *scores])
    write_text(path, text.getvalue())
