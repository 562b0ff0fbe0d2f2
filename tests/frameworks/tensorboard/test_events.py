"""Event files are what TensorBoard itself reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from onnxsmith.pipeline.training.logs import open_logs
from onnxsmith.pipeline.training.request import Epoch

pytestmark = pytest.mark.frameworks


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    rows = [Epoch(1, 2.5, 0.1, {"accuracy": 0.5}), Epoch(2, 1.5, 0.05, {"accuracy": 0.75})]
    with open_logs(None, tmp_path) as logs:
        logs.write(rows[:1])
        logs.write(rows)
    read = EventAccumulator(str(tmp_path))
    read.Reload()
    curves = {tag: [(e.step, e.value) for e in read.Scalars(tag)] for tag in read.Tags()["scalars"]}
    assert curves["loss"] == [(1, 2.5), (2, 1.5)]
    assert curves["accuracy"] == [(1, 0.5), (2, 0.75)]
    assert curves["rate"] == [(1, pytest.approx(0.1)), (2, pytest.approx(0.05))]
