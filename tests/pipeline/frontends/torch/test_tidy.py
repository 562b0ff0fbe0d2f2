"""What torch's exporters compute although it is known beforehand goes; what is not known stays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import nn

from onnxsmith.artifact import Artifact
from onnxsmith.pipeline.frontends.convert import convert
from onnxsmith.pipeline.frontends.torch.tidy import tidy
from onnxsmith.runtime.session import Session


def parsed(graph: str) -> ir.Model:
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 18]>\n{graph}')
    return ir.from_proto(onnx.shape_inference.infer_shapes(proto))


def targets(model: ir.Model) -> list[list[int] | None]:
    """The constant target of each reshape, or None."""
    found = []
    for node in model.graph:
        if node.op_type == "Reshape":
            target = node.inputs[1]
            assert target is not None
            tensor = ir.convenience.get_const_tensor(target)
            found.append(None if tensor is None else tensor.numpy().tolist())
    return found


def settled(graph: str, sizes: dict[str, tuple[int, ...]], *, symbols: bool = False) -> ir.Model:
    """Tidy a graph, check that it computes the same at these sizes, and return it."""
    model = parsed(graph)
    before = Artifact(ir.from_proto(ir.to_proto(model)))
    tidy(model, symbols=symbols)
    generator = np.random.default_rng(0)
    feeds = {n: generator.standard_normal(s).astype(np.float32) for n, s in sizes.items()}
    with Session(before) as old, Session(Artifact(model)) as new:
        expected, found = old.run(feeds), new.run(feeds)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
    return model


KEEPING = """keeping (float[B, T, 6] x) => (float[B, T, 2, 3] y)
<int64[1] zero = {0}, int64[1] one = {1}, int64[1] two = {2}, int64[2] tail = {2, 3}> {
    shape = Shape(x)
    batch = Slice(shape, zero, one)
    time = Slice(shape, one, two)
    target = Concat<axis = 0>(batch, time, tail)
    y = Reshape(x, target)
}"""


def test_dimensions_that_a_reshape_keeps_need_no_arithmetic() -> None:
    model = settled(KEEPING, {"x": (5, 7, 6)})
    assert [node.op_type for node in model.graph] == ["Reshape"]
    assert targets(model) == [[0, 0, 2, 3]]


def test_dimensions_that_change_places_are_not_kept() -> None:
    swapped = KEEPING.replace("(batch, time, tail)", "(time, batch, tail)")
    assert targets(settled(swapped, {"x": (5, 7, 6)})) == [None]


def test_one_unknown_dimension_is_left_to_the_runtime() -> None:
    joined = """joined (float[B, T, 6] x) => (float[N, 6] y)
    <int64 zero = {0}, int64 one = {1}, int64[1] first = {0}, int64[1] tail = {6}> {
        shape = Shape(x)
        batch = Gather(shape, zero)
        time = Gather(shape, one)
        both = Mul(batch, time)
        rows = Unsqueeze(both, first)
        target = Concat<axis = 0>(rows, tail)
        y = Reshape<allowzero = 1>(x, target)
    }"""
    model = settled(joined, {"x": (5, 7, 6)})
    assert targets(model) == [[-1, 6]]
    (node,) = model.graph
    assert "allowzero" not in node.attributes


def test_a_size_of_zero_is_not_taken_for_a_kept_one() -> None:
    empty = """empty (float[B, 0] x) => (float[0, N] y) <int64[1] none = {0}, int64[1] one = {1}> {
        rows = Shape<start = 0, end = 1>(x)
        target = Concat<axis = 0>(none, rows)
        y = Reshape<allowzero = 1>(x, target)
    }"""
    assert targets(settled(empty, {"x": (5, 0)})) == [None]


OTHERS = """others (float[B, 6] x, float[B, 3] other) => (float[B, 2, 3] y)
<int64[2] tail = {2, 3}, int64[2] places = {0, 0}> {
    rows = Shape<start = 0, end = 1>(other)
    twice = Concat<axis = 0>(rows, rows)
    row = Shape<start = 0, end = 1>(other)
    target = Concat<axis = 0>(row, tail)
    y = Reshape(x, target)
}"""


def test_dimensions_of_one_name_are_equal_only_where_torch_proved_it() -> None:
    proven = settled(OTHERS, {"x": (5, 6), "other": (5, 3)}, symbols=True)
    assert targets(proven) == [[0, 2, 3]]
    assumed = settled(OTHERS, {"x": (5, 6), "other": (5, 3)})
    assert targets(assumed) == [[-1, 2, 3]]  # right too, and true whatever the sizes are


STATES = """states (float[T, B, 4] x, float[1, 12, 4] w, float[1, 12, 4] r) => (float[T, D, B, 4] y)
<float zero = {VALUE}, int64[1] one = {1}, int64[1] four = {4}> {
    rows = Shape<start = 1, end = 2>(x)
    shape = Concat<axis = 0>(one, rows, four)
    state = Expand(zero, shape)
    y, last = GRU<hidden_size = 4>(x, w, r, , , state)
}"""


def test_a_layer_without_a_state_begins_with_zeros() -> None:
    sizes: dict[str, tuple[int, ...]] = {"x": (5, 3, 4), "w": (1, 12, 4), "r": (1, 12, 4)}
    model = settled(STATES.replace("VALUE", "0"), sizes)
    assert [node.op_type for node in model.graph] == ["GRU"]
    kept = settled(STATES.replace("VALUE", "0.5"), sizes)
    assert Counter(node.op_type for node in kept.graph)["Expand"] == 1


class Recurrent(nn.Module):
    """A recurrent layer whose sequence is looked at in several ways."""

    def __init__(self, kind: Callable[..., nn.Module]) -> None:
        super().__init__()
        self.layers = kind(16, 8, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(16, 12)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        batch, time, _ = x.shape
        y, _ = self.layers(x)
        scores = self.head(y.reshape(batch * time, 16)).view(batch, time, 3, 4)
        moved = y.view(batch, time, 4, 4).transpose(1, 2).reshape(batch, 4, -1)
        return y, scores.softmax(-1), moved.mean(-1)


@pytest.mark.parametrize(("name", "kind"), [("LSTM", nn.LSTM), ("GRU", nn.GRU), ("RNN", nn.RNN)])
def test_recurrent_networks_come_in_small(name: str, kind: Callable[..., nn.Module]) -> None:
    torch.manual_seed(0)
    result = convert(Recurrent(kind).eval(), inputs=("x:float32[batch,time,16]",))
    census = Counter(node.op_type for node in result.artifact.model.graph)
    assert census[name] == 2
    assert census["Expand"] == 0
    assert census["Slice"] == 0
    assert len(result.artifact.model.graph) <= 24  # the older route, which RNN takes, keeps more
    assert max(difference.max_rel for difference in result.parity) < 1e-5
