"""The network of a ``.prototxt`` as it stands at inference: layers in order, and its inputs.

Source: BVLC Caffe, src/caffe/net.cpp (FilterNet, StateMeetsRule) and caffe.proto.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.caffe.message import Message
from onnxsmith.pipeline.frontends.caffe.upgrade import upgrade_layers

# Each layer costs a fraction of a millisecond, and the deepest networks in use have 1,500.
_MAX_LAYERS = 10_000
_PHASES = {"TRAIN": 0, "TEST": 1}
_DEPLOY = "deploy"

DATA_TYPES = frozenset(
    {
        "AnnotatedData",
        "Data",
        "DummyData",
        "HDF5Data",
        "ImageData",
        "MemoryData",
        "VideoData",
        "WindowData",
    }
)
# A loss becomes the layer that gives its prediction; others end with their first bottom.
_PREDICTIONS = {
    "SoftmaxWithLoss": ("Softmax", "softmax_param"),
    "InfogainLoss": ("Softmax", "softmax_param"),
    "SigmoidCrossEntropyLoss": ("Sigmoid", "sigmoid_param"),
}
_DROPPED = frozenset(
    {
        "Accuracy",
        "ContrastiveLoss",
        "DetectionEvaluate",
        "EuclideanLoss",
        "HDF5Output",
        "HingeLoss",
        "MultiBoxLoss",
        "MultinomialLogisticLoss",
        "SmoothL1Loss",
        "TripletLoss",
    }
)


@dataclass(frozen=True)
class Layer:
    """One layer: its name, type, the blobs that it reads and makes, and its message."""

    name: str
    type: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    message: Message


@dataclass(frozen=True)
class Input:
    """A blob that is fed.

    Attributes:
        name: The blob.
        shape: As declared; None where the file does not tell.
        data: The layer that feeds it at training, if any.
    """

    name: str
    shape: tuple[int, ...] | None
    data: Layer | None = None


@dataclass(frozen=True)
class Network:
    """A network at inference.

    Attributes:
        name: Its name; may be empty.
        inputs: What is fed, in order; those from data layers only where they are read.
        layers: In order; each reads only what stands before it.
        silenced: Blobs that are made for nothing: what only losses or Silence read.
    """

    name: str
    inputs: tuple[Input, ...]
    layers: tuple[Layer, ...]
    silenced: frozenset[str]


def read_network(message: Message, stage: str | None = None) -> Network:
    """Return the network that a ``.prototxt`` describes, in the phase TEST.

    Args:
        message: The parsed file.
        stage: The stage to take layers for; ``deploy`` where the file knows it, else none.

    Raises:
        SmithError: It describes none, a layer is of an old unknown type, or it reads a blob that
            nothing before it makes.
    """
    found = _layers(message)
    stages = _stages(message, found, stage)
    level = message.message("state").integer("level", 0)
    kept = [_layer(one) for one in found if _included(one, level, stages)]
    inputs = _declared_inputs(message)
    layers: list[Layer] = []
    silenced: set[str] = set()
    softmaxes = {one.bottoms[:1] for one in kept if one.type == "Softmax"}
    # Where it is all there is, DummyData stands for the input; beside another it is a constant.
    has_input = bool(inputs) or any(_feeds(one) and one.type != "DummyData" for one in kept)
    for one in kept:
        if one.type == "Input":
            inputs += _input_layer(one)
        elif one.type in DATA_TYPES and not (has_input and _is_constant(one)):
            inputs += [Input(top, None, one) for top in one.tops]
        elif one.type == "Silence":
            silenced.update(one.bottoms)
        elif one.type not in _DROPPED and not _predicted_already(one, softmaxes):
            layers.append(_prediction(one))
    layers = _without_labels(inputs, layers, kept)
    _check_wiring(inputs, layers)
    read = {bottom for layer in layers for bottom in layer.bottoms}
    inputs = [one for one in inputs if one.name in read]
    if not layers or not inputs:
        raise SmithError(f"{message.name} computes nothing from an input", "give the whole network")
    return Network(message.text("name"), tuple(inputs), tuple(layers), frozenset(silenced))


def _layers(message: Message) -> list[Message]:
    current, old = message.messages("layer"), message.messages("layers")
    if current and old:
        raise SmithError(
            f"{message.name} mixes layers of the old and the current form",
            "write all as layer { ... }",
        )
    if not current and not old:
        raise SmithError(
            f"{message.name} describes no network: it has no layers",
            "give the .prototxt of the network itself, not of its solver",
        )
    if len(current) + len(old) > _MAX_LAYERS:
        raise SmithError(
            f"{message.name} has more than {_MAX_LAYERS:,} layers",
            "give a network that Caffe can read",
        )
    return upgrade_layers(old) if old else current


def _layer(message: Message) -> Layer:
    name, kind = message.text("name"), message.text("type")
    message.name = f"layer {name!r} ({kind})"
    tops = message.texts("top")
    if kind in _PREDICTIONS and not tops:
        tops = [name]  # Caffe makes a top for a loss that names none
    return Layer(name, kind, tuple(message.texts("bottom")), tuple(tops), message)


def _stages(message: Message, layers: Iterable[Message], stage: str | None) -> frozenset[str]:
    named = {
        name
        for layer in layers
        for rule in (*layer.messages("include"), *layer.messages("exclude"))
        for name in (*rule.texts("stage"), *rule.texts("not_stage"))
    }
    own = message.message("state").texts("stage")
    if stage is not None:
        if stage not in named:
            known = ", ".join(sorted(named)) or "none"
            raise SmithError(f"the network has no stage {stage!r}", f"its stages: {known}")
        return frozenset({*own, stage})
    return frozenset({*own, _DEPLOY} & {*own, *named})


def _included(layer: Message, level: int, stages: frozenset[str]) -> bool:
    include, exclude = layer.messages("include"), layer.messages("exclude")
    if include and exclude:
        raise SmithError(
            f"the layer {layer.text('name')!r} has both include and exclude rules",
            "keep the one or the other",
        )
    if include:
        return any(_meets(rule, level, stages) for rule in include)
    return not any(_meets(rule, level, stages) for rule in exclude)


def _meets(rule: Message, level: int, stages: frozenset[str]) -> bool:
    if rule.choice("phase", _PHASES, "TEST") != "TEST":
        return False
    if not rule.integer("min_level", level) <= level <= rule.integer("max_level", level):
        return False
    return stages.issuperset(rule.texts("stage")) and not stages & {*rule.texts("not_stage")}


def _declared_inputs(message: Message) -> list[Input]:
    names = message.texts("input")
    shapes: list[list[int]] = [shape.sizes("dim") for shape in message.messages("input_shape")]
    if not shapes:
        dims = message.sizes("input_dim")
        shapes = [dims[at : at + 4] for at in range(0, len(dims), 4)]
    if names and shapes and len(names) != len(shapes):
        raise SmithError(
            f"{message.name} names {len(names)} inputs and gives the sizes of {len(shapes)}",
            "give each input a shape of its own",
        )
    return [Input(name, tuple(shapes[at]) if shapes else None) for at, name in enumerate(names)]


def _input_layer(layer: Layer) -> list[Input]:
    shapes = [
        shape.sizes("dim") for shape in layer.message.message("input_param").messages("shape")
    ]
    if len(shapes) not in (0, 1, len(layer.tops)):
        raise SmithError(
            f"the layer {layer.name!r} has {len(layer.tops)} tops and {len(shapes)} shapes",
            "give each top a shape of its own",
        )
    found = []
    for at, top in enumerate(layer.tops):
        shape = shapes[at if len(shapes) > 1 else 0] if shapes else None
        found.append(Input(top, None if shape is None else tuple(shape)))
    return found


def _feeds(layer: Layer) -> bool:
    return layer.type == "Input" or layer.type in DATA_TYPES


def _is_constant(layer: Layer) -> bool:
    """Return whether a DummyData layer gives the same values each time."""
    fillers = layer.message.message("dummy_data_param").messages("data_filler")
    return layer.type == "DummyData" and all(
        filler.text("type", "constant") == "constant" for filler in fillers
    )


def _predicted_already(layer: Layer, softmaxes: set[tuple[str, ...]]) -> bool:
    kind, _ = _PREDICTIONS.get(layer.type, ("", ""))
    return kind == "Softmax" and layer.bottoms[:1] in softmaxes


def _without_labels(
    inputs: Iterable[Input], layers: Iterable[Layer], kept: Iterable[Layer]
) -> list[Layer]:
    """Leave out the layers that only prepare labels for a loss."""
    labels = {one.name for one in inputs if one.data and one.name in one.data.tops[1:]}
    if any(one.type in _DROPPED or one.type in _PREDICTIONS for one in kept):
        labels |= {one.name for one in inputs if one.name == "label"}
    found = []
    for layer in layers:
        if layer.bottoms and labels.issuperset(layer.bottoms):
            labels.update(layer.tops)
        else:
            found.append(layer)
    return found


def _prediction(layer: Layer) -> Layer:
    if layer.type not in _PREDICTIONS:
        return layer
    kind, _ = _PREDICTIONS[layer.type]
    return Layer(layer.name, kind, layer.bottoms[:1], layer.tops[:1], layer.message)


def _check_wiring(inputs: Iterable[Input], layers: Iterable[Layer]) -> None:
    made = set()
    for one in inputs:
        if not one.name:
            raise SmithError("an input has no name", "name it")
        if one.name in made:
            raise SmithError(f"the input {one.name!r} is declared twice", "declare it once")
        made.add(one.name)
    for layer in layers:
        for bottom in layer.bottoms:
            if bottom not in made:
                raise SmithError(
                    f"layer {layer.name!r} ({layer.type}) reads {bottom!r}, "
                    "which nothing before it makes",
                    "mend the .prototxt: layers stand in the order in which they run",
                )
        if "" in layer.tops:
            raise SmithError(f"a top of layer {layer.name!r} ({layer.type}) has no name", "name it")
        made.update(layer.tops)
