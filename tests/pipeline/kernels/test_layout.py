from collections.abc import Callable

import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.passes.layout.set_session import SetSession
from onnxsmith.pipeline.kernels.layout import layout_candidates
from onnxsmith.target import TARGETS

POOL = "g (float[1,2,4,4] x) => (float[1,2,1,1] y) { y = GlobalAveragePool(x) }"
PLAIN = "g (float[2] x) => (float[2] y) { y = Relu(x) }"


@pytest.mark.parametrize(
    ("text", "target", "count"),
    [(POOL, "cuda", 1), (POOL, "cpu", 0), (POOL, "tensorrt", 0), (PLAIN, "cuda", 0)],
)
def test_channels_last_is_tried_for_convolutions_on_cuda(
    load_text: Callable[..., Artifact], text: str, target: str, count: int
) -> None:
    expected = (SetSession(nhwc="yes"),) * count
    assert layout_candidates(load_text(text), TARGETS[target]) == expected
