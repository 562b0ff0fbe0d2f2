"""Put weights, names and dimensions into what tf2onnx wrote, and write it to a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

from onnxsmith.artifact import Artifact
from onnxsmith.pipeline.frontends.tensorflow.affine import fold_affine
from onnxsmith.pipeline.frontends.tensorflow.fold import fold_weights
from onnxsmith.pipeline.frontends.tensorflow.freeze import Weight
from onnxsmith.spec import Dim, ValueSpec

# Beyond this, weights go to a file of their own: embedding would hold them several times.
_EXTERNAL_BYTES = 512 * 1024**2


def finish(
    proto: onnx.ModelProto,
    weights: Sequence[Weight],
    inputs: Mapping[str, ValueSpec],
    outputs: Sequence[tuple[str, str]],
    observed: Sequence[Sequence[Dim]] | None = None,
) -> ir.Model:
    """Return the model with its weights in place, and with the source's names.

    Args:
        proto: What tf2onnx wrote.
        weights: What stands in it as inputs.
        inputs: Tensor name to the wanted name and shape.
        outputs: The outputs' tensor names and wanted names; a tensor may stand twice.
        observed: The outputs' shapes, whose names stand where none can be inferred.
    """
    model = ir.serde.deserialize_model(proto)
    model.doc_string = model.graph.doc_string = None
    model.graph.name = "model"
    place_weights(model, weights)
    fold_weights(model)
    fold_affine(model)
    name_values(model, inputs, outputs)
    name_shapes(model, {spec.name: spec for spec in inputs.values()})
    for value, shape in zip(model.graph.outputs, observed or (), strict=False):
        _name_open(value, shape)
    return model


def write(model: ir.Model, folder: Path) -> Path:
    """Write the model into ``folder``; weights are read from their source one at a time."""
    path = folder / "model.onnx"
    tensors = [value.const_value for value in model.graph.initializers.values()]
    total = sum(tensor.nbytes for tensor in tensors if tensor is not None)
    Artifact(model).save(path, external=total > _EXTERNAL_BYTES)
    return path


def place_weights(model: ir.Model, weights: Sequence[Weight]) -> None:
    """Turn the inputs that stand for weights into initializers."""
    inputs = {value.name: value for value in model.graph.inputs}
    taken = {value.name for value in _values(model)}
    for weight in weights:
        value = inputs[weight.tensor]
        model.graph.inputs.remove(value)
        if not value.uses():
            continue
        value.name = _free(weight.name, taken)
        value.const_value = lazy(weight, value.name)
        value.shape, value.dtype = value.const_value.shape, value.const_value.dtype
        model.graph.register_initializer(value)


def lazy(weight: Weight, name: str) -> ir.LazyTensor:
    """Return the weight as a tensor that is read when it is written."""
    dtype = ir.DataType.from_numpy(weight.dtype)
    return ir.LazyTensor(
        lambda: ir.Tensor(np.asarray(weight.read()), dtype=dtype),
        dtype=dtype,
        shape=ir.Shape(weight.shape),
        name=name,
    )


def name_values(
    model: ir.Model, inputs: Mapping[str, ValueSpec], outputs: Sequence[tuple[str, str]]
) -> None:
    """Give inputs and outputs their names; whatever else has such a name makes room."""
    made = {value.name: value for value in model.graph.outputs}
    model.graph.outputs[:] = [made[tensor] for tensor, _ in outputs]
    _part_outputs(model)
    names = [name for _, name in outputs]
    wanted = {spec.name for spec in inputs.values()} | set(names)
    ends = {id(value) for value in (*model.graph.inputs, *model.graph.outputs)}
    taken = {value.name for value in _values(model)} | wanted
    for value in list(_values(model)):
        if value.name in wanted and id(value) not in ends:
            value.name = _free(f"{value.name}_inner", taken)
    renames = [(v, inputs[v.name or ""].name) for v in model.graph.inputs]
    renames += zip(model.graph.outputs, names, strict=True)
    for number, (value, _) in enumerate(renames):  # one's old name may be another's new one
        value.name = f"onnxsmith_end_{number}"
    for value, name in renames:
        value.name = name


def name_shapes(model: ir.Model, inputs: Mapping[str, ValueSpec]) -> None:
    """Name the inputs' dimensions, and infer those of all other values from them."""
    for value in model.graph.inputs:
        spec = inputs[value.name or ""]
        value.shape = None if spec.shape is None else ir.Shape(spec.shape)
    for value in _values(model):
        if value.shape is not None and value.name not in inputs:
            dims = [dim if isinstance(dim, int) else None for dim in value.shape]
            value.shape = ir.Shape(dims)
    ShapeInferencePass(strict_mode=False)(model)
    known = {dim for spec in inputs.values() for dim in spec.shape or () if isinstance(dim, str)}
    for value in _values(model):
        if value.shape is not None and value.name not in inputs:
            value.shape = ir.Shape([_readable(dim, known) for dim in value.shape])


def _name_open(value: ir.Value, observed: Sequence[Dim]) -> None:
    """Name the output's open dimensions; sizes seen in a run are not relied on."""
    if value.shape is None:
        value.shape = ir.Shape([dim if isinstance(dim, str) else None for dim in observed])
    elif len(value.shape) == len(observed):
        value.shape = ir.Shape(
            [
                seen if isinstance(seen, str) and isinstance(dim, ir.SymbolicDim) else dim
                for dim, seen in zip(value.shape, observed, strict=True)
            ]
        )


def _readable(dim: int | ir.SymbolicDim, known: set[str]) -> int | str | None:
    """Return a dimension, or None where inference made up a name for it (``unk__3``)."""
    if isinstance(dim, int):
        return dim
    return dim.value if dim.value in known else None


def _part_outputs(model: ir.Model) -> None:
    """Give outputs that are inputs, weights or other outputs a value of their own."""
    seen: set[int] = set()
    for index, value in enumerate(model.graph.outputs):
        if value.producer() is not None and id(value) not in seen:
            seen.add(id(value))
            continue
        node = ir.node("Identity", [value])
        copy = node.outputs[0]
        copy.name, copy.type, copy.shape = f"{value.name}__copy{index}", value.type, value.shape
        model.graph.append(node)
        model.graph.outputs[index] = copy


def _values(model: ir.Model) -> list[ir.Value]:
    found = []
    for graph in model.graphs():
        found += [*graph.inputs, *graph.initializers.values()]
        found += [output for node in graph for output in node.outputs]
    return found


def _free(name: str, taken: set[str | None]) -> str:
    number, free = 2, name
    while free in taken:
        free = f"{name}_{number}"
        number += 1
    taken.add(free)
    return free
