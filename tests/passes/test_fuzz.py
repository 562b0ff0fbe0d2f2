"""Random graphs keep their outputs through every preset, with the check off."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.passes.table import PRESETS
from onnxsmith.pipeline.optimize import OptimizeRequest, optimize
from onnxsmith.runtime.session import Session

_path = Path(__file__).with_name("random_graphs.py")
_spec = importlib.util.spec_from_file_location("random_graphs", _path)
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
Builder: Callable[..., Any] = _module.Builder

# FUZZ=2000 pytest tests/passes/test_fuzz.py tries more.
COUNT = int(os.environ.get("FUZZ", "24"))


def outputs(artifact: Artifact, feeds: dict[str, Any]) -> dict[str, Any]:
    with Session(artifact, optimize=False) as session:
        return session.run(feeds)


@pytest.mark.parametrize("seed", range(COUNT))
def test_a_random_graph_keeps_its_outputs(seed: int) -> None:
    builder = Builder(seed, 20)
    artifact = Artifact.from_proto(builder.model())
    rng = np.random.default_rng(seed)
    feeds = {n: rng.uniform(-2, 2, builder.shapes[n]).astype(np.float32) for n in builder.inputs}
    try:
        with np.errstate(all="ignore"):
            expected = outputs(artifact, feeds)
    except SmithError:
        return  # a graph that the runtime does not take shows nothing
    preset = sorted(PRESETS)[seed % len(PRESETS)]
    result = optimize(artifact, OptimizeRequest(preset=preset, verify="off"))
    assert result.dropped == ()
    found = outputs(result.artifact, feeds)
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].shape == array.shape
        scale = max(1.0, float(np.abs(array[np.isfinite(array)]).max(initial=0)))
        np.testing.assert_allclose(found[name], array, rtol=2e-3, atol=2e-4 * scale)
