"""Bring networks of 2013 and 2014 into today's form: ``layers { type: CONVOLUTION }`` and older.

Source: BVLC Caffe, src/caffe/util/upgrade_proto.cpp.
"""

from __future__ import annotations

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.caffe.message import Message

# V1LayerParameter.LayerType: constant, number, today's name.
_V1_TYPES = (
    ("NONE", 0, ""),
    ("ACCURACY", 1, "Accuracy"),
    ("BNLL", 2, "BNLL"),
    ("CONCAT", 3, "Concat"),
    ("CONVOLUTION", 4, "Convolution"),
    ("DATA", 5, "Data"),
    ("DROPOUT", 6, "Dropout"),
    ("EUCLIDEAN_LOSS", 7, "EuclideanLoss"),
    ("FLATTEN", 8, "Flatten"),
    ("HDF5_DATA", 9, "HDF5Data"),
    ("HDF5_OUTPUT", 10, "HDF5Output"),
    ("IM2COL", 11, "Im2col"),
    ("IMAGE_DATA", 12, "ImageData"),
    ("INFOGAIN_LOSS", 13, "InfogainLoss"),
    ("INNER_PRODUCT", 14, "InnerProduct"),
    ("LRN", 15, "LRN"),
    ("MULTINOMIAL_LOGISTIC_LOSS", 16, "MultinomialLogisticLoss"),
    ("POOLING", 17, "Pooling"),
    ("RELU", 18, "ReLU"),
    ("SIGMOID", 19, "Sigmoid"),
    ("SOFTMAX", 20, "Softmax"),
    ("SOFTMAX_LOSS", 21, "SoftmaxWithLoss"),
    ("SPLIT", 22, "Split"),
    ("TANH", 23, "TanH"),
    ("WINDOW_DATA", 24, "WindowData"),
    ("ELTWISE", 25, "Eltwise"),
    ("POWER", 26, "Power"),
    ("SIGMOID_CROSS_ENTROPY_LOSS", 27, "SigmoidCrossEntropyLoss"),
    ("HINGE_LOSS", 28, "HingeLoss"),
    ("MEMORY_DATA", 29, "MemoryData"),
    ("ARGMAX", 30, "ArgMax"),
    ("THRESHOLD", 31, "Threshold"),
    ("DUMMY_DATA", 32, "DummyData"),
    ("SLICE", 33, "Slice"),
    ("MVN", 34, "MVN"),
    ("ABSVAL", 35, "AbsVal"),
    ("SILENCE", 36, "Silence"),
    ("CONTRASTIVE_LOSS", 37, "ContrastiveLoss"),
    ("EXP", 38, "Exp"),
    ("DECONVOLUTION", 39, "Deconvolution"),
)
_NUMBERS = {constant: number for constant, number, _ in _V1_TYPES}
_TODAY = {constant: today for constant, _, today in _V1_TYPES}

# What a layer of 2013 may hold: its own field, where it belongs today, and under which name.
_V0_FIELDS: dict[str, dict[str, str]] = {
    "conv": {
        "num_output": "num_output",
        "biasterm": "bias_term",
        "pad": "pad",
        "kernelsize": "kernel_size",
        "group": "group",
        "stride": "stride",
    },
    "innerproduct": {"num_output": "num_output", "biasterm": "bias_term"},
    "pool": {"pool": "pool", "pad": "pad", "kernelsize": "kernel_size", "stride": "stride"},
    "lrn": {"local_size": "local_size", "alpha": "alpha", "beta": "beta", "k": "k"},
    "dropout": {"dropout_ratio": "dropout_ratio"},
    "concat": {"concat_dim": "concat_dim"},
    "data": {"batchsize": "batch_size"},
    "images": {"batchsize": "batch_size", "new_height": "new_height", "new_width": "new_width"},
    "window_data": {"batchsize": "batch_size"},
    "hdf5_data": {"batchsize": "batch_size"},
}
# Type of 2013: today's type and the field of its parameters.
_V0_TYPES = {
    "accuracy": ("Accuracy", ""),
    "bnll": ("BNLL", ""),
    "concat": ("Concat", "concat_param"),
    "conv": ("Convolution", "convolution_param"),
    "data": ("Data", "data_param"),
    "dropout": ("Dropout", "dropout_param"),
    "euclidean_loss": ("EuclideanLoss", ""),
    "flatten": ("Flatten", ""),
    "hdf5_data": ("HDF5Data", "hdf5_data_param"),
    "hdf5_output": ("HDF5Output", ""),
    "im2col": ("Im2col", ""),
    "images": ("ImageData", "image_data_param"),
    "infogain_loss": ("InfogainLoss", ""),
    "innerproduct": ("InnerProduct", "inner_product_param"),
    "lrn": ("LRN", "lrn_param"),
    "multinomial_logistic_loss": ("MultinomialLogisticLoss", ""),
    "pool": ("Pooling", "pooling_param"),
    "relu": ("ReLU", ""),
    "sigmoid": ("Sigmoid", ""),
    "softmax": ("Softmax", ""),
    "softmax_loss": ("SoftmaxWithLoss", ""),
    "split": ("Split", ""),
    "tanh": ("TanH", ""),
    "window_data": ("WindowData", "window_data_param"),
}
_POOLED = ("conv", "pool")


def upgrade_layers(layers: list[Message]) -> list[Message]:
    """Return ``layers`` of either old form as today's ``layer``.

    Raises:
        SmithError: A layer has an unknown type.
    """
    if any("layer" in layer for layer in layers):
        return _upgrade_v0(layers)
    for layer in layers:
        constant = layer.choice("type", _NUMBERS, "NONE")
        if not _TODAY[constant]:
            raise SmithError(f"the layer {layer.text('name')!r} has no type", "mend the .prototxt")
        layer.set("type", _TODAY[constant])
    return layers


def _upgrade_v0(layers: list[Message]) -> list[Message]:
    """Unpack each connection, and take what was a padding layer into the layer behind it."""
    padded: dict[str, tuple[str, int]] = {}
    found: list[Message] = []
    for connection in layers:
        old = connection.message("layer")
        if old.text("type") == "padding":
            padded[connection.text("top")] = (connection.text("bottom"), old.size("pad", 0))
            continue
        found.append(_upgrade_connection(connection, old, padded))
    return found


def _upgrade_connection(
    connection: Message, old: Message, padded: dict[str, tuple[str, int]]
) -> Message:
    name, kind = old.text("name"), old.text("type")
    if kind not in _V0_TYPES:
        raise SmithError(
            f"the layer {name!r} has the unknown type {kind!r}", "write its current type"
        )
    today, field = _V0_TYPES[kind]
    new = Message("layer")
    new.add("name", name)
    new.add("type", today)
    param = Message(field)
    for source, destination in _V0_FIELDS.get(kind, {}).items():
        for value in old.values(source):
            param.add(destination, value)
    for bottom in connection.texts("bottom"):
        source, pad = padded.get(bottom, (bottom, 0))
        if pad and kind not in _POOLED:
            raise SmithError(
                f"the padding before the layer {name!r} cannot be part of it",
                "write the pad into a convolution or a pooling layer",
            )
        if source != bottom:
            param.set("pad", pad)
        new.add("bottom", source)
    for top in connection.texts("top"):
        new.add("top", top)
    if field:
        new.add(field, param)
    if "cropsize" in old:
        transform = Message("transform_param")
        transform.add("crop_size", old.size("cropsize", 0))
        new.add("transform_param", transform)
    return new
