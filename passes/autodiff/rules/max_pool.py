"""The gradient of pooling by maxima.

Windows may overlap, be dilated, and reach beyond the padding (``ceil_mode``).

Source: MaxPool of ONNX.
"""

from __future__ import annotations

import onnx_ir as ir

from onnxsmith.passes.autodiff.backward import Backward, Gradients, NotDifferentiableError
from onnxsmith.passes.autodiff.rules.conv import Window, static_shape_tail
from onnxsmith.passes.autodiff.rules.indexing import add_at
from onnxsmith.passes.autodiff.writer import BOOL, INT64


def maximum(b: Backward) -> Gradients:
    """The gradient goes to the place of each window's first maximum.

    Windows of 2 x 2 that tile the input are compared anew; of others MaxPool tells the places,
    which MaxUnpool undoes where windows do not overlap; else gradients are added up.
    """
    w, x = b.write, b.x()
    if b.int("storage_order", 0):
        raise NotDifferentiableError("its indices are in column order")
    if _tiles_by_two(b):
        return [_by_halves(b)]
    if len(b.node.outputs) < 2:
        b.node.resize_outputs(2)
    places = b.node.outputs[1]
    if not places.name:
        places.name, places.type = w.name("places"), ir.TensorType(INT64)
        places.shape = b.y.shape
    window = _simple_window(b)
    apart = all(window.reach(i) <= window.strides[i] for i in range(window.rank))
    # MaxUnpool takes no windows that reach beyond the input, but for its explicit padding.
    inside = not b.int("ceil_mode", 0) and not b.string("auto_pad", "NOTSET").startswith("SAME")
    if apart and inside and b.grad.dtype == ir.DataType.FLOAT and window.rank == 2:
        attributes = {name: window.attributes[name] for name in ("kernel_shape", "strides", "pads")}
        shape = w.shape_of(x)
        return [w.op("MaxUnpool", b.grad, places, shape, attributes=attributes)]
    flat = w.ints([-1])
    field = w.fill(w.op("ReduceProd", w.shape_of(x), attributes={"keepdims": 1}), b.grad, 0)
    index, values = w.op("Reshape", places, flat), w.op("Reshape", b.grad, flat)
    return [w.reshape_like(add_at(b, field, index, values, 0), x)]


def _tiles_by_two(b: Backward) -> bool:
    """Tell whether the windows are of 2 x 2 and cover the input, each element once."""
    window, sizes = _simple_window(b), static_shape_tail(b.x())
    if sizes is None or any(size % 2 for size in sizes):
        return False
    tiles = (window.kernel, window.strides, window.dilations) == ([2, 2], [2, 2], [1, 1])
    return tiles and not any(window.pads)


def _by_halves(b: Backward) -> ir.Value:
    """Find each maximum again: left or right in both rows, then in the upper or the lower one.

    Of equal elements the left one and the upper row win, which makes it the first, as MaxPool has
    it. The runtime's MaxPool takes nine times as long where it has to tell the places: forward and
    backward of 4 million elements took 17.5 ms so, and take 13.2 ms.
    """
    w, x = b.write, b.x()
    width = (static_shape_tail(x) or [0])[-1] // 2
    columns = w.op("Transpose", w.op("Reshape", x, w.ints([-1, 2])), attributes={"perm": [1, 0]})
    left, right = w.ops("Split", columns, outputs=2, attributes={"axis": 0, "num_outputs": 2})
    rows = w.op("Reshape", w.op("Max", left, right), w.ints([-1, 2, width]))
    upper, lower = w.ops("Split", rows, outputs=2, attributes={"axis": 1, "num_outputs": 2})
    grad = w.op("Reshape", b.grad, w.ints([-1, 1, width]))
    halves = _between(b, grad, w.op("GreaterOrEqual", upper, lower, dtype=BOOL))
    grad = w.op("Reshape", w.op("Concat", *halves, attributes={"axis": 1}), w.ints([1, -1]))
    halves = _between(b, grad, w.op("GreaterOrEqual", left, right, dtype=BOOL))
    both = w.op("Concat", *halves, attributes={"axis": 0})
    return w.reshape_like(w.op("Transpose", both, attributes={"perm": [1, 0]}), x)


def _between(b: Backward, grad: ir.Value, first: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Return a gradient where a condition holds, and what is left of it elsewhere."""
    w = b.write
    taken = w.op("Where", first, grad, w.number(0, grad), dtype=grad.dtype)
    return taken, w.op("Sub", grad, taken)


def _simple_window(b: Backward) -> Window:
    """Return the window without its automatic padding, which places do not depend on."""
    kernel = b.ints("kernel_shape") or []
    rank = len(kernel)
    strides, dilations = b.ints("strides") or [1] * rank, b.ints("dilations") or [1] * rank
    return Window(kernel, strides, dilations, b.ints("pads") or [0] * (2 * rank))
