"""Images in other sizes, and sampled at other places.

Source: MXNet ``src/operator/nn/upsampling-inl.h``, ``contrib/bilinear_resize-inl.h``,
``bilinear_sampler.cc``, ``grid_generator-inl.h``, ``spatial_transformer.cc``.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnxsmith.pipeline.frontends.mxnet.call import Call, Family, Operator
from onnxsmith.pipeline.frontends.mxnet.graph import AttributeValue, Part

_MAX_SCALE = 1024
_MAX_GRID = 2**20


def upsampling(call: Call) -> ir.Value:
    """Each pixel repeated, or a transposed convolution with the weight that is given."""
    scale = call.attrs.bounded("scale", 1, 1, _MAX_SCALE)
    kind = call.attrs.text("sample_type", "nearest", ("nearest", "bilinear"))
    if call.rank() != 4:
        raise call.error("its input has no height and width")
    if kind == "bilinear":
        return _bilinear(call, scale)
    values = [_repeated(call, number, scale) for number in range(len(call.inputs))]
    if len(values) == 1:
        return values[0]
    if call.attrs.text("multi_input_mode", "concat", ("concat", "sum")) == "sum":
        return call.graph.add("Sum", values)
    return call.graph.add("Concat", values, {"axis": 1})


def _repeated(call: Call, number: int, scale: int) -> ir.Value:
    """Bring an input to the first one's size times the scale."""
    if number:
        wanted, have = call.size(2) * scale, call.size(2, number)
        if not have or wanted % have:
            raise call.error(f"a height of {have} does not go into {wanted}")
        scale = wanted // have
    factors = call.graph.constant(np.array([1, 1, scale, scale], np.float32), "scales")
    attributes: dict[str, AttributeValue] = {
        "coordinate_transformation_mode": "asymmetric",
        "mode": "nearest",
        "nearest_mode": "floor",
    }
    return call.graph.add("Resize", [call[number], None, factors], attributes)


def _bilinear(call: Call, scale: int) -> ir.Value:
    kernel = 2 * scale - scale % 2
    pad = (scale - 1 + 1) // 2
    attributes: dict[str, AttributeValue] = {
        "kernel_shape": [kernel, kernel],
        "strides": [scale, scale],
        "pads": [pad] * 4,
        "group": call.attrs.bounded("num_filter", 1, 1, 2**20),
    }
    return call.graph.add("ConvTranspose", [call[0], call[1]], attributes)


def bilinear_resize(call: Call) -> ir.Value:
    """Height and width as given, as scaled, or as another array's."""
    graph, x = call.graph, call[0]
    mode = call.attrs.text("mode", "size")
    corners = call.attrs.flag("align_corners", True)
    attributes: dict[str, AttributeValue] = {
        "mode": "linear",
        "coordinate_transformation_mode": "align_corners" if corners else "pytorch_half_pixel",
    }
    sizes: list[Part] = []
    if mode == "like":
        sizes = [(call[1], 2), (call[1], 3)]
    elif mode != "size":
        raise call.refuse(f"the mode {mode[:20]!r}")
    elif call.attrs.has("scale_height") or call.attrs.has("scale_width"):
        for name, axis in (("scale_height", 2), ("scale_width", 3)):
            sizes.append(int(call.attrs.number(name, 1.0) * call.size(axis)))
    else:
        sizes = [call.attrs.bounded(name, 1, 1, 2**24) for name in ("height", "width")]
    if graph.opset >= 18:
        attributes["axes"] = [2, 3]
        return graph.add("Resize", [x, None, None, graph.shape(sizes)], attributes)
    return graph.add("Resize", [x, None, None, graph.shape([(x, 0), (x, 1), *sizes])], attributes)


def bilinear_sampler(call: Call) -> ir.Value:
    """Pixels at (x, y) in -1 to 1, corners at the corners' centers; 0 outside."""
    return _sample(call, call[0], call.graph.transpose(call[1], [0, 2, 3, 1]))


def grid_generator(call: Call) -> ir.Value:
    """A grid (batch, 2, height, width) of an affine map, or of shifts by pixels (``warp``)."""
    kind = call.attrs.text("transform_type", "", ("affine", "warp"))
    if kind == "affine":
        return call.graph.transpose(_affine_grid(call, call[0]), [0, 3, 1, 2])
    graph, x = call.graph, call[0]
    height, width = call.size(2), call.size(3)
    rows, columns = _pixels(call, height, width)
    places = graph.constant(np.stack([columns, rows])[None].astype(np.float32), "places")
    half = np.array([max(width - 1, 1) / 2, max(height - 1, 1) / 2], np.float32)
    scaled = graph.add(
        "Div", [graph.add("Add", [x, places]), graph.constant(half.reshape(1, 2, 1, 1), "half")]
    )
    return graph.add("Sub", [scaled, graph.scalar(1.0, x, "one")])


def spatial_transformer(call: Call) -> ir.Value:
    """An affine map of an image."""
    call.attrs.text("transform_type", "affine", ("affine",))
    call.attrs.text("sampler_type", "bilinear", ("bilinear",))
    return _sample(call, call[0], _affine_grid(call, call[1]))


def _affine_grid(call: Call, theta: ir.Value) -> ir.Value:
    """Return (batch, height, width, 2): x and y of each pixel after the map (batch, 6)."""
    graph = call.graph
    shape = call.attrs.integers("target_shape")
    if len(shape) != 2 or not all(1 <= size <= 2**16 for size in shape):
        raise call.error(f"target_shape={list(shape)} has no height and width")
    height, width = shape
    rows, columns = _pixels(call, height, width)
    base = np.stack(
        [_unit(columns, width), _unit(rows, height), np.ones_like(rows)], axis=0
    ).reshape(3, height * width)
    matrix = graph.reshape(theta, [-1, 2, 3])
    mapped = graph.add("MatMul", [matrix, graph.constant(base.astype(np.float32), "pixels")])
    return graph.reshape(graph.transpose(mapped, [0, 2, 1]), [0, height, width, 2])


def _pixels(call: Call, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    if height * width > _MAX_GRID:
        raise call.refuse(f"a grid of {height} x {width}")
    rows, columns = np.mgrid[:height, :width]
    return rows.astype(np.float64), columns.astype(np.float64)


def _unit(places: np.ndarray, size: int) -> np.ndarray:
    return places * 2 / max(size - 1, 1) - 1


def _sample(call: Call, x: ir.Value, grid: ir.Value) -> ir.Value:
    if call.graph.opset < 16:
        raise call.error("ONNX has no sampling at places before opset 16", "choose --opset 16")
    attributes: dict[str, AttributeValue] = {"align_corners": 1}
    if call.graph.opset >= 20:
        attributes["mode"] = "linear"
    return call.graph.add("GridSample", [x, grid], attributes)


OPERATORS: Family = {
    "UpSampling": Operator(upsampling, outputs=("output",)),
    "_contrib_BilinearResize2D": Operator(bilinear_resize),
    "BilinearSampler": Operator(bilinear_sampler, outputs=("output",)),
    "GridGenerator": Operator(grid_generator, outputs=("output",)),
    "SpatialTransformer": Operator(spatial_transformer, outputs=("output",)),
}
