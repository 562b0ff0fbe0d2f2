"""What a network is fed: the sizes that its file tells, and those that the user gives."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.frontends.caffe.caffemodel import Caffemodel
from onnxsmith.pipeline.frontends.caffe.dims import MAX_ELEMENTS, Dims, Product, count, symbol
from onnxsmith.pipeline.frontends.caffe.net import Input, Layer, Network
from onnxsmith.spec import ValueSpec

BATCH = "batch"
# In these an input's first axis is the steps, not the samples.
_RECURRENT = ("LSTM", "RNN")


def input_shapes(
    network: Network, given: Sequence[ValueSpec], model: Caffemodel | None
) -> dict[str, tuple[int | str, ...]]:
    """Return the shape of each input: as given, else as the file tells.

    Args:
        network: The network.
        given: The user's own shapes; sizes may be names.
        model: The weights: they tell the channels of what a data layer feeds.

    Raises:
        UsageError: A shape is given that does not fit an input.
        SmithError: The file does not tell a size.
    """
    wanted = {spec.name: spec for spec in given}
    names = [one.name for one in network.inputs]
    for name, spec in wanted.items():
        if name not in names:
            raise UsageError(
                f"the network has no input {name!r}", f"its inputs: {', '.join(names)}"
            )
        if spec.dtype != "float32":
            raise UsageError(
                f"the input {name!r} cannot be {spec.dtype}", "Caffe computes in float32"
            )
    shapes: dict[str, tuple[int | str, ...]] = {}
    for one in network.inputs:
        if one.name in wanted:
            shapes[one.name] = _given(wanted[one.name])
            continue
        stored = one.shape if one.data is None else _data_shape(one, one.data, network, model)
        if stored is None or any(size < 1 for size in stored):
            raise SmithError(
                f"the file does not tell the size of the input {one.name!r}",
                f"give it, e.g. --input '{one.name}:float32[batch,3,224,224]'",
            )
        _check(one.name, stored)
        shapes[one.name] = stored
    return shapes


def open_batch(
    network: Network, shapes: dict[str, tuple[int | str, ...]], given: Iterable[ValueSpec]
) -> tuple[dict[str, Dims], int | None]:
    """Give the first axis of the inputs a name where the file has a number there.

    Inputs with the same number share the name: the number stands for the batch.

    Returns:
        The sizes of each input, and the number that ``batch`` stands in for, if any.
    """
    fixed: dict[str, Dims] = {
        name: tuple(symbol(size) if isinstance(size, str) else size for size in shape)
        for name, shape in shapes.items()
    }
    axes = _batch_axes(network)
    name, first = next(iter(fixed.items()))
    axis = axes.get(name, 0)
    declared = network.inputs[0].shape or ()
    if any(given):
        is_open = axis < len(first) and not isinstance(first[axis], int)
        return fixed, declared[axis] if is_open and axis < len(declared) else None
    number = first[axis] if axis < len(first) else None
    if not isinstance(number, int):
        return fixed, None
    rois = _rois(network)
    opened: dict[str, Dims] = {}
    for name, dims in fixed.items():
        axis = axes.get(name, 0)
        if name in rois:
            opened[name] = (symbol("rois"), *dims[1:])
        elif axis < len(dims) and dims[axis] == number:
            opened[name] = (*dims[:axis], symbol(BATCH), *dims[axis + 1 :])
        else:
            opened[name] = dims
    return opened, number


def _batch_axes(network: Network) -> dict[str, int]:
    """Return the axis of the samples of inputs where it is not the first: of sequences."""
    axes: dict[str, int] = {}
    names = {one.name for one in network.inputs}
    for layer in network.layers:
        if layer.type in _RECURRENT:
            axes.update({name: 1 for name in layer.bottoms[:2] if name in names})
    return axes


def _rois(network: Network) -> set[str]:
    return {
        layer.bottoms[1]
        for layer in network.layers
        if layer.type in ("ROIPooling", "BatchReindex") and len(layer.bottoms) > 1
    }


def _given(spec: ValueSpec) -> tuple[int | str, ...]:
    if spec.shape is None or None in spec.shape:
        raise UsageError(
            f"the shape of the input {spec.name!r} is not complete",
            f"name the sizes that stay open, e.g. {spec.name}:float32[batch,3,224,224]",
        )
    shape = tuple(size for size in spec.shape if size is not None)
    if any(isinstance(size, int) and size < 1 for size in shape):
        raise UsageError(f"a size of the input {spec.name!r} is 0", "give positive sizes")
    _check(spec.name, [size for size in shape if isinstance(size, int)])
    return shape


def _check(name: str, shape: Sequence[int]) -> None:
    total = count(shape)
    if isinstance(total, Product) or total > MAX_ELEMENTS or len(shape) > 32:
        raise SmithError(
            f"the input {name!r} has the size {'x'.join(map(str, shape))[:60]}", "mend its shape"
        )


def _data_shape(
    one: Input, layer: Layer, network: Network, model: Caffemodel | None
) -> tuple[int, ...] | None:
    """Return the shape that a data layer feeds at training, as far as the files tell."""
    message = layer.message
    top = layer.tops.index(one.name)
    if layer.type == "DummyData":
        return _dummy_shape(layer, top)
    transform = message.message("transform_param")
    size = transform.size("crop_size", 0)
    height = width = size
    batch = 1
    for field in ("data_param", "image_data_param", "window_data_param", "memory_data_param"):
        param = message.message(field)
        batch = param.size("batch_size", batch)
        if not size:
            height = param.size("new_height", param.size("height", height))
            width = param.size("new_width", param.size("width", width))
    if not size:
        resize = transform.message("resize_param")  # SSD's
        height, width = resize.size("height", height), resize.size("width", width)
    channels = message.message("memory_data_param").size("channels", 0) or _channels(
        one.name, network, model
    )
    if top != 0 or not (batch and channels and height and width):
        return None
    return batch, channels, height, width


def _dummy_shape(layer: Layer, top: int) -> tuple[int, ...] | None:
    param = layer.message.message("dummy_data_param")
    shapes = [tuple(shape.sizes("dim")) for shape in param.messages("shape")]
    if not shapes:
        legacy = [param.sizes(name) for name in ("num", "channels", "height", "width")]
        shapes = list(zip(*legacy, strict=False))
    return shapes[min(top, len(shapes) - 1)] if shapes else None


def _channels(name: str, network: Network, model: Caffemodel | None) -> int:
    """Return the channels that the first convolution of an input has weights for."""
    for layer in network.layers:
        if name in layer.bottoms:
            blobs = () if model is None else model.blobs.get(layer.name, ())
            if layer.type == "Convolution" and blobs and len(blobs[0].shape) == 4:
                group = layer.message.message("convolution_param").size("group", 1)
                return blobs[0].shape[1] * group
            if layer.tops == layer.bottoms:
                continue
            return 0
    return 0
