"""Random graphs keep their outputs through every preset, with the check off."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import onnx
import pytest
from tests.passes.random_bodies import RichBuilder
from tests.passes.random_graphs import Builder

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.passes.table import PRESETS
from onnxsmith.pipeline.optimize import OptimizeRequest, optimize
from onnxsmith.runtime.session import Session

# FUZZ=2000 pytest tests/passes/test_fuzz.py tries more.
COUNT = int(os.environ.get("FUZZ", "24"))


def outputs(artifact: Artifact, feeds: dict[str, Any]) -> dict[str, Any]:
    with Session(artifact, optimize=False, threads=1) as session:
        return session.run(feeds)


def optimized(artifact: Artifact, seed: int) -> Artifact:
    preset = sorted(PRESETS)[seed % len(PRESETS)]
    result = optimize(artifact, OptimizeRequest(preset=preset, verify="off"))
    assert result.dropped == ()
    return result.artifact


def signature(artifact: Artifact) -> list[tuple[str, str]]:
    values = (*artifact.spec.inputs, *artifact.spec.outputs)
    return [(value.name, value.dtype) for value in values]


@pytest.mark.parametrize("seed", range(COUNT))
@pytest.mark.parametrize("kind", [Builder, RichBuilder])
def test_a_random_graph_keeps_its_outputs(kind: type[Builder], seed: int) -> None:
    builder = kind(seed, 20)
    artifact = Artifact.from_proto(builder.model())
    rng = np.random.default_rng(seed)
    feeds = {n: rng.uniform(-2, 2, builder.shapes[n]).astype(np.float32) for n in builder.inputs}
    try:
        with np.errstate(all="ignore"):
            expected = outputs(artifact, feeds)
    except SmithError:
        return  # a graph that the runtime does not take shows nothing
    result = optimized(artifact, seed)
    onnx.checker.check_model(result.to_proto())
    assert signature(result) == signature(artifact)
    found = outputs(result, feeds)
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].shape == array.shape
        scale = max(1.0, float(np.abs(array[np.isfinite(array)]).max(initial=0)))
        np.testing.assert_allclose(found[name], array, rtol=2e-3, atol=2e-4 * scale)


def test_the_runtime_takes_nearly_all_of_them() -> None:
    """Else the test above would show nothing."""
    taken = 0
    for seed in range(COUNT):
        for kind in (Builder, RichBuilder):
            try:
                Session(Artifact.from_proto(kind(seed, 20).model()), optimize=False).close()
            except SmithError:
                continue
            taken += 1
    assert taken >= 1.8 * COUNT


@pytest.mark.parametrize("seed", range(COUNT // 4))
def test_the_same_graph_gives_the_same_bytes(seed: int) -> None:
    proto = RichBuilder(seed, 20).model()
    first, second = (optimized(Artifact.from_proto(proto), seed).to_proto() for _ in range(2))
    bytes_of = [p.SerializeToString(deterministic=True) for p in (first, second)]
    assert bytes_of[0] == bytes_of[1]
