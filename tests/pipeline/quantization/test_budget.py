"""A budget is about what gets worse, whichever way is better."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.errors import RefusedError
from onnxsmith.pipeline.quantization.request import QuantizeRequest
from onnxsmith.pipeline.quantization.run import quantize

RNG = np.random.default_rng(31)


def request_for(
    load_text: Callable[..., Artifact], folder: Path, max_drop: float
) -> tuple[Artifact, QuantizeRequest]:
    weight = RNG.standard_normal((8, 2)).astype(np.float32)
    artifact = load_text("g (float[N,8] x) => (float[N,2] y) { y = MatMul(x, w) }", {"w": weight})
    x = RNG.standard_normal((100, 8)).astype(np.float32)
    np.savez(folder / "test.npz", x=x, label=x @ weight)
    data = f"npz:{folder / 'test.npz'}"
    return artifact, QuantizeRequest(eval_data=data, metric="rmse", max_drop=max_drop)


def test_a_rising_error_is_a_loss(load_text: Callable[..., Artifact], tmp_path: Path) -> None:
    artifact, request = request_for(load_text, tmp_path, 1e-6)
    with pytest.raises(RefusedError, match=r"rmse rises by 0\.0"):
        quantize(artifact, request)


def test_a_small_rise_is_allowed(load_text: Callable[..., Artifact], tmp_path: Path) -> None:
    artifact, request = request_for(load_text, tmp_path, 0.2)
    result = quantize(artifact, request)
    assert result.before is not None
    assert result.after is not None
    assert 1e-4 < result.after.metrics["rmse"] - result.before.metrics["rmse"] < 0.2
