"""Optimizers against their formulas in numpy, step by step, in place."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from onnxsmith.passes.autodiff.in_place import overwritten_too_early
from onnxsmith.pipeline.training.graphs import update_graph
from onnxsmith.pipeline.training.optimizers.table import OPTIMIZERS, make_optimizer
from onnxsmith.runtime.memory import Memory
from onnxsmith.runtime.session import Session

SIZE, STEPS, RATE = 37, 6, 0.05
Formula = Callable[[np.ndarray, np.ndarray, dict[str, np.ndarray], int], np.ndarray]


def _sgd(p, g, s, t):  # type: ignore[no-untyped-def]
    return p - RATE * (g + 0.1 * p)


def _momentum(nesterov: bool) -> Formula:
    def step(p, g, s, t):  # type: ignore[no-untyped-def]
        s["v"] = 0.9 * s.get("v", 0) + g
        return p - RATE * (g + 0.9 * s["v"] if nesterov else s["v"])

    return step


def _rmsprop(p, g, s, t):  # type: ignore[no-untyped-def]
    s["q"] = 0.99 * s.get("q", 0) + 0.01 * g * g
    return p - RATE * g / (np.sqrt(s["q"]) + 1e-8)


def _adagrad(p, g, s, t):  # type: ignore[no-untyped-def]
    s["q"] = s.get("q", 0) + g * g
    return p - RATE * g / (np.sqrt(s["q"]) + 1e-10)


def _adam(decay: float = 0.0, apart: float = 0.0) -> Formula:
    def step(p, g, s, t):  # type: ignore[no-untyped-def]
        g = g + decay * p
        s["m"] = 0.9 * s.get("m", 0) + 0.1 * g
        s["q"] = 0.999 * s.get("q", 0) + 0.001 * g * g
        mean, square = s["m"] / (1 - 0.9**t), s["q"] / (1 - 0.999**t)
        return p * (1 - RATE * apart) - RATE * mean / (np.sqrt(square) + 1e-8)

    return step


def _lion(p, g, s, t):  # type: ignore[no-untyped-def]
    old = s.get("m", np.zeros_like(p))
    s["m"] = 0.99 * old + 0.01 * g
    return p * (1 - RATE * 0.1) - RATE * np.sign(0.9 * old + 0.1 * g)


def _lamb(p, g, s, t):  # type: ignore[no-untyped-def]
    s["m"] = 0.9 * s.get("m", 0) + 0.1 * g
    s["q"] = 0.999 * s.get("q", 0) + 0.001 * g * g
    way = s["m"] / (1 - 0.9**t) / (np.sqrt(s["q"] / (1 - 0.999**t)) + 1e-6) + 0.01 * p
    return p - RATE * np.linalg.norm(p) / np.linalg.norm(way) * way


CASES: dict[str, Formula] = {
    "sgd:decay=0.1": _sgd,
    "momentum": _momentum(False),
    "nesterov": _momentum(True),
    "rmsprop": _rmsprop,
    "adagrad": _adagrad,
    "adam:decay=0.1": _adam(decay=0.1),
    "adamw:decay=0.1": _adam(apart=0.1),
    "lion:decay=0.1": _lion,
    "lamb": _lamb,
}


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("text", CASES)
def test_updates_in_place_are_the_formula(text: str, fused: bool) -> None:
    rng = np.random.default_rng(2)
    optimizer = make_optimizer(text)
    start = rng.normal(size=SIZE)
    gradients = rng.normal(size=(STEPS, SIZE))
    made = update_graph(optimizer, ir.DataType.FLOAT, ("size",), average=0.9, fused=fused)
    words = ("parameter", "gradient", "average", *optimizer.states)
    held = {word: Memory(SIZE, np.dtype(np.float32)) for word in words}
    scalars = {word: Memory(1, np.dtype(np.float32)) for word in ("rate", "step", "scale")}
    held["parameter"].write(start)
    held["average"].write(start)
    scalars["rate"].write(np.array([RATE]))
    scalars["scale"].write(np.array([0.5]))
    expected, average, states = start.copy(), start.copy(), {}
    with Session(made, threads=2) as session:
        binding = session.bind()
        for word, memory in {**held, **scalars}.items():
            view = memory.whole() if word in held else memory.view(0, ())
            binding.set_view(word, view)
        for value in session.spec.outputs:
            binding.set_view(value.name, held[value.name[4:]].whole(), output=True)
        for number, gradient in enumerate(gradients, 1):
            held["gradient"].write(2 * gradient)
            scalars["step"].write(np.array([number]))
            binding.run()
            expected = CASES[text](expected, gradient, states, number)
            average = 0.9 * average + 0.1 * expected
            np.testing.assert_allclose(held["parameter"].read(), expected, rtol=3e-5, atol=2e-6)
            np.testing.assert_allclose(held["average"].read(), average, rtol=3e-5, atol=2e-6)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_nothing_is_read_after_it_was_written_over(name: str, fused: bool) -> None:
    optimizer = make_optimizer(f"{name}:decay=0.1")
    made = update_graph(
        optimizer, ir.DataType.FLOAT, (12,) if fused else (3, 4), average=0.9, masked=True,
        fused=fused,
    )  # fmt: skip
    places = {value.name: value.name[4:] for value in made.spec.outputs}
    assert overwritten_too_early(made.model, places) == []


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("text", ["adam", "adamw:decay=0.1", "momentum", "rmsprop"])
def test_a_rate_of_zero_moves_nothing(text: str, fused: bool) -> None:
    optimizer = make_optimizer(text)
    made = update_graph(optimizer, ir.DataType.FLOAT, ("size",), scaled=False, fused=fused)
    start = np.array([1.0, -2.0, 0.0, 1e-20], np.float32)
    feeds = {"parameter": start, "gradient": np.array([3.0, -1e-9, 1e4, 0.0], np.float32)}
    feeds |= {"rate": np.array(0, np.float32), "step": np.array(1, np.float32)}
    feeds |= {word: np.zeros(4, np.float32) for word in optimizer.states}
    wanted = {value.name for value in made.spec.inputs}
    with Session(made) as session:
        found = session.run({k: v for k, v in feeds.items() if k in wanted})["new_parameter"]
    np.testing.assert_allclose(found, start, rtol=0, atol=1e-37)


def test_one_operator_multiplies_and_adds_where_it_may() -> None:
    def kinds(dtype: ir.DataType, shape: tuple[int | str, ...], fused: bool) -> list[str]:
        made = update_graph(make_optimizer("adam"), dtype, shape, scaled=False, fused=fused)
        return [node.op_type for node in made.model.graph]

    assert kinds(ir.DataType.FLOAT, ("size",), True).count("BatchNormalization") == 3
    assert kinds(ir.DataType.DOUBLE, ("size",), True).count("BatchNormalization") == 3
    assert "BatchNormalization" not in kinds(ir.DataType.FLOAT, ("size",), False)
    assert "BatchNormalization" not in kinds(ir.DataType.FLOAT16, ("size",), True)
    assert "BatchNormalization" not in kinds(ir.DataType.FLOAT, (3, 4), True)


def test_a_reader_that_may_come_late_is_seen() -> None:
    made = update_graph(make_optimizer("momentum"), ir.DataType.FLOAT, (3,))
    graph = made.model.graph
    state = next(value for value in graph.inputs if value.name == "velocity")
    late = ir.node("Exp", [state])
    late.outputs[0].name = "late"
    graph.append(late)
    graph.outputs.append(late.outputs[0])
    assert overwritten_too_early(made.model, {"new_velocity": "velocity"}) == ["velocity"]


@pytest.mark.parametrize("text", ["sgd:decay=0.5", "adamw:decay=0.5", "lamb:decay=0.5"])
def test_decay_leaves_a_group_alone(text: str) -> None:
    rng = np.random.default_rng(3)
    start, gradient = rng.normal(size=(2, SIZE)).astype(np.float32)
    name = text.partition(":")[0]
    found: dict[str, np.ndarray] = {}
    group = (np.arange(SIZE) % 2).astype(np.float32)
    for case, ones in {"mixed": group, "all": None, "none": 0 * group}.items():
        made = update_graph(
            make_optimizer(text if case != "none" else f"{name}:decay=0"),
            ir.DataType.FLOAT, (SIZE,), scaled=False, grouped=ones is not None,
        )  # fmt: skip
        feeds = {"parameter": start, "gradient": gradient, "rate": np.float32(RATE)}
        feeds |= {"step": np.float32(1)} | ({"decays": ones} if case == "mixed" else {})
        feeds |= {word: np.zeros(SIZE, np.float32) for word in make_optimizer(text).states}
        wanted = {value.name for value in made.spec.inputs}
        with Session(made) as session:
            result = session.run({k: np.asarray(v) for k, v in feeds.items() if k in wanted})
        found[case] = result["new_parameter"]
    assert not np.allclose(found["all"], found["none"])
    if name == "lamb":  # its step is as long as the parameters, whatever decays
        assert not np.allclose(found["mixed"], found["all"])
        return
    np.testing.assert_allclose(found["mixed"][1::2], found["all"][1::2], rtol=1e-6)
    np.testing.assert_allclose(found["mixed"][::2], found["none"][::2], rtol=1e-6)
