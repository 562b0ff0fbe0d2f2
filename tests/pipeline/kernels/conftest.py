"""A model with two fused kernels, and verdicts in place of measurements."""

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.pipeline.kernels import choose, lost
from onnxsmith.pipeline.kernels.cases import Case
from onnxsmith.pipeline.kernels.measure import Kernel
from onnxsmith.runtime.measurement import Comparison, Verdict
from onnxsmith.target import Target

# What the runtime makes one SkipLayerNormalization of, and a Gelu of the model's own.
TEXT = """g (float[1,6,8] x) => (float[1,6,8] y) {
    r = Relu(x)
    s = Add(r, x)
    n = LayerNormalization<axis=-1>(s, g, b)
    y = Gelu(n)
}"""
WEIGHTS = {"g": np.ones(8, np.float32), "b": np.zeros(8, np.float32)}


@pytest.fixture
def artifact(load_text: Callable[..., Artifact]) -> Artifact:
    return load_text(TEXT, WEIGHTS, opset=20)


@pytest.fixture
def verdicts(monkeypatch: pytest.MonkeyPatch) -> dict[str, Verdict]:
    """What is said of an operator's parts instead of being measured."""
    said: dict[str, Verdict] = {}

    def measure(cases: Mapping[Case, int], target: Target, threads: int | None) -> list[Kernel]:
        return [
            Kernel(case.op_type, count, 1.0, 1.0, Comparison("a", "b", 1, 1, 1, said[case.op_type]))
            for case, count in cases.items()
        ]

    for module in (choose, lost):
        monkeypatch.setattr(module, "measure_kernels", measure)
    return said
