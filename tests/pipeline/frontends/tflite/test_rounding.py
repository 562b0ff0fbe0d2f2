"""Ties in quantized pools."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.pipeline.frontends.tflite.rounding import round_pool_ties
from onnxsmith.runtime.session import Session

POOL = """g ({kind}[N,1,1,{count}] x) => ({kind}[N,1,1,1] y) {{
    f = DequantizeLinear (x, scale, zero)
    p = AveragePool <kernel_shape = [1, {count}]> (f)
    y = QuantizeLinear (p, {after}, zero)
}}"""
Load = Callable[..., Artifact]


def pool(
    load_text: Load, kind: str, zero: int, count: int, after: str = "scale", scale: float = 0.127
) -> Artifact:
    weights = {
        "scale": np.array(scale, np.float32),
        "other": np.array(scale * 1.5, np.float32),
        "zero": np.array(zero, kind),
    }
    return load_text(POOL.format(kind=kind, count=count, after=after), weights)


def run(artifact: Artifact, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    with Session(artifact, optimize=False) as session:
        (found,) = session.run({"x": values[:, None, None, :]}).values()
    return np.asarray(found).reshape(-1)


def away_from_zero(sums: np.ndarray[Any, Any], count: int) -> np.ndarray[Any, Any]:
    return np.sign(sums) * ((np.abs(sums) * 2 + count) // (2 * count))


@pytest.mark.parametrize(
    ("kind", "zero", "count"),
    [("int8", -128, 64), ("int8", -128, 49), ("int8", 0, 4), ("int8", 7, 9), ("uint8", 0, 64),
     ("uint8", 131, 49), ("int8", 127, 100)],
)  # fmt: skip
def test_averages_round_as_the_interpreter_rounds_them(
    load_text: Load, kind: str, zero: int, count: int
) -> None:
    limits = np.iinfo(kind)
    # Each sum that can be: all ones of a value, then one step more at a time.
    base = np.arange(limits.min, limits.max)
    more = np.arange(count)
    values = np.repeat(base, count)[:, None] + (
        np.arange(count) < np.tile(more, len(base))[:, None]
    )
    artifact = pool(load_text, kind, zero, count)
    before = run(artifact, values.astype(kind))
    round_pool_ties(artifact.model)
    after = run(artifact, values.astype(kind))
    expected = away_from_zero(values.sum(1), count)
    assert (after == expected).mean() > 0.9999
    if count % 2 == 0:
        assert (before != expected).any()


def test_a_zero_point_of_zero_needs_no_offset(load_text: Load) -> None:
    artifact = pool(load_text, "int8", 0, 4)
    round_pool_ties(artifact.model)
    kinds = [node.op_type for node in artifact.model.graph]
    assert kinds == ["DequantizeLinear", "AveragePool", "Mul", "QuantizeLinear"]


def test_pools_that_change_their_step_are_left_alone(load_text: Load) -> None:
    artifact = pool(load_text, "int8", 3, 4, after="other")
    round_pool_ties(artifact.model)
    assert len(list(artifact.model.graph)) == 3


def test_pools_of_floats_are_left_alone(load_text: Load) -> None:
    text = """g (float[N,1,4,4] x) => (float[N,1,1,1] y) { y = GlobalAveragePool (x) }"""
    artifact = load_text(text)
    round_pool_ties(artifact.model)
    assert len(list(artifact.model.graph)) == 1
