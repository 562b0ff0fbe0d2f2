"""Build the preprocessing of a model's input into its graph, so that deployment cannot forget it.

The keys are those of a data source's query and mean the same: ``(x * scale - mean) / std``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxsmith.artifact import Artifact, Step
from onnxsmith.errors import SmithError, UsageError
from onnxsmith.numerics import compare
from onnxsmith.pipeline.data.query import Options, parse_query
from onnxsmith.runtime.probe import probe_inputs
from onnxsmith.runtime.session import Session
from onnxsmith.spec import ValueSpec

_KEYS = frozenset({"scale", "mean", "std", "layout", "swap", "dtype"})
_DTYPES = ("uint8", "int8", "uint16", "int16", "int32", "float16", "float32", "float64")
_CHANNELS = (1, 3, 4)
_FLOATS = {"float16": np.float16, "float32": np.float32, "float64": np.float64}

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Preprocessing:
    """What becomes part of the graph, in front of one input.

    The new input takes raw values; the model's own follow as
    ``(transpose(swap(raw)) * scale - mean) / std``.

    Attributes:
        input: The input's name, None for the only one.
        scale: Factor on the raw values.
        mean: Subtracted after scaling: one number, or one a channel, in the model's order.
        std: Divided by after that: one number, or one a channel, in the model's order.
        layout: The raw input's, ``NCHW`` or ``NHWC``; None for the model's own.
        swap: Whether the raw channels come in the other order: BGR for RGB or RGB for BGR.
        dtype: The raw input's element type; None for the model's own.
    """

    input: str | None = None
    scale: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    layout: str | None = None
    swap: bool = False
    dtype: str | None = None

    @classmethod
    def parse(cls, text: str) -> Preprocessing:
        """Read ``[INPUT?]KEY=VALUE&KEY=VALUE``.

        Raises:
            UsageError: It cannot be read.
        """
        name, mark, query = text.partition("?")
        if not mark:
            name, query = "", text
        options: Options = parse_query(query, _KEYS, "preprocess")
        swap = options.flag("swap") or False
        if not query:
            raise UsageError(
                f"cannot read the preprocessing {text!r}", "write e.g. 'scale=1/255&layout=NHWC'"
            )
        if options.dtype is not None and options.dtype not in _DTYPES:
            raise UsageError(
                f"unknown element type {options.dtype!r} of the preprocessing",
                f"known: {', '.join(_DTYPES)}",
            )
        scale = 1.0 if options.scale is None else options.scale
        return cls(
            name or None,
            scale,
            options.mean,
            options.std,
            options.layout,
            swap,
            options.dtype,
        )


def build_in(
    artifact: Artifact, wanted: Iterable[Preprocessing], sizes: Mapping[str, int]
) -> Artifact:
    """Return the model with the preprocessing in front, proven against numpy's own.

    Args:
        artifact: The model; it stays as it is.
        wanted: At most one for each input.
        sizes: Sizes of symbolic dimensions at which the model runs.

    Raises:
        UsageError: There is no such input, or a setting does not fit it.
        SmithError: The result does not compute what it should.
    """
    done: set[str] = set()
    for one in wanted:
        plan = _Plan.make(artifact, one)
        if plan.spec.name in done:
            raise UsageError(
                f"the preprocessing of the input {plan.spec.name!r} is given twice",
                "join its settings: 'scale=1/255&mean=0.5'",
            )
        done.add(plan.spec.name)
        result = artifact.clone()
        _insert(result.model, plan)
        _prove(artifact, result, plan, sizes)
        options = {k: v for k, v in vars(one).items() if v not in (None, (), False)}
        artifact = result.with_step(
            Step("preprocess", "preprocess", {**options, "input": plan.spec.name}, {})
        )
    return artifact


@dataclass(frozen=True)
class _Plan:
    """Preprocessing fitted to an input.

    Attributes:
        spec: The model's own input.
        dtype: The raw input's element type.
        axes: From raw to model axes, None where the layout stays.
        channel: The model's channel axis; None where no setting needs it.
        factor: What raw values are multiplied with, of shape [] or broadcast along the channels.
        offset: What is added then.
        swap: Whether the channels are reversed.
    """

    spec: ValueSpec
    dtype: str
    axes: tuple[int, ...] | None
    channel: int | None
    factor: Array
    offset: Array
    swap: bool

    @classmethod
    def make(cls, artifact: Artifact, wanted: Preprocessing) -> _Plan:
        spec = _find_input(artifact, wanted.input)
        per_channel = max(len(wanted.mean), len(wanted.std)) > 1
        channel = None
        if per_channel or wanted.layout or wanted.swap:
            channel = _channel_axis(spec)
        axes = None
        if wanted.layout and (wanted.layout == "NHWC") != (channel == 3):
            axes = (0, 3, 1, 2) if channel == 1 else (0, 2, 3, 1)
        numbers = _per_channel(spec, wanted, channel)
        # (x * scale - mean) / std with one multiplication and one addition
        factor, offset = wanted.scale / numbers[1], -numbers[0] / numbers[1]
        kind = _FLOATS[spec.dtype]
        return cls(
            spec,
            wanted.dtype or spec.dtype,
            axes,
            channel,
            factor.astype(kind),
            offset.astype(kind),
            wanted.swap,
        )

    @property
    def raw_shape(self) -> tuple[int | str | None, ...]:
        shape = self.spec.shape or ()
        if self.axes is None:
            return shape
        raw: list[int | str | None] = [None] * len(shape)
        for to, source in enumerate(self.axes):
            raw[source] = shape[to]
        return tuple(raw)

    def apply(self, raw: Array) -> Array:
        """Compute in numpy what the graph computes."""
        values = raw.astype(_FLOATS[self.spec.dtype])
        if self.axes is not None:
            values = values.transpose(self.axes)
        if self.swap:
            values = np.flip(values, axis=self.channel)
        return np.ascontiguousarray(values * self.factor + self.offset)


def _find_input(artifact: Artifact, name: str | None) -> ValueSpec:
    inputs = artifact.spec.inputs
    if name is None and len(inputs) != 1:
        names = ", ".join(repr(value.name) for value in inputs)
        raise UsageError(
            f"the model has {len(inputs)} inputs, and the preprocessing names none",
            f"write INPUT?KEY=VALUE with one of: {names}",
        )
    spec = inputs[0] if name is None else artifact.spec.input(name)
    if spec.dtype not in _FLOATS or spec.shape is None:
        raise UsageError(
            f"the input {str(spec)!r} cannot be preprocessed: it is no floating-point tensor",
            "leave the preprocessing of this input away",
        )
    return spec


def _channel_axis(spec: ValueSpec) -> int:
    shape = spec.shape or ()
    found = [axis for axis in (1, 3) if len(shape) == 4 and shape[axis] in _CHANNELS]
    if len(found) != 1:
        raise UsageError(
            f"it is not clear which axis of the input {str(spec)!r} holds the channels",
            "settings of layout, channels and colors need an image input, e.g. [batch,3,224,224]",
        )
    return found[0]


def _per_channel(
    spec: ValueSpec, wanted: Preprocessing, channel: int | None
) -> tuple[Array, Array]:
    """Return mean and std, shaped so that they broadcast over the model's input."""
    arrays = []
    for key, numbers, usual in (("mean", wanted.mean, 0.0), ("std", wanted.std, 1.0)):
        array = np.asarray(numbers or (usual,), np.float64)
        if len(array) == 1:
            arrays.append(array[0])
            continue
        assert channel is not None  # several numbers made it be looked for
        channels = (spec.shape or ())[channel]
        if len(array) != channels:
            raise UsageError(
                f"{key} has {len(array)} values, and the input {spec.name!r} {channels} channels",
                f"give one value, or {channels}",
            )
        arrays.append(array.reshape(-1, 1, 1) if channel == 1 else array)
    if wanted.swap and (spec.shape or ())[channel or 0] != 3:
        raise UsageError(
            f"the colors of the input {str(spec)!r} cannot be swapped", "this needs 3 channels"
        )
    return arrays[0], arrays[1]


def _insert(model: ir.Model, plan: _Plan) -> None:
    graph = model.graph
    old = next(value for value in graph.inputs if value.name == plan.spec.name)
    name = plan.spec.name
    old.name = _free(graph, f"{name}_preprocessed")
    raw = ir.Value(
        name=name,
        shape=ir.Shape(plan.raw_shape),
        type=ir.TensorType(_data_type(plan.dtype)),
    )
    graph.inputs[list(graph.inputs).index(old)] = raw
    nodes = _nodes(raw, plan, old)
    for node in nodes:
        for value in node.inputs:
            if value is not None and value.const_value is not None:
                graph.register_initializer(value)
    result = nodes[-1].outputs[0]
    old_name, old.name = old.name, None
    old.replace_all_uses_with(result, replace_graph_outputs=True)
    result.name, result.shape, result.type = old_name, old.shape, old.type
    graph.insert_before(graph[0], nodes)


def _nodes(raw: ir.Value, plan: _Plan, old: ir.Value) -> list[ir.Node]:
    prefix = f"{raw.name}_preprocess"
    steps: list[tuple[str, Array | None, dict[str, Any]]] = []
    if plan.dtype != plan.spec.dtype:
        steps.append(("Cast", None, {"to": _data_type(plan.spec.dtype).value}))
    if plan.axes is not None:
        steps.append(("Transpose", None, {"perm": list(plan.axes)}))
    if plan.swap:
        steps.append(("Gather", np.array([2, 1, 0], np.int64), {"axis": plan.channel}))
    if np.any(plan.factor != 1):
        steps.append(("Mul", plan.factor, {}))
    if np.any(plan.offset != 0):
        steps.append(("Add", plan.offset, {}))
    nodes: list[ir.Node] = []
    value = raw
    for op_type, constant, attributes in steps or [("Identity", None, {})]:
        label = f"{prefix}/{op_type}"
        inputs = [value]
        if constant is not None:
            inputs.append(ir.Value(name=f"{label}/constant", const_value=ir.tensor(constant)))
            inputs[1].shape = ir.Shape(constant.shape)
            inputs[1].type = ir.TensorType(ir.DataType.from_numpy(constant.dtype))
        node = ir.node(op_type, inputs, attributes=attributes, name=label)
        value = node.outputs[0]
        value.name = f"{label}/output"
        nodes.append(node)
    return nodes


def _data_type(name: str) -> ir.DataType:
    return ir.DataType.from_numpy(np.dtype(name))


def _free(graph: ir.Graph, name: str) -> str:
    taken = {value.name for node in graph.all_nodes() for value in node.outputs}
    taken |= {value.name for value in (*graph.inputs, *graph.initializers.values())}
    while name in taken:
        name += "_"
    return name


def _prove(before: Artifact, after: Artifact, plan: _Plan, sizes: Mapping[str, int]) -> None:
    feeds = probe_inputs(after.model, after.spec, sizes, 0)
    raw = feeds[plan.spec.name]
    if raw.dtype.kind in "iu":  # probes are 0 or 1, and a cast that saturates shows at neither
        limits = np.iinfo(raw.dtype)
        low, high = max(limits.min, -1000), min(limits.max, 1000)
        generator = np.random.default_rng(0)
        raw = generator.integers(low, high, raw.shape, raw.dtype, endpoint=True)
        feeds[plan.spec.name] = raw
    with Session(after, optimize=False) as session:
        found = session.run(feeds)
    with Session(before, optimize=False) as session:
        expected = session.run({**feeds, plan.spec.name: plan.apply(raw)})
    bad = [difference for difference in compare(expected, found) if not difference.ok]
    if bad:
        raise SmithError(
            f"the preprocessing changed what the model computes: {bad[0].reason}",
            "report this as a fault of onnxsmith",
        )
