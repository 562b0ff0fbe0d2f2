"""Change the element types and the layout of inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError, UsageError
from onnxsmith.numerics import numpy_dtype
from onnxsmith.passes.base import Conversion, Pass, PassContext, PassResult, Values
from onnxsmith.passes.match import STANDARD
from onnxsmith.spec import ModelSpec, ValueSpec

_FLOATS = ("float16", "bfloat16", "float32", "float64")
_INTEGERS = ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
# Where each axis of the new layout is in the old one.
_LAYOUTS: dict[str, tuple[int, ...]] = {"nhwc": (0, 2, 3, 1), "nchw": (0, 3, 1, 2)}
_BACK = {_LAYOUTS["nhwc"]: _LAYOUTS["nchw"], _LAYOUTS["nchw"]: _LAYOUTS["nhwc"]}
_BFLOAT16_OPSET = 13
_USUAL_OPSET = 17


@dataclass(frozen=True)
class _Change:
    """What becomes of one value: its type, its axes, or both."""

    old: ValueSpec
    dtype: str
    perm: tuple[int, ...] | None

    @property
    def new(self) -> ValueSpec:
        shape = self.old.shape
        if self.perm is not None and shape is not None:
            shape = tuple(shape[axis] for axis in self.perm)
        return replace(self.old, dtype=self.dtype, shape=shape)

    def forth(self, array: Any) -> Any:
        moved = array if self.perm is None else np.transpose(array, self.perm)
        return np.ascontiguousarray(_cast(moved, self.dtype))

    def back(self, array: Any) -> Any:
        moved = array if self.perm is None else np.transpose(array, _BACK[self.perm])
        return np.ascontiguousarray(_cast(moved, self.old.dtype))


@dataclass(frozen=True)
class ChangeIo(Pass):
    """Change the element types and the layout of inputs and outputs.

    ``change-io:inputs=image=uint8+image=nhwc:outputs=float16`` lets the model take an image as
    cameras give it, and give half precision. ``y = f(x)`` becomes
    ``y' = Cast(f(Cast(Transpose(x'))))``; names and order stay. A cleanup afterwards cancels these
    nodes with what the model has of the kind. The check compares converted values. The values
    themselves are not scaled: an image of 0 to 255 reaches the model as 0.0 to 255.0.

    Options:
        inputs: What to change, joined by ``+``: an element type, ``nhwc`` or ``nchw`` (the layout
            to get), for all inputs that it fits, or ``NAME=`` one of these. A type without a name
            is for floating-point values, a layout without a name for those of rank 4.
        outputs: The same for outputs.

    Raises an error where a name is unknown, a named value is not of rank 4 or no tensor of
    numbers, an input is an output as well, or a floating-point output would become an integer,
    which cuts its fraction. Data for later passes is still read in the old form: give those first.

    Source: what converters offer when they convert (tf2onnx ``--inputs-as-nchw``, onnxmltools).
    """

    name: ClassVar[str] = "change-io"

    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()

    def signature(self, spec: ModelSpec) -> ModelSpec:
        """Return the signature with the new types and axes."""
        inputs = {change.old.name: change.new for change in self._inputs(spec)}
        outputs = {change.old.name: change.new for change in self._outputs(spec)}
        return ModelSpec(
            tuple(inputs.get(value.name, value) for value in spec.inputs),
            tuple(outputs.get(value.name, value) for value in spec.outputs),
        )

    def conversion(self, spec: ModelSpec) -> Conversion:
        """Return how arrays get from the old form to the new one."""
        inputs = {change.old.name: change for change in self._inputs(spec)}
        outputs = {change.old.name: change for change in self._outputs(spec)}

        def back(values: Values) -> Values:
            return {k: inputs[k].back(v) if k in inputs else v for k, v in values.items()}

        return Conversion(lambda v: _convert(inputs, v), back, lambda v: _convert(outputs, v))

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Insert Transpose and Cast behind inputs and before outputs.

        Raises:
            SmithError: A value cannot be changed so.
        """
        spec = Artifact(model).spec
        inputs, outputs = self._inputs(spec), self._outputs(spec)
        if not inputs and not outputs:
            return PassResult(model, False)
        _check_opset(model, [*inputs, *outputs], context)
        values = {value.name: value for value in model.graph.inputs}
        for change in inputs:
            _change_input(model.graph, values[change.old.name], change)
        for index, value in enumerate(list(model.graph.outputs)):
            for change in outputs:
                if change.old.name == value.name:
                    _change_output(model.graph, index, change)
        return PassResult(model, True, {"inputs": len(inputs), "outputs": len(outputs)})

    def _inputs(self, spec: ModelSpec) -> list[_Change]:
        changes = _changes(self.inputs, spec.inputs, "input")
        both = {value.name for value in spec.outputs} & {change.old.name for change in changes}
        if both:
            raise SmithError(
                f"the input {min(both)!r} is an output as well",
                "name the inputs that are to change",
            )
        return changes

    def _outputs(self, spec: ModelSpec) -> list[_Change]:
        changes = _changes(self.outputs, spec.outputs, "output")
        for change in changes:
            if change.old.dtype in _FLOATS and change.dtype in _INTEGERS:
                raise SmithError(
                    f"the output {change.old.name!r} is {change.old.dtype}: as {change.dtype} it "
                    "would lose its fraction",
                    "give a floating-point type, or scale and round in the model",
                )
            if change.old.name in {value.name for value in spec.inputs}:
                raise SmithError(
                    f"the output {change.old.name!r} is an input as well",
                    "name the outputs that are to change",
                )
        return changes


def _changes(items: Sequence[str], values: Sequence[ValueSpec], role: str) -> list[_Change]:
    """Return what the option's items make of the values; only what is another afterwards."""
    named = {value.name: value for value in values}
    types: dict[str, str] = {}
    perms: dict[str, tuple[int, ...]] = {}
    for item in items:
        name, _, what = item.rpartition("=")
        if what not in (*_FLOATS, *_INTEGERS, *_LAYOUTS):
            raise UsageError(
                f"change-io: {what!r} is neither an element type nor a layout",
                f"layouts: {', '.join(_LAYOUTS)}; types: {', '.join((*_FLOATS, *_INTEGERS))}",
            )
        if name and name not in named:
            known = ", ".join(map(repr, named)) or "none"
            raise SmithError(f"the model has no {role} {name!r}", f"its {role}s: {known}")
        for value in [named[name]] if name else values:
            fits = _fits(value, what, named=bool(name))
            if name and not fits:
                raise SmithError(
                    f"the {role} {value} cannot become {what}",
                    "layouts are for tensors of rank 4, types for tensors of numbers",
                )
            if fits and what in _LAYOUTS:
                perms[value.name] = _LAYOUTS[what]
            elif fits:
                types[value.name] = what
    found = [_Change(v, types.get(v.name, v.dtype), perms.get(v.name)) for v in values]
    return [change for change in found if change.perm or change.dtype != change.old.dtype]


def _fits(value: ValueSpec, what: str, *, named: bool) -> bool:
    if value.kind != "tensor":
        return False
    if what in _LAYOUTS:
        return value.shape is not None and len(value.shape) == len(_LAYOUTS[what])
    return value.dtype in _FLOATS or (named and value.dtype in _INTEGERS)


def _cast(array: Any, name: str) -> Any:
    dtype = numpy_dtype(name)
    if array.dtype == dtype:
        return array
    if name in _INTEGERS and name != "bool" and str(array.dtype) in _FLOATS:
        limits = np.iinfo(dtype)
        wide = np.nan_to_num(np.rint(array.astype(np.float64)))
        return np.clip(wide, limits.min, limits.max).astype(dtype)
    return array.astype(dtype)


def _convert(changes: Mapping[str, _Change], values: Values) -> Values:
    return {k: changes[k].forth(v) if k in changes else v for k, v in values.items()}


def _check_opset(model: ir.Model, changes: Sequence[_Change], context: PassContext) -> None:
    opset = max((model.opset_imports.get(domain, 0) for domain in STANDARD), default=0)
    if not opset:
        model.opset_imports[""] = min(_USUAL_OPSET, context.target.max_opset)
    elif opset < _BFLOAT16_OPSET and any(change.dtype == "bfloat16" for change in changes):
        raise SmithError(
            f"opset {opset} has no bfloat16", "put convert-opset:opset=13 before change-io"
        )


def _change_input(graph: ir.Graph, value: ir.Value, change: _Change) -> None:
    uses = list(value.uses())
    value.type, value.shape = _described(change.new)
    nodes, last = _nodes(value, change.perm and _BACK[change.perm], change.old.dtype)
    last.type, last.shape = _described(change.old)
    for use in uses:
        use.node.replace_input_with(use.idx, last)
    first = next(iter(graph), None)
    if first is None:
        graph.extend(nodes)
    else:
        graph.insert_before(first, nodes)


def _change_output(graph: ir.Graph, index: int, change: _Change) -> None:
    value = graph.outputs[index]
    if value.is_initializer():
        identity = ir.node("Identity", [value])
        graph.append(identity)
        plain = identity.outputs[0]
        plain.type, plain.shape = value.type, value.shape
        _rename_initializer(graph, value)
        value = plain
    else:
        value.name = _free(graph, change.old.name)
    nodes, last = _nodes(value, change.perm, change.dtype)
    last.name = change.old.name
    last.type, last.shape = _described(change.new)
    graph.extend(nodes)
    graph.outputs[index] = last


def _nodes(
    value: ir.Value, perm: tuple[int, ...] | None, dtype: str
) -> tuple[list[ir.Node], ir.Value]:
    nodes, last = [], value
    kind = ir.DataType.from_numpy(numpy_dtype(dtype))
    if perm is not None:
        nodes.append(ir.node("Transpose", [last], {"perm": list(perm)}))
        last = nodes[-1].outputs[0]
        last.type = value.type
        if value.shape is not None:
            last.shape = ir.Shape([value.shape[axis] for axis in perm])
    if value.dtype != kind:
        nodes.append(ir.node("Cast", [last], {"to": int(kind)}))
        last = nodes[-1].outputs[0]
    return nodes, last


def _described(spec: ValueSpec) -> tuple[ir.TensorType, ir.Shape | None]:
    kind = ir.TensorType(ir.DataType.from_numpy(numpy_dtype(spec.dtype)))
    return kind, None if spec.shape is None else ir.Shape(spec.shape)


def _rename_initializer(graph: ir.Graph, value: ir.Value) -> None:
    old = value.name or "value"
    del graph.initializers[old]
    value.name = _free(graph, old)
    graph.register_initializer(value)


def _free(graph: ir.Graph, name: str) -> str:
    taken = {value.name for node in graph for value in node.outputs} | set(graph.initializers)
    count = 1
    while f"{name}_{count}" in taken:
        count += 1
    return f"{name}_{count}"
