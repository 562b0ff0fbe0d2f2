"""The description of a network: its inputs, its layers in order, and the seed of its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import onnx_ir as ir
import pydantic
from pydantic import BaseModel, ConfigDict, Field

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.cleanup.infer_shapes import InferShapes
from onnxsmith.pipeline.frontends.layers.kinds.activation import Activation
from onnxsmith.pipeline.frontends.layers.kinds.attention import Attention
from onnxsmith.pipeline.frontends.layers.kinds.base import Layer
from onnxsmith.pipeline.frontends.layers.kinds.convolution import Conv
from onnxsmith.pipeline.frontends.layers.kinds.dense import Dense
from onnxsmith.pipeline.frontends.layers.kinds.embedding import Embedding
from onnxsmith.pipeline.frontends.layers.kinds.lstm import Lstm
from onnxsmith.pipeline.frontends.layers.kinds.normalization import Norm
from onnxsmith.pipeline.frontends.layers.kinds.pooling import Pool
from onnxsmith.pipeline.frontends.layers.kinds.shaping import (
    Add,
    Concatenate,
    Dropout,
    Flatten,
    Mean,
)
from onnxsmith.pipeline.frontends.layers.scope import Scope, shaped, sizes_of
from onnxsmith.pipeline.plain_yaml import read_yaml
from onnxsmith.plugins import suggestion
from onnxsmith.spec import ValueSpec

_HINT = "see 'onnxsmith schema network' for the fields"
_IR_VERSION = 10

AnyLayer = Annotated[
    Dense
    | Conv
    | Pool
    | Norm
    | Embedding
    | Lstm
    | Attention
    | Flatten
    | Dropout
    | Activation
    | Mean
    | Add
    | Concatenate,
    Field(discriminator="type"),
]


class Network(BaseModel):
    """A network, layer by layer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    inputs: tuple[str, ...] = Field(
        min_length=1, description="NAME:DTYPE[D,D,...], one an input; the first size is the batch."
    )
    layers: tuple[AnyLayer, ...] = Field(min_length=1, description="In the order they run.")
    output: str = Field(
        "output", pattern=r"^[A-Za-z_][\w.-]*$", description="What to call what comes out."
    )
    seed: int | None = Field(None, ge=0, description="Of the weights; that of the run if omitted.")


def load_network(path: Path) -> Network:
    """Read the description of a network.

    Raises:
        SmithError: The file cannot be read, is no YAML, or a field is wrong: the layer is named.
    """
    value = read_yaml(path, "network")
    if isinstance(value, dict) and "source" in value and "layers" not in value:
        raise SmithError(f"{path} is a recipe, not a network", f"run it: onnxsmith run {path}")
    if not isinstance(value, dict) or "layers" not in value:
        raise SmithError(f"{path} describes no network: it has no 'layers'", _HINT)
    try:
        return Network.model_validate(value)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = _place(first["loc"], value)
        raise SmithError(f"{path}: {where}: {first['msg']}", _HINT) from error


def build(network: Network, opset: int = 20, seed: int = 0) -> Artifact:
    """Return the network as a model with initial weights.

    Args:
        network: What to build.
        opset: The ai.onnx opset.
        seed: Of the weights, where the network has none.

    Raises:
        SmithError: A layer does not fit what it is given; it is named.
        UsageError: An input cannot be read.
    """
    graph = ir.Graph([], [], nodes=[], opset_imports={"": opset}, name="network")
    known: dict[str, ir.Value] = {}
    for text in network.inputs:
        value = _input(text)
        if value.name in known:
            raise SmithError(f"two inputs are called {value.name!r}", "name each differently")
        known[value.name or ""] = value
        graph.inputs.append(value)
    last = next(iter(known.values()))
    base = seed if network.seed is None else network.seed
    for number, layer in enumerate(network.layers, start=1):
        name = layer.name or f"{layer.type}{number}"
        words = f"layer {number} ({name!r}, {layer.type})"
        scope = Scope(graph, opset, name, words, [base, number])
        if name in known:
            raise scope.refuse("has the name of another layer or input", "name it differently")
        last = layer.build(scope, _given(scope, layer, last, known))
        graph.extend(scope.w.nodes)
        known[name] = last
    return _finished(graph, last, network.output)


def _finished(graph: ir.Graph, last: ir.Value, name: str) -> Artifact:
    """Return the model, with the shapes that ONNX infers beside those that the layers found."""
    if last.is_graph_input():
        raise SmithError("the layers change nothing", "add a layer that does")
    sizes = sizes_of(last)
    last.name = name
    graph.outputs.append(last)
    model = ir.Model(graph, ir_version=_IR_VERSION, producer_name="onnxsmith")
    InferShapes().apply(model, PassContext())
    shaped(graph.outputs[0], sizes)
    return Artifact(model)


def _given(
    scope: Scope, layer: Layer, last: ir.Value, known: dict[str, ir.Value]
) -> list[ir.Value]:
    for name in layer.inputs:
        if name not in known:
            raise scope.refuse(
                f"reads {name!r}, which no layer before it is called",
                suggestion(name, sorted(known)),
            )
    found = [known[name] for name in layer.inputs] or [last]
    if not layer.least <= len(found) <= layer.most:
        count = str(layer.most) if layer.least == layer.most else f"at least {layer.least}"
        raise scope.refuse(
            f"takes {count} inputs, not {len(found)}", "name them: inputs: [layer, layer]"
        )
    return found


def _input(text: str) -> ir.Value:
    spec = ValueSpec.parse(text)
    try:
        dtype = ir.DataType[spec.dtype.upper().replace("FLOAT32", "FLOAT")]
    except KeyError:
        dtype = ir.DataType.UNDEFINED
    if dtype not in (ir.DataType.FLOAT, ir.DataType.INT64, ir.DataType.INT32):
        raise SmithError(
            f"the input {spec.name!r} is of {spec.dtype}", "give float32, or int64 for embeddings"
        )
    sizes = [f"{spec.name}_{i}" if d is None else d for i, d in enumerate(spec.shape or ())]
    if len(sizes) < 2:
        raise SmithError(
            f"the input {spec.name!r} has no features", "write NAME:float32[batch,64], for one"
        )
    return ir.Value(name=spec.name, type=ir.TensorType(dtype), shape=ir.Shape(sizes))


def _place(where: tuple[int | str, ...], value: dict[str, Any]) -> str:
    """Return where a field is wrong, with the layer's number, name and kind."""
    if len(where) < 2 or where[0] != "layers" or not isinstance(where[1], int):
        return ".".join(map(str, where)) or "network"
    layer = value["layers"][where[1]]
    words = f"layer {where[1] + 1}"
    if isinstance(layer, dict):
        known = [str(layer[key])[:60] for key in ("name", "type") if layer.get(key)]
        words += f" ({', '.join(known)})" if known else ""
    field = ".".join(str(part) for part in where[3:])
    return f"{words}: {field}" if field else words
