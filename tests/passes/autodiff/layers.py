"""Recurrent layers in numpy, step by step, for ONNX's reference evaluator: it has no directions."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx.reference.op_run import OpRun

Array = np.ndarray[Any, Any]


def sigmoid(x: Array) -> Array:
    """Return the logistic function."""
    result: Array = 1 / (1 + np.exp(-x))
    return result


class _Layer(OpRun):  # type: ignore[misc]  # onnx publishes no types for it
    """A layer: subclasses do one step for one sample."""

    gates = 1
    states = 1

    def step(self, x: Array, r: Array, b: Array, state: list[Array], **options: Any) -> list[Array]:
        raise NotImplementedError

    def layer(
        self, inputs: tuple[Array | None, ...], direction: str, **options: Any
    ) -> list[Array]:
        x, w, r = inputs[:3]
        assert x is not None
        assert w is not None
        assert r is not None
        rest = [*inputs[3:], *[None] * 5][:5]
        steps, batch, _ = x.shape
        ways = ["forward", "reverse"] if direction == "bidirectional" else [direction]
        size = r.shape[2]
        bias = np.zeros((len(ways), 2 * self.gates * size)) if rest[0] is None else rest[0]
        lengths = np.full(batch, steps) if rest[1] is None else rest[1]
        zero = np.zeros((len(ways), batch, size))
        states = [zero if s is None else s for s in rest[2 : 2 + self.states]]
        hidden = np.zeros((steps, len(ways), batch, size))
        last = [np.zeros_like(zero) for _ in states]
        for d, way in enumerate(ways):
            if self.states == 2:
                options["peepholes"] = None if rest[4] is None else rest[4][d]
            half = bias[d, : self.gates * size], bias[d, self.gates * size :]
            for n in range(batch):
                state = [s[d, n] for s in states]
                order = range(lengths[n])
                for t in order if way == "forward" else reversed(order):
                    given = x[t, n] @ w[d].T + half[0]
                    state = self.step(given, r[d], half[1], state, **options)
                    hidden[t, d, n] = state[0]
                for kept, value in zip(last, state, strict=True):
                    kept[d, n] = value
        return [hidden, *last]


class RNN(_Layer):
    """``h' = f(W x + R h + b)``."""

    def step(self, x: Array, r: Array, b: Array, state: list[Array], **options: Any) -> list[Array]:
        functions = {"Tanh": np.tanh, "Relu": lambda v: np.maximum(v, 0), "Sigmoid": sigmoid}
        names = options["activations"] or ["Tanh"]
        return [functions[names[0]](x + state[0] @ r.T + b)]

    def _run(
        self,
        *inputs: Array | None,
        activations: list[str] | None = None,
        direction: str = "forward",
        hidden_size: int = 0,
        **unused: Any,
    ) -> tuple[Array, ...]:
        return tuple(self.layer(inputs[:6], direction, activations=activations)[:2])


class GRU(_Layer):
    """``h' = (1 - z) n + z h``."""

    gates = 3

    def step(self, x: Array, r: Array, b: Array, state: list[Array], **options: Any) -> list[Array]:
        h, size = state[0], r.shape[1]
        part = [slice(i * size, (i + 1) * size) for i in range(3)]
        z = sigmoid(x[part[0]] + r[part[0]] @ h + b[part[0]])
        reset = sigmoid(x[part[1]] + r[part[1]] @ h + b[part[1]])
        if options["after"]:
            inner = reset * (r[part[2]] @ h + b[part[2]])
        else:
            inner = r[part[2]] @ (reset * h) + b[part[2]]
        new = np.tanh(x[part[2]] + inner)
        return [(1 - z) * new + z * h]

    def _run(
        self,
        *inputs: Array | None,
        direction: str = "forward",
        hidden_size: int = 0,
        linear_before_reset: int = 0,
        **unused: Any,
    ) -> tuple[Array, ...]:
        return tuple(self.layer(inputs[:6], direction, after=linear_before_reset)[:2])


class LSTM(_Layer):
    """``c' = f c + i g`` and ``h' = o tanh(c')``."""

    gates = 4
    states = 2

    def step(self, x: Array, r: Array, b: Array, state: list[Array], **options: Any) -> list[Array]:
        i, o, f, g = np.split(x + r @ state[0] + b, 4)
        views = options["peepholes"]
        pi, po, pf = (0, 0, 0) if views is None else np.split(views, 3)
        clip = options["clip"] or np.inf

        def cut(v: Array) -> Array:
            return np.clip(v, -clip, clip)

        i, f = sigmoid(cut(i + pi * state[1])), sigmoid(cut(f + pf * state[1]))
        cell = f * state[1] + i * np.tanh(cut(g))
        return [sigmoid(cut(o + po * cell)) * np.tanh(cell), cell]

    def _run(
        self,
        *inputs: Array | None,
        direction: str = "forward",
        hidden_size: int = 0,
        clip: float | None = None,
        **unused: Any,
    ) -> tuple[Array, ...]:
        return tuple(self.layer(inputs, direction, clip=clip))
