"""Pooling.

Source: MXNet ``src/operator/nn/pooling-inl.h``, ``nn/pool.h``, ``pooling_v1-inl.h``,
``contrib/adaptive_avg_pooling.cc``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from onnxsmith.pipeline.frontends.mxnet.call import Call, Family, Operator, SizesNeededError
from onnxsmith.pipeline.frontends.mxnet.graph import AttributeValue, dims_of

_LAYOUTS = ("NCW", "NCHW", "NCDHW")
_GLOBAL = {"max": "GlobalMaxPool", "avg": "GlobalAveragePool"}
_MAX_WINDOW = 2**20
_MAX_MEANS = 2**20


@dataclass(frozen=True)
class _Window:
    """A sliding window: one number for each axis.

    ``full`` counts the last window that only partly fits: ``ceil`` instead of ``floor``.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pad: tuple[int, ...]
    full: bool

    @property
    def size(self) -> int:
        return math.prod(self.kernel)

    @property
    def begin(self) -> list[int]:
        return list(self.pad)

    @property
    def end(self) -> list[int]:
        """Padding at the end that makes ``floor`` count what ``full`` counts."""
        extra = [s - 1 if self.full else 0 for s in self.stride]
        return [p + more for p, more in zip(self.pad, extra, strict=True)]

    @property
    def plain(self) -> bool:
        """Whether every window holds an element of the input.

        Where one does not, runtimes drop it or refuse the pads.
        """
        return all(p < k for p, k in zip(self.end, self.kernel, strict=True))

    def attributes(self, begin: list[int], end: list[int]) -> dict[str, AttributeValue]:
        return {
            "kernel_shape": list(self.kernel),
            "strides": list(self.stride),
            "pads": [*begin, *end],
        }


def pooling(call: Call) -> ir.Value:
    """The largest, mean, sum or norm of each window."""
    kind = call.attrs.text("pool_type", "max", ("max", "avg", "sum", "lp"))
    rank = call.rank()
    if not 3 <= rank <= 5:
        raise SizesNeededError(
            f"{call.node} slides over space, but its input has {rank} dimensions",
            "check the sizes in --input",
        )
    layout = call.attrs.text("layout", _LAYOUTS[rank - 3])
    if layout not in _LAYOUTS:
        return _channels_last(call, kind)
    return _pooling(call, call[0], kind)


def _channels_last(call: Call, kind: str) -> ir.Value:
    rank = call.rank()
    moved = call.graph.transpose(call[0], [0, rank - 1, *range(1, rank - 1)])
    return call.graph.transpose(_pooling(call, moved, kind), [0, *range(2, rank), 1])


def _pooling(call: Call, x: ir.Value, kind: str) -> ir.Value:
    if call.attrs.flag("global_pool", False):
        return _global(call, x, kind)
    window = _window(call, len(dims_of(x)) - 2)
    if call.attrs.text("pooling_convention", "valid") == "same":
        if kind != "max" or any(window.pad):
            raise call.refuse("the convention 'same' for other than max pooling without pads")
        end = [k - 1 for k in window.kernel]
        return call.graph.add("MaxPool", [x], window.attributes(window.begin, end))
    first = call.node.op == "Pooling_v1"
    if kind == "max":
        if first and any(window.pad):  # its padding is 0 and counts
            x = _pad(call, x, window.begin, window.begin, 0.0)
            window = replace(window, pad=(0,) * len(window.pad))
        return _max(call, x, window)
    if kind == "avg":
        if first:
            return _mean_of_whole(call, x, window)
        return _mean(call, x, window, padded=call.attrs.flag("count_include_pad", True))
    order = call.attrs.integer("p_value", 2) if kind == "lp" else 1
    if order == 1:
        total = _mean_of_whole(call, x, window)
        return call.graph.add("Mul", [total, call.graph.scalar(window.size, x, "size")])
    if order != 2:
        raise call.refuse(f"the norm of order {order}")
    x, begin, end = _with_pads(call, x, window, 0.0)
    return call.graph.add("LpPool", [x], {**window.attributes(begin, end), "p": 2})


def _max(call: Call, x: ir.Value, window: _Window) -> ir.Value:
    if window.full and window.plain:
        attributes = window.attributes(window.begin, window.begin)
        return call.graph.add("MaxPool", [x], {**attributes, "ceil_mode": 1})
    x, begin, end = _with_pads(call, x, window, -math.inf)
    return call.graph.add("MaxPool", [x], window.attributes(begin, end))


def _mean(call: Call, x: ir.Value, window: _Window, *, padded: bool) -> ir.Value:
    """Divide by the elements of the window within the input, or within it and its padding.

    What of the last window lies beyond the padding never counts.
    """
    begin = window.begin
    if padded and not window.full:
        return _mean_of_whole(call, x, window)
    if window.full and not window.plain:
        return _mean_by_count(call, x, window, padded=padded)
    if padded and any(begin):
        x, begin = _pad(call, x, begin, begin, 0.0), [0] * len(begin)
    attributes = window.attributes(begin, begin)
    if window.full:
        attributes["ceil_mode"] = 1
    return call.graph.add("AveragePool", [x], attributes)


def _mean_by_count(call: Call, x: ir.Value, window: _Window, *, padded: bool) -> ir.Value:
    """Divide by counts that are pooled themselves; a window beyond the input gives 0."""
    graph = call.graph
    rank = len(dims_of(x))
    one = ir.tensor(np.ones(1, (x.dtype or ir.DataType.FLOAT).numpy()))
    shape = graph.shape([1, 1, *((x, axis) for axis in range(2, rank))])
    counted = graph.add("ConstantOfShape", [shape], {"value": one})
    around = window
    if padded:
        counted = _pad(call, counted, window.begin, window.begin, 1.0)
        around = replace(window, pad=(0,) * len(window.pad))
    share = _mean_of_whole(call, counted, around)
    share = graph.add("Max", [share, graph.scalar(1e-6, x, "least")])
    return graph.add("Div", [_mean_of_whole(call, x, window), share])


def _mean_of_whole(call: Call, x: ir.Value, window: _Window) -> ir.Value:
    """Divide by the window's size, wherever it lies."""
    x, begin, end = _with_pads(call, x, window, 0.0)
    attributes = window.attributes(begin, end)
    if any(begin) or any(end):
        attributes["count_include_pad"] = 1
    return call.graph.add("AveragePool", [x], attributes)


def _with_pads(
    call: Call, x: ir.Value, window: _Window, value: float
) -> tuple[ir.Value, list[int], list[int]]:
    """Return the input and the pads that are left to the operator.

    Runtimes refuse pads of the kernel's size, so those become a node of their own.
    """
    if window.plain:
        return x, window.begin, window.end
    zeros = [0] * len(window.pad)
    return _pad(call, x, window.begin, window.end, value), zeros, zeros


def _pad(call: Call, x: ir.Value, begin: list[int], end: list[int], value: float) -> ir.Value:
    graph = call.graph
    pads = graph.integers([0, 0, *begin, 0, 0, *end], "pads")
    return graph.add("Pad", [x, pads, graph.scalar(value, x, "padding")])


def _global(call: Call, x: ir.Value, kind: str) -> ir.Value:
    if kind in _GLOBAL:
        return call.graph.add(_GLOBAL[kind], [x])
    axes = list(range(2, len(dims_of(x))))
    if kind == "sum" or call.attrs.integer("p_value", 2) == 1:
        return call.graph.reduce("ReduceSum", x, axes, keep=True)
    if call.attrs.integer("p_value", 2) != 2:
        raise call.refuse(f"the norm of order {call.attrs.integer('p_value', 2)}")
    return call.graph.reduce("ReduceL2", x, axes, keep=True)


def _window(call: Call, axes: int) -> _Window:
    kernel = call.attrs.integers("kernel")
    stride = call.attrs.integers("stride") or (1,) * axes
    pad = call.attrs.integers("pad") or (0,) * axes
    for name, numbers, low in (("kernel", kernel, 1), ("stride", stride, 1), ("pad", pad, 0)):
        if len(numbers) != axes or not all(low <= n <= _MAX_WINDOW for n in numbers):
            raise call.error(f"{name}={list(numbers)} does not fit an input of {axes} axes")
    convention = call.attrs.text("pooling_convention", "valid", ("valid", "full", "same"))
    return _Window(kernel, stride, pad, convention == "full")


def adaptive_average(call: Call) -> ir.Value:
    """Means of cells that divide height and width as evenly as they can.

    Cell i covers ``floor(i * in / out)`` to ``ceil((i + 1) * in / out)``.
    """
    wanted = call.attrs.integers("output_size") or (1,)
    wanted = wanted * 2 if len(wanted) == 1 else wanted
    if len(wanted) != 2 or call.rank() != 4:
        raise call.error(f"output_size={list(wanted)} does not fit an input of {call.rank()} axes")
    if wanted == (1, 1):
        return call.graph.add("GlobalAveragePool", [call[0]])
    sizes = (call.size(2), call.size(3))
    if min(*wanted, *sizes) < 1 or any(
        size * n > _MAX_MEANS for size, n in zip(sizes, wanted, strict=True)
    ):
        raise call.error(f"output_size={list(wanted)} is out of bounds")
    if all(size % n == 0 for size, n in zip(sizes, wanted, strict=True)):
        cell = [size // n for size, n in zip(sizes, wanted, strict=True)]
        attributes: dict[str, AttributeValue] = {"kernel_shape": cell, "strides": cell}
        return call.graph.add("AveragePool", [call[0]], attributes)
    dtype = (call[0].dtype or ir.DataType.FLOAT).numpy()
    rows = call.graph.constant(_means(sizes[0], wanted[0]).astype(dtype), "rows")
    columns = call.graph.constant(_means(sizes[1], wanted[1]).T.astype(dtype), "columns")
    return call.graph.add("MatMul", [call.graph.add("MatMul", [rows, call[0]]), columns])


def _means(size: int, cells: int) -> np.ndarray:
    """Return the matrix (cells, size) that takes the mean of each cell."""
    matrix = np.zeros((cells, size))
    for cell in range(cells):
        start, end = cell * size // cells, -(-(cell + 1) * size // cells)
        matrix[cell, start:end] = 1 / (end - start)
    return matrix


_POOLING = Operator(pooling, outputs=("output",))

OPERATORS: Family = {
    "Pooling": _POOLING,
    "Pooling_v1": _POOLING,
    "_npx_pooling": _POOLING,
    "_contrib_AdaptiveAvgPooling2D": Operator(adaptive_average),
}
