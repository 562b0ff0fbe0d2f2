"""Gradients over generated shapes: ranks, broadcasting, axes, sizes known or not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from tests.passes.autodiff.checking import check_gradients, model_of

Rng = np.random.Generator
Case = tuple[str, dict[str, np.ndarray]]
"""What makes ``t`` from the inputs, and the inputs; those of floats are differentiated by."""


def floats(rng: Rng, *shape: int) -> np.ndarray:
    """Return values of which no two are near, none near zero."""
    count = max(int(np.prod(shape)), 1)
    values = (rng.permutation(count) + 0.7) / count - 0.5
    return np.asarray(values, np.float32).reshape(shape)


def shape_of(rng: Rng, low: int = 1, high: int = 4) -> tuple[int, ...]:
    """Return between ``low`` and ``high`` sizes, one of them often 1."""
    return tuple(int(size) for size in rng.integers(1, 4, rng.integers(low, high + 1)))


def signed(rng: Rng, axis: int, rank: int) -> int:
    """Return an axis from the front or from the end."""
    return axis - rank if rng.random() < 0.5 else axis


def narrowed(rng: Rng, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape that broadcasts to another."""
    kept = shape[int(rng.integers(0, len(shape) + 1)) :]
    return tuple(1 if rng.random() < 0.4 else size for size in kept)


def binary(rng: Rng) -> Case:
    kind = rng.choice(["Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "PRelu", "Where"])
    shape = shape_of(rng)
    x, y = floats(rng, *shape), floats(rng, *narrowed(rng, shape))
    if kind in ("Div", "Pow"):
        x, y = np.abs(x) + 0.5, np.abs(y) + 0.5
    feeds = {"x": np.asarray(x, np.float32), "k": np.asarray(y, np.float32)}
    if kind == "Where":
        return "t = Where(c, x, k)", {**feeds, "c": rng.random(shape) < 0.5}
    if kind in ("Min", "Max") and rng.random() < 0.5:
        return f"t = {kind}(k, x)", feeds
    return f"t = {kind}(x, k)", feeds


def reduction(rng: Rng) -> Case:
    kinds = ["Sum", "Mean", "Max", "Min", "L1", "L2", "Prod", "SumSquare", "LogSumExp"]
    shape = shape_of(rng)
    rank = len(shape)
    count = int(rng.integers(1, rank + 1))
    axes = [signed(rng, int(axis), rank) for axis in rng.permutation(rank)[:count]]
    call = f"Reduce{rng.choice(kinds)} <keepdims = {rng.integers(2)}>"
    return f"a = Constant <value_ints = {axes}> () t = {call} (x, a)", {"x": floats(rng, *shape)}


def product(rng: Rng) -> Case:
    lead = shape_of(rng, 0, 2)
    m, k, n = (int(size) for size in rng.integers(1, 4, 3))
    left, right = (*lead, m, k), (*narrowed(rng, lead), k, n)
    if rng.random() < 0.3:
        left, right = (*narrowed(rng, lead), m, k), (*lead, k, n)
    return "t = MatMul(x, k)", {"x": floats(rng, *left), "k": floats(rng, *right)}


def convolution(rng: Rng) -> Case:
    rank = int(rng.integers(1, 4))
    group = int(rng.choice([1, 2, 3]))
    inner, outer = group * int(rng.integers(1, 3)), group * int(rng.integers(1, 3))
    kernel = [int(k) for k in rng.integers(1, 4 if rank < 3 else 3, rank)]
    strides, dilations = ([int(s) for s in rng.integers(1, 3, rank)] for _ in range(2))
    pads = [int(p) for p in rng.integers(0, 2, 2 * rank)]
    sizes = [
        d * (k - 1) + 1 + int(rng.integers(0, 3)) for k, d in zip(kernel, dilations, strict=True)
    ]
    options = f"strides = {strides}, dilations = {dilations}, pads = {pads}, group = {group}"
    feeds = {
        "x": floats(rng, 2, inner, *sizes),
        "w": floats(rng, outer, inner // group, *kernel),
        "b": floats(rng, outer),
    }
    return f"t = Conv <{options}> (x, w, b)", feeds


def pooling(rng: Rng) -> Case:
    rank = int(rng.integers(1, 4))
    kernel = [int(k) for k in rng.integers(2, 4, rank)]
    strides = [int(s) for s in rng.integers(1, 4, rank)]
    # The evaluator does not pad maxima along one dimension.
    pads = [int(p) for p in rng.integers(0, 2 if rank > 1 else 1, 2 * rank)]
    sizes = [k + int(rng.integers(1, 4)) for k in kernel]
    kind = rng.choice(["MaxPool", "AveragePool"])
    options = f"kernel_shape = {kernel}, strides = {strides}, pads = {pads}"
    if kind == "AveragePool":
        options += f", count_include_pad = {rng.integers(2)}"
    return f"t = {kind} <{options}> (x)", {"x": floats(rng, 1, 2, *sizes)}


def moving(rng: Rng) -> Case:
    shape = shape_of(rng, 2)
    rank, axis = len(shape), int(rng.integers(len(shape)))
    place = signed(rng, axis, rank)
    order = [int(i) for i in rng.permutation(rank)]
    low, high = int(rng.integers(-4, 3)), int(rng.integers(1, 5))
    step = int(rng.choice([1, 1, 2, -1]))
    first, last = (high, -9) if step < 0 else (min(low, 0), high)
    copies = [int(r) for r in rng.integers(1, 3, rank)]
    calls = [
        f"t = Transpose <perm = {order}> (x)",
        f"t = Concat <axis = {place}> (x, x)",
        f"t = Softmax <axis = {place}> (x)",
        f"t = LogSoftmax <axis = {place}> (x)",
        f"t = Flatten <axis = {place}> (x)",
        f"a = Constant <value_ints = [{place}]> () t = Unsqueeze(x, a)",
        f"s = Constant <value_ints = [{first}]> () e = Constant <value_ints = [{last}]> ()"
        f"a = Constant <value_ints = [{place}]> () d = Constant <value_ints = [{step}]> ()"
        "t = Slice(x, s, e, a, d)",
        f"a = Constant <value_int = {place}> () t = CumSum <exclusive = {rng.integers(2)},"
        f"reverse = {rng.integers(2)}> (x, a)",
        f"r = Constant <value_ints = {copies}> () t = Tile(x, r)",
        f"p = Constant <value_ints = {[int(p) for p in rng.integers(0, 3, 2 * rank)]}> ()"
        "t = Pad(x, p)",
        f"t = Trilu <upper = {rng.integers(2)}> (x)",
    ]
    return str(rng.choice(calls)), {"x": floats(rng, *shape)}


def picking(rng: Rng) -> Case:
    shape = shape_of(rng)
    rank, axis = len(shape), int(rng.integers(len(shape)))
    place, size = signed(rng, axis, rank), shape[axis]
    if rng.random() < 0.5:
        indices = rng.integers(-size, size, shape_of(rng, 0, 2))
        return f"t = Gather <axis = {place}> (x, i)", {"x": floats(rng, *shape), "i": indices}
    wide = tuple(int(rng.integers(1, s + 1)) if i == axis else s for i, s in enumerate(shape))
    indices = rng.integers(-size, size, wide)
    return f"t = GatherElements <axis = {place}> (x, i)", {"x": floats(rng, *shape), "i": indices}


def normalization(rng: Rng) -> Case:
    shape = (2, 4, *(int(size) for size in rng.integers(2, 4, rng.integers(1, 3))))
    kind = rng.choice(["Layer", "Instance", "Group"])
    x = floats(rng, *shape)
    if kind == "Layer":
        axis = int(rng.integers(1, len(shape)))
        size = shape[axis:]
        call = f"LayerNormalization <axis = {signed(rng, axis, len(shape))}>"
    elif kind == "Instance":
        call, size = "InstanceNormalization", (4,)
    else:
        call, size = f"GroupNormalization <num_groups = {rng.choice([1, 2])}>", (4,)
    return f"t = {call} (x, s, b)", {"x": x, "s": floats(rng, *size), "b": floats(rng, *size)}


FAMILIES: dict[str, tuple[Callable[[Rng], Case], int]] = {
    "binary": (binary, 16),
    "reduction": (reduction, 14),
    "product": (product, 8),
    "convolution": (convolution, 10),
    "pooling": (pooling, 8),
    "moving": (moving, 20),
    "picking": (picking, 8),
    "normalization": (normalization, 6),
}
CASES = [(family, number) for family, (_, count) in FAMILIES.items() for number in range(count)]


@pytest.mark.parametrize(("family", "number"), CASES)
def test_generated(family: str, number: int) -> None:
    """``y = sum((t^2 + t) sin(place))``, with sizes that are known, or when it runs alone."""
    rng = np.random.default_rng([number, *family.encode()])
    body, feeds = FAMILIES[family][0](rng)
    open_ = number % 2 == 1 and family != "normalization"
    kinds = []
    for name, value in feeds.items():
        kind = {"f": "float", "i": "int64", "b": "bool"}[value.dtype.kind]
        fixed = not open_ or name in "wsb"
        sizes = [str(s) if fixed else f"{name}{i}" for i, s in enumerate(value.shape)]
        kinds.append(f"{kind}[{', '.join(sizes)}] {name}" if sizes else f"{kind} {name}")
    tail = (
        "f = Constant <value_ints = [-1]> () v = Reshape(t, f) n = Size(t)"
        "z = Constant <value_int = 0> () o = Constant <value_int = 1> () g = Range(z, n, o)"
        "h = Cast <to = 1> (g) u = Sin(h) q = Mul(v, v) j = Add(q, v) m = Mul(u, j)"
        "y = ReduceSum <keepdims = 0> (m)"
    )
    text = f"g ({', '.join(kinds)}) => (float y) {{ {body} {tail} }}"
    wrt = [name for name, value in feeds.items() if value.dtype == np.float32]
    check_gradients(model_of(text), feeds, wrt)
