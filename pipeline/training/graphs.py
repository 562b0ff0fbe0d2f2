"""The graphs of a training step: one computes gradients, the other updates in place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.passes.autodiff.differentiate import differentiate, writer_for
from onnxsmith.passes.autodiff.path import may_flow
from onnxsmith.passes.autodiff.per_example.clipped import clipped_gradients
from onnxsmith.passes.autodiff.plain_batch_norm import plain_batch_norm
from onnxsmith.passes.autodiff.prepare import OLDEST, prepare
from onnxsmith.passes.autodiff.recomputation.recompute import recompute
from onnxsmith.passes.autodiff.relu_behind_pool import relu_behind_pool
from onnxsmith.passes.autodiff.writer import Writer, static_shape
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.cleanup.infer_shapes import InferShapes
from onnxsmith.passes.cleanup.remove_unused_nodes import RemoveUnusedNodes
from onnxsmith.passes.match import is_op
from onnxsmith.pipeline.training.losses.base import Loss, class_axis
from onnxsmith.pipeline.training.mixed import HalfType, halve
from onnxsmith.pipeline.training.optimizers.base import Moment, Optimizer
from onnxsmith.plugins import suggestion

LABELS, LOSS = "labels", "loss"
LOSS_SCALE = "loss_scale"
_IR_VERSION = 10


@dataclass(frozen=True)
class GradientGraph:
    """What computes the loss and the gradients of a batch.

    Attributes:
        artifact: Inputs are the model's, the labels and the parameters; outputs the loss, the
            gradients, and what the model remembers of the batch.
        labels: The name of the labels.
        loss: The name of the loss.
        gradients: Parameter to the name of its gradient.
        remembered: Initializer to the name of its next content.
        output: The model's output that is learned.
        classes: How many classes labels may name, where they are classes and it is known.
        ignored: A label that is none of the classes and does not count.
    """

    artifact: Artifact
    labels: str
    loss: str
    gradients: dict[str, str]
    remembered: dict[str, str]
    output: str
    classes: int | None = None
    ignored: int | None = None


@dataclass(frozen=True)
class GradientOptions:
    """How gradients are computed.

    Attributes:
        limit: Where given, the gradients are those of each sample, cut to this length, and summed.
        precision: The type that products are computed in, where it is not float32.
        scaled: Whether the loss that is differentiated is multiplied by the input ``loss_scale``.
        recompute: Where activations are computed again on the way back: behind which values the
            forward pass is cut, as patterns, or ``auto``.
    """

    limit: float | None = None
    precision: HalfType | None = None
    scaled: bool = False
    recompute: tuple[str, ...] = ()


def gradient_graph(
    model: Artifact,
    parameters: Sequence[str],
    loss: Loss,
    output: str | None = None,
    remembered: dict[str, ir.Value] | None = None,
    options: GradientOptions | None = None,
) -> GradientGraph:
    """Return the graph of a training step, without the update.

    Args:
        model: In training form; it stays as it was.
        parameters: The initializers that are trained.
        loss: What is made small.
        output: The output that the loss is of; by default the first of floats.
        remembered: Initializers, such as running means, to the values of the model that are their
            next content.
        options: How gradients are computed.

    Raises:
        SmithError: The loss does not fit the output, a node cannot be differentiated, or no
            parameter leads to the loss.
    """
    work = model.model
    kept = remembered or {}
    names = {name: value.name or "" for name, value in kept.items()}
    learned = _output(work.graph, output).name
    work.graph.outputs.extend(v for v in kept.values() if not v.is_graph_output())
    contents = {name: work.graph.initializers[name].const_value for name in parameters}
    options = options or GradientOptions()
    work = prepare(work, [*parameters, *kept])
    relu_behind_pool(work)
    if options.precision is not None:
        halve(work, options.precision)
    w = writer_for(work)
    read = _in_full(w, loss.scores_of(_output(work.graph, learned)), options)
    target = loss.target(read)
    classes = None
    if target.dtype == ir.DataType.INT64 and read.shape is not None and len(read.shape) > 1:
        count = read.shape[class_axis(read)]
        classes = count if isinstance(count, int) else None
    labels = ir.Value(
        name=_free(work.graph, LABELS), type=ir.TensorType(target.dtype), shape=target.shape
    )
    work.graph.inputs.append(labels)
    value = loss.write(w, read, labels)
    value.name, value.shape = _free(work.graph, LOSS), ir.Shape([])
    work.graph.extend(w.nodes)
    work.graph.outputs.append(value)
    InferShapes().apply(work, PassContext())
    by_name = {v.name: v for v in work.graph.inputs}
    trained = [by_name[name] for name in parameters]
    gradients = _differentiated(work, value, trained, options)
    value = next(v for v in work.graph.outputs if v.name == value.name)
    made = _gradient_outputs(work.graph, trained, gradients, contents, [value])
    if not made:
        raise SmithError(
            "no parameter leads to the loss: there is nothing to train",
            "freeze less, or name another output with --output-name",
        )
    produced = {v.name: v for node in work.graph for v in node.outputs}
    kept_next = [produced[name] for name in names.values()]
    work.graph.outputs[:] = [value, *made.values(), *kept_next]
    made_names = {name: output.name or "" for name, output in made.items()}
    plain_batch_norm(work)
    RemoveUnusedNodes().apply(work, PassContext())
    if options.recompute:
        InferShapes().apply(work, PassContext())
        results = list(work.graph.outputs)
        del results[1 : 1 + len(made)]
        recompute(work, results, {*parameters, *kept}, options.recompute)
    result = Artifact(work)
    return GradientGraph(
        result,
        labels.name or "",
        value.name or "",
        made_names,
        names,
        learned or "",
        classes,
        loss.ignored,
    )


def _in_full(w: Writer, read: ir.Value, options: GradientOptions) -> ir.Value:
    """Return the scores as the loss reads them: in float32 where the rest is halved."""
    if options.precision is None:
        return read
    full = w.cast(read, ir.DataType.FLOAT)
    full.shape = read.shape
    return full


def _differentiated(
    work: ir.Model, value: ir.Value, trained: Sequence[ir.Value], options: GradientOptions
) -> list[ir.Value | None]:
    """Append the gradients of the loss, of each sample's or of a multiple of it."""
    if options.limit is not None:
        return clipped_gradients(work, value, trained, work.graph.inputs[0], options.limit)
    if options.scaled:
        scale = ir.Value(name=LOSS_SCALE, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([]))
        work.graph.inputs.append(scale)
        w = writer_for(work)
        value = w.op("Mul", value, w.cast(scale, value.dtype))
        value.shape = ir.Shape([])
        work.graph.extend(w.nodes)
    return differentiate(work, value, trained)


def _gradient_outputs(
    graph: ir.Graph,
    trained: Sequence[ir.Value],
    gradients: Sequence[ir.Value | None],
    contents: dict[str, ir.TensorProtocol | None],
    taken: list[ir.Value],
) -> dict[str, ir.Value]:
    """Return the outputs with gradients; parameters that have none become constants again."""
    made: dict[str, ir.Value] = {}
    for parameter, gradient in zip(trained, gradients, strict=True):
        name = parameter.name or ""
        if gradient is None:
            graph.inputs.remove(parameter)
            parameter.const_value = contents[name]
            graph.register_initializer(parameter)
            continue
        gradient.shape = parameter.shape
        made[name] = _own(graph, gradient, [*taken, *made.values()])
    return made


def update_graph(
    optimizer: Optimizer,
    dtype: ir.DataType,
    shape: Sequence[int | str],
    *,
    scaled: bool = True,
    average: float | None = None,
    masked: bool = False,
    grouped: bool = False,
    fused: bool = False,
) -> Artifact:
    """Return the graph of one update.

    Inputs are ``parameter``, ``gradient``, ``rate``, ``step``, ``scale`` (the gradient's factor)
    and the optimizer's states; outputs ``new_parameter`` and ``new_STATE``, which may be bound to
    the memory of what they replace.

    Args:
        optimizer: What is written.
        dtype: The parameters' element type.
        shape: The parameters' shape.
        scaled: Whether there is the input ``scale``.
        average: Keep a moving average of the parameters: how much of it stays in each update.
        masked: Keep parameters zero where the input ``mask`` is zero.
        grouped: Decay parameters only where the input ``decays`` is one.
        fused: Let one operator, which one thread computes, multiply a vector and add to it, where
            there is one for the shape and the type.
    """
    graph = ir.Graph([], [], nodes=[], opset_imports={"": OLDEST}, name="update")
    w = Writer(graph, OLDEST, "u")

    def add(name: str, kind: ir.DataType, sizes: Sequence[int | str]) -> ir.Value:
        value = ir.Value(name=name, type=ir.TensorType(kind), shape=ir.Shape(sizes))
        graph.inputs.append(value)
        return value

    parameter, gradient = add("parameter", dtype, shape), add("gradient", dtype, shape)
    rate, step = (add(name, ir.DataType.FLOAT, []) for name in ("rate", "step"))
    states = {name: add(name, dtype, shape) for name in optimizer.states}
    if scaled:
        gradient = w.op("Mul", gradient, w.cast(add("scale", ir.DataType.FLOAT, []), dtype))
    decays = add("decays", dtype, shape) if grouped and optimizer.decay else None
    fused = fused and len(shape) == 1 and dtype in (ir.DataType.FLOAT, ir.DataType.DOUBLE)
    moment = Moment(w.cast(rate, dtype), w.cast(step, dtype), decays, fused)
    update = optimizer.update(w, parameter, gradient, states, moment)
    new = update.parameter
    if masked:
        new = w.op("Mul", new, add("mask", dtype, shape))
    results = {"new_parameter": new}
    results |= {f"new_{name}": update.states[name] for name in optimizer.states}
    if average is not None:
        old = add("average", dtype, shape)
        away = w.op("Mul", w.op("Sub", new, old), w.number(1 - average, old))
        results["new_average"] = w.op("Add", old, away)
    for name, value in results.items():
        value.name, value.shape = name, ir.Shape(shape)
        graph.outputs.append(value)
    graph.extend(w.nodes)
    return Artifact(ir.Model(graph, ir_version=_IR_VERSION))


def norm_graph(dtype: ir.DataType) -> Artifact:
    """Return the graph of a vector's length: ``vector`` to ``norm``, a float32 scalar."""
    graph = ir.Graph([], [], nodes=[], opset_imports={"": OLDEST}, name="norm")
    w = Writer(graph, OLDEST, "n")
    vector = ir.Value(name="vector", type=ir.TensorType(dtype), shape=ir.Shape(["size"]))
    graph.inputs.append(vector)
    result = w.cast(w.op("ReduceL2", vector, attributes={"keepdims": 0}), ir.DataType.FLOAT)
    result.name, result.shape = "norm", ir.Shape([])
    graph.outputs.append(result)
    graph.extend(w.nodes)
    return Artifact(ir.Model(graph, ir_version=_IR_VERSION))


def sum_graph(dtype: ir.DataType) -> Artifact:
    """Return the graph of ``total = total + part``, for gradients of several batches."""
    graph = ir.Graph([], [], nodes=[], opset_imports={"": OLDEST}, name="sum")
    w = Writer(graph, OLDEST, "s")
    kind, shape = ir.TensorType(dtype), ir.Shape(["size"])
    total = ir.Value(name="total", type=kind, shape=shape)
    part = ir.Value(name="part", type=kind, shape=shape)
    graph.inputs.extend([total, part])
    result = w.op("Add", total, part)
    result.name, result.shape = "new_total", shape
    graph.outputs.append(result)
    graph.extend(w.nodes)
    return Artifact(ir.Model(graph, ir_version=_IR_VERSION))


def float_parameters(model: ir.Model) -> list[str]:
    """Return the initializers that could be trained: tensors of floats that the graph reads.

    Scalars, what shape operators read and the statistics that batch normalization keeps are
    constants of the model, not parameters of it.
    """
    names = []
    for name, value in model.graph.initializers.items():
        sizes = static_shape(value)
        kept = all(is_op(use.node, "BatchNormalization") and use.idx > 2 for use in value.uses())
        if may_flow(value) and value.dtype is not None and value.uses() and sizes and not kept:
            names.append(name)
    return names


def _output(graph: ir.Graph, name: str | None) -> ir.Value:
    floats = {v.name or "": v for v in graph.outputs if may_flow(v) and v.dtype is not None}
    if not floats:
        raise SmithError("the model has no output of floats", "train a model that gives scores")
    if name is None:
        return next(iter(floats.values()))
    if name not in floats:
        raise SmithError(
            f"the model has no output {name!r} of floats", suggestion(name, sorted(floats))
        )
    return floats[name]


def _own(graph: ir.Graph, value: ir.Value, taken: list[ir.Value]) -> ir.Value:
    """Return a value that can be an output of its own: no input, and no output yet."""
    if value.producer() is not None and value not in taken:
        return value
    node = ir.node("Identity", [value])
    graph.append(node)
    output = node.outputs[0]
    output.name, output.type, output.shape = f"{value.name}_own", value.type, value.shape
    return output


def _free(graph: ir.Graph, name: str) -> str:
    taken = {v.name for v in graph.inputs} | {v.name for node in graph for v in node.outputs}
    taken |= set(graph.initializers)
    while name in taken:
        name += "_"
    return name
