"""What an optimizer remembers never slows down by being too small."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from onnxsmith.pipeline.training.graphs import update_graph
from onnxsmith.pipeline.training.optimizers.table import OPTIMIZERS, make_optimizer
from onnxsmith.runtime.memory import Memory
from onnxsmith.runtime.session import Session

SMALLEST = np.finfo(np.float32).smallest_normal


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("name", [n for n in OPTIMIZERS if make_optimizer(n).states])
def test_states_of_dead_units_never_become_too_small(name: str, fused: bool) -> None:
    made = update_graph(make_optimizer(name), ir.DataType.FLOAT, ("size",), fused=fused)
    start = {word: 1.0 for word in ("parameter", "rate", "step", "scale")}
    feeds = {
        value.name: np.full([1] if value.shape else [], start.get(value.name, 1e-35), np.float32)
        for value in made.spec.inputs
    }
    feeds["gradient"][:] = 0
    with Session(made) as session:
        for _ in range(300):
            results = session.run(feeds)
            feeds |= {word[4:]: array for word, array in results.items()}
            feeds["parameter"] = np.ones(1, np.float32)
    for state in make_optimizer(name).states:
        assert abs(feeds[state][0]) >= SMALLEST or feeds[state][0] == 0, feeds[state]


def test_memory_is_aligned_and_shared() -> None:
    memory = Memory(10, np.dtype(np.float32))
    assert memory.pointer % 64 == 0
    memory.write(np.arange(10))
    assert memory.view(3, (2, 2)).pointer == memory.pointer + 12
    np.testing.assert_array_equal(memory.read(), np.arange(10))
