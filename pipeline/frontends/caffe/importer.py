"""Turn a network and its weights into an ONNX model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.caffe.builder import Builder, Tensor
from onnxsmith.pipeline.frontends.caffe.caffemodel import Caffemodel
from onnxsmith.pipeline.frontends.caffe.dims import Dims, UnknownSizeError
from onnxsmith.pipeline.frontends.caffe.inputs import input_shapes, open_batch
from onnxsmith.pipeline.frontends.caffe.layers.normalization import batch_norm, is_channel_scale
from onnxsmith.pipeline.frontends.caffe.layers.table import LAYERS
from onnxsmith.pipeline.frontends.caffe.net import Layer, Network
from onnxsmith.pipeline.frontends.caffe.scope import Scope, Weights
from onnxsmith.spec import ValueSpec

# Older operators take as attributes what these take as inputs.
_OLDEST_OPSET = 13
# Settings that change nothing at inference.
_IGNORED = frozenset(
    {
        "bias_filler",
        "concat_dim",
        "cudnn_flag",
        "debug_info",
        "engine",
        "filler",
        "force_nd_im2col",
        "moving_average_fraction",
        "save_output_param",
        "scale_filler",
        "stable_prod_grad",
        "visualize",
        "visualize_threshold",
        "weight_filler",
    }
)
_IGNORED_PARAMS = frozenset(
    {"accuracy_param", "dropout_param", "loss_param", "transform_param", "data_param"}
)


@dataclass(frozen=True)
class Imported:
    """A network as ONNX.

    Attributes:
        model: The model; its weights lie in the ``.caffemodel``.
        warnings: What the user should know, one line each.
    """

    model: ir.Model
    warnings: tuple[str, ...]


def import_network(
    network: Network,
    model: Caffemodel | None,
    *,
    missing: str,
    given: Sequence[ValueSpec] = (),
    opset: int = 20,
) -> Imported:
    """Return the network as an ONNX model.

    Args:
        network: The network at inference.
        model: Its weights; None where there is no file.
        missing: What to do about missing weights: the hint of the error.
        given: The user's own shapes of inputs.
        opset: The ai.onnx opset.

    Raises:
        SmithError: A layer is not supported, or does not fit its bottoms or weights.
        UsageError: A given shape does not fit.
    """
    shapes = input_shapes(network, given, model)
    opened, batch = open_batch(network, shapes, given)
    opset = max(opset, _OLDEST_OPSET)
    try:
        return _Import(network, Weights(model, missing), opset, batch).run(opened)
    except UnknownSizeError as error:
        if given:
            raise SmithError(str(error), "write numbers in --input") from error
        reason = str(error)
    fixed: dict[str, Dims] = {
        name: tuple(size for size in shape if isinstance(size, int))
        for name, shape in shapes.items()
    }
    try:
        found = _Import(network, Weights(model, missing), opset, None).run(fixed)
    except UnknownSizeError as error:
        raise SmithError(
            f"{error}, which only a run tells", "such a network cannot be converted"
        ) from error
    warning = f"the batch is fixed at {batch}: {reason}"
    return Imported(found.model, (warning, *found.warnings))


class _Import:
    """One pass over the layers."""

    def __init__(self, network: Network, weights: Weights, opset: int, batch: int | None) -> None:
        self._network = network
        self._weights = weights
        self._batch = batch
        self._builder = Builder(opset)
        self._warnings = _transforms(network)
        self._readers = Counter(name for one in network.layers for name in one.bottoms)
        self._left: dict[str, None] = {}  # blobs that nothing has read, in order

    def run(self, inputs: Mapping[str, Dims]) -> Imported:
        """Return the model for inputs of these sizes."""
        layers = self._network.layers
        self._builder.reserve(top for layer in layers for top in layer.tops)
        for name, dims in inputs.items():
            self._builder.add_input(name, dims)
        at = 0
        while at < len(layers):
            at += self._layer(layers[at], layers[at + 1 : at + 2])
        outputs = [name for name in self._left if name not in self._network.silenced]
        model = self._builder.finish(self._network.name or "caffe", outputs)
        return Imported(model, tuple(self._warnings))

    def _layer(self, layer: Layer, following: Sequence[Layer]) -> int:
        """Add a layer, and the one behind it where both are one in ONNX; return how many."""
        scope = self._scope(layer)
        if layer.type == "BatchNorm" and following and not _has_scale(layer):
            scale = self._joined_scale(layer, following[0])
            if scale is not None:
                tensor = batch_norm(scope, scale)
                self._take(scope, [])
                self._take(scale, [tensor], name=layer.name)
                return 2
        handler = LAYERS.get(layer.type)
        if handler is None:
            raise scope.refuse(
                "this type of layer is not supported",
                "cut the network before it, or write the layer in terms of others",
            )
        made = handler(scope)
        self._take(scope, [made] if isinstance(made, Tensor) else list(made))
        return 1

    def _scope(self, layer: Layer) -> Scope:
        bottoms = [self._builder.blobs[name] for name in layer.bottoms]
        return Scope(layer, bottoms, self._builder, self._weights, self._batch)

    def _joined_scale(self, norm: Layer, layer: Layer) -> Scope | None:
        """Return the Scale layer that alone reads what a BatchNorm gives, else None."""
        if layer.type != "Scale" or layer.bottoms != norm.tops or len(norm.tops) != 1:
            return None
        is_alone = self._readers[norm.tops[0]] == 1 and norm.tops[0] not in self._network.silenced
        if layer.tops != norm.tops and not is_alone:
            return None
        if len(norm.bottoms) != 1:
            return None
        bottom = self._builder.blobs[norm.bottoms[0]]
        scope = Scope(layer, [bottom], self._builder, self._weights, self._batch)
        return scope if is_channel_scale(scope) else None

    def _take(self, scope: Scope, made: Sequence[Tensor], name: str | None = None) -> None:
        """Book what a layer made, what it read, and what it was not asked about."""
        layer = scope.layer
        scope.share()
        self._warnings += [*scope.warnings, *_unknown_settings(layer)]
        for bottom in layer.bottoms:
            self._left.pop(bottom, None)
        if not made:
            return
        if len(made) < len(layer.tops):
            raise scope.refuse(
                f"it has {len(layer.tops)} tops, and {len(made)} are supported",
                "mend the .prototxt",
            )
        for top, tensor in zip(layer.tops, made, strict=False):
            self._builder.make_blob(top, tensor, name or layer.name)
            self._left[top] = None
        self._builder.end_layer()


def _has_scale(layer: Layer) -> bool:
    return layer.message.message("batch_norm_param").flag("scale_bias", False)


def _transforms(network: Network) -> list[str]:
    """Say what data layers do to their images: it is no part of the network."""
    found = []
    for one in network.inputs:
        if one.data is not None:
            param = one.data.message.message("transform_param")
            means = param.floats("mean_value") or param.texts("mean_file")
            done = [f"minus {', '.join(map(str, means))}"] if means else []
            if (scale := param.number("scale", 1)) != 1:
                done.append(f"times {scale:g}")
            if done:
                found.append(
                    f"the network was trained on {one.name!r} {' '.join(done)}: feed it so, or "
                    "build that in with --preprocess"
                )
    return found


def _unknown_settings(layer: Layer) -> list[str]:
    """Name what a layer says and this importer does not know: it could matter."""
    found = []
    for field in list(layer.message.fields()):
        if not field.endswith("_param") or field in _IGNORED_PARAMS:
            continue
        if not layer.message.was_asked(field):
            found.append(field)
            continue
        for param in layer.message.messages(field):
            found += [f"{field}.{name}" for name in param.never_asked() if name not in _IGNORED]
    if not found:
        return []
    names = ", ".join(found)[:200]
    return [f"layer {layer.name!r} ({layer.type}): {names} was left out of account"]
