"""Make Keras 3 understand what Keras 2 wrote, and compute what Keras 2 computed.

Keras 3 reads ``.h5`` files of Keras 2 only where no layer changed its options: DepthwiseConv2D,
LSTM and MultiHeadAttention, among others, did. Worse, ``hard_sigmoid`` became another function.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.keras.operators import SlicingOpLambda, TFOpLambda

_MODELS = ("Functional", "Model", "Sequential")
# Options that Keras 3 does not know, and the value at which they change nothing.
_DROPPED: Mapping[str, Mapping[str, Any]] = {
    "*": {"time_major": False},
    "DepthwiseConv1D": {"groups": 1},
    "DepthwiseConv2D": {"groups": 1},
    "SeparableConv1D": {"groups": 1},
    "SeparableConv2D": {"groups": 1},
    "Conv1DTranspose": {"groups": 1},
    "Conv2DTranspose": {"groups": 1},
    "Conv3DTranspose": {"groups": 1},
    "ConvLSTM1D": {"groups": 1},
    "ConvLSTM2D": {"groups": 1},
    "ConvLSTM3D": {"groups": 1},
    "Attention": {"causal": False},
    "AdditiveAttention": {"causal": False},
    "BatchNormalization": {"renorm": False, "virtual_batch_size": None, "fused": None},
}
# Options that only tell what Keras 3 finds out, or that matter in training only.
_IGNORED: Mapping[str, tuple[str, ...]] = {
    "MultiHeadAttention": ("query_shape", "key_shape", "value_shape", "softmax_robust_masking"),
    "SpatialDropout1D": ("noise_shape", "trainable"),
    "SpatialDropout2D": ("noise_shape", "trainable"),
    "SpatialDropout3D": ("noise_shape", "trainable"),
    "SeparableConv1D": ("kernel_initializer", "kernel_regularizer", "kernel_constraint"),
    "SeparableConv2D": ("kernel_initializer", "kernel_regularizer", "kernel_constraint"),
    "Random*": ("rng_type",),
    "BatchNormalization": ("renorm_clipping", "renorm_momentum", "adjustment"),
}
_RENAMED = {"SyncBatchNormalization": "BatchNormalization", "Model": "Functional"}
_RECURRENT = (
    "RNN", "LSTM", "GRU", "SimpleRNN", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D", "Bidirectional"
)  # fmt: skip
# Where a layer keeps others.
_INNER = ("layer", "backward_layer", "cell", "forward_layer")


def upgrade_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the description of a model as Keras 3 takes it.

    Raises:
        SmithError: A layer has an option that Keras 3 cannot follow.
    """
    return _layer(copy.deepcopy(dict(config)))


def replacements() -> dict[str, Any]:
    """Return what stands for layers that Keras 3 does not have."""
    return {"TFOpLambda": TFOpLambda, "SlicingOpLambda": SlicingOpLambda}


@keras.saving.register_keras_serializable("onnxsmith", "hard_sigmoid_2")  # type: ignore[untyped-decorator]  # keras has no types
def hard_sigmoid(x: Any) -> Any:
    """Return ``clip(0.2 x + 0.5, 0, 1)``, Keras 2's; that of Keras 3 is ``clip(x / 6 + 0.5)``."""
    return keras.ops.clip(0.2 * x + 0.5, 0.0, 1.0)


def _layer(entry: dict[str, Any]) -> dict[str, Any]:
    """Upgrade the description of one layer or model, and of those in it."""
    kind = entry["class_name"]
    inner = entry["config"]
    if kind in _MODELS:
        return _model(entry)
    for key in _INNER:
        if isinstance(inner.get(key), dict):
            inner[key] = _layer(inner[key])
    if isinstance(inner.get("cells"), list):
        inner["cells"] = [_layer(cell) for cell in inner["cells"]]
    if kind != "InputLayer":
        inner.pop("batch_input_shape", None)
    _drop(kind, inner)
    for key, value in inner.items():
        if key.endswith("activation") and value == "hard_sigmoid":
            inner[key] = keras.activations.serialize(hard_sigmoid)
    dtype = inner.get("dtype")
    if isinstance(dtype, dict):  # a policy of mixed precision
        inner["dtype"] = dtype["config"]["name"]
    change = _CHANGES.get(kind)
    if change is not None:
        change(entry)
    entry["class_name"] = _RENAMED.get(entry["class_name"], entry["class_name"])
    return entry


def _drop(kind: str, options: dict[str, Any]) -> None:
    for key, neutral in {**_DROPPED["*"], **_DROPPED.get(kind, {})}.items():
        value = options.pop(key, neutral)
        if value != neutral and not (key == "fused" and isinstance(value, bool)):
            raise SmithError(
                f"the layer {options.get('name')!r} has {key}={value}, which Keras 3 cannot follow",
                "load the file with Keras 2, and export a SavedModel",
            )
    family = "Random*" if kind.startswith("Random") else kind
    for key in _IGNORED.get(family, ()):
        options.pop(key, None)


def _model(entry: dict[str, Any]) -> dict[str, Any]:
    inner = entry["config"]
    if isinstance(inner, list):  # before Keras 2.2.3
        inner = entry["config"] = {"name": entry.get("name", "sequential"), "layers": inner}
    layers = inner["layers"]
    if entry["class_name"] == "Sequential":
        first = layers[0]["config"] if layers else {}
        shape = first.get("batch_input_shape")
        if shape is not None and layers[0]["class_name"] != "InputLayer":
            name = f"{first.get('name', 'sequential')}_input"
            options = {"batch_input_shape": shape, "dtype": "float32", "name": name}
            if layers[0]["class_name"] == "Embedding":
                options["dtype"] = "int32"
            layers.insert(0, {"class_name": "InputLayer", "config": options})
    else:
        _connect(inner)
    inner["layers"] = [_layer(layer) for layer in layers]
    _rename(inner)
    entry["class_name"] = _RENAMED.get(entry["class_name"], entry["class_name"])
    return entry


def _connect(model: dict[str, Any]) -> None:
    """Write the calls of each layer as Keras 3 does.

    Of the older form it takes a tensor among the keywords (``value=``) for a list of texts, and
    it does not count a model's call of its own among the calls of that model.
    """
    kinds = {layer["name"]: layer["class_name"] for layer in model["layers"]}
    for layer in model["layers"]:
        calls = [_call(call) for call in layer.get("inbound_nodes", []) if call]
        layer["inbound_nodes"] = calls
        for history in _histories(calls):
            if kinds.get(history[0]) in _MODELS and history[1] > 0:
                history[1] -= 1
        if layer["class_name"] in _RECURRENT:
            for call in calls:
                _name_states(call)
    model["output_layers"] = _shifted(model["output_layers"], kinds)


def _shifted(value: Any, kinds: Mapping[str, str]) -> Any:
    """Shift the calls of Sequential models; those of Functional ones Keras shifts here itself."""
    if _is_tensor(value):
        shift = int(kinds.get(value[0]) == "Sequential" and value[1] > 0)
        return [value[0], value[1] - shift, *value[2:]]
    if isinstance(value, list):
        return [_shifted(item, kinds) for item in value]
    if isinstance(value, dict):
        return {key: _shifted(item, kinds) for key, item in value.items()}
    return value


def _name_states(call: dict[str, Any]) -> None:
    """Give the first states by name: Keras 2 wrote them behind the sequence."""
    (arguments,) = call["args"]
    if isinstance(arguments, list):
        call["args"] = [arguments[0]]
        call["kwargs"]["initial_state"] = arguments[1:]


def _call(call: Any) -> Any:
    if isinstance(call, dict):
        return call
    many = isinstance(call[0], list)
    first = call[0] if many else call
    named = first[3] if len(first) > 3 else {}
    if many:
        tensors = [_tensor(item) for item in call]
        arguments = tensors[0] if len(tensors) == 1 else tensors
    else:
        arguments = _tensor(call)
    return {
        "args": [arguments],
        "kwargs": {key: _value(value) for key, value in named.items()},
    }


def _value(value: Any) -> Any:
    """Return a keyword's value, with tensors for the triples that stand for them."""
    if _is_tensor(value):
        return _tensor(value)
    if isinstance(value, list):
        return [_value(item) for item in value]
    return value


def _is_tensor(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) in (3, 4)
        and isinstance(value[0], str)
        and all(isinstance(number, int) for number in value[1:3])
    )


def _tensor(item: list[Any]) -> Any:
    if item[0] == "_CONSTANT_VALUE":
        return item[2]
    history = list(item[:3])
    # Keras takes shape and type from the layer that makes the tensor.
    facts = {"shape": [], "dtype": "float32", "keras_history": history}
    return {"class_name": "__keras_tensor__", "config": facts}


def _rename(model: dict[str, Any]) -> None:
    """Take the slashes out of layers' names: Keras 3 forbids them, and finds weights by order."""
    names: dict[str, str] = {}
    for layer in model["layers"]:
        options = layer["config"]
        old = layer.get("name") or options.get("name")
        if not isinstance(old, str):
            continue
        new = old.replace("/", "_")
        while new in names.values():
            new = f"{new}_"
        names[old] = new
        if "name" in layer:
            layer["name"] = new
        if isinstance(options, dict) and "name" in options:
            options["name"] = new
    for layer in model["layers"]:
        for history in _histories(layer.get("inbound_nodes", [])):
            history[0] = names.get(history[0], history[0])
    for key in ("input_layers", "output_layers"):
        if key in model:
            model[key] = _renamed(model[key], names)


def _histories(value: Any) -> Iterator[list[Any]]:
    """Yield what says where each tensor comes from: layer, call and number of the output."""
    if isinstance(value, dict):
        if value.get("class_name") == "__keras_tensor__":
            yield value["config"]["keras_history"]
            return
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from _histories(inner)


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    if _is_tensor(value):
        return [names.get(value[0], value[0]), *value[1:]]
    if isinstance(value, list):
        return [_renamed(item, names) for item in value]
    if isinstance(value, dict):
        return {key: _renamed(item, names) for key, item in value.items()}
    return value


def _thresholded_relu(entry: dict[str, Any]) -> None:
    entry["class_name"] = "ReLU"
    entry["config"]["threshold"] = float(entry["config"].pop("theta", 1.0))


def _gru(entry: dict[str, Any]) -> None:
    entry["config"].setdefault("reset_after", False)  # as before it became an option


def _attention(entry: dict[str, Any]) -> None:
    # Keras 3 takes the text "dot" for its layer of that name.
    if entry["config"].get("score_mode") == "dot":
        del entry["config"]["score_mode"]


_CHANGES: Mapping[str, Callable[[dict[str, Any]], None]] = {
    "ThresholdedReLU": _thresholded_relu,
    "GRU": _gru,
    "GRUCell": _gru,
    "Attention": _attention,
}
