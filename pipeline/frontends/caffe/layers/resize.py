"""Interp, Upsample and ROIPooling: layers of common forks.

Source: Interp: DeepLab's and PSPNet's Caffe; Upsample: SegNet's Caffe (with the mask of a
pooling) and YOLO's (nearest neighbour); ROIPooling: Fast R-CNN's Caffe.
"""

from __future__ import annotations

from onnxsmith.pipeline.frontends.caffe.builder import Tensor
from onnxsmith.pipeline.frontends.caffe.layers.shape import crop_borders
from onnxsmith.pipeline.frontends.caffe.message import Message
from onnxsmith.pipeline.frontends.caffe.scope import Scope


def interp(scope: Scope) -> Tensor:
    """Bilinear Resize with aligned corners."""
    bottom = scope.bottom(1, 2)
    param = scope.param("interp_param")
    if bottom.rank != 4:
        raise scope.refuse(f"it reads a blob of {bottom.rank} dimensions", "give it N x C x H x W")
    pads = (-param.integer("pad_beg", 0), -param.integer("pad_end", 0))
    if any(pads):
        bottom = crop_borders(scope, bottom, *pads)
    height, width = scope.known(bottom.dims[2:])
    if len(scope.bottoms) == 2:
        height, width = scope.known(scope.bottoms[1].dims[2:])
    else:
        height, width = _interpolated(scope, param, height, width)
    mode = {"mode": "linear", "coordinate_transformation_mode": "align_corners"}
    return _resize(scope, bottom, height, width, mode)


def upsample(scope: Scope) -> Tensor:
    """MaxUnpool by a pooling's mask, or Resize by the nearest neighbour."""
    bottom = scope.bottom(1, 2)
    param = scope.param("upsample_param")
    if bottom.rank != 4:
        raise scope.refuse(f"it reads a blob of {bottom.rank} dimensions", "give it N x C x H x W")
    scale = param.size("scale", 2)
    factors = (param.size("scale_h", scale), param.size("scale_w", scale))
    if not all(factors):
        raise scope.refuse("its scale is 0", "mend the .prototxt")
    height, width = scope.known(bottom.dims[2:])
    sizes = (height * factors[0], width * factors[1])
    if len(scope.bottoms) == 1:
        mode = {
            "mode": "nearest",
            "coordinate_transformation_mode": "asymmetric",
            "nearest_mode": "floor",
        }
        return _resize(scope, bottom, *sizes, mode)
    height, width = param.size("upsample_h", sizes[0]), param.size("upsample_w", sizes[1])
    return _unpool(scope, bottom, height, width)


def roi_pooling(scope: Scope) -> Tensor:
    """MaxRoiPool."""
    bottom = scope.bottom(2, 2)
    rois = scope.bottoms[1]
    param = scope.param("roi_pooling_param")
    height, width = param.size("pooled_h", 0), param.size("pooled_w", 0)
    if bottom.rank != 4 or not height or not width:
        raise scope.refuse("it has no pooled_h or pooled_w, or no N x C x H x W", "mend it")
    if rois.rank != 2:  # proposals come as R x 5 x 1 x 1 from some forks
        rois = scope.flatten(rois, 1)
    attributes = {
        "pooled_shape": [height, width],
        "spatial_scale": param.number("spatial_scale", 1),
    }
    dims = (rois.dims[0], bottom.dims[1], height, width)
    return scope.op("MaxRoiPool", [bottom, rois], dims, attributes)


def _interpolated(scope: Scope, param: Message, height: int, width: int) -> tuple[int, int]:
    shrink, zoom = param.size("shrink_factor", 1), param.size("zoom_factor", 1)
    wanted = param.size("height", 0), param.size("width", 0)
    if not shrink or not zoom:
        raise scope.refuse("its shrink_factor or zoom_factor is 0", "mend interp_param")
    if "shrink_factor" in param or "zoom_factor" in param:
        sizes = [(size - 1) // shrink + 1 for size in (height, width)]
        return sizes[0] + (sizes[0] - 1) * (zoom - 1), sizes[1] + (sizes[1] - 1) * (zoom - 1)
    if not all(wanted):
        raise scope.refuse("it has no size to reach", "give height and width, or zoom_factor")
    return wanted


def _resize(scope: Scope, bottom: Tensor, height: int, width: int, mode: dict[str, str]) -> Tensor:
    dims = (*bottom.dims[:2], height, width)
    if dims == bottom.dims:
        return bottom
    if isinstance(bottom.dims[0], int):
        sizes = scope.integers(scope.known(dims), "sizes")
        return scope.op("Resize", [bottom, None, None, sizes], dims, mode)
    # A size for the batch cannot be written down, so the factors are; they give these sizes.
    before = scope.known(bottom.dims[2:])
    factors = [_factor(old, new) for old, new in zip(before, (height, width), strict=True)]
    scales = scope.floats([1.0, 1.0, *factors], "scales")
    return scope.op("Resize", [bottom, None, scales], dims, mode)


def _factor(old: int, new: int) -> float:
    """Return a float32 factor that makes ``old`` into ``new``, rounded down."""
    factor = new / old
    return factor if new % old == 0 else (new + 0.25) / old


def _unpool(scope: Scope, bottom: Tensor, height: int, width: int) -> Tensor:
    indices = scope.bottoms[1].indices
    if indices is None:
        raise scope.refuse(
            "its second blob is not the mask of a Pooling", "give it the second top of a Pooling"
        )
    (channels,) = scope.known(bottom.dims[1:2])
    pooled = indices.value.producer()
    assert pooled is not None  # the pooling that made the mask
    source = pooled.inputs[0]
    assert source is not None
    assert source.shape is not None
    if [height, width] != [int(size) for size in source.shape[2:]]:  # type: ignore[arg-type]
        raise scope.refuse(
            f"it makes {height} x {width} of what was pooled from "
            f"{source.shape[2]} x {source.shape[3]}",
            "give it upsample_h and upsample_w",
        )
    dims = (bottom.dims[0], channels, height, width)
    shape = scope.shape_like(Tensor(source, dims))
    attributes = {"kernel_shape": [1, 1], "strides": [1, 1]}
    return scope.op("MaxUnpool", [bottom, indices, shape], dims, attributes)
