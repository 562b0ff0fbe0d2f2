"""Every layer type that comes in, and the function that turns it into ONNX."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from onnxsmith.pipeline.frontends.caffe.builder import Tensor
from onnxsmith.pipeline.frontends.caffe.layers import (
    activation,
    combine,
    convolution,
    dense,
    detection,
    normalization,
    pooling,
    prior_box,
    recurrent,
    resize,
    shape,
)
from onnxsmith.pipeline.frontends.caffe.scope import Scope

Handler = Callable[[Scope], Tensor | Sequence[Tensor]]

LAYERS: Mapping[str, Handler] = MappingProxyType(
    {
        "AbsVal": activation.absolute,
        "ArgMax": combine.argmax,
        "Axpy": combine.axpy,
        "BN": normalization.old_batch_norm,
        "BNLL": activation.bnll,
        "BatchNorm": normalization.batch_norm,
        "BatchReindex": shape.batch_reindex,
        "Bias": normalization.bias,
        "Clip": activation.clip,
        "Concat": shape.concat,
        "Convolution": convolution.convolution,
        "ConvolutionDepthwise": convolution.depthwise,
        "Crop": shape.crop,
        "Deconvolution": convolution.deconvolution,
        "DepthwiseConvolution": convolution.convolution,
        "DetectionOutput": detection.detection_output,
        "Dropout": activation.same,
        "DummyData": dense.dummy_data,
        "ELU": activation.elu,
        "Eltwise": combine.eltwise,
        "Embed": dense.embed,
        "Exp": activation.exponential,
        "Flatten": shape.flatten,
        "InnerProduct": dense.inner_product,
        "Interp": resize.interp,
        "LRN": normalization.lrn,
        "LSTM": recurrent.lstm,
        "Log": activation.logarithm,
        "MVN": normalization.mvn,
        "Normalize": normalization.normalize,
        "PReLU": activation.prelu,
        "Parameter": dense.parameter,
        "Permute": shape.permute,
        "Pooling": pooling.pooling,
        "Power": activation.power,
        "PriorBox": prior_box.prior_box,
        "RNN": recurrent.rnn,
        "ROIPooling": resize.roi_pooling,
        "ReLU": activation.relu,
        "ReLU6": activation.relu6,
        "Reduction": combine.reduction,
        "Reshape": shape.reshape,
        "SPP": pooling.spatial_pyramid,
        "Scale": normalization.scale,
        "ShuffleChannel": shape.shuffle_channel,
        "Sigmoid": activation.sigmoid,
        "Slice": shape.slices,
        "Softmax": normalization.softmax,
        "Split": activation.same,
        "Swish": activation.swish,
        "TanH": activation.tanh,
        "Threshold": activation.threshold,
        "Tile": shape.tile,
        "Upsample": resize.upsample,
    }
)
