"""LSTM and RNN: recurrent layers whose state is kept or dropped step by step.

The second blob says for each step and sample whether the sequence goes on (1) or a new one
begins (0). Where it is a constant that only the first step interrupts, an LSTM is ONNX's own;
else the layer is a Scan over the steps. Caffe keeps the state from one call to the next; an ONNX
model has none, so a sequence begins with a state of 0, or with the blobs of ``expose_hidden``.
Source: BVLC Caffe, src/caffe/layers/recurrent_layer.cpp, lstm_layer.cpp, lstm_unit_layer.cpp,
rnn_layer.cpp.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxsmith.pipeline.frontends.caffe.builder import Array, Tensor
from onnxsmith.pipeline.frontends.caffe.dims import Dim, count
from onnxsmith.pipeline.frontends.caffe.layers.body import Body
from onnxsmith.pipeline.frontends.caffe.scope import Scope


@dataclass(frozen=True)
class _Shape:
    """Sizes: steps, samples, values a step, and units."""

    steps: Dim
    samples: Dim
    width: int
    units: int


def lstm(scope: Scope) -> list[Tensor]:
    """LSTM with the gates input, forget, output and candidate."""
    shape, states = _open(scope, 2)
    gates = 4 * shape.units
    at = 2 + _has_static(scope)
    if _is_plain(scope) and not states and not _has_static(scope):
        return [_plain(scope, shape, gates, at)]
    projected = _project(scope, shape, gates)
    recurrent = scope.weight(at, (gates, shape.units), "recurrent_weight")
    hidden, cell = states or [_zeros(scope, shape, name) for name in ("hidden", "cell")]
    body = Body(scope, [hidden, cell], [projected, _continuing(scope, shape)])
    h, c, x, cont = body.inputs
    kept = body.op("Mul", [h, cont])
    total = body.op("Add", [x, body.op("Gemm", [kept, recurrent.value], {"transB": 1})])
    parts = body.split(total, 4)
    i, f, o = (body.op("Sigmoid", [part]) for part in parts[:3])
    g = body.op("Tanh", [parts[3]])
    forgotten = body.op("Mul", [body.op("Mul", [cont, f]), c])
    new_c = body.op("Add", [forgotten, body.op("Mul", [i, g])])
    new_h = body.op("Mul", [o, body.op("Tanh", [new_c])])
    last_h, last_c, outputs = body.scan(
        [new_h, new_c], [new_h], (shape.steps, shape.samples, shape.units)
    )
    return [outputs, *_exposed(scope, shape, [last_h, last_c])]


def rnn(scope: Scope) -> list[Tensor]:
    """Plain recurrent layer: a hidden tanh, and a tanh of it as output."""
    shape, states = _open(scope, 1)
    units = shape.units
    at = 2 + _has_static(scope)
    projected = _project(scope, shape, units)
    recurrent = scope.weight(at, (units, units), "recurrent_weight")
    hidden = states[0] if states else _zeros(scope, shape, "hidden")
    body = Body(scope, [hidden], [projected, _continuing(scope, shape)])
    h, x, cont = body.inputs
    kept = body.op("Mul", [h, cont])
    total = body.op("Add", [x, body.op("Gemm", [kept, recurrent.value], {"transB": 1})])
    new_h = body.op("Tanh", [total])
    dims = (shape.steps, shape.samples, units)
    last_h, hiddens = body.scan([new_h], [new_h], dims)
    flat = scope.flatten(hiddens, 2)
    weight = scope.weight(at + 1, (units, units), "output_weight")
    bias = scope.weight(at + 2, (units,), "output_bias")
    found = scope.op("Gemm", [flat, weight, bias], flat.dims, {"transB": 1})
    outputs = scope.reshape(scope.op("Tanh", [found], flat.dims), dims)
    return [outputs, *_exposed(scope, shape, [last_h])]


def _open(scope: Scope, states: int) -> tuple[_Shape, list[Tensor]]:
    param = scope.param("recurrent_param")
    exposed = param.flag("expose_hidden", False)
    units = param.size("num_output", 0)
    bottom = scope.bottom(2 + exposed * states, 3 + exposed * states)
    if not units or bottom.rank < 3 or scope.bottoms[1].rank != 2:
        raise scope.refuse(
            f"it has {units} units and blobs of {bottom.rank} and {scope.bottoms[1].rank} "
            "dimensions",
            "give it T x N x ..., and T x N to tell where sequences begin",
        )
    (width,) = scope.known([count(bottom.dims[2:])])
    shape = _Shape(bottom.dims[0], bottom.dims[1], width, units)
    if not exposed:
        return shape, []
    dims = (shape.samples, units)
    return shape, [scope.reshape(one, dims) for one in scope.bottoms[-states:]]


def _has_static(scope: Scope) -> bool:
    """Return whether a blob that is the same at each step is fed beside the sequence."""
    exposed = scope.param("recurrent_param").flag("expose_hidden", False)
    states = (2 if scope.layer.type == "LSTM" else 1) * exposed
    return len(scope.bottoms) - states == 3


def _project(scope: Scope, shape: _Shape, gates: int) -> Tensor:
    """Multiply all steps by the input weights at once."""
    flat = scope.reshape(scope.bottoms[0], (shape.steps, shape.samples, shape.width))
    flat = scope.flatten(flat, 2)
    weight = scope.weight(0, (gates, shape.width), "weight")
    bias = scope.weight(1, (gates,), "bias")
    found = scope.op("Gemm", [flat, weight, bias], (flat.dims[0], gates), {"transB": 1})
    dims = (shape.steps, shape.samples, gates)
    steps = scope.reshape(found, dims)
    if not _has_static(scope):
        return steps
    static = scope.flatten(scope.bottoms[2], 1)
    (width,) = scope.known(static.dims[1:])
    fixed = scope.weight(2, (gates, width), "static_weight")
    more = scope.op("Gemm", [static, fixed], (static.dims[0], gates), {"transB": 1})
    return scope.op("Add", [steps, more], dims)


def _continuing(scope: Scope, shape: _Shape) -> Tensor:
    return scope.reshape(scope.bottoms[1], (shape.steps, shape.samples, 1))


def _zeros(scope: Scope, shape: _Shape, label: str) -> Tensor:
    """Return a state of zeros for each sample."""
    zero = scope.constant(np.zeros((1, shape.units), np.float32), label)
    if shape.samples == 1:
        return zero
    if isinstance(shape.samples, int):
        return scope.constant(np.zeros((shape.samples, shape.units), np.float32), f"{label}s")
    first = scope.reduce("ReduceSum", _continuing(scope, shape), [0], keep=False)
    nothing = scope.op("Mul", [first, scope.scalar(0, "zero")], first.dims)
    return scope.op("Add", [nothing, zero], (shape.samples, shape.units))


def _exposed(scope: Scope, shape: _Shape, states: list[Tensor]) -> list[Tensor]:
    if not scope.param("recurrent_param").flag("expose_hidden", False):
        return []
    return [scope.reshape(one, (1, shape.samples, shape.units)) for one in states]


def _is_plain(scope: Scope) -> bool:
    """Return whether only the first step begins a sequence, or none does."""
    cont = scope.bottoms[1].constant
    return cont is not None and bool((cont[1:] == 1).all())


def _plain(scope: Scope, shape: _Shape, gates: int, at: int) -> Tensor:
    # Caffe orders the gates input, forget, output, candidate; ONNX input, output, forget, it.
    order = [0, 2, 1, 3]

    def turned(index: int, sizes: tuple[int, ...], label: str) -> Array:
        array = scope.array(index, sizes, label)
        return np.concatenate([np.split(array, 4)[gate] for gate in order])

    weight = turned(0, (gates, shape.width), "weight")
    bias = turned(1, (gates,), "bias")
    recurrent = turned(at, (gates, shape.units), "recurrent_weight")
    bottom = scope.reshape(scope.bottoms[0], (shape.steps, shape.samples, shape.width))
    inputs = [
        bottom,
        scope.constant(weight[None], "weight"),
        scope.constant(recurrent[None], "recurrent_weight"),
        scope.constant(np.concatenate([bias, np.zeros_like(bias)])[None], "bias"),
    ]
    found = scope.op(
        "LSTM",
        inputs,
        (shape.steps, 1, shape.samples, shape.units),
        {"hidden_size": shape.units},
    )
    axes = scope.integers([1], "axes")
    return scope.op("Squeeze", [found, axes], (shape.steps, shape.samples, shape.units))
